//! What can be wrong with a proxy on text.

use thiserror::Error;

use crate::{
    data::TokenError,
    dims::DimsError,
    primitive::{BuildError, Symbol},
    train::TrainError,
};

/// An evaluator that cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// The corpus cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The widths contradict each other.
    #[error(transparent)]
    Dims(#[from] DimsError),
    /// A setting of the training does not fit.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A layer that the protocol's widths do not fit: no candidate with it could be trained.
    #[error("no candidate with {symbol} can be trained at the widths of the protocol")]
    Primitive {
        /// Letter of the primitive.
        symbol: Symbol,
        /// What does not fit.
        source: Box<BuildError>,
    },
}
