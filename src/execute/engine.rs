//! Engines: starting jobs on a machine or a cluster.

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

use thiserror::Error;

/// Starts jobs and reports which of them are alive. It is the part of a [`Remote`](super::Remote) executor that is
/// specific to a cluster.
///
/// An engine is used from one thread and may block for some seconds. Jobs are identified by name. An engine must be
/// able to recover all its state: after a crash of the driver, another engine takes over the same jobs. A submitted job
/// must appear in [`live`](Self::live) until it has ended, also for an engine that was created later. A job may run
/// twice or die silently.
///
/// This minimal engine starts child processes. Unlike [`Processes`](super::Processes), it does not find the jobs of an
/// earlier driver.
///
/// ```no_run
/// use std::{
///     collections::BTreeMap,
///     fs::File,
///     io,
///     process::{Child, Command},
/// };
/// use composer_nas::execute::{Engine, EngineError, Job, JobState, Remote};
///
/// #[derive(Default)]
/// struct Children(BTreeMap<String, Child>);
///
/// impl Engine for Children {
///     fn submit(&mut self, job: &Job) -> Result<(), EngineError> {
///         let failed = |source: io::Error| EngineError::System { act: format!("start {}", job.name), source };
///         let log = File::options().create(true).append(true).open(job.folder.join("log")).map_err(failed)?;
///         let mut command = Command::new(&job.command[0]);
///         command.args(&job.command[1..]).current_dir(&job.directory).stdout(log);
///         self.0.insert(job.name.clone(), command.spawn().map_err(failed)?);
///         Ok(())
///     }
///
///     fn live(&mut self, jobs: &[&Job]) -> Result<BTreeMap<String, JobState>, EngineError> {
///         self.0.retain(|_, child| matches!(child.try_wait(), Ok(None)));
///         let live = jobs.iter().filter(|job| self.0.contains_key(&job.name));
///         Ok(live.map(|job| (job.name.clone(), JobState::Running("localhost".into()))).collect())
///     }
///
///     fn cancel(&mut self, jobs: &[&Job]) -> Result<(), EngineError> {
///         for mut child in jobs.iter().filter_map(|job| self.0.remove(&job.name)) {
///             let _ = child.kill();
///             let _ = child.wait();
///         }
///         Ok(())
///     }
///
///     fn exit_diagnostics(&mut self, _: &Job) -> Option<String> {
///         None
///     }
/// }
///
/// let executor = Remote::with_engine(Children::default(), 4, "runs/hello")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Engine: Send {
    /// Starts a job.
    ///
    /// # Errors
    /// [`EngineError`] if the job cannot be started. After [`EngineError::Unreachable`], it may have been started
    /// nevertheless.
    fn submit(&mut self, job: &Job) -> Result<(), EngineError>;

    /// Returns the state of those of the given jobs that wait or run, by name.
    ///
    /// # Errors
    /// [`EngineError`] if the scheduler or the operating system refuses or cannot be reached.
    fn live(&mut self, jobs: &[&Job]) -> Result<BTreeMap<String, JobState>, EngineError>;

    /// Ends these jobs immediately. Jobs that have already ended are ignored.
    ///
    /// # Errors
    /// [`EngineError`] if the scheduler or the operating system refuses or cannot be reached.
    fn cancel(&mut self, jobs: &[&Job]) -> Result<(), EngineError>;

    /// Returns the exit code of the program of a finished job, if known. Called before
    /// [`exit_diagnostics`](Self::exit_diagnostics).
    fn exit_code(&mut self, job: &Job) -> Option<i32> {
        let _ = job;
        None
    }

    /// Returns a message of the engine on how a job ended, if known.
    fn exit_diagnostics(&mut self, job: &Job) -> Option<String>;
}

/// A program to run as a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The name, which is unique within the engine and stays the same after a crash of the driver. It consists of
    /// letters, digits and hyphens.
    pub name: String,
    /// The program and its arguments. The last argument is the folder of the task.
    pub command: Vec<String>,
    /// The folder of the task. It contains `spec.json` before the job starts. The output of the job goes to the file
    /// `log`.
    pub folder: PathBuf,
    /// The working directory of the program.
    pub directory: PathBuf,
    /// The resources that it needs.
    pub resources: Resources,
}

/// The resources of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// The time limit of an attempt; none if `None`. Shortly before, the evaluation is cancelled so that it can save a
    /// checkpoint ([`Context::checkpoint`](crate::evaluate::Context::checkpoint)), from which the next attempt
    /// continues.
    pub time: Option<Duration>,
    /// The number of GPUs.
    pub gpus: u32,
    /// The number of CPU cores, with one computing thread each.
    pub cpus: usize,
    /// Memory in MiB; if `None`, the default of the engine.
    pub memory: Option<u64>,
}

impl Default for Resources {
    /// One core, no GPU, no time limit, the engine's default memory.
    fn default() -> Self {
        Self { time: None, gpus: 0, cpus: 1, memory: None }
    }
}

/// The state of a live job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It is queued, for this reason.
    Waiting(String),
    /// It runs on this node.
    Running(String),
    /// It is held until someone releases it, for this reason. It counts as dead and is replaced.
    Held(String),
}

/// An error of an engine.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A program of the engine cannot be run.
    #[error("cannot run {program}; run the driver on a machine where it is installed")]
    Missing {
        /// The program.
        program: String,
        /// The I/O error.
        source: io::Error,
    },
    /// The operating system refused an operation, for example to write a file or to start a process. Executors try
    /// again for a while.
    #[error("cannot {act}")]
    System {
        /// What was attempted, such as `write to FILE`.
        act: String,
        /// The I/O error.
        source: io::Error,
    },
    /// The engine rejected the request permanently.
    #[error("{program} failed: {words}")]
    Refused {
        /// The program.
        program: String,
        /// The message of the engine.
        words: String,
    },
    /// The engine does not answer at the moment. Executors try again.
    #[error("{program} does not answer: {words}")]
    Unreachable {
        /// The program.
        program: String,
        /// The message of the engine.
        words: String,
    },
}
