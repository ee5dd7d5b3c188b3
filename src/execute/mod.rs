//! Executors: where trials run.
//!
//! An [`Executor`] runs trials and returns their results in any order.
//!
//! | executor | trials run |
//! |---|---|
//! | [`Threads`] | on threads of this process |
//! | [`Process`] | in separate processes on this machine, which may crash or leak memory |
//! | [`Slurm`] | as jobs on a cluster |
//!
//! The last two are a [`Remote`] with an [`Engine`], which starts the jobs. Every trial has its own folder. Its job
//! runs your program, which [`worker`] turns into a worker, and writes the result into that folder. The folders outlive
//! the driver: a restarted driver finds finished trials and those that still run. `docs/cluster.md` describes the
//! folders.

mod attempt;
mod command;
mod engine;
mod process;
mod remote;
mod slurm;
mod task;
mod threads;
mod worker;

pub use attempt::{AttemptError, evaluate};
pub use engine::{Engine, EngineError, Job, JobState, Resources};
pub use process::{Process, Processes};
pub(crate) use remote::MOST_JOBS;
pub use remote::Remote;
pub use slurm::{Slurm, SlurmEngine, SlurmOptions};
pub use threads::Threads;
pub use worker::{WorkerExit, work, worker};

use std::{io, path::PathBuf, time::Duration};

use auto_impl::auto_impl;
use thiserror::Error;

use crate::{
    evaluate::Progress,
    study::{Report, Trial, TrialId},
};

/// Runs trials.
///
/// An executor is used from one thread and never blocks longer than the given timeout. Every submitted trial must come
/// back exactly once as [`Message::Done`]. If the evaluator panics or crashes, the trial comes back with an
/// [`AttemptError`]. If the evaluation is stopped because it falls below [`Trial::threshold`], it comes back with
/// [`AttemptError::Stopped`]. [`evaluate`] does this for you. `testkit::executor` checks it.
///
/// ```
/// use std::{
///     sync::{Arc, mpsc},
///     thread,
///     time::Duration,
/// };
/// use composer_nas::{
///     evaluate::CancelToken,
///     execute::{ExecuteError, Executor, Message, evaluate},
///     prelude::*,
/// };
///
/// /// Runs one trial at a time, on a new thread.
/// struct OneThread<E> {
///     evaluator: Arc<E>,
///     cancel: CancelToken,
///     running: Option<mpsc::Receiver<Message>>,
/// }
///
/// impl<E: Evaluator + 'static> Executor for OneThread<E> {
///     fn capacity(&self) -> usize {
///         1
///     }
///
///     fn idle(&self) -> usize {
///         if self.running.is_none() { 1 } else { 0 }
///     }
///
///     fn submit(&mut self, trial: Trial) -> Result<(), ExecuteError> {
///         if self.running.is_some() {
///             return Err(ExecuteError::Busy);
///         }
///         let evaluator = self.evaluator.clone();
///         let context = Context::new(self.cancel.clone(), |_| {}).threshold(trial.threshold.clone());
///         let (sender, receiver) = mpsc::channel();
///         thread::spawn(move || {
///             let outcome = evaluate(&*evaluator, &trial, &context);
///             sender.send(Message::Done(trial.id, outcome))
///         });
///         self.running = Some(receiver);
///         Ok(())
///     }
///
///     fn recv(&mut self, timeout: Duration) -> Result<Option<Message>, ExecuteError> {
///         let message = self.running.as_ref().and_then(|running| running.recv_timeout(timeout).ok());
///         if message.is_some() {
///             self.running = None;
///         }
///         Ok(message)
///     }
///
///     fn cancel(&mut self) {
///         self.cancel.cancel();
///     }
/// }
/// ```
#[auto_impl(Box)]
pub trait Executor {
    /// Prepares for trials of the evaluator with this [fingerprint](crate::evaluate::Evaluator::fingerprint). Called
    /// once, before the first trial. Executors that hold the evaluator themselves can ignore it.
    ///
    /// # Errors
    /// [`ExecuteError`] if there are no workers.
    fn begin(&mut self, evaluator: &str) -> Result<(), ExecuteError> {
        let _ = evaluator;
        Ok(())
    }

    /// Returns how many trials can run at once; at least 1.
    fn capacity(&self) -> usize;

    /// Returns how many more trials can be submitted now.
    fn idle(&self) -> usize;

    /// Starts a trial.
    ///
    /// # Errors
    /// [`ExecuteError`] if all workers are busy or there are none any more.
    fn submit(&mut self, trial: Trial) -> Result<(), ExecuteError>;

    /// Returns the next message, or `None` if there is none within `timeout`.
    ///
    /// # Errors
    /// [`ExecuteError`] if there are no workers any more.
    fn recv(&mut self, timeout: Duration) -> Result<Option<Message>, ExecuteError>;

    /// Asks all running trials to stop. They come back with
    /// [`EvalError::Cancelled`](crate::evaluate::EvalError::Cancelled), or with a result if they finish first.
    fn cancel(&mut self);
}

/// A message of an executor.
#[derive(Clone, Debug)]
pub enum Message {
    /// The trial now waits or runs at this location. Sent when it changes, by executors that evaluate elsewhere.
    Location(TrialId, Location),
    /// The trial reports its progress.
    Progress(TrialId, Progress),
    /// The trial has ended.
    Done(TrialId, Result<Report, AttemptError>),
    /// A message for the user. The executor continues.
    Notice(String),
}

/// The location of a trial.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// It is queued, for the reason given by the scheduler.
    Queued(String),
    /// It runs on this node.
    Running(String),
}

/// An error that stops an executor.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// The number of workers is 0.
    #[error("the number of workers is 0: use at least one")]
    NoWorkers,
    /// The number of workers is too large.
    #[error("{asked} workers are too many: there can be at most {most} {what}")]
    TooMany {
        /// The requested number.
        asked: usize,
        /// The maximum.
        most: usize,
        /// What is counted, such as processes.
        what: &'static str,
    },
    /// A trial was submitted while all workers were busy.
    #[error("all workers are busy: submit only while idle() is positive")]
    Busy,
    /// A worker could not be started or is gone.
    #[error("a worker cannot be used: {0}")]
    Worker(String),
    /// A trial was submitted before `begin` was called.
    #[error("call Executor::begin with the fingerprint of the evaluator before submitting a trial")]
    NotBegun,
    /// Another driver uses the run folder.
    #[error("{} is in use by another driver: wait for it, stop it, or choose another folder", .folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The run folder disappeared.
    #[error("the run folder {} is not there any more, since {} s: it, or the lock in it, was removed, renamed or unmounted; \
        no result is lost: run again with its new path", .folder.display(), .waited.as_secs())]
    Gone {
        /// The former path.
        folder: PathBuf,
        /// How long the executor waited for it to come back.
        waited: Duration,
    },
    /// The run folder cannot be used.
    #[error("cannot use {}; no result is lost: free some disk space or correct the permissions and run again",
        .path.display())]
    Folder {
        /// The folder or a file in it.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// Jobs started and ended, but no worker reported.
    #[error("{tries} jobs ended, but no worker wrote to {}: is this folder shared with the machines that run the jobs, is the \
        program installed there, and does its main function call composer_nas::execute::worker first? {words}", .folder.display())]
    NotStarted {
        /// The number of jobs.
        tries: u32,
        /// The folder in which the worker should have reported.
        folder: PathBuf,
        /// The output of the engine and of the job.
        words: String,
    },
    /// The workers of a trial could not write its result, or could not start a thread.
    #[error("{workers} workers could not write to {} or start a thread; no result is lost: fix the problem named in their log \
        and run again. {words}", .folder.display())]
    Unwritten {
        /// The number of workers, one after the other.
        workers: u32,
        /// The folder of the task.
        folder: PathBuf,
        /// The output of the engine and of the job.
        words: String,
    },
    /// The workers run another program or version than the driver.
    #[error("the workers cannot evaluate this search: {0}")]
    Refused(String),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Checks that `asked` is from 1 to `most`.
fn at_most(asked: usize, most: usize, what: &'static str) -> Result<(), ExecuteError> {
    match asked {
        0 => Err(ExecuteError::NoWorkers),
        _ if asked > most => Err(ExecuteError::TooMany { asked, most, what }),
        _ => Ok(()),
    }
}
