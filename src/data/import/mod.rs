//! Token files of text (feature `tokenizers`).

mod ids;
mod reader;
mod tokenizer;

pub use reader::TextReader;
pub use tokenizer::Importer;

use std::path::PathBuf;

use thiserror::Error;

use super::TokenError;

/// Text that cannot be imported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A text file cannot be read.
    #[error("cannot read or write {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// A line is not a JSON object with the text.
    #[error("line {line} of {} holds no document: {reason}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A tokenizer that cannot be loaded, trained, used or saved.
    #[error("the tokenizer cannot be {task}: {reason}")]
    Tokenizer {
        /// What was being done.
        task: &'static str,
        /// The words of the library.
        reason: String,
    },
    /// The vocabulary leaves no room for bytes.
    #[error("a byte-level vocabulary of {0} tokens is too small: take at least 257")]
    Vocabulary(usize),
    /// The token that is to end documents does not exist.
    #[error("the tokenizer has no token {0:?}: name the one that ends a document, or none")]
    NoSuchToken(String),
    /// There is no text.
    #[error("there is no text to import")]
    Empty,
    /// The tokens cannot be written.
    #[error(transparent)]
    Tokens(#[from] TokenError),
}
