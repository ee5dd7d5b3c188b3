//! The model to convert.

use std::path::Path;

use burn::tensor::Device;

use super::ConvertError;
use crate::{
    import::{self, Imported, Rope},
    model::{HybridLm, ModelSpec},
    primitive::Primitives,
    seed::digest,
    train::TrainError,
    weights::{Parameter, parameters},
};

/// A trained model with its specification and a fingerprint of both, which identifies it in libraries and evaluations.
#[derive(Clone, Debug)]
pub struct Parent {
    spec: ModelSpec,
    model: HybridLm,
    fingerprint: String,
}

impl Parent {
    /// Uses a model in memory. All weights are read once, to compute the fingerprint.
    ///
    /// # Errors
    /// [`ConvertError`] if the device fails or a weight is not finite.
    pub fn new(spec: ModelSpec, model: HybridLm) -> Result<Self, ConvertError> {
        let mut sums = format!("{spec:?}").into_bytes();
        for Parameter { earlier_name, read, .. } in parameters(&model) {
            let data = read().map_err(TrainError::from)?;
            if data.iter::<f32>().any(|number| !number.is_finite()) {
                return Err(ConvertError::NotFinite { what: "weight" });
            }
            sums.extend_from_slice(earlier_name.as_bytes());
            sums.extend_from_slice(&digest(data.as_bytes()).to_le_bytes());
        }
        Ok(Self { spec, model, fingerprint: format!("{:032x}", digest(&sums)) })
    }

    /// Reads a model folder in the format of Hugging Face transformers; see [`import::hugging_face`].
    ///
    /// # Errors
    /// [`ConvertError::Parent`] if a [`ModelSpec`] cannot express the model, or if `primitives` has another layer, or
    /// none, under one of its letters.
    pub fn open(folder: impl AsRef<Path>, primitives: &Primitives, device: &Device) -> Result<Self, ConvertError> {
        // Check the letters against the caller's primitives before reading the weights.
        import::spec(&folder, primitives)?;
        let Imported { spec, model, .. } = import::hugging_face(folder, primitives, device, Rope::Halves)?;
        Self::new(spec, model)
    }

    /// Returns the specification.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Returns the model.
    pub fn model(&self) -> &HybridLm {
        &self.model
    }

    /// Returns a digest of specification and weights.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Returns the device of the model.
    pub(super) fn device(&self) -> Device {
        self.model.backbone.embedding.val().device()
    }
}
