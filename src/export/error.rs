//! What can go wrong, and what may surprise.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::{Format, HfMappingError, Precision};
use crate::{limits::MAX_SEQ_LEN, primitive::BuildError};

/// Something about an export that a receiver should know. It goes into the model card.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Warning {
    /// vLLM looks for the size of heads in block 0.
    #[error(
        "block 0 has no attention, and vLLM needs one there: use Format::LlamaCpp, which adds one of zeros, where vLLM shall \
         serve the model"
    )]
    FirstBlockWithoutAttention,
    /// More embeddings than tokens, as when the vocabulary was rounded up.
    #[error("the tokenizer has {ids} tokens and the model {vocab_size}: the others are never used")]
    UnusedTokens {
        /// One more than the largest id of the tokenizer.
        ids: u64,
        /// Tokens of the model.
        vocab_size: usize,
    },
    /// A class whose embeddings cannot be tied.
    #[error(
        "the class has a head of its own: it is written as a copy of the embedding, and a training takes them apart"
    )]
    Untied,
    /// A law of initial weights that config.json cannot state.
    #[error(
        "initial weights by fan-in cannot be stated in config.json: the receiver draws them with standard deviation 0.02"
    )]
    OtherInit,
}

/// A model that cannot be exported. Nothing is written then.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The specification cannot be built.
    #[error(transparent)]
    Spec(#[from] BuildError),
    /// A layer without a name elsewhere.
    #[error(transparent)]
    HfMapping(#[from] HfMappingError),
    /// A format that cannot express the model.
    #[error("format {format:?} cannot express the model: {reason}. Use Format::Flat or change the model")]
    Format {
        /// The format.
        format: Format,
        /// What it lacks.
        reason: String,
    },
    /// Weights of another model.
    #[error("the weights are not those of the specification: {reason}")]
    Model {
        /// What differs.
        reason: String,
    },
    /// A folder that is not empty, or a file.
    #[error(
        "{} is there already: choose another name, empty it, or ask to overwrite (which replaces a folder with a config.json, \
         and nothing else)", .path.display()
    )]
    Occupied {
        /// Where.
        path: PathBuf,
    },
    /// A file or folder that cannot be written.
    #[error("cannot write {}", .path.display())]
    Folder {
        /// Where.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// A tokenizer that cannot be read.
    #[error("cannot use the tokenizer {}: {reason}", .path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tokenizer with tokens that the model does not know.
    #[error("the tokenizer {} has {ids} tokens and the model {vocab_size}: they do not belong together", .path.display())]
    Vocabulary {
        /// The tokenizer.
        path: PathBuf,
        /// One more than its largest id.
        ids: u64,
        /// Tokens of the model.
        vocab_size: usize,
    },
    /// No positions, or more than any sequence has.
    #[error("max_positions is {0}: receivers allow between 1 and {MAX_SEQ_LEN} tokens")]
    Positions(usize),
    /// A special token that is no token.
    #[error("the {name} token {id} is none of the model's {vocab_size} tokens")]
    Token {
        /// Which special token.
        name: &'static str,
        /// Its id.
        id: u32,
        /// Tokens of the model.
        vocab_size: usize,
    },
    /// A weight beyond the range of the precision.
    #[error("{tensor} has weights that are too large for {}: use bfloat16 or float32", .precision.name())]
    Overflow {
        /// The tensor.
        tensor: String,
        /// The precision asked for.
        precision: Precision,
    },
    /// A warning where none is wanted.
    #[error("refused as asked: {0}")]
    Refused(Warning),
}
