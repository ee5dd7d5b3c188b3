//! Where trials run.
//!
//! An [`Executor`] takes trials and returns what came of them, in any order. [`Threads`] runs them in this process.

mod threads;

pub use threads::Threads;

use std::time::Duration;

use thiserror::Error;

use crate::{
    evaluate::{EvalError, Progress},
    study::{Report, Trial, TrialId},
};

/// Runs trials. It is polled from one thread and never blocks longer than asked.
///
/// LAW: every submitted trial comes back exactly once as [`Message::Done`]; panics and crashes of an evaluator come back
/// as an [`EvalError`]. An evaluation that was called off because it fell below [`Trial::stop_below`] comes back as
/// [`EvalError::Stopped`].
pub trait Executor {
    /// How many trials may run at once; at least one.
    fn capacity(&self) -> usize;

    /// How many more trials may be submitted now.
    fn idle(&self) -> usize;

    /// Starts a trial.
    ///
    /// # Errors
    /// [`ExecuteError`] when nothing is idle or the workers are gone.
    fn submit(&mut self, trial: Trial) -> Result<(), ExecuteError>;

    /// The next message, waiting for at most `timeout`.
    ///
    /// # Errors
    /// [`ExecuteError`] when the workers are gone.
    fn recv(&mut self, timeout: Duration) -> Result<Option<Message>, ExecuteError>;

    /// Asks all running trials to stop; they come back as [`EvalError::Cancelled`] or with a late result.
    fn cancel(&mut self);
}

/// What an executor has to tell.
#[derive(Clone, Debug)]
pub enum Message {
    /// A trial is so far.
    Progress(TrialId, Progress),
    /// A trial has come back.
    Done(TrialId, Result<Report, EvalError>),
}

/// An executor that cannot go on.
#[derive(Debug, Error)]
pub enum ExecuteError {
    /// No worker was asked for.
    #[error("0 workers were asked for: a search needs at least one")]
    NoWorkers,
    /// A trial was submitted while all workers were busy.
    #[error("all workers are busy: submit only while idle() is positive")]
    Busy,
    /// A worker could not be started or is gone.
    #[error("a worker is not there: {0}")]
    Worker(String),
}

impl<E: Executor + ?Sized> Executor for Box<E> {
    fn capacity(&self) -> usize {
        (**self).capacity()
    }
    fn idle(&self) -> usize {
        (**self).idle()
    }
    fn submit(&mut self, trial: Trial) -> Result<(), ExecuteError> {
        (**self).submit(trial)
    }
    fn recv(&mut self, timeout: Duration) -> Result<Option<Message>, ExecuteError> {
        (**self).recv(timeout)
    }
    fn cancel(&mut self) {
        (**self).cancel();
    }
}
