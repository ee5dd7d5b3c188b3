//! The activations of a parent on a text, stored on disk.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Tensor;

use super::{ConvertError, Parent, local::Pair};
use crate::{
    durable,
    train::{TokenBatch, TrainError},
    weights,
};

/// The name of the only tensor in a file.
const STREAM: &str = "stream";

/// The residual stream before some layers of a parent. Every batch and layer has its own file, written atomically.
pub(super) struct Activations {
    folder: PathBuf,
}

impl Activations {
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self, batch: usize, layer: usize) -> PathBuf {
        self.folder.join(format!("batch-{batch:05}-layer-{layer:03}.safetensors"))
    }

    /// Computes the missing activations of this batch before each of `layers`, which must be in ascending order.
    pub fn ensure(
        &self,
        parent: &Parent,
        number: usize,
        batch: &TokenBatch,
        layers: &[usize],
    ) -> Result<(), ConvertError> {
        let missing: Vec<usize> = layers.iter().copied().filter(|&layer| !self.path(number, layer).exists()).collect();
        let Some(&last) = missing.last() else { return Ok(()) };
        batch.validate(parent.spec().vocab_size)?;
        let backbone = &parent.model().backbone;
        let mut x = backbone.embed(batch.tokens(&parent.device()));
        for (index, layer) in backbone.layers.iter().enumerate().take(last + 1) {
            if missing.contains(&index) {
                let data = x.clone().try_into_data().map_err(|error| TrainError::Device(error.into()))?;
                weights::write(&self.path(number, index), vec![(STREAM.into(), data)])?;
            }
            if index < last {
                x = layer.forward(x);
            }
        }
        Ok(())
    }

    /// Returns the input and the output of layer `layer` of the parent, for these batches.
    pub fn pairs(
        &self,
        parent: &Parent,
        layer: usize,
        batches: impl IntoIterator<Item = usize>,
    ) -> Result<Vec<Pair>, ConvertError> {
        let layers = parent.model().backbone.layers.len();
        let own = parent.model().backbone.layers.get(layer).ok_or(ConvertError::NoSuchLayer { layer, layers })?;
        let pair = |number| {
            let path = self.path(number, layer);
            let damaged = |reason: &str| ConvertError::Damaged { path: path.clone(), reason: reason.into() };
            let stream = weights::read(&path)?.remove(STREAM).ok_or_else(|| damaged("it has no stream"))?;
            let shape = stream.shape().to_vec();
            if shape.len() != 3 || shape.last() != Some(&parent.spec().dims.d_model) {
                return Err(damaged("its stream has another width"));
            }
            if stream.iter::<f32>().any(|number| !number.is_finite()) {
                return Err(damaged("it contains values that are not finite"));
            }
            let input = own.norm.forward(Tensor::<3>::from_data(stream, &parent.device()));
            Ok(Pair { target: own.mixer.forward(input.clone()), input })
        };
        batches.into_iter().map(pair).collect()
    }

    /// Removes the folder.
    pub fn remove(&self) -> Result<(), ConvertError> {
        durable::remove_folder(&self.folder).map_err(ConvertError::io(&self.folder))
    }

    /// Creates the folder.
    pub fn make(&self) -> Result<(), ConvertError> {
        make(&self.folder)
    }
}

/// Creates a folder and its parents.
pub(super) fn make(folder: &Path) -> Result<(), ConvertError> {
    fs::create_dir_all(folder).map_err(ConvertError::io(folder))?;
    durable::sync_folder(folder);
    Ok(())
}
