//! Shuffled batches for training.

use super::{Permutation, TokenError, Windows};
use crate::{seed::Seed, train::TokenBatch};

/// Returns windows in a shuffled order, reshuffled in every epoch. Which window is the `n`-th sequence of a training
/// depends only on the seed and `n`. A sampler has no state, and the number of epochs is not limited.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    windows: Windows,
    seed: Seed,
    /// The order of the most recently used epoch. Almost every request uses the same one.
    order: Option<(u64, Permutation)>,
}

impl Sampler {
    /// Creates a sampler that shuffles with the streams `data/epoch` of `seed`.
    pub fn new(windows: Windows, seed: Seed) -> Self {
        Self { windows, seed, order: None }
    }

    /// Returns the windows that are shuffled.
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// Returns the sequences `first..first + count` of the training as one batch.
    ///
    /// # Errors
    /// Returns a [`TokenError`] if the file cannot be read or a token is outside the vocabulary.
    pub fn batch(&mut self, first: u64, count: usize) -> Result<TokenBatch, TokenError> {
        let numbers: Vec<_> =
            (first..first.saturating_add(count as u64)).map(|sequence| self.window(sequence)).collect();
        self.windows.batch(numbers)
    }

    /// Returns the window that is sequence number `sequence` of a training.
    pub fn window(&mut self, sequence: u64) -> u64 {
        let windows = self.windows.count();
        let epoch = sequence / windows;
        let place = sequence % windows;
        let (_, order) = match self.order.take() {
            Some(order) if order.0 == epoch => self.order.insert(order),
            _ => self.order.insert((epoch, Permutation::new(windows, &mut self.seed.rng("data/epoch", epoch)))),
        };
        order.at(place)
    }
}
