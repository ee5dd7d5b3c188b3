//! The specification of a model.

use serde::{Deserialize, Serialize};

use crate::{
    dims::{Dims, InitScheme},
    limits::{self, MAX_LAYERS, MAX_VOCABULARY},
    primitive::BuildError,
    space::Architecture,
};

/// The complete specification of a language model: its layers, widths, vocabulary and initialization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The layers. Each one becomes a residual block with its own pre-normalization.
    pub architecture: Architecture,
    /// The dimensions of every layer.
    pub dims: Dims,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Whether the head shares the weights of the embedding.
    pub tied_embeddings: bool,
    /// Whether a head with its own weights has a bias.
    pub head_bias: bool,
    /// The distribution of the initial weights.
    pub init: InitScheme,
}

impl ModelSpec {
    /// Checks that the vocabulary and the architecture are not empty, that the dimensions are consistent, and that all
    /// sizes are within the [limits](crate::limits).
    ///
    /// # Errors
    /// Returns a [`BuildError`] that names the first invalid value.
    pub fn validate(&self) -> Result<(), BuildError> {
        if self.vocab_size == 0 {
            return Err(BuildError::EmptyVocabulary);
        }
        if self.architecture.is_empty() {
            return Err(BuildError::EmptyArchitecture);
        }
        limits::at_most("vocab_size", self.vocab_size, MAX_VOCABULARY)?;
        limits::at_most("the number of layers", self.architecture.len(), MAX_LAYERS)?;
        self.init.validate()?;
        Ok(self.dims.validate()?)
    }
}
