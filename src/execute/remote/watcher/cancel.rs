//! Cancelling tasks.

use std::time::Instant;

use super::Watcher;
use crate::{
    evaluate::EvalError,
    execute::{
        Engine, Job, JobState,
        remote::in_flight::{InFlightTask, Listed, Stage},
    },
};

impl<E: Engine> Watcher<E> {
    /// Cancels all open tasks, or leaves their jobs running.
    pub(super) fn call_off(&mut self) {
        if self.settings.leave {
            for open in std::mem::take(&mut self.open).into_values() {
                self.done(&open, Err(EvalError::Cancelled.into()));
            }
            return;
        }
        self.cancelled.get_or_insert_with(Instant::now);
        self.listed = None;
        let called_off = self.open.values().map(|open| open.task.call_off());
        // If this cannot be written, the jobs are ended after the write timeout.
        called_off.for_each(drop);
        let queued: Vec<Job> =
            self.open.values().filter(|open| open.is_queued()).map(|open| open.job.clone()).collect();
        self.end_jobs(&queued.iter().collect::<Vec<_>>());
    }

    /// Whether to keep waiting for a cancelled task.
    pub(super) fn is_stopping(&mut self, open: &InFlightTask, listed: Listed, since: Instant) -> bool {
        let patient = since.elapsed() < self.settings.write_timeout;
        let stopping = match listed {
            _ if matches!(open.stage, Stage::Unwritten | Stage::New) => false,
            Listed::Live(JobState::Running(_)) | Listed::Unknown => patient,
            Listed::Live(JobState::Waiting(_) | JobState::Held(_)) | Listed::Gone => false,
        };
        if !stopping {
            if let Listed::Live(_) = listed {
                self.end_jobs(&[&open.job]);
            }
            self.done(open, Err(EvalError::Cancelled.into()));
        }
        stopping
    }

    /// Ends what is left once nobody needs the results.
    pub(super) fn abandon(mut self) {
        if !self.settings.leave && !self.open.is_empty() {
            self.call_off();
            let jobs: Vec<Job> = self.open.values().map(|open| open.job.clone()).collect();
            self.end_jobs(&jobs.iter().collect::<Vec<_>>());
        }
    }
}
