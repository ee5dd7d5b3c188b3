//! What starts jobs somewhere.

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

use thiserror::Error;

/// Starts jobs and says which of them are alive: the part of an executor that differs from one cluster to the next.
///
/// Called from one thread, which may block for some seconds. Jobs are known by name. An engine remembers nothing that
/// it could not find out again: after a crash of the driver another engine takes over the same names.
///
/// LAW: a submitted job appears in [`live`](Self::live) until it has ended, also for an engine that was made later. A
/// job may run twice or die without a word; it never changes its name.
pub trait Engine: Send {
    /// Starts a job.
    ///
    /// # Errors
    /// [`EngineError`]; after [`EngineError::Unreachable`] the job may have been started all the same.
    fn submit(&mut self, job: &Job) -> Result<(), EngineError>;

    /// Those of these jobs that wait or run, by name.
    ///
    /// # Errors
    /// [`EngineError`].
    fn live(&mut self, jobs: &[&Job]) -> Result<BTreeMap<String, JobState>, EngineError>;

    /// Ends these jobs, at once. Those that have ended are passed over.
    ///
    /// # Errors
    /// [`EngineError`].
    fn cancel(&mut self, jobs: &[&Job]) -> Result<(), EngineError>;

    /// The exit code of the program of a job that has ended, as far as the engine knows; asked before
    /// [`exit_diagnostics`](Self::exit_diagnostics).
    fn exit_code(&mut self, job: &Job) -> Option<i32> {
        let _ = job;
        None
    }

    /// How a job ended, in the engine's words, as far as it knows.
    fn exit_diagnostics(&mut self, job: &Job) -> Option<String>;
}

/// A program to be run somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Unique within the engine, the same after a crash of the driver. Letters, digits and hyphens.
    pub name: String,
    /// The program and its arguments, the task's folder being the last.
    pub command: Vec<String>,
    /// The task's folder: `spec.json` is there before the job starts, and what the job prints goes to `log`.
    pub folder: PathBuf,
    /// Where the program starts.
    pub directory: PathBuf,
    /// What it needs.
    pub resources: Resources,
}

/// What a job needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// After this time the attempt ends. Shortly before, the evaluation is called off, so that it can keep what it has
    /// done ([`Context::checkpoint`](crate::evaluate::Context::checkpoint)); the next attempt goes on from there.
    pub time: Option<Duration>,
    /// GPUs.
    pub gpus: u32,
    /// Cores, with one computing thread each.
    pub cpus: usize,
    /// Memory in MiB; whatever the engine gives by default where it is `None`.
    pub memory: Option<u64>,
}

impl Default for Resources {
    /// One core, no GPU, no limits.
    fn default() -> Self {
        Self { time: None, gpus: 0, cpus: 1, memory: None }
    }
}

/// Where a live job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits, for this reason.
    Waiting(String),
    /// It runs on this node.
    Running(String),
    /// It waits for a person, for this reason. It counts as dead and is replaced.
    Held(String),
}

/// An engine that does not do what it is asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A program of the engine cannot be run.
    #[error("cannot run {program}; run the driver where it is installed")]
    Missing {
        /// The program.
        program: String,
        /// The I/O error.
        source: io::Error,
    },
    /// This machine refuses what a job needs: a file, a process. Executors try again for as long as they are patient.
    #[error("cannot {act}")]
    System {
        /// What was to be done.
        act: String,
        /// The I/O error.
        source: io::Error,
    },
    /// The engine refuses for good.
    #[error("{program} refuses: {words}")]
    Refused {
        /// The program.
        program: String,
        /// The engine's words.
        words: String,
    },
    /// The engine does not answer now. Executors try again.
    #[error("{program} does not answer: {words}")]
    Unreachable {
        /// The program.
        program: String,
        /// The engine's words.
        words: String,
    },
}
