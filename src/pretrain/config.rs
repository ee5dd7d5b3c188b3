//! How a pre-training runs, as a plain value.

use serde::{Deserialize, Serialize};

use super::PretrainError;
use crate::{
    limits,
    seed::Seed,
    train::{TrainConfig, TrainError},
};

/// How a pre-training runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Tokens per sequence.
    pub seq_len: usize,
    /// Steps, sequences per step, schedule, optimizer, precision. `stop_above` does not apply.
    pub train: TrainConfig,
    /// Sequences that a device holds at once: a step accumulates gradients over as many parts as `train.batch_size`
    /// needs.
    pub micro_batch: usize,
    /// The share of the corpus, at its end, that is kept for validation.
    pub validation_share: f64,
    /// Windows of it on which the model is validated, spread evenly.
    pub validation_windows: u64,
    /// Steps between checkpoints, a multiple of `train.log_every`; the last step always makes one.
    pub checkpoint_every: usize,
    /// Checkpoints to keep, the newest ones.
    pub keep: usize,
    /// Root of the initial weights and of the order of the data.
    pub seed: Seed,
}

impl PretrainConfig {
    /// Checks every setting that can be checked without the corpus.
    ///
    /// # Errors
    /// [`PretrainError`] names the first one that does not fit and says what to change.
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

    /// Tokens per step; the largest number there is where that is more.
    pub fn tokens_per_step(&self) -> u64 {
        (self.train.batch_size as u64).saturating_mul(self.seq_len as u64)
    }
}
