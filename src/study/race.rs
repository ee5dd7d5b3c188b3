//! The threshold that a trial must still be able to reach, and the mark of a trial that cannot.

use serde::{Deserialize, Serialize};

use super::{Direction, Goal};

/// The race of one trial, fixed when the trial is handed out by [`Racing`](crate::stopping::Racing).
///
/// An evaluator that repeats its measurement checks it after each repetition. If the race [is lost](Self::is_lost), it
/// reports what it has measured, with [`Report::raced`](super::Report::raced) set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Race {
    score: String,
    direction: Direction,
    /// The threshold, oriented so that larger is better. Without a threshold, no race is lost.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "bar")]
    threshold: Option<f64>,
    /// The number of standard errors below the threshold at which the race is lost.
    errors: f64,
    /// The number of repetitions before which no race is lost.
    least: usize,
}

/// The number of repetitions of a trial whose [`Race`] was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raced {
    /// The number of repetitions that were made.
    pub done: usize,
    /// The maximum number of repetitions of a whole trial.
    pub planned: usize,
}

impl Race {
    /// Creates a race. It is lost if the score of `goal` is worse than `threshold` by more than `errors` standard
    /// errors, after at least `least` repetitions of everything (at least 2, because one repetition has no standard
    /// error). `threshold` is oriented so that larger is better. Without a finite threshold, every trial runs to its
    /// end.
    pub fn new(goal: &Goal, threshold: Option<f64>, errors: f64, least: usize) -> Self {
        let Goal { score, direction, .. } = goal;
        let threshold = threshold.filter(|threshold| threshold.is_finite());
        let errors = if errors.is_finite() { errors.max(0.0) } else { 0.0 };
        Self { score: score.clone(), direction: *direction, threshold, errors, least: least.max(2) }
    }

    /// Returns the name of the score that is compared.
    pub fn score(&self) -> &str {
        &self.score
    }

    /// Returns the threshold on the scale of the score, not oriented, or `None` if there is none.
    pub fn threshold(&self) -> Option<f64> {
        self.threshold.map(|threshold| self.direction.orient(threshold))
    }

    /// Returns the number of repetitions of everything before which no race is lost.
    pub(crate) fn least(&self) -> usize {
        self.least
    }

    /// Returns whether a trial with this mean and standard error so far has lost. `repetitions` is the number of
    /// repetitions of the task that was repeated least. Never `true` without a standard error, or if a number is NaN.
    pub fn is_lost(&self, mean: f64, standard_error: Option<f64>, repetitions: usize) -> bool {
        let (Some(threshold), Some(error)) = (self.threshold, standard_error) else { return false };
        repetitions >= self.least && self.direction.orient(mean) + self.errors * error < threshold
    }

    /// Returns the race as text. Equal texts mean equal races.
    pub(crate) fn fingerprint(&self) -> String {
        let Self { score, direction, threshold, errors, least } = self;
        format!("race({direction:?} {score:?}, bar={threshold:?}, errors={errors}, least={least})")
    }
}

impl Raced {
    /// Combines the marks of several evaluations. `None` if one of them ran to its end.
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
        assert_eq!((loss.score(), loss.threshold()), ("loss", Some(3.0)));
        assert!(
            loss.is_lost(3.2, Some(0.1), 2) && !loss.is_lost(2.0, Some(0.1), 2) && !loss.is_lost(9.0, Some(0.1), 1)
        );
    }

    #[test]
    fn drivers_and_workers_of_version_0_2_understand_each_other() {
        // Workers check the version of the driver alone, so a field with another name would be left out in silence.
        let text = r#"{"score":"accuracy","direction":"maximize","bar":0.7,"errors":2.0,"least":4}"#;
        let race = Race::new(&Goal::default(), Some(0.7), 2.0, 4);
        assert_eq!(serde_json::from_str::<Race>(text).unwrap(), race);
        assert_eq!(serde_json::to_string(&race).unwrap(), text);
    }

    #[test]
    fn a_threshold_that_is_no_number_stops_nothing() {
        for threshold in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            let race = Race::new(&Goal::default(), threshold, f64::NAN, 0);
            assert!(race.threshold().is_none() && !race.is_lost(-9.0, Some(0.0), 99));
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
