//! The model that is converted.

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

/// A trained model, what it is, and a fingerprint of both, by which libraries and evaluations know whose they are.
#[derive(Clone, Debug)]
pub struct Parent {
    spec: ModelSpec,
    model: HybridLm,
    fingerprint: String,
}

impl Parent {
    /// Takes a model that is in memory. All weights are read once, for the fingerprint.
    ///
    /// # Errors
    /// [`ConvertError`] when the device fails, or a weight is not finite.
    pub fn new(spec: ModelSpec, model: HybridLm) -> Result<Self, ConvertError> {
        let mut sums = format!("{spec:?}").into_bytes();
        for Parameter { name, read, .. } in parameters(&model) {
            let data = read().map_err(TrainError::from)?;
            if data.iter::<f32>().any(|number| !number.is_finite()) {
                return Err(ConvertError::NotFinite { what: "weight" });
            }
            sums.extend_from_slice(name.as_bytes());
            sums.extend_from_slice(&digest(data.as_bytes()).to_le_bytes());
        }
        Ok(Self { spec, model, fingerprint: format!("{:032x}", digest(&sums)) })
    }

    /// Reads a folder of transformers; see [`import::hugging_face`].
    ///
    /// # Errors
    /// [`ConvertError::Parent`] names what a [`ModelSpec`] cannot express, or a layer that `primitives` does not have
    /// under its letter.
    pub fn open(folder: impl AsRef<Path>, primitives: &Primitives, device: &Device) -> Result<Self, ConvertError> {
        // All letters mean what they mean to the caller, which is known before weights are read.
        import::spec(&folder, primitives)?;
        let Imported { spec, model, .. } = import::hugging_face(folder, primitives, device, Rope::Halves)?;
        Self::new(spec, model)
    }

    /// What it is.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The model.
    pub fn model(&self) -> &HybridLm {
        &self.model
    }

    /// A digest of specification and weights.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The device on which the model is.
    pub(super) fn device(&self) -> Device {
        self.model.trunk.embedding.val().device()
    }
}
