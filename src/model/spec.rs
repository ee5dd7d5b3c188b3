//! What a model is, as a plain value.

use serde::{Deserialize, Serialize};

use crate::{
    dims::{Dims, InitScheme},
    limits::{self, MAX_LAYERS, MAX_VOCABULARY},
    primitive::BuildError,
    space::Architecture,
};

/// A language model in full: the sequence of layers and the widths at which they are built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The layers, each one residual block with its own pre-norm.
    pub architecture: Architecture,
    /// The widths of every layer.
    pub dims: Dims,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Whether the head shares the embedding's weights.
    pub tied_embeddings: bool,
    /// Whether an untied head has a bias.
    pub head_bias: bool,
    /// The law of the initial weights.
    pub init: InitScheme,
}

impl ModelSpec {
    /// Checks that there is something to build, tokens, layers and consistent widths, all of them within the
    /// [bounds](crate::limits).
    ///
    /// # Errors
    /// [`BuildError`] names what is missing.
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
