//! Evaluating each trial several times.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use thiserror::Error;

use super::{Context, EvalError, Evaluator, Progress};
use crate::{
    limits::MAX_REPEATS,
    statistics::{mean, standard_error},
    study::{Goal, Raced, Report, Trial},
    text::causes,
};

/// Evaluates each trial several times, each time with another seed, and reports the mean scores and the standard error
/// of the goal's score.
///
/// The number of repetitions may depend on their results, through a fixed [`Until`] and through the
/// [race](crate::study::Race) of the trial for the goal's score. The report remains a function of the trial alone. To
/// repeat the leaders of a search, use [`Replicate`](crate::search::Replicate), which sees the whole study.
///
/// ```
/// use composer_nas::{evaluate::{Repeated, Until}, prelude::*, study::{Origin, TrialId}};
/// let noisy = from_fn("coin", |trial, _| Ok(Report::score("accuracy", (trial.seed.0 % 2) as f64)));
/// let repeated = Repeated::adaptive(noisy, 4, 64, Until::StandardError(0.1))?;
/// let trial = Trial::new(TrialId(0), "AM".parse()?, Seed(1), Origin::Searcher);
/// let report = repeated.evaluate(&trial, &Context::default())?;
/// assert!(report.standard_error.is_some_and(|error| error <= 0.1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Repeated<E> {
    inner: E,
    goal: Goal,
    least: usize,
    most: usize,
    until: Option<Until>,
}

/// When to stop repeating, from the mean and its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Until {
    /// Stop when the standard error is at most this.
    StandardError(f64),
    /// Stop when the score is worse than this by more than two standard errors, so that only trials that may be among
    /// the best get all repetitions.
    WorseThan(f64),
}

/// The error of invalid settings of [`Repeated`].
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum RepeatError {
    /// There are no repetitions.
    #[error("0 repetitions measure nothing: ask for at least 1")]
    None,
    /// The minimum is below 2, or above the maximum. A standard error needs two repetitions.
    #[error("{least} to {most} repetitions: adaptive repetition needs at least 2, and no fewer at most than at least")]
    Range {
        /// The minimum number of repetitions.
        least: usize,
        /// The maximum number of repetitions.
        most: usize,
    },
    /// There are more repetitions than allowed.
    #[error("{0} repetitions of every trial: at most {MAX_REPEATS}")]
    TooMany(usize),
    /// The number of [`Until`] is not finite, or not positive where it is a standard error.
    #[error("{0:?} is no bound: use a finite number, and a positive one for a standard error")]
    Bound(Until),
}

fn check_most(repetitions: usize) -> Result<(), RepeatError> {
    if repetitions > MAX_REPEATS { Err(RepeatError::TooMany(repetitions)) } else { Ok(()) }
}

impl<E> Repeated<E> {
    /// Creates an evaluator that evaluates each trial `times` times.
    ///
    /// # Errors
    /// [`RepeatError`] if `times` is 0 or more than 65,536.
    pub fn new(inner: E, times: usize) -> Result<Self, RepeatError> {
        if times == 0 {
            return Err(RepeatError::None);
        }
        check_most(times)?;
        Ok(Self { inner, goal: Goal::default(), least: times, most: times, until: None })
    }

    /// Creates an evaluator that evaluates each trial at least `least` times, then until `until` holds, and at most
    /// `most` times.
    ///
    /// # Errors
    /// [`RepeatError`] if `least` is below 2 or above `most`, if `most` is more than 65,536, or if the number in
    /// `until` is invalid.
    pub fn adaptive(inner: E, least: usize, most: usize, until: Until) -> Result<Self, RepeatError> {
        if least < 2 || most < least {
            return Err(RepeatError::Range { least, most });
        }
        check_most(most)?;
        let usable = match until {
            Until::StandardError(bound) => bound.is_finite() && bound > 0.0,
            Until::WorseThan(bar) => bar.is_finite(),
        };
        if !usable {
            return Err(RepeatError::Bound(until));
        }
        Ok(Self { inner, goal: Goal::default(), least, most, until: Some(until) })
    }

    /// Sets the goal whose score is used; by default, `accuracy` is maximized.
    #[must_use]
    pub fn goal(self, goal: Goal) -> Self {
        Self { goal, ..self }
    }

    /// Returns whether these values, oriented so that larger is better, are enough.
    fn enough(&self, values: &[f64]) -> bool {
        let judged = |until: Until| {
            let error = standard_error(values).unwrap_or(f64::INFINITY);
            match until {
                Until::StandardError(bound) => error <= bound,
                Until::WorseThan(bar) => mean(values) + 2.0 * error < self.goal.orient(bar),
            }
        };
        values.len() >= self.most || (values.len() >= self.least && self.until.is_none_or(judged))
    }

    /// Returns whether these values, oriented so that larger is better, lose the trial's race for the goal's score.
    fn lost(&self, trial: &Trial, values: &[f64]) -> bool {
        let race = trial.race.as_ref().filter(|race| race.score() == self.goal.score);
        let mean = self.goal.orient(mean(values));
        !self.enough(values) && race.is_some_and(|race| race.is_lost(mean, standard_error(values), values.len()))
    }
}

impl<E: Evaluator> Evaluator for Repeated<E> {
    fn fingerprint(&self) -> String {
        let Self { inner, goal, least, most, until } = self;
        let until = until.map(|until| format!(" until {until:?} of {}", goal.score)).unwrap_or_default();
        format!("{least} to {most} times{until}: {}", inner.fingerprint())
    }

    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        let mut reports = Vec::<Report>::new();
        let mut values = Vec::new();
        let length = Arc::new(AtomicUsize::new(1));
        while !self.enough(&values) {
            let number = reports.len();
            let most = self.most;
            let outer = context.clone();
            let seen = length.clone();
            let inside = context.nested(move |progress| {
                let steps = progress.steps.max(1);
                seen.store(steps, Ordering::Relaxed);
                let step = number.saturating_mul(steps).saturating_add(progress.step);
                let stage = progress.stage;
                outer.progress(Progress { stage, step, steps: most.saturating_mul(steps), value: None });
            });
            let inside = match context.checkpoint() {
                Some(folder) => inside.keep_in(folder.join(format!("repetition-{number}"))),
                None => inside,
            };
            let seed = trial.seed.derive("repeated", number as u64);
            // The race is among whole evaluations.
            let report = self.inner.evaluate(&Trial { seed, race: None, ..trial.clone() }, &inside)?;
            let value = report.value(&self.goal).map_err(|error| EvalError::Infeasible(causes(&error)))?;
            values.push(value);
            reports.push(report);

            let length = length.load(Ordering::Relaxed);
            let step = length.saturating_mul(number + 1);
            let value = mean(&values);
            let steps = if self.enough(&values) { step } else { step.max(most.saturating_mul(length)) };
            context.progress(Progress { stage: "repetitions".into(), step, steps, value: Some(value) });
            if context.stopped().is_some() {
                return Err(EvalError::Cancelled);
            }
            if self.lost(trial, &values) {
                break;
            }
        }
        let raced = (!self.enough(&values)).then_some(Raced { done: values.len(), planned: self.most });
        let report = Report::pooled(&reports.iter().collect::<Vec<_>>(), &self.goal);
        Ok(Report { raced, ..report })
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::{
        evaluate::from_fn,
        seed::Seed,
        study::{Origin, Threshold, TrialId},
        testkit,
    };

    /// Accuracy = share of attention + uniform noise of standard deviation 0.1.
    fn noisy() -> impl Evaluator {
        from_fn("noisy", |trial, context| {
            if context.cancelled() {
                return Err(EvalError::Cancelled);
            }
            let share = trial.architecture.letters().matches('A').count() as f64 / trial.architecture.len() as f64;
            let noise: f64 = trial.seed.rng("noise", 0).random_range(-0.5..0.5);
            context.progress(Progress { steps: 10, step: 10, ..Progress::default() });
            Ok(Report { train_flops: Some(1.0), ..Report::score("accuracy", share + 0.12f64.sqrt() * noise) })
        })
    }

    fn trial(text: &str, seed: u64) -> Trial {
        Trial::new(TrialId(0), text.parse().unwrap(), Seed(seed), Origin::Searcher)
    }

    fn evaluate(evaluator: &impl Evaluator, text: &str, seed: u64) -> Report {
        crate::execute::evaluate(evaluator, &trial(text, seed), &Context::default()).unwrap()
    }

    #[test]
    fn the_laws_hold() {
        let trials: Vec<_> = (0..4).map(|seed| trial(["AM", "MM"][seed as usize % 2], seed)).collect();
        testkit::evaluator::check(&Repeated::new(noisy(), 3).unwrap(), &trials, &Goal::default()).unwrap();
        let adaptive = Repeated::adaptive(noisy(), 2, 9, Until::WorseThan(0.7)).unwrap();
        testkit::evaluator::check(&adaptive, &trials, &Goal::default()).unwrap();
        let minimised = Repeated::new(noisy(), 2).unwrap().goal(Goal::minimize("loss"));
        assert!(matches!(minimised.evaluate(&trials[0], &Context::default()), Err(EvalError::Infeasible(_))));
    }

    #[test]
    fn the_standard_error_is_honest() {
        let repeated = Repeated::new(noisy(), 16).unwrap();
        let reports: Vec<_> = (0..200).map(|seed| evaluate(&repeated, "AM", seed)).collect();
        let within = reports
            .iter()
            .filter(|report| (report.scores["accuracy"] - 0.5).abs() < 2.0 * report.standard_error.unwrap_or(0.0));
        // Two standard errors of 16 values: 93.6 % by Student's t, ± 7 % for 200.
        assert!((174..=200).contains(&within.count()));
        assert_eq!(reports[0].train_flops, Some(16.0));
        // Repetitions have seeds of their own, and more of them begin with the same.
        assert_ne!(reports[0].scores, reports[1].scores);
        assert_eq!(reports[0].curve.len(), 16);
        let fewer = evaluate(&Repeated::new(noisy(), 3).unwrap(), "AM", 0);
        assert_eq!(fewer.curve, reports[0].curve[..3]);
    }

    #[test]
    fn adaptive_repetition_spends_where_it_matters() {
        let precise = Repeated::adaptive(noisy(), 2, 1000, Until::StandardError(0.03)).unwrap();
        assert!(evaluate(&precise, "AM", 0).standard_error.is_some_and(|error| error <= 0.03));
        let leaders = Repeated::adaptive(noisy(), 3, 20, Until::WorseThan(0.8)).unwrap();
        let spent = |text| (0..20).map(|seed| evaluate(&leaders, text, seed).curve.len()).sum::<usize>();
        let good = spent("AA");
        let bad = spent("MM");
        assert!(good == 400 && bad < 100, "{good} {bad}");
    }

    #[test]
    fn a_threshold_stops_between_repetitions_and_not_at_the_end() {
        let repeated = Repeated::new(noisy(), 4).unwrap();
        let under = |bar: Threshold| {
            let context = Context::default().threshold(bar);
            let outcome = repeated.evaluate(&trial("MM", 1), &context);
            (outcome, context.stopped().map(str::to_owned))
        };
        let (outcome, reason) = under(Threshold::new([(20, 0.9)]));
        assert_eq!(outcome, Err(EvalError::Cancelled));
        assert!(reason.is_some_and(|reason| reason.contains("after 20 of 40 steps, below 0.9")));
        let (outcome, reason) = under(Threshold::new([(40, 0.9)]));
        assert_eq!(outcome.unwrap().scores, evaluate(&repeated, "MM", 1).scores);
        assert_eq!(reason, None);
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        let adaptive = |least, most, until| Repeated::adaptive((), least, most, until).unwrap_err();
        assert_eq!(Repeated::new((), 0).unwrap_err(), RepeatError::None);
        for (least, most) in [(1, 4), (5, 4), (0, 0)] {
            assert_eq!(adaptive(least, most, Until::WorseThan(0.0)), RepeatError::Range { least, most });
        }
        for until in [Until::StandardError(0.0), Until::StandardError(f64::NAN), Until::WorseThan(f64::INFINITY)] {
            assert!(matches!(adaptive(2, 3, until), RepeatError::Bound(_)));
        }
    }
}
