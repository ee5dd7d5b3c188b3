//! Whether a model can be built on this machine.

use super::ModelSpec;
use crate::{
    device::{self, Device},
    limits,
    primitive::{BuildError, Primitives},
};

/// Bytes of a weight where models are built.
const BYTES_PER_WEIGHT: u128 = 4;

impl ModelSpec {
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
