//! What a model is, as a plain value.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{
    device,
    limits::{self, MAX_LAYERS, MAX_VOCABULARY},
    primitive::{BuildError, Dims, InitScheme, Primitives},
    space::Architecture,
};

/// Bytes of a weight where models are built.
const BYTES_PER_WEIGHT: u128 = 4;

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

    /// Holds the weights against the memory that this process can have. Those of an accelerator lie elsewhere: there it
    /// is one layer at a time, which is drawn here.
    pub(crate) fn check_memory(&self, primitives: &Primitives, device: &Device) -> Result<(), BuildError> {
        let ends = limits::product(&[self.vocab_size as u64, self.dims.width()]);
        let mut all = if self.tied_embeddings { ends } else { ends.saturating_mul(2) };
        let mut largest = ends;
        for &layer in self.architecture.layers() {
            let weights = u128::from(primitives.get(layer)?.cost(&self.dims, 1).parameters);
            all += weights;
            largest = largest.max(weights);
        }
        let weights = if device::is_accelerator(device) { largest } else { all };
        Ok(limits::check_memory("the model's weights", weights.saturating_mul(BYTES_PER_WEIGHT))?)
    }
}
