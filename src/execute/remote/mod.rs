//! Trials as jobs of an engine.

mod in_flight;
mod watcher;

use std::{
    env, fmt,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::{Engine, ExecuteError, Executor, Message, Resources, at_most, worker};
use crate::{durable, study::Trial};
use watcher::{Command, Watcher};

/// Runs each trial as a job of an [`Engine`], and reads the result from the folder of its task.
///
/// The names of the job and of the folder are derived from everything that the report depends on, so a restarted driver
/// finds both. It takes the result if there is one, waits for the job if it is alive, and otherwise starts a job. No
/// other state is kept.
///
/// The engine is called on its own thread, so a slow engine does not block the search. Only one driver may use a folder
/// at a time. Dropping the executor cancels the running jobs, like [`cancel`](Executor::cancel), unless
/// [`leave_jobs`](Self::leave_jobs) is set.
pub struct Remote<E> {
    state: State<E>,
    settings: Settings,
    /// Holds the lock on the run folder.
    run: RunFolder,
    running: usize,
}

/// The settings that all engines have in common.
pub(super) struct Settings {
    pub capacity: usize,
    pub command: Option<Vec<String>>,
    pub resources: Box<dyn Fn(&Trial) -> Resources + Send>,
    pub attempts: u32,
    pub continuations: u32,
    pub poll: Duration,
    pub grace: Duration,
    pub write_timeout: Duration,
    pub leave: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            capacity: 1,
            command: None,
            resources: Box::new(|_| Resources::default()),
            attempts: 3,
            continuations: 10,
            poll: Duration::from_secs(1),
            grace: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            leave: false,
        }
    }
}

enum State<E> {
    /// Nothing has been started.
    New(E),
    /// The thread is running.
    Begun {
        commands: mpsc::Sender<Command>,
        messages: mpsc::Receiver<Result<Message, ExecuteError>>,
        watcher: thread::JoinHandle<()>,
    },
    /// The thread has ended.
    Ended,
}

/// The maximum number of jobs that wait or run at the same time.
pub(crate) const MOST_JOBS: usize = 100_000;

/// The locked folder of a run.
struct RunFolder {
    path: PathBuf,
    lock: File,
}

impl RunFolder {
    fn open(path: &Path) -> Result<Self, ExecuteError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ExecuteError::Folder { path, source }
        };
        fs::create_dir_all(path).map_err(failed(path))?;
        let path = path.canonicalize().map_err(failed(path))?;
        let lock = path.join("lock");
        let file = durable::open(&lock).map_err(failed(&lock))?;
        match durable::lock(&file) {
            Ok(()) => Ok(Self { path, lock: file }),
            Err(TryLockError::WouldBlock) => Err(ExecuteError::Locked { folder: path }),
            Err(TryLockError::Error(source)) => Err(failed(&lock)(source)),
        }
    }

    /// Returns a handle to the same folder for the watcher thread.
    fn watched(&self) -> io::Result<WatchedFolder> {
        Ok(WatchedFolder { path: self.path.clone(), lock: self.lock.try_clone()? })
    }
}

/// The folder of a run, with a check that it still exists.
pub(super) struct WatchedFolder {
    path: PathBuf,
    lock: File,
}

impl WatchedFolder {
    /// Whether the folder and its lock are still at their path. Without the lock, another driver might use the folder.
    fn is_there(&self) -> bool {
        durable::is_there(&self.lock, &self.path.join("lock"))
    }
}

impl Drop for RunFolder {
    /// Unlocks explicitly: closing the file is not enough if another thread is spawning a process, which inherits it.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl<E: Engine + 'static> Remote<E> {
    /// Runs up to `capacity` jobs of `engine` at once, with their tasks in `folder`, which must have the same path on
    /// every machine that runs jobs.
    ///
    /// # Errors
    /// [`ExecuteError`] if `capacity` is 0 or above 100,000, if the folder cannot be used, or if another driver
    /// uses it.
    pub fn with_engine(engine: E, capacity: usize, folder: impl AsRef<Path>) -> Result<Self, ExecuteError> {
        Self::with_settings(engine, Settings { capacity, ..Settings::default() }, folder.as_ref())
    }

    pub(super) fn with_settings(engine: E, settings: Settings, folder: &Path) -> Result<Self, ExecuteError> {
        at_most(settings.capacity, MOST_JOBS, "jobs")?;
        Ok(Self { state: State::New(engine), settings, run: RunFolder::open(folder)?, running: 0 })
    }

    pub(super) fn limit_capacity(&mut self, most: usize) {
        self.settings.capacity = self.settings.capacity.min(most.max(1));
    }

    pub(super) fn engine_mut(&mut self, change: impl FnOnce(&mut E)) {
        if let State::New(engine) = &mut self.state {
            change(engine);
        }
    }

    /// Sets the program of the workers and its arguments, to which `--worker FOLDER` is appended. By default, it is the
    /// current program with its arguments.
    #[must_use]
    pub fn command(mut self, command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings.command = Some(command.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the resources of every job; one core by default. A job uses one computing thread per core. Reports of
    /// evaluations on a CPU are bitwise reproducible only with the same number of cores.
    #[must_use]
    pub fn resources(self, resources: Resources) -> Self {
        self.resources_by(move |_| resources)
    }

    /// Sets the resources of each job depending on its trial.
    #[must_use]
    pub fn resources_by(mut self, resources: impl Fn(&Trial) -> Resources + Send + 'static) -> Self {
        self.settings.resources = Box::new(resources);
        self
    }

    /// Sets how many jobs of a trial may die without a result before the trial comes back as
    /// [`AttemptError::Crashed`](super::AttemptError::Crashed); 3 by default. A restarted driver counts from zero.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.settings.attempts = attempts.max(1);
        self
    }

    /// Sets how often a trial that reached its time limit may continue from its checkpoint; 10 by default.
    #[must_use]
    pub fn continuations(mut self, continuations: u32) -> Self {
        self.settings.continuations = continuations;
        self
    }

    /// Sets the interval at which the engine and the tasks are polled and at which workers write heartbeats.
    #[must_use]
    pub fn poll(mut self, poll: Duration) -> Self {
        self.settings.poll = poll;
        self
    }

    /// Sets how long to wait for the files of a job after the engine no longer lists it, because shared file systems
    /// show new files late. A job that still writes heartbeats is not replaced.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// Sets how long driver and workers retry if the folder is missing or cannot be written, for example on a full
    /// disk, and how long a cancelled worker may take to stop; 60 s by default.
    #[must_use]
    pub fn write_timeout(mut self, write_timeout: Duration) -> Self {
        self.settings.write_timeout = write_timeout;
        self
    }

    /// Leaves jobs running when the search is cancelled or the executor is dropped. The next driver finds them or their
    /// results. By default, they are cancelled.
    #[must_use]
    pub fn leave_jobs(mut self) -> Self {
        self.settings.leave = true;
        self
    }

    /// Returns the current program with its arguments.
    fn own_command() -> Result<Vec<String>, ExecuteError> {
        let text = |text: std::ffi::OsString| {
            let refuse =
                |text| ExecuteError::Worker(format!("{text:?} is not valid UTF-8: set the command of the workers"));
            text.into_string().map_err(refuse)
        };
        let program = env::current_exe().map_err(|error| ExecuteError::Worker(error.to_string()))?;
        [program.into()].into_iter().chain(env::args_os().skip(1)).map(text).collect()
    }

    fn command_sent(&self, command: Command) -> Result<(), ExecuteError> {
        match &self.state {
            State::New(_) => Err(ExecuteError::NotBegun),
            State::Begun { commands, .. } => commands.send(command).map_err(|_| gone()),
            State::Ended => Err(gone()),
        }
    }
}

impl<E: Engine + 'static> Executor for Remote<E> {
    fn begin(&mut self, evaluator: &str) -> Result<(), ExecuteError> {
        let State::New(engine) = std::mem::replace(&mut self.state, State::Ended) else {
            return Err(ExecuteError::Worker("Executor::begin was called twice".into()));
        };
        let settings = std::mem::take(&mut self.settings);
        self.settings.capacity = settings.capacity;
        let mut command = settings.command.clone().map_or_else(Self::own_command, Ok)?;
        command.push(worker::FLAG.into());
        let (sender, receiver) = mpsc::channel();
        let (commands, listen) = mpsc::channel();
        let run = self.run.watched().map_err(|source| ExecuteError::Folder { path: self.run.path.clone(), source })?;
        let watcher = Watcher::new(engine, settings, run, evaluator, command, sender)?;
        let watcher = thread::Builder::new().name("jobs".into()).spawn(move || watcher.run(&listen));
        let watcher = watcher.map_err(|error| ExecuteError::Worker(error.to_string()))?;
        self.state = State::Begun { commands, messages: receiver, watcher };
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.settings.capacity
    }

    fn idle(&self) -> usize {
        self.settings.capacity.saturating_sub(self.running)
    }

    fn submit(&mut self, trial: Trial) -> Result<(), ExecuteError> {
        if self.idle() == 0 {
            return Err(ExecuteError::Busy);
        }
        self.command_sent(Command::Submit(Box::new(trial)))?;
        self.running += 1;
        Ok(())
    }

    fn recv(&mut self, timeout: Duration) -> Result<Option<Message>, ExecuteError> {
        let State::Begun { messages, .. } = &self.state else {
            thread::sleep(timeout);
            return Ok(None);
        };
        match messages.recv_timeout(timeout) {
            Ok(message) => {
                let message = message?;
                self.running -= usize::from(matches!(message, Message::Done(..)));
                Ok(Some(message))
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }

    fn cancel(&mut self) {
        // If the thread has ended, there are no jobs to cancel.
        let _ = self.command_sent(Command::Cancel);
    }
}

impl<E> Drop for Remote<E> {
    fn drop(&mut self) {
        if let State::Begun { commands, watcher, .. } = std::mem::replace(&mut self.state, State::Ended) {
            drop(commands);
            // Release the lock only after the last job has been started.
            let _ = watcher.join();
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for Remote<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Remote");
        text.field("folder", &self.run.path).field("capacity", &self.settings.capacity).field("running", &self.running);
        text.finish_non_exhaustive()
    }
}

fn gone() -> ExecuteError {
    ExecuteError::Worker("the thread that watches the jobs has ended".into())
}
