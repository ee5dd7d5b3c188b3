//! The trials of a search and their results.
//!
//! A [`Study`] is the fold of its [`Event`]s and nothing else: a journal stores the events, and loading a study replays
//! them.

mod costing;
mod event;
mod front;
mod goal;
mod hypervolume;
mod id;
mod known_costs;
mod race;
mod report;
mod state;
mod trial;

pub(crate) use front::{by_room, ranked, reference};
pub(crate) use hypervolume::{dominates, non_dominated};
pub(crate) use report::left_out;

pub use event::Event;
pub use front::Volume;
pub use goal::{Bound, Direction, Goal, GoalError, Limit, Measure, Objective};
pub use hypervolume::hypervolume;
pub use id::TrialId;
pub use known_costs::{FnCost, KnownCostError, KnownCosts};
pub use race::{Race, Raced};
pub use report::{Report, ReportError, TaskReport};
pub use state::{Observation, Study, StudyError};
pub use trial::{Failure, FailureKind, Origin, Threshold, Trial, TrialState};
