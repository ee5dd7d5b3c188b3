//! What a trial must still be able to reach to be measured to its end.

use serde::{Deserialize, Serialize};

use super::{Direction, Goal};

/// The bar of one trial's repetitions, fixed when the trial is handed out by [`Racing`](crate::stopping::Racing).
///
/// An evaluator that repeats its measurement looks at it after each repetition, and reports what it has where the race
/// [is lost](Self::is_lost), with [`Report::raced`](super::Report::raced) set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Race {
    score: String,
    direction: Direction,
    /// Turned so that larger is better; nothing is lost without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bar: Option<f64>,
    /// Below the bar by so many standard errors.
    errors: f64,
    /// Not before so many repetitions.
    least: usize,
}

/// How much of a trial was measured where its [`Race`] was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raced {
    /// Repetitions that were made.
    pub done: usize,
    /// Repetitions of a whole trial, at most.
    pub planned: usize,
}

impl Race {
    /// Lost where the score of `goal` is worse than `bar`, turned so that larger is better, by more than so many
    /// standard `errors`, after at least `least` repetitions of everything (2, for there is no error of one). Without a
    /// finite bar every trial runs to its end.
    pub fn new(goal: &Goal, bar: Option<f64>, errors: f64, least: usize) -> Self {
        let Goal { score, direction, .. } = goal;
        let bar = bar.filter(|bar| bar.is_finite());
        let errors = if errors.is_finite() { errors.max(0.0) } else { 0.0 };
        Self { score: score.clone(), direction: *direction, bar, errors, least: least.max(2) }
    }

    /// Name of the score that is compared.
    pub fn score(&self) -> &str {
        &self.score
    }

    /// The bar as the score is, not turned; `None` where there is none.
    pub fn bar(&self) -> Option<f64> {
        self.bar.map(|bar| self.direction.orient(bar))
    }

    /// Whether a trial with this mean of its repetitions so far, of which the rarest was made `repetitions` times, is
    /// given up. Never without a standard error, nor where one of the numbers is NaN.
    pub fn is_lost(&self, mean: f64, standard_error: Option<f64>, repetitions: usize) -> bool {
        let (Some(bar), Some(error)) = (self.bar, standard_error) else { return false };
        repetitions >= self.least && self.direction.orient(mean) + self.errors * error < bar
    }

    /// All of it as text: equal texts are equal races.
    pub(crate) fn fingerprint(&self) -> String {
        let Self { score, direction, bar, errors, least } = self;
        format!("race({direction:?} {score:?}, bar={bar:?}, errors={errors}, least={least})")
    }
}

impl Raced {
    /// Several evaluations as one; nothing where one of them ran to its end.
    pub(super) fn pooled(of: impl IntoIterator<Item = Option<Self>>) -> Option<Self> {
        let sum = |a: Self, b: Self| Self { done: a.done + b.done, planned: a.planned + b.planned };
        of.into_iter().collect::<Option<Vec<_>>>()?.into_iter().reduce(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_race_is_lost_beyond_the_error_alone() {
        let race = Race::new(&Goal::default(), Some(0.7), 2.0, 4);
        let lost = |mean, error, repetitions| race.is_lost(mean, error, repetitions);
        assert!(lost(0.6, Some(0.04), 4));
        assert!(!lost(0.6, Some(0.06), 4) && !lost(0.6, Some(0.04), 3) && !lost(0.6, None, 9));
        assert!(!lost(f64::NAN, Some(0.0), 9) && !lost(0.6, Some(f64::NAN), 9));
        let loss = Race::new(&Goal::minimize("loss"), Some(-3.0), 1.0, 0);
        assert_eq!((loss.score(), loss.bar()), ("loss", Some(3.0)));
        assert!(
            loss.is_lost(3.2, Some(0.1), 2) && !loss.is_lost(2.0, Some(0.1), 2) && !loss.is_lost(9.0, Some(0.1), 1)
        );
    }

    #[test]
    fn a_bar_that_is_no_number_stops_nothing() {
        for bar in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            let race = Race::new(&Goal::default(), bar, f64::NAN, 0);
            assert!(race.bar().is_none() && !race.is_lost(-9.0, Some(0.0), 99));
            let text = serde_json::to_string(&race).unwrap();
            assert_eq!(serde_json::from_str::<Race>(&text).unwrap(), race);
        }
        let race = Race::new(&Goal::default(), Some(0.1 + 0.2), 1.5, 3);
        let text = serde_json::to_string(&race).unwrap();
        assert_eq!(serde_json::from_str::<Race>(&text).unwrap(), race);
        assert_ne!(race.fingerprint(), Race::new(&Goal::default(), Some(0.3), 1.5, 3).fingerprint());
    }

    #[test]
    fn what_ran_to_its_end_once_is_whole() {
        let raced = |done| Some(Raced { done, planned: 30 });
        assert_eq!(Raced::pooled([raced(8), raced(12)]), Some(Raced { done: 20, planned: 60 }));
        assert_eq!(Raced::pooled([raced(8), None]), None);
    }
}
