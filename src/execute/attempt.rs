//! One call of an evaluator.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use thiserror::Error;

use crate::{
    evaluate::{Context, EvalError, Evaluator, panic_text},
    study::{Report, Trial},
};

/// Why an attempt at a trial gave no report: what the evaluator said, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// The evaluator's own word.
    #[error(transparent)]
    Evaluator(#[from] EvalError),
    /// The evaluation was called off because it fell below what its trial must reach. The trial is recorded as stopped,
    /// without a value; the search goes on.
    #[error("stopped early: {0}")]
    Stopped(String),
    /// The evaluator panicked. The trial is recorded as failed; the search goes on.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The process of the evaluation ended without a result, as often as it was tried. The trial is recorded as failed;
    /// the search goes on.
    #[error("crashed: {0}")]
    Crashed(String),
}

/// One call of an evaluator, as every executor makes it: measures the time, records the curve that was told, turns a
/// panic into an error, and tells a trial below its bar from a cancelled one.
///
/// # Errors
/// What the evaluator answers; [`AttemptError::Panicked`], [`AttemptError::Stopped`].
pub fn evaluate(evaluator: &dyn Evaluator, trial: &Trial, context: &Context) -> Result<Report, AttemptError> {
    if context.cancelled() {
        return Err(EvalError::Cancelled.into());
    }
    let span = tracing::info_span!(target: "composer_nas::search", "trial", id = trial.id.0, architecture = %trial.architecture);
    let _entered = span.entered();
    let start = Instant::now();
    let answer = catch_unwind(AssertUnwindSafe(|| evaluator.evaluate(trial, context)))
        .map_err(|panic| AttemptError::Panicked(panic_text(&*panic)))?;
    let report = match (answer, context.stopped()) {
        (Err(EvalError::Cancelled), Some(reason)) => return Err(AttemptError::Stopped(reason.into())),
        (answer, _) => answer?,
    };
    let wall_seconds = start.elapsed().as_secs_f64();
    Ok(Report { curve: context.curve(), wall_seconds, ..report })
}
