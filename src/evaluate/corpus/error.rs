//! Errors of the evaluator on text.

use thiserror::Error;

use crate::{
    data::TokenError,
    dims::DimsError,
    primitive::{BuildError, Symbol},
    train::TrainError,
};

/// An error in the setup of a [`CorpusEvaluator`](super::CorpusEvaluator).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// The corpus cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The widths are inconsistent.
    #[error(transparent)]
    Dims(#[from] DimsError),
    /// A setting of the training is invalid.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A layer cannot be built at the widths of the protocol, so no candidate with it can be trained.
    #[error("candidates with {symbol} cannot be trained at the widths of the protocol")]
    Primitive {
        /// The symbol of the primitive.
        symbol: Symbol,
        /// The cause.
        source: Box<BuildError>,
    },
}
