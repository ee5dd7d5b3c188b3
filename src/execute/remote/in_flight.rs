//! Tasks without a result.

use std::time::{Duration, Instant};

use super::Settings;
use crate::{
    execute::{
        Job, JobState, Location,
        task::{Heartbeat, Spec, Task},
    },
    retry::Failing,
    study::TrialId,
};

/// A task without a result, with what this driver knows about it.
pub(super) struct InFlightTask {
    /// The trial; `None` for the probe.
    pub id: Option<TrialId>,
    pub task: Task,
    pub spec: Spec,
    pub job: Job,
    /// The state of its job, as far as known.
    pub stage: Stage,
    /// The number of attempts that workers had started when the job was submitted.
    attempts: u32,
    /// The time of the last sign of life: a heartbeat, or an entry in the engine's list.
    sign: Instant,
    heartbeat: Heartbeat,
    place: Option<Location>,
    /// How long operations on its folder or on this machine have been failing.
    pub failing: Failing,
    unstarted: u32,
    crashes: u32,
    continuations: u32,
}

/// Within this time, a started worker becomes visible. Before, it is unknown whether an earlier driver had started one.
const STARTUP: Duration = Duration::from_secs(1);

/// The state of the job of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The folder of the task must be written.
    Unwritten,
    /// No job can exist; one must be submitted.
    New,
    /// A job may exist; the next list of live jobs tells.
    Unknown,
    /// A job was submitted or seen.
    Submitted,
}

/// The engine's answer about a job.
#[derive(Clone, Copy, Debug)]
pub(super) enum Listed<'a> {
    /// The engine was not asked or does not answer.
    Unknown,
    /// The job does not exist.
    Gone,
    /// The job waits or runs.
    Live(&'a JobState),
}

/// The next step for a task without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// Submit a job.
    Submit,
    /// The job has died.
    HandleDeath,
    /// The job is held: end it and treat it as dead.
    EndHeld,
}

/// What follows from the death of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// Submit another job.
    Again,
    /// Jobs die before a worker starts.
    NeverStarted,
    /// The task has failed: this number of workers has died.
    GiveUp(u32),
    /// The task has failed: this number of workers has reached the time limit.
    TooLong(u32),
}

impl InFlightTask {
    pub(super) fn new(id: Option<TrialId>, task: Task, spec: Spec, job: Job) -> Self {
        Self {
            id,
            task,
            spec,
            job,
            stage: Stage::Unwritten,
            attempts: 0,
            sign: Instant::now(),
            heartbeat: Heartbeat::default(),
            place: None,
            failing: Failing::default(),
            unstarted: 0,
            crashes: 0,
            continuations: 0,
        }
    }

    /// Decides on first submission, re-attachment and retry.
    pub(super) fn step(&self, listed: Listed, grace: Duration) -> Step {
        match (self.stage, listed) {
            (Stage::New, _) => Step::Submit,
            // A worker of an earlier driver may still be starting.
            (Stage::Unknown, Listed::Gone) if self.sign.elapsed() >= STARTUP => Step::Submit,
            (_, Listed::Live(JobState::Held(_))) => Step::EndHeld,
            (Stage::Submitted, Listed::Gone) if self.sign.elapsed() >= grace => Step::HandleDeath,
            (Stage::Unwritten | Stage::Unknown | Stage::Submitted, _) => Step::Wait,
        }
    }

    /// Records that a job was submitted after this number of attempts.
    pub(super) fn submitted(&mut self, attempts: u32) {
        self.stage = Stage::Submitted;
        self.attempts = attempts;
        self.sign = Instant::now();
    }

    /// Returns the location if it has changed.
    pub(super) fn moved(&mut self, listed: Listed) -> Option<Location> {
        let place = match listed {
            Listed::Live(JobState::Waiting(reason)) => Location::Queued(reason.clone()),
            Listed::Live(JobState::Running(node)) => Location::Running(node.clone()),
            Listed::Live(JobState::Held(_)) | Listed::Gone | Listed::Unknown => return None,
        };
        self.stage = Stage::Submitted;
        self.sign = Instant::now();
        (self.place.as_ref() != Some(&place)).then(|| self.place.insert(place).clone())
    }

    /// Returns the heartbeat if there is a new one.
    pub(super) fn poll_heartbeat(&mut self) -> Option<&Heartbeat> {
        let heartbeat = self.task.heartbeat().filter(|heartbeat| *heartbeat != self.heartbeat)?;
        self.heartbeat = heartbeat;
        self.sign = Instant::now();
        Some(&self.heartbeat)
    }

    /// Whether its job is queued, as far as known, so that ending it loses no work.
    pub(super) fn is_queued(&self) -> bool {
        matches!(self.place, None | Some(Location::Queued(_)))
    }

    /// Counts the death of its job.
    pub(super) fn died(&mut self, settings: &Settings) -> Death {
        let attempts = self.task.attempts();
        let heartbeat = self.task.heartbeat().unwrap_or_default();
        self.place = None;
        // The folder may have been removed.
        self.stage = if self.task.file("spec.json").exists() { Stage::New } else { Stage::Unwritten };
        if attempts == self.attempts {
            self.unstarted += 1;
            return if self.unstarted < settings.attempts { Death::Again } else { Death::NeverStarted };
        }
        if heartbeat.to_be_continued && heartbeat.attempt == attempts {
            self.continuations += 1;
            return if self.continuations <= settings.continuations {
                Death::Again
            } else {
                Death::TooLong(self.continuations)
            };
        }
        self.crashes += 1;
        if self.crashes < settings.attempts { Death::Again } else { Death::GiveUp(self.crashes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execute::{Resources, task::VERSION};

    fn open(folder: &std::path::Path) -> InFlightTask {
        let version = VERSION.into();
        let evaluator = String::new();
        let spec = Spec {
            version,
            evaluator,
            threads: 1,
            heartbeat_interval: 1.0,
            write_timeout: 1.0,
            limit: None,
            trial: None,
        };
        let directory = folder.to_owned();
        let folder = folder.to_owned();
        let job = Job {
            name: "job".into(),
            command: vec![],
            folder: folder.clone(),
            directory,
            resources: Resources::default(),
        };
        InFlightTask::new(None, Task::at(folder), spec, job)
    }

    #[test]
    fn one_rule_serves_submission_reattachment_and_retry() {
        let folder = tempfile::tempdir().unwrap();
        let mut open = open(folder.path());
        let held = JobState::Held("JobHeldUser".into());
        let runs = JobState::Running("n1".into());
        let day = Duration::from_secs(86_400);
        let mut steps = |stage, grace, seen| {
            open.stage = stage;
            open.sign = Instant::now().checked_sub(seen).unwrap();
            [Listed::Unknown, Listed::Gone, Listed::Live(&held), Listed::Live(&runs)]
                .map(|listed| open.step(listed, grace))
        };
        use Step::*;
        assert_eq!(steps(Stage::New, day, Duration::ZERO), [Submit; 4]);
        assert_eq!(steps(Stage::Unknown, day, Duration::ZERO), [Wait, Wait, EndHeld, Wait]);
        assert_eq!(steps(Stage::Unknown, day, STARTUP), [Wait, Submit, EndHeld, Wait]);
        assert_eq!(steps(Stage::Submitted, day, Duration::ZERO), [Wait, Wait, EndHeld, Wait]);
        assert_eq!(steps(Stage::Submitted, Duration::ZERO, Duration::ZERO), [Wait, HandleDeath, EndHeld, Wait]);
    }

    #[test]
    fn deaths_are_counted_by_what_the_worker_had_done() {
        let folder = tempfile::tempdir().unwrap();
        let mut open = open(folder.path());
        let settings = Settings { attempts: 2, continuations: 1, ..Settings::default() };
        let mut die = |started: bool, to_be_continued: bool| {
            open.submitted(open.task.attempts());
            if started {
                let (attempt, folder) = open.task.claim().unwrap();
                open.task
                    .write_heartbeat(&folder, &Heartbeat { attempt, to_be_continued, ..Heartbeat::default() })
                    .unwrap();
            }
            open.died(&settings)
        };
        assert_eq!(die(false, false), Death::Again);
        assert_eq!(die(true, false), Death::Again);
        assert_eq!(die(true, true), Death::Again);
        assert_eq!(die(true, true), Death::TooLong(2));
        assert_eq!(die(true, false), Death::GiveUp(2));
        assert_eq!(die(false, false), Death::NeverStarted);
    }

    #[test]
    fn signs_of_life_need_no_clock() {
        let folder = tempfile::tempdir().unwrap();
        let mut open = open(folder.path());
        assert!(open.poll_heartbeat().is_none());
        let (attempt, own) = open.task.claim().unwrap();
        let mut beat = |beat| {
            open.task.write_heartbeat(&own, &Heartbeat { attempt, beat, ..Heartbeat::default() }).unwrap();
            // Clocks that are a century ahead or behind.
            let times = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + Duration::from_secs(beat << 31));
            std::fs::File::open(open.task.file("progress.json")).unwrap().set_times(times).unwrap();
            open.poll_heartbeat().is_some()
        };
        assert_eq!([beat(2), beat(2), beat(1), beat(0)], [true, false, true, true]);
    }
}
