//! What to try next: from a study to an architecture.
//!
//! A [`Searcher`] is a function of the whole history, pending trials included, so that resuming a search is loading its
//! trials, and several workers can be served. [`RandomSearch`] and [`Exhaustive`] are the references that a better
//! searcher has to beat; [`RegularizedEvolution`] and [`LocalSearch`] are the strong simple baselines. [`Incremental`]
//! grows an architecture stage by stage with any of them; [`Replicate`] looks at the leaders again.

mod evolution;
mod exhaustive;
mod gp_bo;
mod incremental;
mod local_search;
mod random;
mod replicate;
mod unknown;
mod within;

pub use evolution::RegularizedEvolution;
pub use exhaustive::Exhaustive;
pub use gp_bo::{AcquisitionFunction, AskBudget, Candidate, GpBo, GpError, Inspection, LeaveOneOut, Term};
pub use incremental::{Incremental, Side};
pub use local_search::LocalSearch;
pub use random::RandomSearch;
pub use replicate::Replicate;
pub(crate) use within::check_bounds;

use auto_impl::auto_impl;
use thiserror::Error;

use crate::{
    aggregate::AggregateError,
    seed::Rng,
    space::{Architecture, SpaceError},
    study::{KnownCostError, Study},
};

/// Proposes what to try next.
///
/// Laws, checked by `testkit::searcher::check` and, for incremental strategies, `check_incremental`:
/// - an answer is a function of (the searcher's configuration, `study`, the state of `rng`): `&mut self` may hold
///   caches, and nothing else, so a fresh instance answers like one that has served the whole search;
/// - a proposal lies in [`Study::space`], or, where a strategy is incremental and says so, is a
///   [part](crate::space::SearchSpace::is_part) of its sequences;
/// - a proposal is never an architecture that is pending already;
/// - [`Proposal::Wait`] comes only while trials are pending;
/// - once every sequence of the space is known, nothing is proposed, and the answer is [`Proposal::Finished`] when no
///   trial is pending.
///
/// ```
/// use composer_nas::{Rng, prelude::*, study::Study};
///
/// /// Climbs from the best sequence found so far to a neighbour that is not known yet.
/// struct HillClimb;
///
/// impl Searcher for HillClimb {
///     fn fingerprint(&self) -> String {
///         "hill_climb".into()
///     }
///
///     fn ask(&mut self, study: &Study, rng: &mut Rng) -> Result<Proposal, SearchError> {
///         let Some(best) = study.best() else { return RandomSearch.ask(study, rng) };
///         let near = study.space().neighbors(&best.trial.architecture);
///         match near.into_iter().find(|near| !study.knows(near)) {
///             Some(near) => Ok(Proposal::Evaluate(near)),
///             None => RandomSearch.ask(study, rng),
///         }
///     }
/// }
/// ```
#[auto_impl(&mut, Box)]
pub trait Searcher {
    /// Name and settings, such as `regularized_evolution(population=20, sample=5)`: what a resumed search compares.
    fn fingerprint(&self) -> String;

    /// Answers what to try next, given all that is known. All randomness comes from `rng`.
    ///
    /// # Errors
    /// [`SearchError`] when the searcher cannot go on; asking again with the same study gives the same error.
    fn ask(&mut self, study: &Study, rng: &mut Rng) -> Result<Proposal, SearchError>;

    /// Something about the last answer that a person should know, such as a fit that failed; told once. Nothing by
    /// default.
    fn notice(&mut self) -> Option<String> {
        None
    }
}

/// The answer of a searcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// Evaluate this architecture.
    Evaluate(Architecture),
    /// Nothing now: ask again when a pending trial has an outcome.
    Wait,
    /// Nothing any more, whatever the pending trials bring.
    Finished,
}

/// Why a searcher cannot answer.
#[derive(Debug, Error)]
pub enum SearchError {
    /// A setting that must be positive is zero.
    #[error("{setting} of {searcher} is 0: use at least 1")]
    Zero {
        /// Which searcher.
        searcher: &'static str,
        /// Which of its settings.
        setting: &'static str,
    },
    /// A stage of an incremental search has no sequences.
    #[error("a stage of the incremental search is empty")]
    Stage(#[from] SpaceError),
    /// The winner of a stage of an incremental search cannot be chosen.
    #[error("a stage of the incremental search has no winner")]
    Winner(#[from] AggregateError),
    /// A known cost that the goal names has no value.
    #[error(transparent)]
    Costs(#[from] KnownCostError),
    /// Bounds on known costs within which nothing lies.
    #[error(
        "nothing in {looked} is within the bounds of the goal; the nearest is {nearest} with {costs}: relax a bound"
    )]
    NothingWithin {
        /// What was looked at.
        looked: String,
        /// The sequence that is least beyond the bounds.
        nearest: Architecture,
        /// Its costs.
        costs: String,
    },
    /// A reason of a searcher's own.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}
