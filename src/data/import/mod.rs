//! Tokenizes text into token files (feature `tokenizers`).

mod ids;
mod reader;
mod tokenizer;

pub use reader::TextReader;
pub use tokenizer::Importer;

use std::path::PathBuf;

use thiserror::Error;

use super::TokenError;

/// An error in importing text.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file cannot be read or written.
    #[error("cannot read or write {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// A line is not a JSON object with a text.
    #[error("line {line} of {} has no document: {reason}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The problem.
        reason: String,
    },
    /// The tokenizer cannot be loaded, trained, used or saved.
    #[error("the tokenizer cannot be {task}: {reason}")]
    Tokenizer {
        /// The failed operation.
        task: &'static str,
        /// The message of the tokenizers library.
        reason: String,
    },
    /// The vocabulary is too small for all bytes.
    #[error("a byte-level vocabulary of {0} tokens is too small: use at least 257")]
    Vocabulary(usize),
    /// The end-of-text token is not in the vocabulary.
    #[error("the tokenizer has no token {0:?}: name its end-of-text token, or leave it out")]
    NoSuchToken(String),
    /// There are no documents.
    #[error("there is no text to import")]
    Empty,
    /// The tokens cannot be written.
    #[error(transparent)]
    Tokens(#[from] TokenError),
}
