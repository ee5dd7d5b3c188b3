//! Checks the contract of [`Evaluator`].

use std::{sync::mpsc, thread};

use super::{LawBroken, holds};
use crate::{
    evaluate::{CancelToken, Context, EvalError, Evaluator},
    study::{Goal, Report, Threshold, Trial},
};

/// The same trial gives the same report, also in parallel with others.
pub(crate) const REPEATABLE: &str = "the same trial gives the same report, whatever runs beside it";
/// A report contains the goal's score, which is finite.
pub(crate) const SCORES: &str = "a report contains a finite score for the goal";
/// A cancelled evaluation ends.
pub(crate) const CANCELLED: &str = "a cancelled evaluation returns EvalError::Cancelled";
/// The intermediate values form a curve.
pub(crate) const CURVE: &str = "intermediate values are finite and reported in ascending order of steps";
/// A trial below its threshold ends.
pub(crate) const STOPPED: &str =
    "an evaluation that falls below its threshold before its end returns EvalError::Cancelled";
/// The fingerprint does not change.
pub(crate) const FINGERPRINT: &str = "the fingerprint stays the same";

/// Evaluates the trials sequentially, then in parallel, each on a pool with one computing thread as an executor does,
/// and compares the reports. They must be equal on a CPU; other devices may add numbers in another order.
///
/// # Errors
/// [`LawBroken`] for the first law that does not hold.
/// [`LawBroken`] for the first law that does not hold.
pub fn check(evaluator: &(impl Evaluator + ?Sized), trials: &[Trial], goal: &Goal) -> Result<(), LawBroken> {
    let fingerprint = evaluator.fingerprint();
    let (alone, told): (Vec<_>, Vec<_>) = trials.iter().map(|trial| listen(evaluator, trial)).unzip();
    for ((trial, report), told) in trials.iter().zip(&alone).zip(&told) {
        let ascending = told.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let finite = told.iter().all(|(_, value)| value.is_finite());
        holds(ascending && finite, CURVE, || format!("{}: told {told:?}", trial.architecture))?;
        if let Ok(report) = report {
            let value = report.value(goal);
            holds(value.is_ok(), SCORES, || format!("{} of {}: {value:?}", trial.id, trial.architecture))?;
        }
    }
    let together: Vec<_> = thread::scope(|scope| {
        let run = |trial| scope.spawn(move || evaluate(evaluator, trial, &Context::default()));
        let running: Vec<_> = trials.iter().map(run).collect();
        running.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    for ((trial, first), second) in trials.iter().zip(&alone).zip(&together) {
        let same = match (first, second) {
            (Ok(first), Ok(Ok(second))) => first.same_outcome(second),
            (Err(first), Ok(Err(second))) => first == second,
            _ => false,
        };
        holds(same, REPEATABLE, || format!("{}: {first:?}, then {second:?}", trial.architecture))?;
    }
    let cancel = CancelToken::default();
    cancel.cancel();
    if let Some(trial) = trials.first() {
        let outcome = evaluate(evaluator, trial, &Context::new(cancel, |_| ()));
        holds(outcome == Err(EvalError::Cancelled), CANCELLED, || format!("{outcome:?}"))?;
    }
    let with_curve = trials.iter().zip(&told).find(|(_, told)| told.len() > 1);
    if let Some((trial, _)) = with_curve {
        let context = Context::default().threshold(Threshold::new([(0, f64::INFINITY)]));
        let outcome = evaluate(evaluator, trial, &context);
        holds(outcome == Err(EvalError::Cancelled), STOPPED, || format!("{outcome:?}"))?;
    }
    holds(evaluator.fingerprint() == fingerprint, FINGERPRINT, || fingerprint.clone())
}

/// Returns the outcome and the reported intermediate values.
fn listen(evaluator: &(impl Evaluator + ?Sized), trial: &Trial) -> (Result<Report, EvalError>, Vec<(usize, f64)>) {
    let (sender, told) = mpsc::channel();
    let context = Context::new(CancelToken::default(), move |progress| {
        // The receiver outlives the evaluation.
        let _ = progress.value.map(|value| sender.send((progress.step, value)));
    });
    (evaluate(evaluator, trial, &context), told.try_iter().collect())
}

fn evaluate(evaluator: &(impl Evaluator + ?Sized), trial: &Trial, context: &Context) -> Result<Report, EvalError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|error| EvalError::Fatal(error.to_string()))?;
    pool.install(|| evaluator.evaluate(trial, context))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::{
        evaluate::{Progress, from_fn},
        seed::Seed,
        study::{Origin, TrialId},
    };

    fn trials() -> Vec<Trial> {
        let trial = |id| Trial::new(TrialId(id), "AAM".parse().unwrap(), Seed(id), Origin::Searcher);
        (0..3).map(trial).collect()
    }

    fn broken_law(
        evaluate: impl Fn(&Trial, &Context) -> Result<Report, EvalError> + Send + Sync,
    ) -> Option<&'static str> {
        check(&from_fn("test", evaluate), &trials(), &Goal::default()).err().map(|broken| broken.law)
    }

    #[test]
    fn every_breach_is_caught() {
        let score = |value| Ok(Report::score("accuracy", value));
        let heeding =
            move |context: &Context, value| if context.cancelled() { Err(EvalError::Cancelled) } else { score(value) };
        assert_eq!(broken_law(|trial, context| heeding(context, trial.seed.0 as f64)), None);
        assert_eq!(broken_law(|trial, _| score(trial.seed.0 as f64)), Some(CANCELLED));
        assert_eq!(broken_law(|_, context| heeding(context, f64::NAN)), Some(SCORES));
        let calls = AtomicU64::new(0);
        let counting = |_: &Trial, context: &Context| heeding(context, calls.fetch_add(1, Ordering::Relaxed) as f64);
        assert_eq!(broken_law(counting), Some(REPEATABLE));
        let curve = |told: [f64; 2], heeds: bool| {
            broken_law(move |_, context| {
                for (step, value) in (1..).zip(told) {
                    context.progress(Progress { stage: String::new(), step, steps: 2, value: Some(value) });
                    if context.cancelled() && (heeds || context.stopped().is_none()) {
                        return Err(EvalError::Cancelled);
                    }
                }
                heeding(&Context::default(), 0.5)
            })
        };
        assert_eq!(curve([0.1, 0.5], true), None);
        assert_eq!(curve([0.1, f64::NAN], true), Some(CURVE));
        assert_eq!(curve([0.1, 0.5], false), Some(STOPPED));
    }
}
