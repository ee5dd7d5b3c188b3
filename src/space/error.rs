//! Errors of search spaces.

use thiserror::Error;

use super::{SpaceConfig, config::MAX_STATES};
use crate::{limits::MAX_LAYERS, primitive::Symbol};

/// An error in the definition of a search space.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpaceError {
    /// The space has no layers.
    #[error("the search space has no layers: use at least one")]
    NoLayers,
    /// The space has more than [`Architecture::MAX_LAYERS`](super::Architecture::MAX_LAYERS) layers.
    #[error(
        "the search space has {0} layers, but at most {MAX_LAYERS} are allowed: search fewer layers and extrapolate"
    )]
    TooManyLayers(usize),
    /// A layer has no choices.
    #[error("layer {layer} has no choices: name at least one primitive")]
    NoChoices {
        /// Index of the layer, from zero.
        layer: usize,
    },
    /// A layer lists a choice twice.
    #[error("layer {layer} lists {symbol} twice: name each primitive once")]
    DuplicateChoice {
        /// Index of the layer, from zero.
        layer: usize,
        /// The repeated choice.
        symbol: Symbol,
    },
    /// A layer is pinned to a symbol that is not among its choices.
    #[error("layer {layer} cannot be pinned to {symbol}: it is not among its choices")]
    NotAChoice {
        /// Index of the layer, from zero.
        layer: usize,
        /// The requested symbol.
        symbol: Symbol,
    },
    /// The layer index is out of range.
    #[error("there is no layer {layer}: the space has {layers} layers, counted from zero")]
    NoSuchLayer {
        /// The requested index.
        layer: usize,
        /// Number of layers.
        layers: usize,
    },
    /// No sequence satisfies all constraints.
    #[error("no sequence of {} layers satisfies both {:?} and the choices of each layer: relax a constraint",
        .0.layers.len(), .0.constraints)]
    Contradiction(SpaceConfig),
    /// A budget has no cost for one of the choices.
    #[error("the budget for {what} has no cost for {symbol}: give every choice a cost, 0 if it has none")]
    NoCost {
        /// The symbol without a cost.
        symbol: Symbol,
        /// Name and unit of the budget.
        what: String,
    },
    /// The space has more than 2^128 sequences.
    #[error("the space has more than 2^128 sequences: search fewer layers and extrapolate")]
    TooLarge,
    /// The constraints need too many states to count.
    #[error(
        "the constraints need more than {MAX_STATES} states to count: use fewer constraints, or budgets with coarser costs"
    )]
    TooComplex,
}
