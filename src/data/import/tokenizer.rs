//! Text to tokens.

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
    ImportError,
    ids::Largest,
};
use crate::{
    durable,
    limits::{self, MAX_VOCABULARY},
};

/// The token behind every document, in the tokenizers that are trained here.
const END_OF_TEXT: &str = "<|endoftext|>";

/// Documents that are tokenized at once, on the threads of the current `rayon` pool.
const AT_ONCE: usize = 256;

/// Makes a token file of text.
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
    /// Loads a `tokenizer.json` of Hugging Face's libraries. `end_of_text` names the token to put behind every
    /// document.
    ///
    /// # Errors
    /// [`ImportError`] when the file cannot be read, or is no tokenizer, or the token is not in the vocabulary.
    pub fn load(path: impl AsRef<Path>, end_of_text: Option<&str>) -> Result<Self, ImportError> {
        let path = path.as_ref();
        let wrong = |reason: String| refused("loaded", format!("{}: {reason}", path.display()));
        let text = limits::read_text(path, limits::MAX_LISTING).map_err(|error| wrong(error.to_string()))?;
        check_ids(&text).map_err(wrong)?;
        let mut tokenizer = caught(|| text.parse::<Tokenizer>()).map_err(wrong)?;
        // Whole documents are wanted, whatever the file was made for.
        caught(|| tokenizer.with_padding(None).with_truncation(None).map(drop)).map_err(wrong)?;
        let end_of_text = end_of_text
            .map(|token| tokenizer.token_to_id(token).ok_or_else(|| ImportError::NoSuchToken(token.into())))
            .transpose()?;
        Ok(Self { tokenizer, end_of_text })
    }

    /// Trains a byte-level BPE of `vocab_size` tokens, as GPT-2's is; one of them ends documents. Texts with few
    /// different words give fewer tokens.
    ///
    /// # Errors
    /// [`ImportError`] when a document cannot be read, there is none, or the vocabulary has no room for bytes or is
    /// absurd.
    pub fn train(
        documents: impl IntoIterator<Item = Result<String, ImportError>, IntoIter: Send>,
        vocab_size: usize,
    ) -> Result<Self, ImportError> {
        if vocab_size < 257 {
            return Err(ImportError::Vocabulary(vocab_size));
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
            (None, 0) => Err(ImportError::Empty),
            (None, _) => {
                let end_of_text = tokenizer.token_to_id(END_OF_TEXT);
                Ok(Self { tokenizer, end_of_text })
            }
        }
    }

    /// Writes tokens, tokenizer and description into `folder`, where [`Corpus::open`] finds them.
    ///
    /// # Errors
    /// [`ImportError`] when a document cannot be read, there is none, or the folder cannot be written.
    pub fn import(
        &self,
        documents: impl IntoIterator<Item = Result<String, ImportError>>,
        folder: impl AsRef<Path>,
    ) -> Result<CorpusInfo, ImportError> {
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
            return Err(ImportError::Empty);
        }
        writer.finish()?;
        let json = caught(|| self.tokenizer.to_string(false)).map_err(|reason| refused("saved", reason))?;
        let path = Corpus::tokenizer_path(folder);
        durable::write(&path, json.as_bytes()).map_err(|source| ImportError::Io { path, source })?;
        Corpus::write_info(folder, &info)?;
        Ok(info)
    }

    /// Number of token ids, added tokens included: one more than the largest.
    pub fn vocab_size(&self) -> usize {
        // An added token may stand in for one of the model: both have an id.
        let added = self.tokenizer.get_added_tokens_decoder().into_keys();
        let largest = self.tokenizer.get_vocab(false).into_values().chain(added).max();
        largest.map_or(0, |largest| largest as usize + 1)
    }

    /// The tokens of a text, without any added.
    ///
    /// # Errors
    /// [`ImportError::Tokenizer`] when the tokenizer refuses.
    pub fn encode(&self, text: &str) -> Result<Vec<i32>, ImportError> {
        let encoding = self.used(|tokenizer| tokenizer.encode_fast(text, false))?;
        Ok(encoding.get_ids().iter().map(|&token| token as i32).collect())
    }

    /// The text of tokens, without special ones.
    ///
    /// # Errors
    /// [`ImportError::Tokenizer`] when the tokenizer refuses.
    pub fn decode(&self, tokens: &[i32]) -> Result<String, ImportError> {
        let tokens: Vec<_> = tokens.iter().map(|&token| token as u32).collect();
        self.used(|tokenizer| tokenizer.decode(&tokens, true))
    }

    fn used<T>(&self, work: impl FnOnce(&Tokenizer) -> tokenizers::Result<T>) -> Result<T, ImportError> {
        caught(|| work(&self.tokenizer)).map_err(|reason| refused("used", reason))
    }

    /// Bytes of text per token id; known for byte-level tokenizers that leave the text as it is. Added tokens stand for
    /// none.
    fn token_bytes(&self) -> Option<Vec<u32>> {
        let plain = matches!(self.tokenizer.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        if !plain || self.tokenizer.get_normalizer().is_some() {
            return None;
        }
        let mut bytes = vec![0; self.vocab_size()];
        // Every character of a token stands for one byte.
        for (token, id) in self.tokenizer.get_vocab(false) {
            bytes[id as usize] = token.chars().count() as u32;
        }
        for id in self.tokenizer.get_added_tokens_decoder().into_keys() {
            bytes[id as usize] = 0;
        }
        Some(bytes)
    }
}

fn refused(task: &'static str, reason: String) -> ImportError {
    ImportError::Tokenizer { task, reason }
}

/// The border to the library, which panics on some files: what went wrong, by error or panic, in words. The panic's own
/// message goes to the process's panic hook, as every panic's; a program that is built to abort on panics aborts.
fn caught<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words");
            Err(format!("the library tokenizers panicked ({words}): is the file damaged?"))
        }
    }
}

/// Refuses token ids beyond any vocabulary, for which tables would be made.
fn check_ids(text: &str) -> Result<(), String> {
    let Largest { ids } = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match ids.filter(|&largest| largest >= MAX_VOCABULARY as u64) {
        Some(largest) => Err(format!("it has a token id {largest}: ids are below {MAX_VOCABULARY}")),
        None => Ok(()),
    }
}
