//! Watching a search.

use auto_impl::auto_impl;

use crate::{
    evaluate::Progress,
    execute::Location,
    journal::Setup,
    study::{Event, Study, TrialId},
};

/// Watches a search; every method does nothing by default. Called from the thread that runs the pipeline, after the
/// event is in the journal.
#[auto_impl(Box)]
pub trait Observer {
    /// The search, which is what `setup` says, begins or resumes with this study and aims at `budget` valid trials.
    fn started(&mut self, setup: &Setup, study: &Study, budget: usize) {
        let _ = (setup, study, budget);
    }

    /// A worker took up a trial.
    fn submitted(&mut self, id: TrialId, study: &Study) {
        let _ = (id, study);
    }

    /// An event happened; `study` has it already.
    fn event(&mut self, event: &Event, study: &Study) {
        let _ = (event, study);
    }

    /// A trial now waits or runs here. Only executors that evaluate elsewhere tell it.
    fn located(&mut self, id: TrialId, place: &Location) {
        let _ = (id, place);
    }

    /// A running trial is so far.
    fn progress(&mut self, id: TrialId, progress: &Progress) {
        let _ = (id, progress);
    }

    /// Something that a person should know, such as a full disk.
    fn notice(&mut self, text: &str) {
        let _ = text;
    }

    /// The search has ended, well or not.
    fn finished(&mut self, study: &Study) {
        let _ = study;
    }
}
