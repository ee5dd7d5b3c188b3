//! What can be wrong with a folder.

use std::{io, path::PathBuf};

use safetensors::SafeTensorError;
use thiserror::Error;

use crate::{
    export::HfMappingError,
    primitive::{BuildError, PrimitiveId, Symbol},
    space::notation::NotationError,
    text::causes,
    weights::WeightsError,
};

/// Model types that are read here; the reader of Llama and of the exporter's own classes has the others.
const KNOWN: [&str; 9] = [
    "nemotron_h",
    "mamba2",
    "lfm2",
    "qwen3",
    "bamba",
    "granitemoehybrid",
    "qwen3_next",
    "deci",
    "nemotron-nas (DeciLM)",
];

/// A model that cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A file that cannot be read or written.
    #[error("cannot read or write {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// A file with another content than its name says.
    #[error("{} is damaged: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No weights in the folder.
    #[error(
        "{} holds no weights (model.safetensors or model.safetensors.index.json): read its specification with import::spec, \
         or convert other formats to safetensors", .folder.display()
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// A safetensors file that is cut or inconsistent.
    #[error("{} is no complete safetensors file; fetch or copy it again", .path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// The reader's words.
        source: SafeTensorError,
    },
    /// A model of another kind.
    #[error("model_type {found:?} is not known; known are llama, composer, {}", KNOWN.join(", "))]
    ModelType {
        /// What config.json says.
        found: String,
    },
    /// A setting that a specification has no place for.
    #[error("config.json says {key} is {value}, which a ModelSpec cannot express: {reason}")]
    Setting {
        /// The entry.
        key: &'static str,
        /// Its value.
        value: String,
        /// What would be possible.
        reason: &'static str,
    },
    /// An entry that is needed and not there.
    #[error("config.json lacks {0}")]
    Incomplete(&'static str),
    /// A kind of layer that no primitive has.
    #[error(
        "config.json names a layer {kind:?}, and no primitive of the registry is its counterpart; they have: {known}"
    )]
    Kind {
        /// The kind.
        kind: String,
        /// The kinds of the registry.
        known: String,
    },
    /// An architecture of ours that does not match its blocks.
    #[error("config.json contradicts itself: {0}")]
    Blocks(String),
    /// A pattern that is none.
    #[error(transparent)]
    Pattern(#[from] NotationError),
    /// Layers with options that the registry does not have.
    #[error(
        "the model's {symbol} is {id}, which the registry does not have: read it with import::describe, which gives the \
         registry along"
    )]
    Options {
        /// The letter.
        symbol: Symbol,
        /// The layer behind it.
        id: PrimitiveId,
    },
    /// A layer without a name.
    #[error(transparent)]
    HfMapping(#[from] HfMappingError),
    /// Widths that contradict each other.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A primitive whose counterpart does not fit the layer it builds.
    #[error("the model cannot be named: {0}; mend Primitive::hf_mapping")]
    Model(String),
    /// Tensors that the model needs.
    #[error("the weights lack {count} tensors, first {first}: is a file missing, or config.json of another model?")]
    Missing {
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
    /// Tensors that the model has no place for.
    #[error(
        "the weights have {count} tensors that the model has no place for, first {first}: is config.json of another model?"
    )]
    Extra {
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
    /// A tensor of another shape.
    #[error("{tensor} has shape {found:?}, the model needs {expected:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape by config.json.
        expected: Vec<usize>,
    },
    /// A layer with fewer numbers than it has parameters.
    #[error(
        "the weights have {found} numbers for layer {layer} ({id}), which needs {needed}: is config.json of another model?"
    )]
    TooFew {
        /// The layer, from zero.
        layer: usize,
        /// Its primitive.
        id: PrimitiveId,
        /// Numbers in the file.
        found: u128,
        /// Parameters of the layer.
        needed: u128,
    },
    /// Numbers that are not read.
    #[error("{tensor} has numbers of type {found}: convert it to float32, float16 or bfloat16")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// The type.
        found: String,
    },
    /// A correction of the choice of experts that has been trained.
    #[error("{tensor} is not zero: it corrects the choice of experts, and mixtures here choose by their scores alone")]
    Correction {
        /// The tensor.
        tensor: String,
    },
    /// Padding that has been trained.
    #[error(
        "{tensor} should be padding, all {expected}, and is not: the model was trained with its padding and is another one \
         now. Remove composer_nas from config.json to read the padding as layers"
    )]
    Padding {
        /// The tensor.
        tensor: String,
        /// What padding is.
        expected: f32,
    },
}

/// What the header of a file says.
impl From<WeightsError> for ImportError {
    fn from(error: WeightsError) -> Self {
        match error {
            WeightsError::Io { path, source } => Self::File { path, source },
            WeightsError::Format { path, source } => Self::Weights { path, source },
            WeightsError::OtherModel { path, reason } => Self::Damaged { path, reason },
            error @ (WeightsError::Type { .. } | WeightsError::Device(_)) => Self::Model(causes(&error)),
        }
    }
}
