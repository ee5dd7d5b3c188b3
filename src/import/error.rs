//! Errors of an import.

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

/// The model types that are read as a built-in class. Llama and the exporter's own classes have another reader.
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

/// An error in importing a model.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A file cannot be read or written.
    #[error("cannot read or write {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// A file is damaged, or its content does not match its name.
    #[error("{} is damaged: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// The folder has no weights.
    #[error(
        "{} has no weights (model.safetensors or model.safetensors.index.json): read only its specification with \
         import::spec, or convert other formats to safetensors", .folder.display()
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// A safetensors file is truncated or inconsistent.
    #[error("{} is not a complete safetensors file; download or copy it again", .path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// The error of the safetensors library.
        source: SafeTensorError,
    },
    /// The model type is not supported.
    #[error("model_type {found:?} is not supported; supported are llama, composer, {}", KNOWN.join(", "))]
    ModelType {
        /// The model type in config.json.
        found: String,
    },
    /// A setting cannot be expressed by a specification.
    #[error("config.json says {key} is {value}, which a ModelSpec cannot express: {reason}")]
    Setting {
        /// The entry.
        key: &'static str,
        /// Its value.
        value: String,
        /// The supported values, or the reason.
        reason: &'static str,
    },
    /// A required entry is missing.
    #[error("config.json lacks {0}")]
    Incomplete(&'static str),
    /// No primitive in the registry has this kind of layer.
    #[error(
        "config.json names a layer {kind:?}, but no primitive in the registry maps to it; the registry has: {known}"
    )]
    Kind {
        /// The kind.
        kind: String,
        /// The kinds in the registry.
        known: String,
    },
    /// Entries of config.json contradict each other.
    #[error("config.json contradicts itself: {0}")]
    Blocks(String),
    /// A layer pattern is invalid.
    #[error(transparent)]
    Pattern(#[from] NotationError),
    /// A layer has options that the registry does not contain.
    #[error(
        "the model's {symbol} is {id}, which the registry does not have: read it with import::describe, which also \
         returns a matching registry"
    )]
    Options {
        /// The letter.
        symbol: Symbol,
        /// The primitive with these options.
        id: PrimitiveId,
    },
    /// A layer has no [`HfMapping`](crate::primitive::HfMapping), or an invalid one.
    #[error(transparent)]
    HfMapping(#[from] HfMappingError),
    /// The dimensions are inconsistent, or the model cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The [`HfMapping`](crate::primitive::HfMapping) of a primitive does not match the layer it builds.
    #[error("the tensors cannot be assigned to the model: {0}; fix Primitive::hf_mapping")]
    Model(String),
    /// Tensors are missing.
    #[error(
        "{count} tensors are missing, the first is {first}: a file may be missing, or config.json may belong \
         to another model"
    )]
    Missing {
        /// The number of missing tensors.
        count: usize,
        /// The first one.
        first: String,
    },
    /// There are tensors that the model does not use.
    #[error("{count} tensors are not part of the model, the first is {first}: config.json may belong to another model")]
    Extra {
        /// The number of unused tensors.
        count: usize,
        /// The first one.
        first: String,
    },
    /// A tensor has the wrong shape.
    #[error("{tensor} has shape {found:?}, but the model needs {expected:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The shape according to config.json.
        expected: Vec<usize>,
    },
    /// A layer has more parameters than the weights provide.
    #[error(
        "the weights have {found} numbers for layer {layer} ({id}), which needs {needed}: config.json may belong \
         to another model"
    )]
    TooFew {
        /// The index of the layer, from 0.
        layer: usize,
        /// Its primitive.
        id: PrimitiveId,
        /// The numbers in the file.
        found: u128,
        /// The parameters of the layer.
        needed: u128,
    },
    /// The number type is not supported.
    #[error("{tensor} has the number type {found}: convert it to float32, float16 or bfloat16")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// The type.
        found: String,
    },
    /// The model uses a trained bias for the choice of experts.
    #[error("{tensor} is not zero: it biases the choice of experts, which is not supported")]
    Correction {
        /// The tensor.
        tensor: String,
    },
    /// Padding has been trained.
    #[error(
        "{tensor} is padding and should be {expected} everywhere, but it is not: the padding was trained with \
         the model. Remove composer_nas from config.json to read the padding as layers"
    )]
    Padding {
        /// The tensor.
        tensor: String,
        /// The value of the padding.
        expected: f32,
    },
}

/// Converts an error in reading the header of a file.
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
