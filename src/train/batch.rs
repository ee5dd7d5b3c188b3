//! Batches of token sequences with targets.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::BatchError;

/// The target of positions that are excluded from the loss, as in PyTorch.
pub const IGNORE: i32 = -100;

/// A batch of token sequences of equal length, with one target per position. Both are stored row by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenBatch {
    /// The number of sequences.
    pub batch: usize,
    /// The number of tokens per sequence.
    pub seq: usize,
    /// The input tokens: `[batch, seq]`.
    pub inputs: Vec<i32>,
    /// The token to predict at each position, or [`IGNORE`]: `[batch, seq]`.
    pub targets: Vec<i32>,
}

impl TokenBatch {
    /// Returns the number of positions with a target.
    pub(crate) fn scored(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORE).count()
    }

    /// Checks the lengths, that every token is below `vocab_size`, and that at least one position is scored.
    ///
    /// # Errors
    /// Returns a [`BatchError`] that names the first problem.
    pub(crate) fn validate(&self, vocab_size: usize) -> Result<(), BatchError> {
        let batch = self.batch;
        let seq = self.seq;
        let positions = batch.saturating_mul(seq);
        if positions == 0 {
            return Err(BatchError::Empty { batch, seq });
        }
        if (self.inputs.len(), self.targets.len()) != (positions, positions) {
            return Err(BatchError::Length { batch, seq, inputs: self.inputs.len(), targets: self.targets.len() });
        }
        let known = |token: i32| usize::try_from(token).is_ok_and(|token| token < vocab_size);
        let targets = self.targets.iter().filter(|&&target| target != IGNORE);
        if let Some(&token) = self.inputs.iter().chain(targets).find(|&&token| !known(token)) {
            return Err(BatchError::Token { token, vocab_size });
        }
        if self.scored() == 0 {
            return Err(BatchError::NothingScored);
        }
        Ok(())
    }

    /// Copies the inputs to `device`: `[B, S]`.
    pub fn tokens(&self, device: &Device) -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(self.inputs.clone(), [self.batch, self.seq]), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_do_not_fit_are_refused() {
        let good = TokenBatch { batch: 1, seq: 2, inputs: vec![0, 3], targets: vec![IGNORE, 1] };
        assert_eq!(good.validate(4), Ok(()));
        assert_eq!(good.scored(), 1);
        assert_eq!(good.validate(3), Err(BatchError::Token { token: 3, vocab_size: 3 }));
        assert_eq!(TokenBatch::default().validate(4), Err(BatchError::Empty { batch: 0, seq: 0 }));
        let bad = TokenBatch { targets: vec![IGNORE; 2], ..good.clone() };
        assert_eq!(bad.validate(4), Err(BatchError::NothingScored));
        let bad = TokenBatch { targets: vec![-1, 1], ..good.clone() };
        assert_eq!(bad.validate(4), Err(BatchError::Token { token: -1, vocab_size: 4 }));
        let bad = TokenBatch { batch: 2, ..good };
        assert!(matches!(bad.validate(4), Err(BatchError::Length { .. })));
    }
}
