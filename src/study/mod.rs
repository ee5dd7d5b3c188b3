//! What is known: the trials of a search and what came of them.
//!
//! A [`Study`] is the fold of [`Event`]s, and nothing else: a journal stores the events, and loading it is replaying
//! them.

mod event;
mod goal;
mod id;
mod report;
mod state;
mod trial;

pub(crate) use report::left_out;

pub use event::Event;
pub use goal::{Direction, Goal};
pub use id::TrialId;
pub use report::{Report, ReportError, TaskReport};
pub use state::{Observation, Study, StudyError};
pub use trial::{Bar, Failure, FailureKind, Origin, Trial, TrialState};
