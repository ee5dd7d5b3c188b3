//! What an evaluation is told and may tell while it runs.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// How far an evaluation is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, such as the name of a task.
    pub stage: String,
    /// Steps done of the whole trial.
    pub step: usize,
    /// Steps of the whole trial, as far as known.
    pub steps: usize,
}

/// Calls off whatever shares it. Clones are one token.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Asks everything that shares the token to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The line between a running evaluation and those who wait for it.
#[derive(Clone)]
pub struct Context {
    cancel: CancelToken,
    progress: Arc<dyn Fn(Progress) + Send + Sync>,
}

impl Context {
    /// A context that listens to `cancel` and passes progress to `progress`.
    pub fn new(cancel: CancelToken, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self { cancel, progress: Arc::new(progress) }
    }

    /// Whether the evaluation should stop and return [`EvalError::Cancelled`](super::EvalError::Cancelled).
    pub fn cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Tells those who wait how far the evaluation is. Cheap enough for every step.
    pub fn progress(&self, progress: Progress) {
        (self.progress)(progress);
    }
}

impl Default for Context {
    /// Never cancelled, nobody listens.
    fn default() -> Self {
        Self::new(CancelToken::default(), |_| ())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}
