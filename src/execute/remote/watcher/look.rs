//! Polling one task.

use std::io;

use super::Watcher;
use crate::execute::{
    AttemptError, Engine, EngineError, ExecuteError, JobState, Message, WorkerExit,
    remote::in_flight::{Death, InFlightTask, Listed, Stage, Step},
    task::Outcome,
};

impl<E: Engine> Watcher<E> {
    /// Polls a task. Returns whether it is still open.
    pub(super) fn look(&mut self, open: &mut InFlightTask, listed: Listed) -> Result<bool, ExecuteError> {
        if let Some(outcome) = self.result(open)? {
            return self.end(open, outcome, listed).map(|()| false);
        }
        if let (Some(id), Some(heartbeat)) = (open.id, open.poll_heartbeat())
            && let Some(progress) = heartbeat.progress.clone()
        {
            self.say(Message::Progress(id, progress));
        }
        if let (Some(place), Some(id)) = (open.moved(listed), open.id) {
            self.say(Message::Location(id, place));
        }
        if let Some(since) = self.cancelled {
            return Ok(self.is_stopping(open, listed, since));
        }
        if open.stage == Stage::Unwritten {
            self.ask(open)?;
        }
        match open.step(listed, self.settings.grace) {
            Step::Wait => {}
            Step::Submit if self.probing && open.id.is_some() => {}
            Step::Submit => self.submit(open)?,
            Step::EndHeld => {
                self.end_jobs(&[&open.job]);
                return self.handle_death(open);
            }
            Step::HandleDeath => return self.handle_death(open),
        }
        // With an unknown job, nothing has been tried yet.
        if open.stage != Stage::Unknown {
            open.failing.ends();
        }
        Ok(true)
    }

    /// Reads the result, which takes precedence over the engine. A damaged one is moved aside.
    fn result(&mut self, open: &InFlightTask) -> Result<Option<Outcome>, ExecuteError> {
        match open.task.outcome() {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.remark(format!("the result in {} cannot be read: {error}", open.task.folder().display()));
                open.task.put_aside().map_err(refused(open, "result.json"))?;
                Ok(None)
            }
            read => read.map_err(refused(open, "result.json")),
        }
    }

    /// Reports the result of a task.
    fn end(&mut self, open: &InFlightTask, outcome: Outcome, listed: Listed) -> Result<(), ExecuteError> {
        if matches!(listed, Listed::Live(JobState::Waiting(_) | JobState::Held(_))) {
            self.end_jobs(&[&open.job]);
        }
        if let Outcome::Fatal { .. } = &outcome {
            // Set aside, so that the task can run again once the cause has been fixed.
            open.task.put_aside().map_err(refused(open, "result.json"))?;
        }
        match (open.id, outcome) {
            (Some(id), outcome) => {
                if let Some(notice) = outcome.notice(id) {
                    self.say(Message::Notice(notice));
                }
                self.done(open, outcome.told());
            }
            (None, Outcome::Fatal { reason }) => return Err(ExecuteError::Refused(reason)),
            (None, _) => self.probing = false,
        }
        Ok(())
    }

    /// Writes the folder of the task.
    fn ask(&mut self, open: &mut InFlightTask) -> Result<(), ExecuteError> {
        let new = open.task.ask(&open.spec).map_err(refused(open, ""))?;
        open.stage = if new { Stage::New } else { Stage::Unknown };
        Ok(())
    }

    fn submit(&mut self, open: &mut InFlightTask) -> Result<(), ExecuteError> {
        let attempts = open.task.attempts();
        match self.engine.submit(&open.job) {
            Ok(()) => open.submitted(attempts),
            Err(error @ EngineError::System { .. }) => {
                // Its folder may have been removed.
                open.stage = Stage::Unwritten;
                return Err(error.into());
            }
            Err(error) => {
                // It may have been started nevertheless.
                open.stage = Stage::Unknown;
                self.unreachable(error)?;
            }
        }
        Ok(())
    }

    /// Handles the death of a job. Returns whether the task is still open.
    fn handle_death(&mut self, open: &mut InFlightTask) -> Result<bool, ExecuteError> {
        let death = open.died(&self.settings);
        // Counting has refreshed a shared file system, so a result may have become visible.
        if let Some(outcome) = self.result(open)? {
            return self.end(open, outcome, Listed::Gone).map(|()| false);
        }
        let unwritten = self.engine.exit_code(&open.job) == Some(WorkerExit::Unwritten as i32);
        let words = [self.engine.exit_diagnostics(&open.job).unwrap_or_default(), open.task.log_tail()];
        let words = words.into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join("; ");
        match death {
            Death::Again => {
                self.remark(format!("the job of {} ended without a result ({words}): trying again", open.spec.name()));
                if open.stage != Stage::Unwritten {
                    self.submit(open)?;
                }
                Ok(true)
            }
            // Other trials would fail in the same way.
            Death::NeverStarted | Death::GiveUp(_) if unwritten => {
                let workers = self.settings.attempts;
                Err(ExecuteError::Unwritten { workers, folder: open.task.folder().into(), words })
            }
            Death::NeverStarted => {
                let tries = self.settings.attempts;
                Err(ExecuteError::NotStarted { tries, folder: open.task.folder().into(), words })
            }
            Death::GiveUp(workers) => self.give_up(open, format!("{workers} workers ended without a result: {words}")),
            Death::TooLong(workers) => {
                self.give_up(open, format!("{workers} workers reached the time limit without a result: {words}"))
            }
        }
    }

    /// Reports that a trial has failed, or returns an error for the probe. The task is no longer open.
    fn give_up(&mut self, open: &InFlightTask, reason: String) -> Result<bool, ExecuteError> {
        if open.id.is_none() {
            return Err(ExecuteError::Worker(reason));
        }
        self.done(open, Err(AttemptError::Crashed(reason)));
        Ok(false)
    }
}

/// Returns the error for a file of a task; for its folder if `file` is empty.
fn refused(open: &InFlightTask, file: &str) -> impl FnOnce(io::Error) -> ExecuteError + use<> {
    let path = if file.is_empty() { open.task.folder().into() } else { open.task.file(file) };
    move |source| ExecuteError::Folder { path, source }
}
