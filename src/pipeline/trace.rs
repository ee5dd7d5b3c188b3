//! Events for the `tracing` crate.

use tracing::{debug, info, warn};

use super::Observer;
use crate::{
    evaluate::Progress,
    journal::Setup,
    study::{Event, Study, TrialId},
    text::line,
};

/// An observer that emits `tracing` events. Every session has one. `docs/progress.md` lists names and fields.
#[derive(Debug)]
pub(super) struct Trace;

/// The `tracing` target of all events and spans of a search.
const TARGET: &str = "composer_nas::search";

impl Observer for Trace {
    fn started(&mut self, _: &Setup, study: &Study, budget: usize) {
        info!(target: TARGET, trials = study.trials().len(), budget, "search started");
    }

    fn submitted(&mut self, id: TrialId, _study: &Study) {
        debug!(target: TARGET, trial = id.0, "trial submitted");
    }

    fn event(&mut self, event: &Event, study: &Study) {
        let trial = event.id().0;
        match event {
            Event::Proposed { architecture, .. } => info!(target: TARGET, trial, %architecture, "trial proposed"),
            Event::Retried { reason, .. } => warn!(target: TARGET, trial, reason = line(reason), "trial retried"),
            Event::Completed { report, .. } => {
                let score = report.scores.get(&study.goal().score);
                let best = study.best().map(|best| study.goal().orient(best.value));
                info!(target: TARGET, trial, score, best, seconds = report.wall_seconds, "trial completed");
            }
            Event::Failed { failure, .. } => {
                warn!(target: TARGET, trial, reason = line(&failure.reason), "trial failed")
            }
            Event::Invalidated { reason, .. } => info!(target: TARGET, trial, reason = line(reason), "trial excluded"),
        }
    }

    fn progress(&mut self, id: TrialId, progress: &Progress) {
        let Progress { stage, step, steps, value } = progress;
        let stage = line(stage);
        debug!(target: TARGET, trial = id.0, stage, step, steps, value, "trial progress");
    }

    fn notice(&mut self, text: &str) {
        warn!(target: TARGET, text = line(text), "notice");
    }

    fn finished(&mut self, study: &Study) {
        info!(target: TARGET, trials = study.trials().len(), "search finished");
    }
}
