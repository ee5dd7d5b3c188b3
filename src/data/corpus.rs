//! The files of a corpus.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{TokenError, TokenFile, TokenWidth};
use crate::{durable, limits};

/// A description of a corpus, stored as `corpus.json` beside its tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusInfo {
    /// The size of the tokenizer's vocabulary.
    pub vocab_size: usize,
    /// The token that follows every document, if there is one.
    pub end_of_text: Option<u32>,
    /// The number of documents.
    pub documents: u64,
    /// The size of the text in bytes.
    pub text_bytes: u64,
    /// The number of bytes of text that each token id represents, if known.
    pub token_bytes: Option<Vec<u32>>,
}

/// A tokenized corpus. Clones share the tokens.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The tokens.
    pub tokens: Arc<TokenFile>,
    /// The size of the vocabulary.
    pub vocab_size: usize,
    /// The number of bytes of text that each token id represents, if known. With it, losses can be stated per byte.
    pub token_bytes: Option<Arc<[u32]>>,
    /// The path of the tokenizer, if there is one.
    pub tokenizer: Option<PathBuf>,
}

/// The file names in the folder of a corpus.
const TOKENS: &str = "tokens.bin";
const INFO: &str = "corpus.json";
const TOKENIZER: &str = "tokenizer.json";

impl Corpus {
    /// Creates a corpus from a token file and the size of its vocabulary.
    pub fn new(tokens: TokenFile, vocab_size: usize) -> Self {
        Self { tokens: Arc::new(tokens), vocab_size, token_bytes: None, tokenizer: None }
    }

    /// Opens the folder of an imported corpus. It contains `tokens.bin`, `corpus.json` and optionally `tokenizer.json`.
    ///
    /// # Errors
    /// Returns a [`TokenError`] if a file is missing or invalid.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, TokenError> {
        let folder = folder.as_ref();
        let path = folder.join(INFO);
        let text = limits::read_text(&path, limits::MAX_LISTING).map_err(TokenError::io(&path))?;
        let info: CorpusInfo = serde_json::from_str(&text)
            .map_err(|error| TokenError::Description { path: path.clone(), reason: error.to_string() })?;
        if let Err(error) = limits::at_most("vocab_size", info.vocab_size, limits::MAX_VOCABULARY) {
            return Err(TokenError::Description { path, reason: error.to_string() });
        }
        if info.token_bytes.as_ref().is_some_and(|bytes| bytes.len() != info.vocab_size) {
            let reason = "token_bytes must have one entry per token id".into();
            return Err(TokenError::Description { path, reason });
        }
        let width = TokenWidth::for_vocabulary(info.vocab_size);
        Ok(Self {
            tokenizer: Some(folder.join(TOKENIZER)).filter(|path| path.is_file()),
            token_bytes: info.token_bytes.map(Into::into),
            ..Self::new(TokenFile::open(folder.join(TOKENS), width)?, info.vocab_size)
        })
    }

    /// Returns the path of the tokens of the corpus in `folder`.
    #[cfg_attr(not(feature = "tokenizers"), allow(dead_code, reason = "only the import of text writes a corpus"))]
    pub(crate) fn tokens_path(folder: &Path) -> PathBuf {
        folder.join(TOKENS)
    }

    /// Returns the path of the tokenizer of the corpus in `folder`.
    #[cfg_attr(not(feature = "tokenizers"), allow(dead_code, reason = "only the import of text writes a corpus"))]
    pub(crate) fn tokenizer_path(folder: &Path) -> PathBuf {
        folder.join(TOKENIZER)
    }

    /// Writes `corpus.json` into `folder`. It must be the last file written, so that only a complete corpus has it.
    ///
    /// # Errors
    /// Returns [`TokenError::Io`] if the file cannot be written.
    #[cfg_attr(not(feature = "tokenizers"), allow(dead_code, reason = "only the import of text writes a corpus"))]
    pub(crate) fn write_info(folder: &Path, info: &CorpusInfo) -> Result<(), TokenError> {
        let path = folder.join(INFO);
        let text = serde_json::to_vec(info).map_err(std::io::Error::from);
        text.and_then(|text| durable::write(&path, &text)).map_err(TokenError::io(&path))
    }
}
