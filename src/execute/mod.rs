//! Where trials run.
//!
//! An [`Executor`] takes trials and returns what came of them, in any order.
//!
//! | executor | trials run |
//! |---|---|
//! | [`Threads`] | on threads of this process |
//! | [`Process`] | in processes of this machine, which may crash and leak as they like |
//! | [`Slurm`] | as jobs of a cluster |
//!
//! The last two are a [`Remote`] over an [`Engine`], which starts jobs somewhere. Each trial has a folder, its job is
//! the user's own program, turned into a worker by [`worker`], and what came of it is a file there. The folders outlive
//! the driver: one that starts again finds what was finished meanwhile and what still runs. `docs/cluster.md` describes
//! them.

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
pub use remote::{MOST_JOBS, Remote};
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

/// Runs trials. It is polled from one thread and never blocks longer than asked.
///
/// LAW: every submitted trial comes back exactly once as [`Message::Done`]; panics and crashes of an evaluator come
/// back as an [`AttemptError`]. An evaluation that was called off because it fell below [`Trial::threshold`] comes
/// back as [`AttemptError::Stopped`]. `testkit::executor` checks it.
#[auto_impl(Box)]
pub trait Executor {
    /// Says, once and before the first trial, which evaluator the trials are meant for: its
    /// [fingerprint](crate::evaluate::Evaluator::fingerprint). Executors that hold the evaluator themselves need not
    /// know.
    ///
    /// # Errors
    /// [`ExecuteError`] when the workers are not there.
    fn begin(&mut self, evaluator: &str) -> Result<(), ExecuteError> {
        let _ = evaluator;
        Ok(())
    }

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

    /// Asks all running trials to stop; they come back as
    /// [`EvalError::Cancelled`](crate::evaluate::EvalError::Cancelled) or with a late result.
    fn cancel(&mut self);
}

/// What an executor has to tell.
#[derive(Clone, Debug)]
pub enum Message {
    /// A trial now waits or runs here. Told by executors that evaluate elsewhere, when it changes.
    Location(TrialId, Location),
    /// A trial is so far.
    Progress(TrialId, Progress),
    /// A trial has come back.
    Done(TrialId, Result<Report, AttemptError>),
    /// Something that a person should know; the executor goes on.
    Notice(String),
}

/// Where a trial is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// It waits for its turn, for the reason that the scheduler gives.
    Queued(String),
    /// It runs on this node.
    Running(String),
}

/// An executor that cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// No worker was asked for.
    #[error("0 workers were asked for: a search needs at least one")]
    NoWorkers,
    /// More workers were asked for than there can be.
    #[error("{asked} workers were asked for: as {what} there are at most {most}")]
    TooMany {
        /// How many were asked for.
        asked: usize,
        /// How many there can be.
        most: usize,
        /// What they would be.
        what: &'static str,
    },
    /// A trial was submitted while all workers were busy.
    #[error("all workers are busy: submit only while idle() is positive")]
    Busy,
    /// A worker could not be started or is gone.
    #[error("a worker is not there: {0}")]
    Worker(String),
    /// A trial was submitted before the evaluator was named.
    #[error("name the evaluator with Executor::begin before the first trial")]
    NotBegun,
    /// Another driver uses the run's folder.
    #[error("{} is in use by another driver: wait for it, stop it, or choose another folder", .folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The run's folder went away.
    #[error("the run's folder {} is not there any more, since {} s: it, or the lock in it, was removed, renamed or unmounted; \
        run again where it is now, nothing in it is lost", .folder.display(), .waited.as_secs())]
    Gone {
        /// Where it was.
        folder: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The run's folder cannot be used.
    #[error("cannot use {}; free some space or correct its rights and run again, nothing finished is lost",
        .path.display())]
    Folder {
        /// The folder or a file in it.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// Jobs were started and ended, and no worker has been seen.
    #[error("{tries} jobs ended before a worker was seen in {}: is that folder shared with the machines that run the jobs, \
        is the program there, and does its main call composer_nas::execute::worker first? {words}", .folder.display())]
    NotStarted {
        /// How many jobs.
        tries: u32,
        /// The folder in which the worker should have shown up.
        folder: PathBuf,
        /// What engine and job said.
        words: String,
    },
    /// The workers of a trial could not write what came of it, or start a thread.
    #[error("{workers} workers could not write to {}, or start a thread: see to what their log names and run again, nothing \
        finished is lost. {words}", .folder.display())]
    Unwritten {
        /// How many workers, one after the other.
        workers: u32,
        /// The task's folder.
        folder: PathBuf,
        /// What engine and job said.
        words: String,
    },
    /// The workers are another program.
    #[error("the workers refuse: {0}")]
    Refused(String),
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Refuses zero workers, and more than `most`.
fn at_most(asked: usize, most: usize, what: &'static str) -> Result<(), ExecuteError> {
    match asked {
        0 => Err(ExecuteError::NoWorkers),
        _ if asked > most => Err(ExecuteError::TooMany { asked, most, what }),
        _ => Ok(()),
    }
}
