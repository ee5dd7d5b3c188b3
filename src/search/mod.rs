//! Searchers: from a study to the next architecture.
//!
//! A [`Searcher`] is a function of the whole history, including pending trials. A search therefore resumes by loading
//! its trials, and can serve several workers. [`RandomSearch`] and [`Exhaustive`] are the references that a better
//! searcher has to beat; [`RegularizedEvolution`] and [`LocalSearch`] are strong simple baselines. [`Incremental`]
//! grows an architecture stage by stage with any of them; [`Replicate`] evaluates the leaders again.

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
pub use gp_bo::{
    AcquisitionFunction, AnalyticAcquisition, AskBudget, Candidate, GpBo, Inspection, LeaveOneOut, SequenceKernel, Term,
};
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

/// Proposes the next architecture to evaluate.
///
/// Laws, checked by `testkit::searcher::check` and, for incremental strategies, `check_incremental`:
/// - an answer is a function of the searcher's configuration, `study` and the state of `rng`; `&mut self` may only hold
///   caches, so a new instance answers like one that has served the whole search;
/// - a proposal lies in [`Study::space`] or, for incremental strategies, is a
///   [part](crate::space::SearchSpace::is_part) of one of its sequences;
/// - a proposal is never an architecture with a pending trial;
/// - [`Proposal::Wait`] is only returned while trials are pending;
/// - if every sequence of the space is known, nothing is proposed, and the answer is [`Proposal::Finished`] if no trial
///   is pending.
///
/// ```
/// use composer_nas::{prelude::*, search::SearchError, seed::Rng, study::Study};
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
    /// Returns the name and settings, such as `regularized_evolution(population=20, sample=5)`. A journal can be
    /// continued only with the same fingerprint.
    fn fingerprint(&self) -> String;

    /// Returns what to evaluate next, given the trials so far. All randomness comes from `rng`.
    ///
    /// # Errors
    /// [`SearchError`] if the searcher cannot continue; asking again with the same study gives the same error.
    fn ask(&mut self, study: &Study, rng: &mut Rng) -> Result<Proposal, SearchError>;

    /// Returns a notice for the user about the last answer, such as a failed fit, and forgets it. `None` by default.
    fn notice(&mut self) -> Option<String> {
        None
    }
}

/// The answer of a searcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// Evaluate this architecture.
    Evaluate(Architecture),
    /// Nothing for now: ask again when a pending trial has a result.
    Wait,
    /// Nothing more, whatever the results of the pending trials.
    Finished,
}

/// The error of a searcher that cannot answer.
#[derive(Debug, Error)]
#[non_exhaustive]
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
    /// No sequence satisfies the bounds on known costs.
    #[error(
        "nothing in {looked} is within the bounds of the goal; the nearest is {nearest} with {costs}: relax a bound"
    )]
    NothingWithin {
        /// Which sequences were checked.
        looked: String,
        /// The sequence that violates the bounds least.
        nearest: Architecture,
        /// Its costs.
        costs: String,
    },
    /// Another error of the searcher.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}
