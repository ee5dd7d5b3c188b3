//! Batches of sequences for training.

use std::ops::Range;

use rand::seq::SliceRandom;

use super::{
    TaskError, TrainData, Training,
    task::{Instance, Sampler, Split},
};
use crate::{
    seed::Seed,
    train::{IGNORE, TokenBatch},
};

/// The sequences of one training.
pub(super) struct Data {
    sampler: Sampler,
    /// The fixed training set; empty if sequences are fresh.
    fixed: Vec<Instance>,
    batch_size: usize,
    /// The seed of everything that differs between trials.
    seed: Seed,
    epoch: Epoch,
    /// The test set.
    pub test: Vec<TokenBatch>,
}

/// The order of the fixed set in one epoch.
struct Epoch {
    number: usize,
    order: Vec<usize>,
}

impl Data {
    /// Draws the fixed sets from `data_seed`, and fresh sequences and the order of fixed ones from `seed`.
    pub(super) fn new(training: &Training, data_seed: Seed, seed: Seed) -> Result<Self, TaskError> {
        let sampler = training.task.sampler(data_seed)?;
        let name = training.task.name();
        let draw = |split, stream: &str, range: Range<usize>| -> Vec<Instance> {
            let stream = format!("mad/{stream}/{name}");
            range.map(|index| sampler.sample(split, &mut data_seed.rng(&stream, index as u64))).collect()
        };
        let batch_size = training.train.batch_size;
        let examples = training.test_examples;
        // Converted batch by batch, because instances need more memory.
        let batch =
            |from: usize| token_batch(&draw(Split::Test, "test", from..examples.min(from.saturating_add(batch_size))));
        let test = (0..examples).step_by(batch_size).map(batch).collect();
        let fixed = match training.data {
            TrainData::Fresh => Vec::new(),
            TrainData::Fixed(examples) => draw(Split::Train, "train", 0..examples),
        };
        let epoch = Epoch { number: 0, order: Vec::new() };
        Ok(Self { sampler, fixed, batch_size, seed, epoch, test })
    }

    /// Returns the training batch of step `step`. The last batch of an epoch may be smaller.
    pub(super) fn batch(&mut self, step: usize) -> TokenBatch {
        if self.fixed.is_empty() {
            let mut rng = self.seed.rng("data", step as u64);
            let fresh: Vec<_> = (0..self.batch_size).map(|_| self.sampler.sample(Split::Train, &mut rng)).collect();
            return token_batch(&fresh);
        }
        let per_epoch = self.fixed.len().div_ceil(self.batch_size);
        let number = step / per_epoch;
        let within = step % per_epoch;
        if self.epoch.order.is_empty() || self.epoch.number != number {
            let mut order: Vec<_> = (0..self.fixed.len()).collect();
            order.shuffle(&mut self.seed.rng("order", number as u64));
            self.epoch = Epoch { number, order };
        }
        let from = within * self.batch_size;
        let chosen = self.epoch.order[from..].iter().take(self.batch_size).map(|&at| &self.fixed[at]);
        token_batch(chosen)
    }
}

/// Makes a batch of sequences of the same length.
fn token_batch<'a>(instances: impl IntoIterator<Item = &'a Instance>) -> TokenBatch {
    let mut batch = TokenBatch::default();
    for instance in instances {
        batch.batch += 1;
        batch.seq = instance.inputs.len();
        batch.inputs.extend(instance.inputs.iter().map(|&token| token as i32));
        batch.targets.extend(instance.targets.iter().map(|target| target.map_or(IGNORE, |token| token as i32)));
    }
    batch
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::evaluate::mad::Protocol;

    fn rows(batch: &TokenBatch) -> impl Iterator<Item = Vec<i32>> {
        batch.inputs.chunks(batch.seq).map(<[i32]>::to_vec)
    }

    #[test]
    fn an_epoch_shows_every_sequence_once() {
        let training =
            Training { data: TrainData::Fixed(70), test_examples: 40, ..Protocol::quick().trainings[0].clone() };
        let mut data = Data::new(&training, Seed(1), Seed(2)).unwrap();
        assert_eq!(data.test.iter().map(|batch| batch.batch).collect::<Vec<_>>(), [16, 16, 8]);
        let mut epoch = |number: usize| {
            let batches: Vec<_> = (5 * number..5 * number + 5).map(|step| data.batch(step)).collect();
            assert_eq!(batches.iter().map(|batch| batch.batch).collect::<Vec<_>>(), [16, 16, 16, 16, 6]);
            batches.iter().flat_map(rows).collect::<Vec<_>>()
        };
        let first = epoch(0);
        let second = epoch(1);
        let count = |rows: &[Vec<i32>]| {
            let mut counts = BTreeMap::new();
            rows.iter().for_each(|row| *counts.entry(row.clone()).or_insert(0) += 1);
            counts
        };
        assert_eq!(count(&first), count(&second));
        assert_ne!(first, second);
    }

    #[test]
    fn trials_share_their_tests_and_nothing_else() {
        let training = &Protocol::quick().trainings[1];
        let mut data = [2, 2, 3].map(|seed| Data::new(training, Seed(1), Seed(seed)).unwrap());
        let batches: Vec<_> = data.iter_mut().map(|data| data.batch(5)).collect();
        assert_eq!(batches[0], batches[1]);
        assert_ne!(batches[0], batches[2]);
        assert_eq!(data[0].test, data[2].test);
        // Steps can be requested in any order.
        let late = data[0].batch(9);
        let early = data[0].batch(5);
        assert_ne!(late, early);
        assert_eq!(early, batches[0]);
    }
}
