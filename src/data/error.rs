//! What can be wrong with token data.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::TokenWidth;

/// Token data that cannot be used. Messages name the file, and the byte where that is known.
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
    /// The file is shorter or longer than it says, or than its tokens need.
    #[error("{} has {found} bytes, {expected} are needed: it is truncated, of another format, or of another token width",
        .path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes there are.
        found: u64,
        /// What would fit, in words.
        expected: String,
    },
    /// The content contradicts the format.
    #[error("{} at byte {offset}: {reason}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A token that the vocabulary does not have.
    #[error("{} at byte {offset}: token {token} is not below the vocabulary size {vocab_size}; use the tokenizer that wrote the file, or another token width",
        .path.display())]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// The token.
        token: i64,
        /// Number of token ids.
        vocab_size: usize,
    },
    /// A token that does not fit the width of the file being written.
    #[error("token {token} does not fit into {width}: write a wider format")]
    Width {
        /// The token.
        token: u32,
        /// The width of the file.
        width: TokenWidth,
    },
    /// Fewer tokens than one window.
    #[error("{} has {tokens} tokens for {part}, a window of {seq} takes {}: shorten the windows or add text",
        .path.display(), seq.saturating_add(1))]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Which part of it.
        part: &'static str,
        /// Tokens there are.
        tokens: u64,
        /// Length of a window.
        seq: usize,
    },
    /// A setting that makes no batch.
    #[error("{0} is 0: it must be at least 1")]
    Zero(&'static str),
    /// A share that is none.
    #[error("the validation share is {0}: it must lie between 0 and 1, such as 0.05")]
    Share(f64),
    /// A file beside the tokens that cannot be understood.
    #[error("{} is no description of a corpus: {reason}; import the text again", .path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl TokenError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
