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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::data::{TokenFile, TokenFormat, TokenWidth, TokenWriter};

    #[test]
    fn every_epoch_shows_every_window_once_in_an_order_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counting.bin");
        let mut writer = TokenWriter::create(&path, TokenFormat::Plain, TokenWidth::U16).unwrap();
        writer.document(&(0..800).collect::<Vec<u32>>()).unwrap();
        writer.finish().unwrap();
        let file = TokenFile::open(path, TokenWidth::U16).unwrap();
        let [windows, _] = Windows::split(Arc::new(file), 800, 10, 0.1).unwrap();
        let count = windows.count();
        let mut sampler = Sampler::new(windows.clone(), Seed(5));
        let epoch = |sampler: &mut Sampler, epoch: u64| -> Vec<u64> {
            (epoch * count..(epoch + 1) * count).map(|sequence| sampler.window(sequence)).collect()
        };
        let orders: Vec<_> = (0..3).map(|number| epoch(&mut sampler, number)).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..count));
        }
        assert!(orders[0] != orders[1] && orders[1] != orders[2]);
        assert_ne!(epoch(&mut Sampler::new(windows.clone(), Seed(6)), 0), orders[0]);

        // Any batch alone, in any order, is the batch of the uninterrupted training; batches straddle epochs.
        let batch = |first| Sampler::new(windows.clone(), Seed(5)).batch(first, 16).unwrap();
        for first in [160, 64, 0, 70] {
            assert_eq!(sampler.batch(first, 16).unwrap(), batch(first));
        }
    }
}
