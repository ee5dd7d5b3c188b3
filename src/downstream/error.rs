//! What can go wrong with questions.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::train::{DataError, TrainError};

/// Questions that cannot be read or scored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DownstreamError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// A line that is no question of the layout.
    #[error("line {line} of {} is no question of {layout}: {reason}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// The layout.
        layout: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// No layout of this name.
    #[error("unknown layout {0:?}; known are: arc, hellaswag, winogrande, sciq, piqa")]
    Layout(String),
    /// Nothing to score.
    #[error("there are no questions")]
    Empty,
    /// A question without text, or whose answer does not exist.
    #[error("question {number} cannot be scored: {reason}")]
    Question {
        /// Number of the question, from 1.
        number: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// The tokenizer refuses a text.
    #[error("the tokenizer refuses question {number}")]
    Tokenizer {
        /// Number of the question, from 1.
        number: usize,
        /// Why.
        source: DataError,
    },
    /// The model refuses a question, or the device failed.
    #[error(transparent)]
    Model(#[from] TrainError),
}
