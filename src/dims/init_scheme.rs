//! The law of initial weights.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The law of the initial weights of linear maps and of the embedding. Biases start at zero, norms at one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitScheme {
    /// Uniform on ±1/sqrt(fan_in), PyTorch's default for linear layers.
    #[default]
    FanIn,
    /// Normal with this standard deviation; GPT-2 and the MAD paper's code use 0.02.
    Normal(f64),
    /// Linear maps as [`FanIn`](Self::FanIn), embeddings with this standard deviation in place of 0.02. In narrow
    /// models a first layer of attention otherwise drowns the embedding: its output has ten times the size, and
    /// averages the tokens.
    FanInEmbedding(f64),
}

impl InitScheme {
    /// Checks that a standard deviation is one.
    ///
    /// # Errors
    /// [`InitError`] when it is negative or not finite.
    pub fn validate(self) -> Result<(), InitError> {
        match self {
            InitScheme::Normal(std) | InitScheme::FanInEmbedding(std) if !(std.is_finite() && std >= 0.0) => {
                Err(InitError(std))
            }
            InitScheme::Normal(_) | InitScheme::FanIn | InitScheme::FanInEmbedding(_) => Ok(()),
        }
    }

    /// Standard deviation of the initial embeddings: 0.02, as in GPT-2 and the MAD reference, unless the scheme has its
    /// own.
    pub(crate) fn embedding_std(self) -> f64 {
        match self {
            InitScheme::FanIn | InitScheme::Normal(_) => 0.02,
            InitScheme::FanInEmbedding(std) => std,
        }
    }
}

/// A standard deviation that is none.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("init: the standard deviation is {0}: use a finite number that is not negative, such as 0.02")]
pub struct InitError(pub f64);
