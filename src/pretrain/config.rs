//! The configuration of a pre-training.

use serde::{Deserialize, Serialize};

use super::PretrainError;
use crate::{
    limits,
    seed::Seed,
    train::{TrainConfig, TrainError},
};

/// The configuration of a pre-training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Tokens per sequence.
    pub seq_len: usize,
    /// Steps, sequences per step, schedule, optimizer and precision. `stop_above` is ignored.
    pub train: TrainConfig,
    /// The number of sequences that a device computes at once. A step accumulates the gradients of as many
    /// micro-batches as `train.batch_size` needs.
    pub micro_batch: usize,
    /// The share of the corpus, at its end, that is used for validation.
    pub validation_share: f64,
    /// The number of evenly spaced windows of the validation part on which the model is validated.
    pub validation_windows: u64,
    /// Steps between checkpoints. It must be a multiple of `train.log_every`. The last step always writes a checkpoint.
    pub checkpoint_every: usize,
    /// The number of checkpoints to keep. Older ones are deleted.
    pub keep: usize,
    /// The seed of the initial weights and of the order of the data.
    pub seed: Seed,
}

impl PretrainConfig {
    /// Checks every setting that can be checked without the corpus.
    ///
    /// # Errors
    /// Returns a [`PretrainError`] that names the first invalid setting and says what to change.
    pub fn validate(&self) -> Result<(), PretrainError> {
        self.train.validate()?;
        let counts = [
            ("seq_len", self.seq_len),
            ("micro_batch", self.micro_batch),
            ("checkpoint_every", self.checkpoint_every),
            ("keep", self.keep),
        ];
        if let Some((name, _)) = counts.into_iter().find(|&(_, count)| count == 0) {
            return Err(TrainError::Zero(name).into());
        }
        let sizes = [self.train.batch_size as u64, self.seq_len as u64];
        limits::product_at_most("batch_size * seq_len", &sizes, limits::MAX_TOKENS).map_err(TrainError::from)?;
        let checkpoint_every = self.checkpoint_every;
        let log_every = self.train.log_every;
        if !checkpoint_every.is_multiple_of(log_every) {
            return Err(PretrainError::CheckpointEvery { checkpoint_every, log_every });
        }
        Ok(())
    }

    /// Returns the number of tokens per step, saturating at `u64::MAX`.
    pub(crate) fn tokens_per_step(&self) -> u64 {
        (self.train.batch_size as u64).saturating_mul(self.seq_len as u64)
    }
}
