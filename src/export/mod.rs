//! Exports models to other tools.
//!
//! [`hugging_face`] writes a folder that transformers, vLLM, llama.cpp and lm-evaluation-harness can load. The folder
//! contains the weights of a [`HybridLm`], or none, in which case the receiver draws them. [`megatron`] writes a launch
//! script for pre-training. [`import`](crate::import) reads the folders back. See `docs/export.md` for the commands.
//!
//! | format | layers | loads in | custom code |
//! |---|---|---|---|
//! | [`Format::DeciLm`] | attention, SwiGLU | transformers, vLLM | two modules |
//! | [`Format::LlamaCpp`] | attention, SwiGLU | llama.cpp, transformers, vLLM | two modules |
//! | [`Format::Llama`] | attention, SwiGLU | everything that knows Llama | none |
//! | [`Format::NemotronH`] | attention without positions, Mamba-2, MLPs | transformers, vLLM, llama.cpp | none |
//! | [`Format::Mamba2`] | Mamba-2 | transformers, vLLM, llama.cpp | none |
//! | [`Format::Lfm2`] | convolution or attention with norms, and SwiGLU | transformers, vLLM, llama.cpp | none |
//! | [`Format::Qwen3`] | attention with norms, and SwiGLU | everything that knows Qwen3 | none |
//! | [`Format::Bamba`] | Mamba-2 or half-rotary attention, and SwiGLU | transformers, vLLM, llama.cpp | none |
//! | [`Format::GraniteMoeHybrid`] | Mamba-2 or attention, and SwiGLU | transformers, vLLM, llama.cpp | none |
//! | [`Format::Qwen3Next`] | gated DeltaNet or gated attention, and an MLP | transformers, vLLM, llama.cpp | none |
//! | [`Format::Flat`] | all with an [`HfMapping`](crate::primitive::HfMapping) | transformers | two modules |
//!
//! ```
//! use composer_nas::{export, prelude::*};
//!
//! let spec = Target::llama_1b().model("2A+4M".parse()?);
//! let folder = tempfile::tempdir()?;
//! let options = export::Options { precision: export::StoredPrecision::Bf16, ..Default::default() };
//! let exported = export::hugging_face(&spec, None, &Primitives::standard(), folder.path().join("found"), &options)?;
//! assert!(exported.files.contains(&"config.json".to_owned()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod card;
mod class;
mod class_config;
mod config;
mod error;
mod folder;
mod launch;
mod options;
mod plan;
mod provenance;
mod python;
mod tokenizer;
mod weights;

pub use error::{ExportError, Warning};
pub use launch::{Megatron, MegatronError, MegatronTraining, megatron};
pub use options::{Format, Options, SpecialTokens, StoredPrecision};
pub use plan::HfMappingError;
pub use provenance::Provenance;

pub(crate) use class::Class;
pub(crate) use class_config::{NO_BOUND, NO_UPPER_BOUND};
pub(crate) use config::{DECI, FLAT, LLAMA, LLAMA3, OURS, ff_of};
pub(crate) use plan::{CORRECTION, Entry, Half, Packing, Pair, Plan, Source, is_attention};
pub(crate) use weights::Parameters;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use burn::module::Module;
use folder::Staging;

use crate::{
    device,
    dims::InitScheme,
    limits::{self, MAX_SEQ_LEN},
    model::{HybridLm, ModelSpec},
    primitive::{BuildError, Primitives},
};

/// Bytes per weight of a model.
const BYTES_PER_WEIGHT: u64 = 4;

/// The result of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The folder.
    pub folder: PathBuf,
    /// The `model_type` in its config.json.
    pub model_type: String,
    /// Its files, sorted by name.
    pub files: Vec<String>,
    /// Warnings for the receiver.
    pub warnings: Vec<Warning>,
}

/// Writes a model as a folder in the format of Hugging Face transformers. If `weights` is `None`, the folder contains
/// no weights, and the receiver draws them (`AutoModelForCausalLM.from_config`).
///
/// The folder is written atomically. A crash leaves at most a hidden folder `.NAME.partial-...` beside it.
///
/// # Errors
/// Returns an [`ExportError`] if the folder is not empty or cannot be written, if the format cannot express the model,
/// if the weights do not match the specification, or if the tokenizer has more tokens than the model.
pub fn hugging_face(
    spec: &ModelSpec,
    weights: Option<&HybridLm>,
    primitives: &Primitives,
    folder: impl AsRef<Path>,
    options: &Options,
) -> Result<Exported, ExportError> {
    spec.validate()?;
    let chosen = config::choose(spec, primitives, options.format)?;
    let plan = Plan::new(spec, primitives, &chosen.packing)?;
    let config = config::config(spec, primitives, &chosen, options)?;
    check_tokens(spec, options)?;
    if !(1..=MAX_SEQ_LEN).contains(&(options.max_positions as u64)) {
        return Err(ExportError::Positions(options.max_positions));
    }
    let mut warnings = surprises(spec, &chosen.packing, weights.is_some());
    let parameters = weights.map(|model| checked(spec, primitives, &plan, model)).transpose()?;
    if let Some((model, parameters)) = weights.zip(parameters.as_ref()) {
        check_memory(model, parameters, options.precision)?;
    }

    let mut staging = Staging::new(folder.as_ref(), options.overwrite)?;
    if let Some(folder) = &options.tokenizer {
        warnings.extend(tokenizer::copy(&mut staging, folder, spec.vocab_size)?);
    }
    if let (true, Some(warning)) = (options.strict, warnings.first()) {
        return Err(ExportError::Refused(warning.clone()));
    }
    if let Some(parameters) = &parameters {
        weights::write(&mut staging, &plan, parameters, options.precision, options.shard_bytes)?;
    }
    for (name, text) in python::modules(chosen.model_type, &plan.mappings) {
        staging.text(&name, &text)?;
    }
    let name = folder.as_ref().file_name().unwrap_or_default().to_string_lossy();
    staging.text("README.md", &card::card(&name, spec, primitives, &chosen, options, &warnings))?;
    staging.json("generation_config.json", &config::generation(spec, primitives, options))?;
    staging.json("config.json", &config)?;
    let files = staging.finish(options.overwrite)?;
    Ok(Exported { folder: folder.as_ref().into(), model_type: chosen.model_type.into(), files, warnings })
}

/// Returns for every format whether it can express the model. If not, the error states what would have to be different.
/// For example, attention without positions would fit [`Format::NemotronH`].
///
/// ```
/// use composer_nas::{export::{self, Format}, prelude::*};
///
/// let spec = Target::llama_1b().model("2B+1A+1R".parse()?);
/// let all = export::formats(&spec, &Primitives::standard());
/// let (_, found) = all.iter().find(|(format, _)| *format == Format::NemotronH).unwrap();
/// assert!(found.as_ref().unwrap_err().to_string().contains("attention without positions would fit"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn formats(spec: &ModelSpec, primitives: &Primitives) -> Vec<(Format, Result<(), ExportError>)> {
    config::formats(spec, primitives)
}

/// Checks that special tokens are in the vocabulary.
fn check_tokens(spec: &ModelSpec, options: &Options) -> Result<(), ExportError> {
    let tokens = options.tokens;
    for (name, id) in [("bos", tokens.bos), ("eos", tokens.eos), ("pad", tokens.pad)] {
        if let Some(id) = id.filter(|&id| id as usize >= spec.vocab_size) {
            return Err(ExportError::Token { name, id, vocab_size: spec.vocab_size });
        }
    }
    Ok(())
}

/// Checks that the weights (if they are in host memory) and a copy of the largest one fit into the memory available to
/// this process.
fn check_memory(model: &HybridLm, parameters: &Parameters, precision: StoredPrecision) -> Result<(), ExportError> {
    let shapes = parameters.paths().filter_map(|path| parameters.shape(path));
    let sizes: Vec<u64> = shapes.map(|shape| shape.iter().map(|&size| size as u64).product()).collect();
    let largest = sizes.iter().max().copied().unwrap_or(0);
    let elsewhere = model.devices().iter().any(device::is_accelerator);
    let held = if elsewhere { 0 } else { sizes.iter().sum() };
    let written = limits::product(&[largest, BYTES_PER_WEIGHT + precision.width() as u64]);
    let bytes = limits::product(&[held, BYTES_PER_WEIGHT]).saturating_add(written);
    limits::check_memory("the weights, with a copy of the largest,", bytes).map_err(BuildError::from)?;
    Ok(())
}

/// Returns the warnings that depend only on the model.
fn surprises(spec: &ModelSpec, packing: &Packing, weights: bool) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Packing::Paired(pairs) = packing
        && pairs.first().is_some_and(|pair| pair.attention == Half::Absent)
    {
        warnings.push(Warning::FirstBlockWithoutAttention);
    }
    if let Packing::Native(class) = packing
        && spec.tied_embeddings
        && !class.ties()
    {
        warnings.push(Warning::Untied);
    }
    match spec.init {
        InitScheme::FanIn | InitScheme::FanInEmbedding(_) if !weights => warnings.push(Warning::OtherInit),
        InitScheme::FanIn | InitScheme::FanInEmbedding(_) | InitScheme::Normal(_) => {}
    }
    warnings
}

/// Returns the parameters of `model` if they match `spec`: every parameter has a name, and the sizes agree.
fn checked(
    spec: &ModelSpec,
    primitives: &Primitives,
    plan: &Plan,
    model: &HybridLm,
) -> Result<Parameters, ExportError> {
    fn wrong<T>(reason: String) -> Result<T, ExportError> {
        Err(ExportError::Model { reason })
    }
    let parameters = Parameters::of(model);
    let dims = &spec.dims;
    plan.shapes(|path| parameters.shape(path)).or_else(wrong)?;
    let named: BTreeSet<&str> = plan.paths().collect();
    if let Some(path) = parameters.paths().find(|path| !named.contains(path)) {
        return wrong(format!(
            "{path} is not named by the HfMapping of its layer, or belongs to no layer of the architecture"
        ));
    }
    if parameters.shape("backbone.embedding") != Some(&[spec.vocab_size, dims.d_model]) {
        return wrong(format!("the shape of the embedding is not [{}, {}]", spec.vocab_size, dims.d_model));
    }
    for (layer, &symbol) in spec.architecture.layers().iter().enumerate() {
        let prefix = format!("backbone.layers.{layer}.mixer.");
        let paths = parameters.paths().filter(|path| path.starts_with(&prefix));
        let size: usize =
            paths.filter_map(|path| parameters.shape(path)).map(|shape| shape.iter().product::<usize>()).sum();
        let expected = primitives.get(symbol).map(|primitive| primitive.cost(dims, 1).parameters);
        if expected.is_ok_and(|expected| expected != size as u64) {
            return wrong(format!(
                "layer {layer} has {size} weights, which is not the size of {symbol} with these dimensions"
            ));
        }
    }
    Ok(parameters)
}
