//! The thread that uses the engine.

mod cancel;
mod look;

use std::{
    collections::BTreeMap,
    env, io,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use super::{
    Settings, WatchedFolder,
    in_flight::{InFlightTask, Listed, Stage},
};
use crate::{
    execute::{
        AttemptError, Engine, EngineError, ExecuteError, Job, JobState, Message, Resources,
        task::{Outcome, Spec, Task, TrialRequest, VERSION},
    },
    retry::Failing,
    seed::Seed,
    study::{Report, Trial},
    text::causes,
};

/// A request to the thread, which ends when the sender is dropped.
pub(super) enum Command {
    Submit(Box<Trial>),
    Cancel,
}

pub(super) struct Watcher<E> {
    engine: E,
    settings: Settings,
    /// The run folder.
    run: WatchedFolder,
    /// The folder that contains the task folders.
    tasks: PathBuf,
    /// The common prefix of the job names of this run.
    prefix: String,
    evaluator: String,
    command: Vec<String>,
    directory: PathBuf,
    messages: Sender<Result<Message, ExecuteError>>,
    /// The open tasks by job name.
    open: BTreeMap<String, InFlightTask>,
    /// Whether the probe was started, which checks that a worker can start and has the evaluator.
    probed: bool,
    /// Whether the probe is running; trials wait for it.
    probing: bool,
    /// When the engine was last asked for the live jobs.
    listed: Option<Instant>,
    /// When the search was cancelled.
    cancelled: Option<Instant>,
    /// Since when the run folder has been missing.
    away: Failing,
    /// Since when this machine has been unable to ask the engine.
    unlisted: Failing,
    notice: String,
}

/// The time limit of the probe. It is short, so that schedulers can backfill it.
const PROBE_TIME: Duration = Duration::from_secs(300);

impl<E: Engine> Watcher<E> {
    pub(super) fn new(
        engine: E,
        settings: Settings,
        run: WatchedFolder,
        evaluator: &str,
        command: Vec<String>,
        messages: Sender<Result<Message, ExecuteError>>,
    ) -> Result<Self, ExecuteError> {
        let nowhere = |error: io::Error| {
            ExecuteError::Worker(format!("cannot find the working directory in which it would start: {error}"))
        };
        Ok(Self {
            engine,
            settings,
            tasks: run.path.join("tasks"),
            prefix: format!("cn-{:08x}", Seed(0).derive(&run.path.display().to_string(), 0).0 >> 32),
            run,
            evaluator: evaluator.into(),
            command,
            directory: env::current_dir().map_err(nowhere)?,
            messages,
            open: BTreeMap::new(),
            probed: false,
            probing: false,
            listed: None,
            cancelled: None,
            away: Failing::default(),
            unlisted: Failing::default(),
            notice: String::new(),
        })
    }

    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        while self.listen(commands) {
            if let Err(error) = self.reconcile() {
                // Sending fails if the executor was dropped.
                let _ = self.messages.send(Err(error));
                break;
            }
        }
        self.abandon();
    }

    /// Processes requests, waiting for at most one poll interval. Returns `false` once the sender is dropped.
    fn listen(&mut self, commands: &Receiver<Command>) -> bool {
        let wait = if self.open.is_empty() { Duration::MAX } else { self.settings.poll };
        let first = match commands.recv_timeout(wait) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        for command in first.into_iter().chain(commands.try_iter()) {
            match command {
                Command::Submit(trial) => self.take_up(&trial),
                Command::Cancel => self.call_off(),
            }
        }
        true
    }

    fn take_up(&mut self, trial: &Trial) {
        let resources = (self.settings.resources)(trial);
        if !self.probed {
            // The probe asks for the same resources as the first trial, which are typical.
            self.probed = true;
            let time = resources.time.unwrap_or(PROBE_TIME).min(PROBE_TIME);
            let probe = self.opened(None, Resources { time: Some(time), ..resources });
            if !matches!(probe.task.outcome(), Ok(Some(Outcome::Ready))) {
                self.open.insert(probe.job.name.clone(), probe);
            }
        }
        let open = self.opened(Some(trial), resources);
        self.open.insert(open.job.name.clone(), open);
    }

    fn opened(&self, trial: Option<&Trial>, resources: Resources) -> InFlightTask {
        /// The time to cancel the evaluation before its limit.
        const LEAD: Duration = Duration::from_secs(60);
        let limit = resources.time.map(|time| (time - (time / 10).min(LEAD)).as_secs_f64());
        let spec = Spec {
            version: VERSION.into(),
            evaluator: self.evaluator.clone(),
            threads: resources.cpus.max(1),
            heartbeat_interval: self.settings.poll.max(Duration::from_millis(20)).as_secs_f64(),
            write_timeout: self.settings.write_timeout.as_secs_f64(),
            limit,
            trial: trial.map(TrialRequest::from),
        };
        let name = spec.name();
        let folder = self.tasks.join(&name);
        let mut command = self.command.clone();
        command.push(folder.display().to_string());
        let name = format!("{}-{name}", self.prefix);
        let directory = self.directory.clone();
        let job = Job { name, command, folder: folder.clone(), directory, resources };
        InFlightTask::new(trial.map(|trial| trial.id), Task::at(folder), spec, job)
    }

    /// Brings the jobs in line with the open tasks.
    fn reconcile(&mut self) -> Result<(), ExecuteError> {
        // Without the folder, the state of the tasks is unknown. A cancelled search does not need it.
        if self.cancelled.is_none() && self.is_away()? {
            return Ok(());
        }
        let due = self.listed.is_none_or(|listed| listed.elapsed() >= self.settings.poll);
        let live = if due { self.live()? } else { None };
        // Between two polls of the engine, look at new tasks only.
        let new = |open: &InFlightTask| matches!(open.stage, Stage::Unwritten | Stage::New);
        self.probing = self.open.values().any(|open| open.id.is_none());
        let names: Vec<String> =
            self.open.iter().filter(|(_, open)| due || new(open)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(mut open) = self.open.remove(&name) else { continue };
            let listed = match &live {
                None => Listed::Unknown,
                Some(live) => live.get(&name).map_or(Listed::Gone, Listed::Live),
            };
            let looked = self.look(&mut open, listed);
            let stays = looked.or_else(|error| self.passes(error, &mut open));
            if !matches!(stays, Ok(false)) {
                self.open.insert(name, open);
            }
            stays?;
        }
        Ok(())
    }

    /// Whether the run folder is missing.
    fn is_away(&mut self) -> Result<bool, ExecuteError> {
        if self.run.is_there() {
            self.away.ends();
            return Ok(false);
        }
        let folder = self.run.path.clone();
        let waited = self.away.again();
        let write_timeout = self.settings.write_timeout;
        if waited >= write_timeout {
            return Err(ExecuteError::Gone { folder, waited });
        }
        self.remark(format!(
            "the run folder {} is not there; waiting {} s for it",
            folder.display(),
            write_timeout.as_secs()
        ));
        Ok(true)
    }

    /// Tolerates errors of a folder or of this machine for a while. The task stays open.
    fn passes(&mut self, error: ExecuteError, open: &mut InFlightTask) -> Result<bool, ExecuteError> {
        match &error {
            ExecuteError::Folder { .. } | ExecuteError::Engine(EngineError::System { .. })
                if open.failing.again() < self.settings.write_timeout =>
            {
                let words = format!("{}; trying again", causes(&error));
                if open.failing.is_news(&words) {
                    self.remark(words);
                }
                Ok(true)
            }
            _ => Err(error),
        }
    }

    /// Returns the live jobs; `None` if the engine does not answer.
    fn live(&mut self) -> Result<Option<BTreeMap<String, JobState>>, ExecuteError> {
        self.listed = Some(Instant::now());
        let jobs = self.open.values().filter(|open| open.stage != Stage::New).map(|open| &open.job);
        match self.engine.live(&jobs.collect::<Vec<_>>()) {
            Ok(live) => {
                self.notice.clear();
                self.unlisted.ends();
                Ok(Some(live))
            }
            Err(error @ EngineError::System { .. }) if self.unlisted.again() < self.settings.write_timeout => {
                let words = format!("{}; trying again", causes(&error));
                if self.unlisted.is_news(&words) {
                    self.remark(words);
                }
                Ok(None)
            }
            Err(error) => self.unreachable(error).map(|()| None),
        }
    }

    /// Ends jobs. Workers that this does not reach find a result or a cancellation in their folder.
    fn end_jobs(&mut self, jobs: &[&Job]) {
        if let Err(error) = self.engine.cancel(jobs) {
            self.remark(causes(&error));
        }
    }

    /// Tolerates errors of an engine that may answer later.
    fn unreachable(&mut self, error: EngineError) -> Result<(), ExecuteError> {
        match error {
            EngineError::Unreachable { .. } => self.remark(format!("{}; trying again", causes(&error))),
            EngineError::Missing { .. } | EngineError::Refused { .. } | EngineError::System { .. } => {
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn done(&self, open: &InFlightTask, outcome: Result<Report, AttemptError>) {
        if let Some(id) = open.id {
            self.say(Message::Done(id, outcome));
        }
    }

    /// Sends a notice unless it repeats the last one.
    fn remark(&mut self, text: String) {
        if self.notice != text {
            self.say(Message::Notice(text.clone()));
            self.notice = text;
        }
    }

    fn say(&self, message: Message) {
        // Sending fails if the executor was dropped.
        let _ = self.messages.send(Ok(message));
    }
}
