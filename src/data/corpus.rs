//! A folder with everything about one corpus.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{TokenError, TokenFile, TokenWidth};
use crate::{durable, limits};

/// What is known of a corpus besides its tokens: the file `corpus.json` beside them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusInfo {
    /// Number of token ids of the tokenizer.
    pub vocab_size: usize,
    /// The token that stands behind every document, where there is one.
    pub end_of_text: Option<u32>,
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub text_bytes: u64,
    /// Per token id the bytes of text that it stands for; none where that is not known.
    pub token_bytes: Option<Vec<u32>>,
}

/// Tokens with their vocabulary, shared by clones.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The tokens.
    pub tokens: Arc<TokenFile>,
    /// Number of token ids.
    pub vocab_size: usize,
    /// Per token id the bytes of text that it stands for, where that is known: losses can then be stated per byte.
    pub token_bytes: Option<Arc<[u32]>>,
    /// The tokenizer, where there is one.
    pub tokenizer: Option<PathBuf>,
}

/// The names in the folder of a corpus.
const TOKENS: &str = "tokens.bin";
const INFO: &str = "corpus.json";
const TOKENIZER: &str = "tokenizer.json";

impl Corpus {
    /// A token file of any origin, with the size of its vocabulary.
    pub fn new(tokens: TokenFile, vocab_size: usize) -> Self {
        Self { tokens: Arc::new(tokens), vocab_size, token_bytes: None, tokenizer: None }
    }

    /// Opens the folder of an imported corpus: `tokens.bin`, `corpus.json` and, if there, `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenError`] when a file is missing or makes no sense.
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
            let reason = "token_bytes has not one entry per token id".into();
            return Err(TokenError::Description { path, reason });
        }
        let width = TokenWidth::for_vocabulary(info.vocab_size);
        Ok(Self {
            tokenizer: Some(folder.join(TOKENIZER)).filter(|path| path.is_file()),
            token_bytes: info.token_bytes.map(Into::into),
            ..Self::new(TokenFile::open(folder.join(TOKENS), width)?, info.vocab_size)
        })
    }

    /// Where the tokens of the corpus in `folder` are.
    pub fn tokens_path(folder: &Path) -> PathBuf {
        folder.join(TOKENS)
    }

    /// Where the tokenizer of the corpus in `folder` is.
    pub fn tokenizer_path(folder: &Path) -> PathBuf {
        folder.join(TOKENIZER)
    }

    /// Writes `corpus.json` into `folder`, last of the files of a corpus: only a whole one has it.
    ///
    /// # Errors
    /// [`TokenError::Io`] when it cannot be written.
    pub(crate) fn write_info(folder: &Path, info: &CorpusInfo) -> Result<(), TokenError> {
        let path = folder.join(INFO);
        let text = serde_json::to_vec(info).map_err(std::io::Error::from);
        text.and_then(|text| durable::write(&path, &text)).map_err(TokenError::io(&path))
    }
}
