//! What was found, in the files of the tools people use.
//!
//! [`hugging_face`] writes a folder that transformers, vLLM, llama.cpp and lm-evaluation-harness load, with the weights
//! of a [`HybridLm`] or without any (the receiver draws them). [`megatron`] writes the launch script of a pre-training.
//! [`import`](crate::import) reads the folders back. `docs/export.md` has the commands.
//!
//! | format | layers | loads in | code shipped |
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
//! | [`Format::Flat`] | all with a [counterpart](crate::primitive::HfMapping) | transformers | two modules |
//!
//! ```
//! use composer_nas::{export, prelude::*};
//!
//! let spec = Target::llama_1b().model("2A+4M".parse()?);
//! let folder = tempfile::tempdir()?;
//! let options = export::Options { precision: export::Precision::Bf16, ..Default::default() };
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
pub use launch::{Megatron, MegatronError, Training, megatron};
pub use options::{Format, Options, Precision, SpecialTokens};
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

/// Bytes of a weight of a model.
const BYTES_PER_WEIGHT: u64 = 4;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The folder.
    pub folder: PathBuf,
    /// `model_type` of its config.json.
    pub model_type: String,
    /// Its files, sorted by name.
    pub files: Vec<String>,
    /// What may surprise a receiver.
    pub warnings: Vec<Warning>,
}

/// Writes the model as a folder of Hugging Face's transformers. Without `weights` there are none in it, and the
/// receiver draws them (`AutoModelForCausalLM.from_config`).
///
/// The folder appears when it is complete: a crash leaves at most a hidden one named `.NAME.partial-...` beside it.
///
/// # Errors
/// [`ExportError`] when the folder is occupied or cannot be written, the format or transformers cannot express the
/// model, the weights are not those of the specification, or the tokenizer has more tokens than the model.
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
    for (name, text) in python::modules(chosen.model_type, &plan.counterparts) {
        staging.text(&name, &text)?;
    }
    let name = folder.as_ref().file_name().unwrap_or_default().to_string_lossy();
    staging.text("README.md", &card::card(&name, spec, primitives, &chosen, options, &warnings))?;
    staging.json("generation_config.json", &config::generation(spec, primitives, options))?;
    staging.json("config.json", &config)?;
    let files = staging.finish(options.overwrite)?;
    Ok(Exported { folder: folder.as_ref().into(), model_type: chosen.model_type.into(), files, warnings })
}

/// Which formats hold a model. Where one does not, the error says what would have to be different: attention without
/// positions, for instance, would open [`Format::NemotronH`].
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

/// Special tokens must be tokens of the model.
fn check_tokens(spec: &ModelSpec, options: &Options) -> Result<(), ExportError> {
    let tokens = options.tokens;
    for (name, id) in [("bos", tokens.bos), ("eos", tokens.eos), ("pad", tokens.pad)] {
        if let Some(id) = id.filter(|&id| id as usize >= spec.vocab_size) {
            return Err(ExportError::Token { name, id, vocab_size: spec.vocab_size });
        }
    }
    Ok(())
}

/// Holds the weights, where they are on the processor, and the largest of them as it is written against the memory that
/// this process can have.
fn check_memory(model: &HybridLm, parameters: &Parameters, precision: Precision) -> Result<(), ExportError> {
    let shapes = parameters.paths().filter_map(|path| parameters.shape(path));
    let sizes: Vec<u64> = shapes.map(|shape| shape.iter().map(|&size| size as u64).product()).collect();
    let largest = sizes.iter().max().copied().unwrap_or(0);
    let elsewhere = model.devices().iter().any(device::is_accelerator);
    let held = if elsewhere { 0 } else { sizes.iter().sum() };
    let written = limits::product(&[largest, BYTES_PER_WEIGHT + precision.width() as u64]);
    let bytes = limits::product(&[held, BYTES_PER_WEIGHT]).saturating_add(written);
    limits::check_memory("the weights, with the largest of them as it is written,", bytes).map_err(BuildError::from)?;
    Ok(())
}

/// What follows from the model alone.
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

/// The parameters of `model`, when they are those of `spec`: every one has a name, and sizes agree.
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
        return wrong(format!("{path} has no name in the counterpart of its layer, or no layer in the architecture"));
    }
    if parameters.shape("trunk.embedding") != Some(&[spec.vocab_size, dims.d_model]) {
        return wrong(format!("its embedding is not [{}, {}]", spec.vocab_size, dims.d_model));
    }
    for (layer, &symbol) in spec.architecture.layers().iter().enumerate() {
        let prefix = format!("trunk.layers.{layer}.mixer.");
        let paths = parameters.paths().filter(|path| path.starts_with(&prefix));
        let size: usize =
            paths.filter_map(|path| parameters.shape(path)).map(|shape| shape.iter().product::<usize>()).sum();
        let expected = primitives.get(symbol).map(|primitive| primitive.cost(dims, 1).parameters);
        if expected.is_ok_and(|expected| expected != size as u64) {
            return wrong(format!("layer {layer} has {size} weights, which is not the size of {symbol} at its widths"));
        }
    }
    Ok(parameters)
}
