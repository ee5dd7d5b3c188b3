//! Checks whether a model fits into the memory of this machine.

use super::ModelSpec;
use crate::{
    device::{self, Device},
    limits,
    primitive::{BuildError, Primitives},
};

/// Bytes per weight. Models are built in single precision.
const BYTES_PER_WEIGHT: u128 = 4;

impl ModelSpec {
    /// Returns an error if the weights do not fit into the memory available to this process. On an accelerator the
    /// weights are stored on the device, and the host only holds one layer at a time, while it draws the initial
    /// values.
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
