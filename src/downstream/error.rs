//! Errors of downstream benchmarks.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::train::{DataError, TrainError};

/// An error in reading or scoring questions.
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
    /// A line is not a question in this layout.
    #[error("line {line} of {} is not a question in the layout {layout}: {reason}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The layout.
        layout: &'static str,
        /// The problem.
        reason: String,
    },
    /// There is no layout with this name.
    #[error("unknown layout {0:?}; use one of arc, hellaswag, winogrande, sciq, piqa")]
    Layout(String),
    /// There are no questions.
    #[error("there are no questions")]
    Empty,
    /// A question has no text, or its answer does not exist.
    #[error("question {number} cannot be scored: {reason}")]
    Question {
        /// The number of the question, from 1.
        number: usize,
        /// The problem.
        reason: &'static str,
    },
    /// The tokenizer failed.
    #[error("the tokenizer failed at question {number}")]
    Tokenizer {
        /// The number of the question, from 1.
        number: usize,
        /// The error of the tokenizer.
        source: DataError,
    },
    /// A question does not fit the model, or the device failed.
    #[error(transparent)]
    Model(#[from] TrainError),
}
