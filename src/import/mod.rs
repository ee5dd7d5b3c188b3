//! Models from folders of Hugging Face's transformers.
//!
//! [`hugging_face`] reads back what [`export`](crate::export) writes, bit for bit where the weights are in single
//! precision, and any checkpoint of the Llama architecture that a [`ModelSpec`] can express: one file or several, 16 or
//! 32 bits, tied or not. [`spec`] reads the configuration alone; [`unpack_gguf`] makes such a folder of a file of
//! llama.cpp.
//!
//! ```
//! use composer_nas::{export, import, prelude::*};
//!
//! let primitives = Primitives::standard();
//! let target = Target::custom("tiny", Dims::new(16, 256, 2)?, 11, true, 1)?;
//! let (spec, device) = (target.model("A2M".parse()?), Device::flex());
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

/// A model with its specification.
#[derive(Clone, Debug)]
pub struct Imported {
    /// What it is.
    pub spec: ModelSpec,
    /// What its letters mean: the registry that was given, and in it the layers of the model where it did not have
    /// them.
    pub primitives: Primitives,
    /// Itself.
    pub model: HybridLm,
}

/// A specification, and what its letters mean.
#[derive(Clone, Debug)]
pub struct Description {
    /// What the model is.
    pub spec: ModelSpec,
    /// The registry that was given, and in it the layers of the model where it did not have them: a layer with other
    /// options takes the letter of its kind, or a free one where the model has several.
    pub primitives: Primitives,
}

/// Which channels of a head the rows of query and key projections turn together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rope {
    /// Channel `i` with `i + C/2`: the convention of transformers, and of this crate.
    #[default]
    Halves,
    /// Channel `2i` with `2i + 1`: the convention of the published code of Llama and of RoFormer (Su et al. 2021, arXiv
    /// 2104.09864). The rows are reordered.
    Pairs,
}

/// Reads a model. Layers are found by their [counterparts](crate::primitive::HfMapping), so that a primitive of
/// another crate that has one is read as well.
///
/// # Errors
/// [`ImportError`] when the folder is no model, is damaged or incomplete, or is a model that a [`ModelSpec`] cannot
/// express.
pub fn hugging_face(
    folder: impl AsRef<Path>,
    primitives: &Primitives,
    device: &Device,
    rope: Rope,
) -> Result<Imported, ImportError> {
    let folder = folder.as_ref();
    let Described { spec, packing, primitives } = config::read(folder, primitives)?;
    let primitives = &primitives;
    // Before the model is made: it may be large.
    let headers = Headers::read(folder)?;
    headers.check_total(&spec, primitives)?;
    let mut plan = Plan::new(&spec, primitives, &packing)?;
    headers.rename(&mut plan);
    headers.check(&plan, &spec, primitives)?;
    spec.check_memory(primitives, device)?;
    let model = weights::load(empty(&spec, primitives, device)?, &headers.files, &plan, &spec, rope)?;
    Ok(Imported { spec, primitives: primitives.clone(), model })
}

/// Reads the specification from config.json, with the registry in which its letters mean its layers; there need be no
/// weights.
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
/// [`ImportError`] when there is no config.json, or no sequence of layers can be what it says; the message names the
/// entry.
pub fn describe(folder: impl AsRef<Path>, primitives: &Primitives) -> Result<Description, ImportError> {
    let Described { spec, primitives, .. } = config::read(folder.as_ref(), primitives)?;
    Ok(Description { spec, primitives })
}

/// Reads the specification alone, from config.json; there need be no weights. All its layers are those of `primitives`.
///
/// # Errors
/// [`ImportError`] when there is no config.json, a [`ModelSpec`] cannot express what it says, or a layer has options
/// that the registry does not have ([`describe`] reads it then).
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

/// The model with zeros in place of most weights, which are all replaced: drawing them would take longer than reading.
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
    Ok(HybridLm { trunk: Backbone { embedding: zeros([vocabulary, dims.d_model]), layers }, norm: norm(), head })
}
