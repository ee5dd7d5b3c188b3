//! Evaluators from closures.

use super::{Context, EvalError, Evaluator};
use crate::study::{Report, Trial};

/// An evaluator from a closure; see [`from_fn`].
#[derive(Clone, Copy, Debug)]
pub struct FnEvaluator<F> {
    fingerprint: &'static str,
    evaluate: F,
}

/// Creates an evaluator from a closure.
///
/// `fingerprint` identifies everything that the closure depends on. Change it when the closure changes, so that a
/// journal of the old version is not continued with the new one.
///
/// ```
/// use composer_nas::prelude::*;
/// let depth_of_attention = from_fn("share of attention, version 1", |trial, _| {
///     let share = trial.architecture.count(Symbol::ATTENTION) as f64 / trial.architecture.len() as f64;
///     Ok(Report::score("accuracy", share))
/// });
/// assert_eq!(depth_of_attention.fingerprint(), "share of attention, version 1");
/// ```
pub fn from_fn<F>(fingerprint: &'static str, evaluate: F) -> FnEvaluator<F>
where
    F: Fn(&Trial, &Context) -> Result<Report, EvalError> + Send + Sync,
{
    FnEvaluator { fingerprint, evaluate }
}

impl<F> Evaluator for FnEvaluator<F>
where
    F: Fn(&Trial, &Context) -> Result<Report, EvalError> + Send + Sync,
{
    fn fingerprint(&self) -> String {
        self.fingerprint.into()
    }

    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        (self.evaluate)(trial, context)
    }
}
