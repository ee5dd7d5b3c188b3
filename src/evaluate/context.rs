//! The context of an evaluation: cancellation, progress, checkpoints.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::study::Threshold;

/// The progress of an evaluation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The current stage, such as the name of a task.
    pub stage: String,
    /// The number of steps done, over the whole trial.
    pub step: usize,
    /// The number of steps of the whole trial, as far as it is known.
    pub steps: usize,
    /// An intermediate value of the score, if there is one. Larger is better, and trials are compared at equal steps.
    /// These values become the [curve](crate::study::Report::curve) of the report.
    pub value: Option<f64>,
}

/// Cancels the evaluations that share it. Clones are the same token.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Cancels the evaluations that share the token.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connection of a running evaluation to its executor.
#[derive(Clone)]
pub struct Context {
    cancel: CancelToken,
    progress: Arc<dyn Fn(Progress) + Send + Sync>,
    curve: Arc<Mutex<Vec<(usize, f64)>>>,
    threshold: Threshold,
    stopped: Arc<OnceLock<String>>,
    checkpoint: Option<PathBuf>,
}

impl Context {
    /// Creates a context that is cancelled by `cancel` and passes progress to `progress`.
    pub fn new(cancel: CancelToken, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        let progress = Arc::new(progress);
        let threshold = Threshold::default();
        Self { cancel, progress, curve: Arc::default(), threshold, stopped: Arc::default(), checkpoint: None }
    }

    /// Sets the folder for checkpoints.
    #[must_use]
    pub fn keep_in(self, checkpoint: PathBuf) -> Self {
        Self { checkpoint: Some(checkpoint), ..self }
    }

    /// Returns the folder for checkpoints, or `None` if the executor has none. The folder may not exist yet.
    ///
    /// An attempt finds the files of the previous attempt there, except symbolic links, and no other process writes
    /// into it. Because an attempt may end at any moment, write a file under another name and rename it. The report
    /// must be the same with a checkpoint as without.
    pub fn checkpoint(&self) -> Option<&Path> {
        self.checkpoint.as_deref()
    }

    /// Sets the threshold: the evaluation is stopped when an intermediate value falls below it.
    #[must_use]
    pub fn threshold(self, threshold: Threshold) -> Self {
        Self { threshold, ..self }
    }

    /// Returns the context of an evaluation within this one. It is cancelled together with this one and passes progress
    /// to `progress`. It has no threshold and no folder for checkpoints.
    #[must_use]
    pub(crate) fn nested(&self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self::new(self.cancel.clone(), progress)
    }

    /// Returns whether the evaluation should stop and return [`EvalError::Cancelled`](super::EvalError::Cancelled).
    pub fn cancelled(&self) -> bool {
        self.cancel.is_cancelled() || self.stopped().is_some()
    }

    /// Returns why the evaluation was stopped, if an intermediate value fell below the threshold. The last step of a
    /// trial never stops it: a trial that has reached its end counts.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.get().map(String::as_str)
    }

    /// Returns the intermediate values so far as (step, value), by ascending step: the curve of the report.
    pub fn curve(&self) -> Vec<(usize, f64)> {
        self.curve.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reports progress. It is fast enough to be called at every step. A value that is not finite, or whose step is not
    /// larger than that of the last, is left out of the [curve](Self::curve).
    pub fn progress(&self, progress: Progress) {
        let Progress { step, steps, value, .. } = progress;
        if let Some(value) = value.filter(|value| value.is_finite()) {
            let mut curve = self.curve.lock().unwrap_or_else(PoisonError::into_inner);
            if curve.last().is_none_or(|&(last, _)| last < step) {
                curve.push((step, value));
            }
        }
        if let (Some(value), Some(threshold)) = (value, self.threshold.at(step))
            && step < steps
            && value < threshold
        {
            self.stopped.get_or_init(|| format!("{value} after {step} of {steps} steps, below {threshold}"));
        }
        (self.progress)(progress);
    }
}

impl Default for Context {
    /// Creates a context that is never cancelled and ignores progress.
    fn default() -> Self {
        Self::new(CancelToken::default(), |_| ())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_is_what_was_told_by_ascending_step() {
        let context = Context::default();
        for (step, value) in
            [(1, Some(0.5)), (2, None), (3, Some(f64::NAN)), (4, Some(0.1)), (4, Some(0.2)), (2, Some(0.3))]
        {
            context.clone().progress(Progress { stage: String::new(), step, steps: 9, value });
        }
        assert_eq!(context.curve(), [(1, 0.5), (4, 0.1)]);
        assert!(context.nested(|_| ()).curve().is_empty());
    }

    #[test]
    fn only_a_running_value_below_the_threshold_stops() {
        let threshold = Threshold::new([(6, 0.5), (3, 0.2)]);
        assert_eq!([2, 3, 5, 6, 99].map(|step| threshold.at(step)), [None, Some(0.2), Some(0.2), Some(0.5), Some(0.5)]);
        let tell = |points: &[(usize, Option<f64>)]| {
            let context = Context::default().threshold(threshold.clone());
            for &(step, value) in points {
                context.progress(Progress { stage: String::new(), step, steps: 10, value });
            }
            assert_eq!(context.cancelled(), context.stopped().is_some());
            context.nested(|_| ()).progress(Progress { step: 6, steps: 10, value: Some(0.0), ..Progress::default() });
            context.stopped().map(str::to_owned)
        };
        assert_eq!(tell(&[(2, Some(0.0)), (3, Some(0.2)), (6, None), (9, Some(0.5))]), None);
        assert_eq!(tell(&[(10, Some(0.0))]), None, "the end was reached");
        let expected = "0.1 after 4 of 10 steps, below 0.2";
        assert_eq!(tell(&[(4, Some(0.1)), (6, Some(0.0)), (9, Some(1.0))]).as_deref(), Some(expected));
    }
}
