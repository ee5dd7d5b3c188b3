//! One evaluation of a trial.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use thiserror::Error;

use crate::{
    evaluate::{Context, EvalError, Evaluator},
    study::{Report, Trial},
    text,
};

/// The error of an attempt to evaluate a trial: an error of the evaluator, or the way in which the attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// The evaluator returned an error.
    #[error(transparent)]
    Evaluator(#[from] EvalError),
    /// The evaluation fell below the threshold of its trial. The trial is recorded as stopped, without a score, and the
    /// search continues.
    #[error("stopped early: {0}")]
    Stopped(String),
    /// The evaluator panicked. The trial is recorded as failed, and the search continues.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The process of the evaluation ended without a result, in all attempts. The trial is recorded as failed, and the
    /// search continues.
    #[error("crashed: {0}")]
    Crashed(String),
}

/// Calls an evaluator in the way that every executor must: measures the time, records the intermediate values, turns a
/// panic into an error, and distinguishes a trial below its threshold from a cancelled one.
///
/// # Errors
/// The error of the evaluator if it returns one, [`AttemptError::Panicked`] if it panics, [`AttemptError::Stopped`] if
/// an intermediate value is below the threshold.
pub fn evaluate(evaluator: &dyn Evaluator, trial: &Trial, context: &Context) -> Result<Report, AttemptError> {
    if context.cancelled() {
        return Err(EvalError::Cancelled.into());
    }
    let span = tracing::info_span!(target: "composer_nas::search", "trial", id = trial.id.0, architecture = %trial.architecture);
    let _entered = span.entered();
    let start = Instant::now();
    let answer = catch_unwind(AssertUnwindSafe(|| evaluator.evaluate(trial, context)))
        .map_err(|panic| AttemptError::Panicked(text::of_panic(&*panic)))?;
    let report = match (answer, context.stopped()) {
        (Err(EvalError::Cancelled), Some(reason)) => return Err(AttemptError::Stopped(reason.into())),
        (answer, _) => answer?,
    };
    let wall_seconds = start.elapsed().as_secs_f64();
    Ok(Report { curve: context.curve(), wall_seconds, ..report })
}
