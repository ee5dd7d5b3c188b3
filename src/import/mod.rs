//! Imports models from folders in the format of Hugging Face transformers.
//!
//! [`hugging_face`] reads the folders that [`export`](crate::export) writes, bit for bit if the weights are in single
//! precision. It also reads any checkpoint of the Llama architecture, and of several hybrid architectures, that a
//! [`ModelSpec`] can express: in one file or several, in 16 or 32 bits, with tied embeddings or not. [`describe`] and
//! [`spec`] read only the configuration. [`unpack_gguf`] converts a file of llama.cpp to such a folder.
//!
//! ```
//! use composer_nas::{export, import, prelude::*};
//!
//! let primitives = Primitives::standard();
//! let target = Target::custom("tiny", Dims::new(16, 256, 2)?, 11, true, 1)?;
//! let spec = target.model("A2M".parse()?);
//! let device = Device::flex();
//! let model = HybridLm::new(&spec, &primitives, Seed(0), &device)?;
//! let root = tempfile::tempdir()?;
//! let folder = root.path().join("tiny");
//! export::hugging_face(&spec, Some(&model), &primitives, &folder, &export::Options::default())?;
//! assert_eq!(import::hugging_face(&folder, &primitives, &device, import::Rope::Halves)?.spec, spec);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod class;
mod config;
mod error;
mod gguf;
mod json;
mod recipe;
mod weights;

pub use error::ImportError;
pub use gguf::{Unpacked, unpack_gguf};

use std::path::Path;

use burn::{
    module::Param,
    nn::Linear,
    tensor::{Device, Tensor, TensorData},
};
use config::Described;
use weights::Headers;

use crate::{
    dims::InitScheme,
    export::Plan,
    layer::WeightInit,
    model::{Backbone, HybridLm, ModelSpec, ResidualBlock, RmsNorm},
    primitive::Primitives,
    seed::Seed,
};

/// An imported model with its specification.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The specification.
    pub spec: ModelSpec,
    /// The registry in which the symbols of the specification denote its layers: the given registry, extended by layers
    /// of the model that it did not contain.
    pub primitives: Primitives,
    /// The model.
    pub model: HybridLm,
}

/// A specification and the meaning of its symbols.
#[derive(Clone, Debug)]
pub struct Description {
    /// The specification.
    pub spec: ModelSpec,
    /// The registry in which the symbols of the specification denote its layers: the given registry, extended by layers
    /// of the model that it did not contain. A layer with other options takes the symbol of its kind, or an unused one
    /// if the model has several variants.
    pub primitives: Primitives,
}

/// The pairs of channels in a head that rotary positions rotate, as stored in the query and key projections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rope {
    /// Channels `i` and `i + C/2`, the convention of transformers and of this crate.
    #[default]
    Halves,
    /// Channels `2i` and `2i + 1`, the convention of Llama's published code and of RoFormer (Su et al. 2021, arXiv
    /// 2104.09864). The rows are reordered on import.
    Pairs,
}

/// Imports a model from a folder.
///
/// Layers are identified by their [`HfMapping`](crate::primitive::HfMapping), so a primitive from another crate can be
/// imported too if it has one.
///
/// # Errors
/// Returns an [`ImportError`] if the folder has no model, is damaged or incomplete, or has a model that a [`ModelSpec`]
/// cannot express.
pub fn hugging_face(
    folder: impl AsRef<Path>,
    primitives: &Primitives,
    device: &Device,
    rope: Rope,
) -> Result<Imported, ImportError> {
    let folder = folder.as_ref();
    let Described { spec, packing, primitives } = config::read(folder, primitives)?;
    let primitives = &primitives;
    // Check the headers before building the model, which can be large.
    let headers = Headers::read(folder)?;
    headers.check_total(&spec, primitives)?;
    let mut plan = Plan::new(&spec, primitives, &packing)?;
    headers.rename(&mut plan);
    headers.check(&plan, &spec, primitives)?;
    spec.check_memory(primitives, device)?;
    let model = weights::load(empty(&spec, primitives, device)?, &headers.files, &plan, &spec, rope)?;
    Ok(Imported { spec, primitives: primitives.clone(), model })
}

/// Reads the specification from config.json, with the registry in which its symbols denote its layers. The folder needs
/// no weights.
///
/// ```
/// use composer_nas::{import, prelude::*};
///
/// let folder = tempfile::tempdir()?;
/// let config = r#"{"model_type": "nemotron_h", "hidden_size": 64, "num_attention_heads": 4,
///     "num_key_value_heads": 2, "head_dim": 16, "mamba_num_heads": 4, "mamba_head_dim": 32, "n_groups": 2,
///     "ssm_state_size": 16, "intermediate_size": 128, "vocab_size": 100, "hybrid_override_pattern": "M-M*-"}"#;
/// std::fs::write(folder.path().join("config.json"), config)?;
/// let found = import::describe(folder.path(), &Primitives::standard())?;
/// assert_eq!(found.spec.architecture.letters(), "BRBAR");
/// assert_eq!(found.primitives.get(Symbol::ATTENTION)?.id().as_str(), "attention_nope");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Returns an [`ImportError`] if there is no config.json, or if a sequence of layers cannot express it; the message
/// names the entry.
pub fn describe(folder: impl AsRef<Path>, primitives: &Primitives) -> Result<Description, ImportError> {
    let Described { spec, primitives, .. } = config::read(folder.as_ref(), primitives)?;
    Ok(Description { spec, primitives })
}

/// Reads only the specification, from config.json. The folder needs no weights. All layers must be in `primitives`.
///
/// # Errors
/// Returns an [`ImportError`] if there is no config.json, if a [`ModelSpec`] cannot express it, or if a layer has
/// options that the registry does not contain; use [`describe`] in the last case.
pub fn spec(folder: impl AsRef<Path>, primitives: &Primitives) -> Result<ModelSpec, ImportError> {
    let Description { spec, primitives: needed } = describe(folder, primitives)?;
    for &symbol in spec.architecture.layers() {
        let id = needed.get(symbol).map_err(crate::primitive::BuildError::from)?.id();
        if primitives.get(symbol).map(|known| known.id()) != Ok(id.clone()) {
            return Err(ImportError::Options { symbol, id });
        }
    }
    Ok(spec)
}

/// Builds the model with most weights zero. All of them are replaced, and drawing them would take longer than reading.
fn empty(spec: &ModelSpec, primitives: &Primitives, device: &Device) -> Result<HybridLm, ImportError> {
    let dims = &spec.dims;
    let vocabulary = spec.vocab_size;
    let mut init = WeightInit::new(InitScheme::Normal(0.0), Seed(0).rng("import", 0));
    let norm = || RmsNorm::new(dims.d_model, dims.norm_eps, device);
    let layers = spec.architecture.layers().iter().map(|&symbol| {
        let mixer =
            primitives.get(symbol).map_err(crate::primitive::BuildError::from)?.build(dims, &mut init, device)?;
        Ok(ResidualBlock { norm: norm(), mixer })
    });
    let layers = layers.collect::<Result<_, ImportError>>()?;
    let zeros = |[rows, columns]: [usize; 2]| -> Param<Tensor<2>> {
        Param::from_data(TensorData::zeros::<f32, _>([rows, columns]), device)
    };
    let head = (!spec.tied_embeddings).then(|| Linear {
        weight: zeros([dims.d_model, vocabulary]),
        bias: spec.head_bias.then(|| Param::from_data(TensorData::zeros::<f32, _>([vocabulary]), device)),
    });
    Ok(HybridLm { backbone: Backbone { embedding: zeros([vocabulary, dims.d_model]), layers }, norm: norm(), head })
}
