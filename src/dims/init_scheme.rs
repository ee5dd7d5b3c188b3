//! Distribution of initial weights.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The distribution of the initial weights of linear layers and the embedding. Biases start at zero, norms at one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum InitScheme {
    /// Uniform on ±1/sqrt(fan_in), PyTorch's default for linear layers. Embeddings are normal with standard deviation
    /// 0.02.
    #[default]
    FanIn,
    /// Normal with this standard deviation. GPT-2 and the MAD paper's code use 0.02.
    Normal(f64),
    /// Like [`FanIn`](Self::FanIn), but with this standard deviation for embeddings instead of 0.02.
    ///
    /// In narrow models, the output of a first attention layer, which averages the tokens, is otherwise ten times as
    /// large as the embedding and drowns it.
    FanInEmbedding(f64),
}

impl InitScheme {
    /// Checks that the standard deviation is valid.
    ///
    /// # Errors
    /// Returns [`InitError`] if it is negative or not finite.
    pub(crate) fn validate(self) -> Result<(), InitError> {
        match self {
            InitScheme::Normal(std) | InitScheme::FanInEmbedding(std) if !(std.is_finite() && std >= 0.0) => {
                Err(InitError(std))
            }
            InitScheme::Normal(_) | InitScheme::FanIn | InitScheme::FanInEmbedding(_) => Ok(()),
        }
    }

    /// Returns the standard deviation of the initial embeddings: 0.02, as in GPT-2 and the MAD reference, unless the
    /// scheme specifies one.
    pub(crate) fn embedding_std(self) -> f64 {
        match self {
            InitScheme::FanIn | InitScheme::Normal(_) => 0.02,
            InitScheme::FanInEmbedding(std) => std,
        }
    }
}

/// The error of an invalid standard deviation.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("init: the standard deviation is {0}: use a finite, non-negative number, such as 0.02")]
pub struct InitError(pub f64);
