//! Memorization (Poli et al. 2024, arXiv 2403.17844).
//!
//! The model has to memorise facts: a fixed map from keys to values, the same in all instances for training and test,
//! which never appears in a sequence. Each key is followed by an insert token, where the value is asked for. So the
//! answer needs knowledge that is stored in the weights, and one step of mixing from the previous position.
//!
//! # Form
//!
//! The insert token is the last of `V` ids. Of the other `V − 1`, the first `K = ⌊(V − 1)/2⌋` are keys and the rest
//! values. The map is drawn uniformly among all injective maps, so if `V − 1` is odd, one value belongs to no key. A
//! sequence consists of `L/2` pairs of a uniform key and the insert token, whose target is the value of the key.
//!
//! # Closed forms
//!
//! The mean number of distinct keys in an instance is `K [1 − (1 − 1/K)^(L/2)]`. The probability that `n` instances
//! together show a given fact is `1 − (1 − 1/K)^(nL/2)`. This bounds the test accuracy with a fixed training set: with
//! the benchmark's 256 instances, it is 0.982 for `V = 2048` and 0.632 for `V = 8192`.

use std::ops::Range;
use std::sync::Arc;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};

use super::error::{TaskError, check_even, check_length, check_sizes, check_vocabulary};
use super::{Configuration, Generator, Instance, Split};
use crate::seed::{Rng, Seed};

/// Recall of facts that are the same for all instances; see the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memorization {
    /// The number of token ids. There are `⌊(vocab_size − 1) / 2⌋` facts.
    pub vocab_size: usize,
    /// The length in tokens, which must be even.
    pub seq_len: usize,
}

impl Default for Memorization {
    fn default() -> Self {
        Memorization { vocab_size: 256, seq_len: 32 }
    }
}

impl Memorization {
    pub(super) const NAME: &str = "memorization";

    /// Returns the ids of keys and of values.
    fn content(&self) -> (Range<u32>, Range<u32>) {
        let content = self.vocab_size.saturating_sub(1) as u32;
        (0..content / 2, content / 2..content)
    }
}

impl Configuration for Memorization {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn input_len(&self) -> usize {
        self.seq_len
    }

    fn chance(&self) -> f64 {
        let (_, values) = self.content();
        1.0 / values.len().max(1) as f64
    }

    fn generator(&self, seed: Seed) -> Result<Arc<dyn Generator>, TaskError> {
        check_sizes([("vocab_size", self.vocab_size), ("seq_len", self.seq_len)])?;
        check_vocabulary(Self::NAME, self.vocab_size, 3)?;
        check_even(Self::NAME, self.seq_len)?;
        check_length(Self::NAME, self.seq_len, 2)?;
        let (keys, values) = self.content();
        let mut value_of: Vec<u32> = values.collect();
        value_of.shuffle(&mut seed.rng("mad/memorization-map", 0));
        value_of.truncate(keys.len());
        Ok(Arc::new(Facts { value_of, insert: self.vocab_size as u32 - 1, questions: self.seq_len / 2 }))
    }
}

/// A valid configuration with its facts, of which there is at least one: key `k` has the value `value_of[k]`.
#[derive(Debug)]
struct Facts {
    value_of: Vec<u32>,
    insert: u32,
    questions: usize,
}

impl Generator for Facts {
    fn generate(&self, _split: Split, rng: &mut Rng) -> Instance {
        let keys: Vec<_> = (0..self.questions).map(|_| rng.random_range(0..self.value_of.len())).collect();
        Instance {
            inputs: keys.iter().flat_map(|&key| [key as u32, self.insert]).collect(),
            targets: keys.iter().flat_map(|&key| [None, Some(self.value_of[key])]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Returns all facts in 400 instances.
    fn facts(config: &Memorization, seed: Seed, split: Split) -> Result<BTreeMap<u32, u32>, TaskError> {
        let generator = config.generator(seed)?;
        let mut rng = Seed(9).rng("facts", 0);
        let mut facts = BTreeMap::new();
        for _ in 0..400 {
            let instance = generator.generate(split, &mut rng);
            for (slot, value) in instance.inputs.chunks(2).zip(instance.targets.iter().flatten()) {
                assert_eq!(*facts.entry(slot[0]).or_insert(*value), *value);
            }
        }
        Ok(facts)
    }

    #[test]
    fn facts_are_injective_and_depend_on_nothing_but_the_seed() -> Result<(), TaskError> {
        let config = Memorization { vocab_size: 20, seq_len: 8 };
        let train = facts(&config, Seed(1), Split::Train)?;
        assert_eq!(train.len(), 9);
        let mut values: Vec<_> = train.values().collect();
        values.sort();
        values.dedup();
        assert_eq!(values.len(), 9);
        assert!(values.iter().all(|value| (9..19).contains(*value)));
        assert_eq!(train, facts(&config, Seed(1), Split::Test)?);
        assert_ne!(train, facts(&config, Seed(2), Split::Train)?);
        Ok(())
    }

    #[test]
    fn every_injective_map_is_as_likely_as_any_other() -> Result<(), TaskError> {
        // Two keys and three values: six maps.
        let config = Memorization { vocab_size: 6, seq_len: 8 };
        let mut counts = BTreeMap::<_, f64>::new();
        for seed in 0..6_000 {
            let instance = config.generator(Seed(seed))?.generate(Split::Test, &mut Seed(1).rng("facts", 0));
            let answers: Vec<_> = instance.targets.into_iter().flatten().collect();
            *counts.entry(answers).or_default() += 1.0;
        }
        assert_eq!(counts.len(), 6);
        let chi_square: f64 = counts.values().map(|count| (count - 1_000.0).powi(2) / 1_000.0).sum();
        assert!(chi_square < 20.5, "chi-square {chi_square} with 5 degrees of freedom: p < 0.001");
        Ok(())
    }

    #[test]
    fn coverage_bounds_are_those_documented() {
        let coverage = |vocab_size: usize| {
            let (keys, _) = Memorization { vocab_size, seq_len: 32 }.content();
            1.0 - (1.0 - 1.0 / keys.len() as f64).powi(256 * 16)
        };
        assert!((coverage(2048) - 0.982).abs() < 5e-4);
        assert!((coverage(8192) - 0.632).abs() < 5e-4);
    }
}
