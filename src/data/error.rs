//! Errors in token data.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::TokenWidth;

/// An error in token data. The message names the file, and the byte offset if it is known.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be opened, read or written.
    #[error("cannot read or write {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The length of the file contradicts its header, or is not a whole number of tokens.
    #[error("{} has {found} bytes but must have {expected}: it is truncated, or has another format or token width",
        .path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// The actual length in bytes.
        found: u64,
        /// A description of the expected length.
        expected: String,
    },
    /// The content is not valid in this format.
    #[error("{} at byte {offset}: {reason}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The offset in bytes.
        offset: u64,
        /// The problem.
        reason: String,
    },
    /// A token is outside the vocabulary.
    #[error("{} at byte {offset}: token {token} is outside the vocabulary of {vocab_size}; use the tokenizer \
        that wrote the file, or another token width",
        .path.display())]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// The offset in bytes.
        offset: u64,
        /// The token.
        token: i64,
        /// The size of the vocabulary.
        vocab_size: usize,
    },
    /// A token does not fit the token width of the file.
    #[error("token {token} does not fit into {width}: use a wider token width")]
    Width {
        /// The token.
        token: u32,
        /// The token width of the file.
        width: TokenWidth,
    },
    /// There are fewer tokens than one window needs.
    #[error("{} has {tokens} tokens for {part}, but a window of {seq} needs {}: shorten the windows or add text",
        .path.display(), seq.saturating_add(1))]
    TooShort {
        /// The file.
        path: PathBuf,
        /// The part of the file: training or validation.
        part: &'static str,
        /// The number of tokens in this part.
        tokens: u64,
        /// The length of a window in tokens.
        seq: usize,
    },
    /// A setting is zero.
    #[error("{0} is 0: it must be at least 1")]
    Zero(&'static str),
    /// The validation share is not between 0 and 1.
    #[error("the validation share is {0}: it must lie between 0 and 1, such as 0.05")]
    Share(f64),
    /// The description of the corpus is invalid.
    #[error("{} is not a valid description of a corpus: {reason}; import the text again", .path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
}

impl TokenError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
