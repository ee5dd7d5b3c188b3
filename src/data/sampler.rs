//! The order in which a training sees its windows.

use super::{Permutation, TokenError, Windows};
use crate::{seed::Seed, train::TokenBatch};

/// Windows in a shuffled order, a new one for every epoch. Sequence number `n` of a training is a function of the seed
/// and `n`: there is no state, and any number of epochs.
#[derive(Clone, Debug)]
pub struct Sampler {
    windows: Windows,
    seed: Seed,
    /// The order of the epoch asked for last, which is that of almost every request.
    order: Option<(u64, Permutation)>,
}

impl Sampler {
    /// Shuffles by streams `data/epoch` of `seed`.
    pub fn new(windows: Windows, seed: Seed) -> Self {
        Self { windows, seed, order: None }
    }

    /// What is shuffled.
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// The sequences `first..first + count` of the training as one batch.
    ///
    /// # Errors
    /// [`TokenError`] when the file cannot be read or a token is beyond the vocabulary.
    pub fn batch(&mut self, first: u64, count: usize) -> Result<TokenBatch, TokenError> {
        let numbers: Vec<_> =
            (first..first.saturating_add(count as u64)).map(|sequence| self.window(sequence)).collect();
        self.windows.batch(numbers)
    }

    /// The window that sequence number `sequence` of a training shows.
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
