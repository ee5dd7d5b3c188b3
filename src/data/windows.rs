//! Token sequences of equal length.

use std::sync::Arc;

use super::{TokenError, TokenFile};
use crate::train::TokenBatch;

/// The parts of [`Windows::split`], as named in messages.
const SPLIT_NAMES: [&str; 2] = ["training", "validation"];

/// Consecutive sequences of equal length, which can span document boundaries. Every token except the first is a target
/// exactly once.
#[derive(Clone, Debug)]
pub struct Windows {
    file: Arc<TokenFile>,
    vocab_size: usize,
    /// The first token.
    first: u64,
    count: u64,
    seq: usize,
}

impl Windows {
    /// Divides a file into windows of `seq` tokens for training and validation. The last tokens, with a share of
    /// `validation`, are for validation; the others are for training. Tokens that do not fill a window are left out.
    ///
    /// # Errors
    /// Returns a [`TokenError`] if a part has no window, or if the share is not between 0 and 1.
    pub fn split(
        file: Arc<TokenFile>,
        vocab_size: usize,
        seq: usize,
        validation: f64,
    ) -> Result<[Self; 2], TokenError> {
        if !(validation > 0.0 && validation < 1.0) {
            return Err(TokenError::Share(validation));
        }
        let tokens = file.tokens();
        let kept = tokens - (tokens as f64 * validation).round() as u64;
        let part = |(first, end, part)| Self::part(Arc::clone(&file), vocab_size, seq, first, end, part);
        let [training, held_out] = SPLIT_NAMES;
        Ok([part((0, kept, training))?, part((kept, tokens, held_out))?])
    }

    fn part(
        file: Arc<TokenFile>,
        vocab_size: usize,
        seq: usize,
        first: u64,
        end: u64,
        part: &'static str,
    ) -> Result<Self, TokenError> {
        if seq == 0 {
            return Err(TokenError::Zero("the length of a window"));
        }
        let tokens = end - first;
        match tokens.saturating_sub(1) / seq as u64 {
            0 => Err(TokenError::TooShort { path: file.path().into(), part, tokens, seq }),
            count => Ok(Self { file, vocab_size, first, count, seq }),
        }
    }

    /// Returns the number of windows.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the number of tokens per window.
    pub(crate) fn seq(&self) -> usize {
        self.seq
    }

    /// Returns the size of the vocabulary.
    pub(crate) fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Returns an identifier of these windows: a digest of the file, and their position in it.
    pub(crate) fn fingerprint(&self) -> Result<String, TokenError> {
        Ok(format!(
            "{} windows of {} tokens from token {} of {}",
            self.count,
            self.seq,
            self.first,
            self.file.digest()?
        ))
    }

    /// Returns the windows with these numbers. The target of each position is the next token. Numbers from
    /// [`count`](Self::count) on wrap around.
    ///
    /// # Errors
    /// Returns a [`TokenError`] if the file cannot be read or a token is outside the vocabulary.
    pub fn batch(&self, numbers: impl IntoIterator<Item = u64>) -> Result<TokenBatch, TokenError> {
        let mut batch = TokenBatch { batch: 0, seq: self.seq, inputs: Vec::new(), targets: Vec::new() };
        for number in numbers {
            let at = self.first + number % self.count * self.seq as u64;
            let tokens = self.file.read(at, self.seq + 1, self.vocab_size)?;
            batch.batch += 1;
            batch.inputs.extend(&tokens[..self.seq]);
            batch.targets.extend(&tokens[1..]);
        }
        Ok(batch)
    }

    /// Returns up to `windows` evenly spaced windows in batches of `batch_size`: a fixed sample on which to compare
    /// models.
    ///
    /// # Errors
    /// Returns a [`TokenError`] if a count is 0, the file cannot be read, or a token is outside the vocabulary.
    pub fn sample(&self, windows: u64, batch_size: usize) -> Result<Vec<TokenBatch>, TokenError> {
        for (name, count) in [("the number of windows", windows), ("batch_size", batch_size as u64)] {
            if count == 0 {
                return Err(TokenError::Zero(name));
            }
        }
        let windows = windows.min(self.count);
        let place = |index: u64| (u128::from(index) * u128::from(self.count) / u128::from(windows)) as u64;
        let numbers: Vec<_> = (0..windows).map(place).collect();
        numbers.chunks(batch_size).map(|numbers| self.batch(numbers.iter().copied())).collect()
    }
}
