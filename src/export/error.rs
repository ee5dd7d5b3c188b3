//! Errors and warnings of an export.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::{Format, HfMappingError, StoredPrecision};
use crate::{limits::MAX_SEQ_LEN, primitive::BuildError};

/// Information about an export that a receiver should know. It is written into the model card.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Warning {
    /// vLLM takes the head size from block 0.
    #[error(
        "block 0 has no attention, but vLLM needs one there: use Format::LlamaCpp, which adds one of zeros, \
         if vLLM is to serve the model"
    )]
    FirstBlockWithoutAttention,
    /// The model has more embeddings than the tokenizer has tokens, for example because the vocabulary was rounded up.
    #[error("the tokenizer has {ids} tokens, but the model has {vocab_size}: the others are never used")]
    UnusedTokens {
        /// The largest token id of the tokenizer plus one.
        ids: u64,
        /// The vocabulary size of the model.
        vocab_size: usize,
    },
    /// The class does not support tied embeddings.
    #[error(
        "the class does not support tied embeddings: the head is written as a copy of the embedding, and training \
         makes them differ"
    )]
    Untied,
    /// config.json cannot state this initialization.
    #[error(
        "config.json cannot state fan-in initialization: the receiver draws the weights with standard deviation 0.02"
    )]
    OtherInit,
}

/// An export that failed. Nothing was written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The specification cannot be built.
    #[error(transparent)]
    Spec(#[from] BuildError),
    /// A layer has no name in the target format.
    #[error(transparent)]
    HfMapping(#[from] HfMappingError),
    /// The format cannot express the model.
    #[error("format {format:?} cannot express the model: {reason}. Use Format::Flat or change the model")]
    Format {
        /// The format.
        format: Format,
        /// The reason.
        reason: String,
    },
    /// The weights do not match the specification.
    #[error("the weights do not match the specification: {reason}")]
    Model {
        /// The difference.
        reason: String,
    },
    /// The target is a file or a folder that is not empty.
    #[error(
        "{} already exists: choose another name, empty it, or set overwrite (which only replaces a folder that has a \
         config.json)", .path.display()
    )]
    Occupied {
        /// The target.
        path: PathBuf,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {}", .path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The tokenizer cannot be read.
    #[error("cannot use the tokenizer {}: {reason}", .path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// The tokenizer has tokens that are outside the model's vocabulary.
    #[error("the tokenizer {} has {ids} tokens, but the model has {vocab_size}: use the tokenizer of this model",
        .path.display())]
    Vocabulary {
        /// The tokenizer.
        path: PathBuf,
        /// Its largest token id plus one.
        ids: u64,
        /// The vocabulary size of the model.
        vocab_size: usize,
    },
    /// The number of positions is zero or too large.
    #[error("max_positions is {0}: it must be between 1 and {MAX_SEQ_LEN}")]
    Positions(usize),
    /// A special token is outside the vocabulary.
    #[error("the {name} token {id} is outside the model's vocabulary of {vocab_size}")]
    Token {
        /// The special token.
        name: &'static str,
        /// Its id.
        id: u32,
        /// The vocabulary size of the model.
        vocab_size: usize,
    },
    /// A weight is outside the range of the precision.
    #[error("{tensor} has weights that are too large for {}: use bfloat16 or float32", .precision.name())]
    Overflow {
        /// The tensor.
        tensor: String,
        /// The requested precision.
        precision: StoredPrecision,
    },
    /// A warning occurred and `strict` is set.
    #[error("refused because of the option strict: {0}")]
    Refused(Warning),
}
