//! Watching a search.

use auto_impl::auto_impl;

use crate::{
    evaluate::Progress,
    execute::Location,
    journal::Setup,
    study::{Event, Study, TrialId},
};

/// Watches a search, for example to show its progress.
///
/// All methods do nothing by default. They are called on the thread that runs the pipeline. An event is in the journal
/// before observers are notified of it.
///
/// ```
/// use composer_nas::{
///     pipeline::Observer,
///     prelude::*,
///     study::{Event, Study},
/// };
///
/// struct Failures;
///
/// impl Observer for Failures {
///     fn event(&mut self, event: &Event, _: &Study) {
///         if let Event::Failed { id, failure } = event {
///             eprintln!("{id} failed: {}", failure.reason);
///         }
///     }
/// }
///
/// let primitives = Primitives::standard();
/// let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu"])?, 6)?;
/// let evaluator = Mad::quick(&primitives, &Device::flex());
/// let pipeline = Pipeline::new(&primitives, space, evaluator).observer(Failures);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[auto_impl(Box)]
pub trait Observer {
    /// A search with this `setup` starts or resumes. `study` holds the trials so far; `budget` is the number of valid
    /// trials to reach.
    fn started(&mut self, setup: &Setup, study: &Study, budget: usize) {
        let _ = (setup, study, budget);
    }

    /// A worker starts a trial.
    fn submitted(&mut self, id: TrialId, study: &Study) {
        let _ = (id, study);
    }

    /// An event has occurred and is already part of `study`.
    fn event(&mut self, event: &Event, study: &Study) {
        let _ = (event, study);
    }

    /// A trial now waits or runs at this location. Only executors that evaluate elsewhere report it.
    fn located(&mut self, id: TrialId, place: &Location) {
        let _ = (id, place);
    }

    /// A running trial reports its progress.
    fn progress(&mut self, id: TrialId, progress: &Progress) {
        let _ = (id, progress);
    }

    /// A message for the user, for example about a full disk.
    fn notice(&mut self, text: &str) {
        let _ = text;
    }

    /// The search has ended, successfully or not.
    fn finished(&mut self, study: &Study) {
        let _ = study;
    }
}
