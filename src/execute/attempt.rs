//! One call of an evaluator.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use crate::{
    evaluate::{Context, EvalError, Evaluator, panic_text},
    study::{Report, Trial},
};

/// One call of an evaluator, as every executor makes it: measures the time, records the curve that was told, turns a
/// panic into an error, and tells a trial below its bar from a cancelled one.
///
/// # Errors
/// What the evaluator answers; [`EvalError::Panicked`], [`EvalError::Stopped`].
pub fn evaluate(evaluator: &dyn Evaluator, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
    if context.cancelled() {
        return Err(EvalError::Cancelled);
    }
    let span = tracing::info_span!(target: "composer_nas::search", "trial", id = trial.id.0, architecture = %trial.architecture);
    let _entered = span.entered();
    let start = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| evaluator.evaluate(trial, context)))
        .unwrap_or_else(|panic| Err(EvalError::Panicked(panic_text(&*panic))));
    let outcome = match (outcome, context.stopped()) {
        (Err(EvalError::Cancelled), Some(reason)) => Err(EvalError::Stopped(reason.into())),
        (outcome, _) => outcome,
    };
    let wall_seconds = start.elapsed().as_secs_f64();
    outcome.map(|report| Report { curve: context.curve(), wall_seconds, ..report })
}
