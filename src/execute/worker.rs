//! The worker side: a program that evaluates one trial and exits.

use std::{
    env,
    error::Error,
    ffi::OsString,
    fmt,
    io::{self, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{
    attempt::evaluate,
    task::{Heartbeat, Outcome, Spec, Task, VERSION, contents},
};
use crate::{
    evaluate::{CancelToken, Context, Evaluator, Progress},
    limits,
    retry::retry,
};

/// The command line flag that is followed by the folder of a task.
pub(super) const FLAG: &str = "--worker";

/// Turns this program into a worker if it was called with `--worker FOLDER` after its other arguments.
///
/// A worker evaluates the task in that folder and exits with a [`WorkerExit`]. The task names its evaluator by
/// fingerprint; it must be one of `evaluators`. Without the flag, this function does nothing.
///
/// Call it in `main` as soon as the evaluators exist. By default, [`Process`](super::Process) and
/// [`Slurm`](super::Slurm) start workers with the arguments of the driver, so the same lines of `main` create the same
/// evaluators.
///
/// ```no_run
/// use composer_nas::{execute::{self, Process}, prelude::*};
/// let primitives = Primitives::standard();
/// let mad = Mad::quick(&primitives, &device::best()?.device);
/// execute::worker(&[&mad]);
/// let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu"])?, 6)?;
/// let found = Pipeline::new(&primitives, space, mad)
///     .executor(Process::new(2, "runs/hello")?)
///     .journal("runs/hello/journal.jsonl")
///     .run(&Target::llama_1b())?;
/// println!("{}", found.aggregated);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn worker(evaluators: &[&dyn Evaluator]) {
    if let Some(folder) = asked(env::args_os()) {
        limits::outlive_file_size_limit();
        // An empty path contains no task, which is reported.
        process::exit(work(&folder.unwrap_or_default(), evaluators) as i32);
    }
}

/// Returns the folder after the flag; `Some(None)` if it is missing.
fn asked(arguments: impl Iterator<Item = OsString>) -> Option<Option<PathBuf>> {
    let mut arguments = arguments.skip_while(|argument| argument != FLAG);
    arguments.next().map(|_| arguments.next().map(PathBuf::from))
}

/// The exit code of a worker, following BSD's `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerExit {
    /// The task has a result, from this worker or another one. A failed evaluation is also a result.
    Finished = 0,
    /// The task cannot be read.
    BadTask = 65,
    /// The folder contains no task, or no folder was given.
    NoTask = 66,
    /// The result cannot be written, for example on a full disk, or no thread can be started.
    Unwritten = 74,
    /// The evaluation was cancelled or reached its time limit. There is no result.
    Unfinished = 75,
    /// The task was made by another version of this crate, or for an unknown evaluator. The result says which.
    Refused = 78,
}

/// Why this program cannot evaluate a task.
#[derive(Debug, PartialEq, Eq, Error)]
enum Refusal {
    #[error("the driver uses composer-nas {driver}, the worker {VERSION}: build both from the same sources")]
    Version { driver: String },
    #[error("the task is for the evaluator {asked:?}, the worker has {known:?}: start both with the same settings")]
    Evaluator { asked: String, known: Vec<String> },
}

/// Evaluates the task in `folder`. This is the part of [`worker`] for programs with their own command line. Errors are
/// printed on standard error.
pub fn work(folder: &Path, evaluators: &[&dyn Evaluator]) -> WorkerExit {
    let task = Task::at(folder);
    if matches!(task.outcome(), Ok(Some(_))) {
        return WorkerExit::Finished;
    }
    let spec = match task.spec() {
        Ok(spec) => spec,
        Err(error) => {
            say(format_args!("cannot read the task in {}: {error}", folder.display()));
            let missing = error.kind() == io::ErrorKind::NotFound;
            return if missing { WorkerExit::NoTask } else { WorkerExit::BadTask };
        }
    };
    let written = writing(spec.write_timeout, || task.claim()).map(|(number, attempt)| {
        let attempt = Attempt { task: &task, spec: &spec, number, folder: attempt };
        attempt.carry_out(evaluators)
    });
    written.and_then(|exit| exit).unwrap_or_else(|error| {
        say(format_args!("cannot work in {}: {error}", folder.display()));
        WorkerExit::Unwritten
    })
}

/// One attempt to evaluate a task.
struct Attempt<'a> {
    task: &'a Task,
    spec: &'a Spec,
    number: u32,
    folder: PathBuf,
}

/// Why an evaluation was cancelled from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Called {
    Off,
    TimeLimit,
    Beaten,
}

impl Attempt<'_> {
    fn carry_out(&self, evaluators: &[&dyn Evaluator]) -> io::Result<WorkerExit> {
        // On a file system without locks, this fails and is not needed.
        let _alive = self.task.show_alive();
        let evaluator = match self.evaluator(evaluators) {
            Ok(evaluator) => evaluator,
            Err(refusal) => {
                say(format_args!("{refusal}"));
                self.finish(&Outcome::Fatal { reason: refusal.to_string() })?;
                return Ok(WorkerExit::Refused);
            }
        };
        let Some(asked) = &self.spec.trial else {
            self.finish(&Outcome::Ready)?;
            return Ok(WorkerExit::Finished);
        };
        let checkpoint = self.task.checkpoint(self.number, &self.folder)?;
        let before = contents(&checkpoint);
        let trial = asked.trial();
        let heart = Heart::default();
        let latest = heart.latest.clone();
        let context = Context::new(heart.cancel.clone(), move |progress| {
            *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
        });
        let context = context.threshold(trial.threshold.clone()).keep_in(checkpoint.clone());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.spec.threads.max(1)).build();
        let pool = pool.map_err(|error| no_thread(&error))?;
        let outcome = thread::scope(|scope| {
            let (evaluated, ended) = mpsc::channel::<()>();
            let heart = &heart;
            let watcher = thread::Builder::new().spawn_scoped(scope, move || self.watch(heart, &ended));
            watcher.map_err(|error| no_thread(&error))?;
            let outcome = pool.install(|| evaluate(evaluator, &trial, &context));
            drop(evaluated);
            io::Result::Ok(outcome)
        })?;
        match Outcome::new(outcome) {
            Some(outcome) => self.finish(&outcome).map(|()| WorkerExit::Finished),
            None if heart.called.get() == Some(&Called::Beaten) => Ok(WorkerExit::Finished),
            None => {
                let to_be_continued = contents(&checkpoint) != before && heart.called.get() == Some(&Called::TimeLimit);
                let heartbeat = Heartbeat { to_be_continued, ..self.heartbeat(&heart, u64::MAX) };
                writing(self.spec.write_timeout, || self.task.write_heartbeat(&self.folder, &heartbeat))?;
                Ok(WorkerExit::Unfinished)
            }
        }
    }

    fn evaluator<'e>(&self, evaluators: &[&'e dyn Evaluator]) -> Result<&'e dyn Evaluator, Refusal> {
        let Spec { version, evaluator, .. } = self.spec;
        if version != VERSION {
            return Err(Refusal::Version { driver: version.clone() });
        }
        let found = evaluators.iter().copied().find(|known| known.fingerprint() == *evaluator);
        found.ok_or_else(|| {
            let known = evaluators.iter().map(|known| known.fingerprint()).collect();
            Refusal::Evaluator { asked: evaluator.clone(), known }
        })
    }

    /// Writes the result; retries until the write timeout.
    fn finish(&self, outcome: &Outcome) -> io::Result<()> {
        writing(self.spec.write_timeout, || self.task.finish(&self.folder, outcome))
    }

    /// Writes heartbeats until the evaluation ends, and cancels it if requested.
    fn watch(&self, heart: &Heart, ended: &mpsc::Receiver<()>) {
        let limit = self.spec.limit.map(|limit| Instant::now() + seconds(limit));
        for beat in 0.. {
            // A heartbeat that cannot be written must not end the evaluation.
            let _ = self.task.write_heartbeat(&self.folder, &self.heartbeat(heart, beat));
            let left = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
            if let Some(called) = self.called(left) {
                heart.called.get_or_init(|| called);
                heart.cancel.cancel();
            }
            let pause =
                left.filter(|left| !left.is_zero()).unwrap_or(Duration::MAX).min(seconds(self.spec.heartbeat_interval));
            if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// Returns the reason to cancel the evaluation, if any; `left` is the time before the limit.
    fn called(&self, left: Option<Duration>) -> Option<Called> {
        if self.task.called_off() {
            Some(Called::Off)
        } else if self.task.file("result.json").exists() {
            Some(Called::Beaten)
        } else {
            left.filter(Duration::is_zero).map(|_| Called::TimeLimit)
        }
    }

    fn heartbeat(&self, heart: &Heart, beat: u64) -> Heartbeat {
        let progress = heart.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Heartbeat { attempt: self.number, pid: process::id(), beat, progress, to_be_continued: false }
    }
}

/// State shared by the evaluation and the thread that watches it.
#[derive(Debug, Default)]
struct Heart {
    cancel: CancelToken,
    latest: Arc<Mutex<Option<Progress>>>,
    called: OnceLock<Called>,
}

/// Not a full disk: retrying does not help.
fn no_thread(error: &dyn Error) -> io::Error {
    io::Error::other(format!("cannot start a thread: {error}; raise the limit on processes, ulimit -u"))
}

/// Converts seconds to a duration of at most a year, which can be added to the present.
fn seconds(seconds: f64) -> Duration {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Duration::try_from_secs_f64(seconds).unwrap_or(YEAR).min(YEAR)
}

/// Runs an action that writes; retries for `write_timeout` seconds.
fn writing<T>(write_timeout: f64, mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const PAUSE: Duration = Duration::from_millis(500);
    retry(seconds(write_timeout), PAUSE, || match act() {
        Ok(value) => ControlFlow::Break(value),
        Err(error) => {
            say(format_args!("cannot write: {error}"));
            ControlFlow::Continue(error)
        }
    })
}

/// Ignores errors: standard error may be a file on a full disk.
fn say(words: fmt::Arguments) {
    let _ = writeln!(io::stderr(), "{words}");
}
