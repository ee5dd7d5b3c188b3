//! Tokenizes text.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use tokenizers::{
    AddedToken, DecoderWrapper, Tokenizer,
    models::{
        TrainerWrapper,
        bpe::{BPE, BpeTrainer},
    },
    pre_tokenizers::byte_level::ByteLevel,
};

use super::{
    super::{Corpus, CorpusInfo, TokenFormat, TokenWidth, TokenWriter},
    TextError,
    ids::Largest,
};
use crate::{
    durable,
    limits::{self, MAX_VOCABULARY},
};

/// The end-of-text token of tokenizers that are trained here.
const END_OF_TEXT: &str = "<|endoftext|>";

/// The number of documents that are tokenized in parallel, on the threads of the current `rayon` pool.
const AT_ONCE: usize = 256;

/// Tokenizes text and writes it as a corpus.
///
/// ```
/// use composer_nas::data::{Corpus, Importer};
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let texts = ["To search is to try.", "To try is to learn."];
/// let importer = Importer::train(texts.map(|text| Ok(text.into())), 280)?;
/// importer.import(texts.map(|text| Ok(text.into())), folder)?;
/// let corpus = Corpus::open(folder)?;
/// let tokens = corpus.tokens.read(0, corpus.tokens.tokens() as usize, corpus.vocab_size)?;
/// assert_eq!(importer.decode(&tokens)?, "To search is to try.To try is to learn.");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Importer {
    tokenizer: Tokenizer,
    end_of_text: Option<u32>,
}

impl Importer {
    /// Loads a `tokenizer.json` of Hugging Face. `end_of_text` names the token to append to every document.
    ///
    /// # Errors
    /// Returns an [`TextError`] if the file cannot be read or is not a tokenizer, or if the token is not in its
    /// vocabulary.
    pub fn load(path: impl AsRef<Path>, end_of_text: Option<&str>) -> Result<Self, TextError> {
        let path = path.as_ref();
        let wrong = |reason: String| refused("loaded", format!("{}: {reason}", path.display()));
        let text = limits::read_text(path, limits::MAX_LISTING).map_err(|error| wrong(error.to_string()))?;
        check_ids(&text).map_err(wrong)?;
        let mut tokenizer = caught(|| text.parse::<Tokenizer>()).map_err(wrong)?;
        // Padding and truncation are switched off: whole documents are needed.
        caught(|| tokenizer.with_padding(None).with_truncation(None).map(drop)).map_err(wrong)?;
        let end_of_text = end_of_text
            .map(|token| tokenizer.token_to_id(token).ok_or_else(|| TextError::NoSuchToken(token.into())))
            .transpose()?;
        Ok(Self { tokenizer, end_of_text })
    }

    /// Trains a byte-level BPE tokenizer like GPT-2's, with a vocabulary of `vocab_size` that includes an end-of-text
    /// token. The vocabulary is smaller if the text has too few distinct words.
    ///
    /// # Errors
    /// Returns an [`TextError`] if a document cannot be read, if there are no documents, or if `vocab_size` is too
    /// small or too large.
    pub fn train(
        documents: impl IntoIterator<Item = Result<String, TextError>, IntoIter: Send>,
        vocab_size: usize,
    ) -> Result<Self, TextError> {
        if vocab_size < 257 {
            return Err(TextError::Vocabulary(vocab_size));
        }
        limits::at_most("vocab_size", vocab_size, MAX_VOCABULARY)
            .map_err(|error| refused("trained", error.to_string()))?;
        let bytes = ByteLevel::new(false, true, true);
        let mut tokenizer = Tokenizer::new(BPE::default());
        tokenizer.with_pre_tokenizer(Some(bytes)).with_decoder(Some(bytes));
        let mut trainer: TrainerWrapper = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .show_progress(false)
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build()
            .into();
        let mut error = None;
        let mut found = 0;
        let texts = documents.into_iter().map_while(|document| match document {
            Ok(text) => {
                found += 1;
                Some(text)
            }
            Err(failed) => {
                error = Some(failed);
                None
            }
        });
        caught(|| tokenizer.train(&mut trainer, texts).map(drop)).map_err(|reason| refused("trained", reason))?;
        match (error, found) {
            (Some(error), _) => Err(error),
            (None, 0) => Err(TextError::Empty),
            (None, _) => {
                let end_of_text = tokenizer.token_to_id(END_OF_TEXT);
                Ok(Self { tokenizer, end_of_text })
            }
        }
    }

    /// Tokenizes the documents and writes the tokens, the tokenizer and the description into `folder`. Open the result
    /// with [`Corpus::open`].
    ///
    /// # Errors
    /// Returns an [`TextError`] if a document cannot be read, if there are no documents, or if the folder cannot be
    /// written.
    pub fn import(
        &self,
        documents: impl IntoIterator<Item = Result<String, TextError>>,
        folder: impl AsRef<Path>,
    ) -> Result<CorpusInfo, TextError> {
        let folder = folder.as_ref();
        let vocab_size = self.vocab_size();
        let mut info = CorpusInfo {
            vocab_size,
            end_of_text: self.end_of_text,
            documents: 0,
            text_bytes: 0,
            token_bytes: self.token_bytes(),
        };
        let width = TokenWidth::for_vocabulary(vocab_size);
        let mut writer = TokenWriter::create(Corpus::tokens_path(folder), TokenFormat::Plain, width)?;
        let mut documents = documents.into_iter();
        loop {
            let texts = documents.by_ref().take(AT_ONCE).collect::<Result<Vec<_>, _>>()?;
            if texts.is_empty() {
                break;
            }
            info.documents += texts.len() as u64;
            info.text_bytes += texts.iter().map(|text| text.len() as u64).sum::<u64>();
            for encoding in self.used(|tokenizer| tokenizer.encode_batch_fast(texts, false))? {
                let end = self.end_of_text.as_slice();
                writer.document(&[encoding.get_ids(), end].concat())?;
            }
        }
        if info.documents == 0 {
            return Err(TextError::Empty);
        }
        writer.finish()?;
        let json = caught(|| self.tokenizer.to_string(false)).map_err(|reason| refused("saved", reason))?;
        let path = Corpus::tokenizer_path(folder);
        durable::write(&path, json.as_bytes()).map_err(|source| TextError::Io { path, source })?;
        Corpus::write_info(folder, &info)?;
        Ok(info)
    }

    /// Returns the size of the vocabulary, added tokens included: the largest id plus one.
    pub fn vocab_size(&self) -> usize {
        // An added token can replace one of the model's tokens; both have an id.
        let added = self.tokenizer.get_added_tokens_decoder().into_keys();
        let largest = self.tokenizer.get_vocab(false).into_values().chain(added).max();
        largest.map_or(0, |largest| largest as usize + 1)
    }

    /// Tokenizes `text`, without adding special tokens.
    ///
    /// # Errors
    /// Returns [`TextError::Tokenizer`] if the tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<i32>, TextError> {
        let encoding = self.used(|tokenizer| tokenizer.encode_fast(text, false))?;
        Ok(encoding.get_ids().iter().map(|&token| token as i32).collect())
    }

    /// Decodes tokens to text, without special tokens.
    ///
    /// # Errors
    /// Returns [`TextError::Tokenizer`] if the tokenizer fails.
    pub fn decode(&self, tokens: &[i32]) -> Result<String, TextError> {
        let tokens: Vec<_> = tokens.iter().map(|&token| token as u32).collect();
        self.used(|tokenizer| tokenizer.decode(&tokens, true))
    }

    fn used<T>(&self, work: impl FnOnce(&Tokenizer) -> tokenizers::Result<T>) -> Result<T, TextError> {
        caught(|| work(&self.tokenizer)).map_err(|reason| refused("used", reason))
    }

    /// Returns the number of bytes of text per token id, if the tokenizer is byte-level and does not normalize. Added
    /// tokens count as 0 bytes.
    fn token_bytes(&self) -> Option<Vec<u32>> {
        let plain = matches!(self.tokenizer.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        if !plain || self.tokenizer.get_normalizer().is_some() {
            return None;
        }
        let mut bytes = vec![0; self.vocab_size()];
        // Every character of a token represents one byte.
        for (token, id) in self.tokenizer.get_vocab(false) {
            bytes[id as usize] = token.chars().count() as u32;
        }
        for id in self.tokenizer.get_added_tokens_decoder().into_keys() {
            bytes[id as usize] = 0;
        }
        Some(bytes)
    }
}

fn refused(task: &'static str, reason: String) -> TextError {
    TextError::Tokenizer { task, reason }
}

/// Calls the tokenizers library, which panics on some files, and returns the message of an error or a panic. The
/// process's panic hook still prints the panic. In a program built with `panic = "abort"`, a panic aborts.
fn caught<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words");
            Err(format!("the tokenizers library panicked ({words}); the file may be damaged"))
        }
    }
}

/// Rejects token ids above the largest vocabulary, because the library would allocate tables for them.
fn check_ids(text: &str) -> Result<(), String> {
    let Largest { ids } = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match ids.filter(|&largest| largest >= MAX_VOCABULARY as u64) {
        Some(largest) => Err(format!("it has the token id {largest}: ids must be below {MAX_VOCABULARY}")),
        None => Ok(()),
    }
}
