//! Why a space cannot be searched.

use thiserror::Error;

use super::{SpaceConfig, config::MAX_STATES};
use crate::{limits::MAX_LAYERS, primitive::Symbol};

/// A space that cannot be searched.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpaceError {
    /// No layer.
    #[error("the search space has no layers: ask for at least one")]
    NoLayers,
    /// More layers than any model has.
    #[error("the search space has {0} layers: search at most {MAX_LAYERS}, and extrapolate")]
    TooManyLayers(usize),
    /// A layer without choices.
    #[error("layer {layer} has no choices: name at least one primitive")]
    NoChoices {
        /// Index of the layer, from zero.
        layer: usize,
    },
    /// A choice that appears twice.
    #[error("layer {layer} lists {symbol} twice: name each primitive once")]
    DuplicateChoice {
        /// Index of the layer, from zero.
        layer: usize,
        /// The repeated choice.
        symbol: Symbol,
    },
    /// A pin to something that the layer may not be.
    #[error("layer {layer} cannot be pinned to {symbol}: it is not among its choices")]
    NotAChoice {
        /// Index of the layer, from zero.
        layer: usize,
        /// The symbol asked for.
        symbol: Symbol,
    },
    /// A layer beyond the last.
    #[error("there is no layer {layer}: the space has {layers} layers, counted from zero")]
    NoSuchLayer {
        /// The index asked for.
        layer: usize,
        /// Number of layers.
        layers: usize,
    },
    /// Nothing satisfies all constraints.
    #[error("no sequence of {} layers satisfies {:?} together with the choices of each layer: relax one of them",
        .0.layers.len(), .0.constraints)]
    Contradiction(SpaceConfig),
    /// A budget without a price for something that a layer may be.
    #[error("the budget for {what} has no cost for {symbol}: give every choice of a layer a cost, 0 where it has none")]
    NoCost {
        /// What has no cost.
        symbol: Symbol,
        /// What the budget counts.
        what: String,
    },
    /// More sequences than can be counted.
    #[error("the space has more than 2^128 sequences: search fewer layers and extrapolate")]
    TooLarge,
    /// Constraints with too many combinations.
    #[error(
        "the constraints need more than {MAX_STATES} states to count: use fewer, or budgets whose costs are coarser"
    )]
    TooComplex,
}
