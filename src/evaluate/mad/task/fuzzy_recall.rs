//! Fuzzy in-context recall (Poli et al. 2024, arXiv 2403.17844).
//!
//! In-context recall in which a key or a value consists of several tokens. The model has to find out which tokens
//! belong together before it can look anything up, and then has to produce all tokens of the value.
//!
//! # Form
//!
//! With many queries, the last id is the pad. With a single query, the last id is the copy prefix and the one before it
//! the pad. Of the other `S` ids, the first `⌊S/2⌋` are for keys, the rest for values. A motif of size `m` is an
//! ordered draw of `m` distinct tokens. The size of value motifs is uniform from 1 to `v_motif`; that of key motifs is
//! uniform from 1 to `k_motif` in training, and exactly `k_motif` in a test.
//!
//! First, a probe pair of `s` tokens is drawn, with a position uniform in `[0, L − 2s)`. Then pairs are written, each
//! with a uniform key and its value (drawn when the key first occurs), while there are fewer than `L − s − k_motif −
//! v_motif` tokens. The first of them to start at or after that position is the probe pair, unless its key has occurred
//! before. The probe comes again at the end of the sequence and its value is asked for, token by token; with many
//! queries, so is that of every repeated key. The sequence is padded on the left to `L + 1` tokens. The inputs are all
//! but the last.
//!
//! # The probe is always shown
//!
//! In the reference, about 2 % of the instances end with a question that cannot be answered: the position drawn for the
//! probe is after the start of the last pair, so the probe was never shown, yet it is scored. Here the probe replaces
//! the last pair, after which no other would be written, if it has not been shown before. The distribution of instances
//! whose probe is shown anyway does not change, and lengths and padding have the same bounds. On average, a sequence
//! has 0.02 fewer distinct keys and 0.02 more repeated pairs (of about 22.6 and 2.2 at the settings of the benchmark).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rand::RngExt as _;
use rand::seq::index;
use serde::{Deserialize, Serialize};

use super::error::{TaskError, check_length, check_sizes, check_vocabulary};
use super::next_token::Transcript;
use super::{Configuration, Generator, Instance, Split};
use crate::seed::{Rng, Seed};

/// In-context recall with keys and values of several tokens; see the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FuzzyInContextRecall {
    /// The number of token ids.
    pub vocab_size: usize,
    /// The length of the inputs, in tokens.
    pub seq_len: usize,
    /// The maximum number of tokens of a key. In a test, every key has this many.
    pub k_motif: usize,
    /// The maximum number of tokens of a value.
    pub v_motif: usize,
    /// Whether every repeated key is a question, or only the last one.
    pub multi_query: bool,
}

impl Default for FuzzyInContextRecall {
    fn default() -> Self {
        FuzzyInContextRecall { vocab_size: 16, seq_len: 128, k_motif: 3, v_motif: 3, multi_query: true }
    }
}

impl FuzzyInContextRecall {
    pub(super) const NAME: &str = "fuzzy-in-context-recall";

    /// The number of ids that are neither keys nor values: the pad and, with a single query, the copy prefix.
    fn reserved(&self) -> usize {
        if self.multi_query { 1 } else { 2 }
    }
}

impl Configuration for FuzzyInContextRecall {
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
        let values = self.vocab_size.saturating_sub(self.reserved()).div_ceil(2);
        1.0 / values.max(1) as f64
    }

    fn generator(&self, _seed: Seed) -> Result<Arc<dyn Generator>, TaskError> {
        let &FuzzyInContextRecall { vocab_size, seq_len, k_motif, v_motif, multi_query } = self;
        check_sizes([("vocab_size", vocab_size), ("seq_len", seq_len), ("k_motif", k_motif), ("v_motif", v_motif)])?;
        check_vocabulary(Self::NAME, vocab_size, self.reserved() + 2)?;
        let content = (vocab_size - self.reserved()) as u32;
        let keys = 0..content / 2;
        let values = content / 2..content;
        for (field, size, tokens) in [("k_motif", k_motif, keys.len()), ("v_motif", v_motif, values.len())] {
            if size == 0 {
                return Err(TaskError::EmptyMotif { field });
            }
            if size > tokens {
                return Err(TaskError::MotifTooLong { field, size, tokens });
            }
        }
        check_length(Self::NAME, seq_len, 2 * (k_motif + v_motif) + 1)?;
        let copy_prefix = (!multi_query).then_some(vocab_size as u32 - 1);
        Ok(Arc::new(FuzzyRecall { keys, values, k_motif, v_motif, seq_len, pad: content, copy_prefix }))
    }
}

/// A valid configuration: motifs can be drawn, and the sequence is longer than two of the longest pairs.
#[derive(Debug)]
struct FuzzyRecall {
    keys: Range<u32>,
    values: Range<u32>,
    k_motif: usize,
    v_motif: usize,
    seq_len: usize,
    pad: u32,
    copy_prefix: Option<u32>,
}

/// A key motif with its value motif.
struct Pair {
    key: Vec<u32>,
    value: Vec<u32>,
}

impl Pair {
    fn len(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

impl FuzzyRecall {
    fn key(&self, split: Split, rng: &mut Rng) -> Vec<u32> {
        let size = match split {
            Split::Train => rng.random_range(1..=self.k_motif),
            Split::Test => self.k_motif,
        };
        motif(&self.keys, size, rng)
    }

    fn value(&self, rng: &mut Rng) -> Vec<u32> {
        let size = rng.random_range(1..=self.v_motif);
        motif(&self.values, size, rng)
    }

    /// Returns a uniform key with its value: that of the probe, the one shown before, or a new one.
    fn pair(&self, split: Split, probe: &Pair, shown: &BTreeMap<Vec<u32>, Vec<u32>>, rng: &mut Rng) -> Pair {
        let key = self.key(split, rng);
        let known = if key == probe.key { Some(&probe.value) } else { shown.get(&key) };
        let value = known.cloned().unwrap_or_else(|| self.value(rng));
        Pair { key, value }
    }
}

impl Generator for FuzzyRecall {
    fn generate(&self, split: Split, rng: &mut Rng) -> Instance {
        let probe = Pair { key: self.key(split, rng), value: self.value(rng) };
        let show_from = rng.random_range(0..self.seq_len - 2 * probe.len());
        // No pair starts at or after this length, so even after the longest one there is room for the probe at the end.
        let body = self.seq_len - probe.len() - (self.k_motif + self.v_motif);
        let mut transcript = Transcript::with_capacity(self.seq_len + 1);
        let mut shown = BTreeMap::new();
        while transcript.len() < body {
            let drawn = self.pair(split, &probe, &shown, rng);
            let last = transcript.len() + drawn.len() >= body;
            let due = !shown.contains_key(&probe.key) && (transcript.len() >= show_from || last);
            let pair = if due { Pair { key: probe.key.clone(), value: probe.value.clone() } } else { drawn };
            transcript.push(&pair.key, false);
            transcript.push(&pair.value, self.copy_prefix.is_none() && shown.contains_key(&pair.key));
            shown.insert(pair.key, pair.value);
        }
        transcript.push(self.copy_prefix.as_slice(), false);
        transcript.push(&probe.key, false);
        transcript.push(&probe.value, true);
        transcript.pad_left(self.pad, self.seq_len + 1).into_instance(split)
    }
}

/// Draws an ordered set of `size` distinct tokens, uniformly.
fn motif(tokens: &Range<u32>, size: usize, rng: &mut Rng) -> Vec<u32> {
    index::sample(rng, tokens.len(), size).into_iter().map(|index| tokens.start + index as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn motifs_are_uniform_over_ordered_draws() {
        let mut rng = Seed(3).rng("motif", 0);
        let mut counts = BTreeMap::<Vec<u32>, f64>::new();
        let draws = 24_000;
        for _ in 0..draws {
            *counts.entry(motif(&(5..9), 3, &mut rng)).or_default() += 1.0;
        }
        assert_eq!(counts.len(), 24);
        let expected = f64::from(draws) / 24.0;
        let chi_square: f64 = counts.values().map(|count| (count - expected).powi(2) / expected).sum();
        assert!(chi_square < 49.7, "chi-square {chi_square} with 23 degrees of freedom: p < 0.001");
    }

    #[test]
    fn the_shortest_sequence_still_shows_the_probe() -> Result<(), TaskError> {
        let config = FuzzyInContextRecall { vocab_size: 14, seq_len: 11, k_motif: 2, v_motif: 3, multi_query: false };
        let generator = config.generator(Seed(0))?;
        let mut rng = Seed(4).rng("fuzzy", 0);
        for _ in 0..2_000 {
            let instance = generator.generate(Split::Test, &mut rng);
            let copy = instance.inputs.iter().position(|&token| token == 13).unwrap();
            let question = &instance.inputs[copy + 1..copy + 3];
            let answer: Vec<_> = instance.targets.iter().flatten().copied().collect();
            let pair = [question, &answer].concat();
            assert!(instance.inputs[..copy].windows(pair.len()).any(|shown| shown == pair), "{instance:?}");
        }
        Ok(())
    }

    #[test]
    fn keys_have_full_length_in_tests_only() -> Result<(), TaskError> {
        let generator = FuzzyInContextRecall::default().generator(Seed(0))?;
        let mut rng = Seed(5).rng("fuzzy", 0);
        let mut has_other_runs = |split| {
            let instance = generator.generate(split, &mut rng);
            let runs = instance.inputs.chunk_by(|a, b| (*a < 7) == (*b < 7)).filter(|run| run[0] < 7);
            runs.into_iter().any(|run| run.len() != 3)
        };
        assert!((0..100).all(|_| !has_other_runs(Split::Test)));
        assert!((0..100).all(|_| has_other_runs(Split::Train)));
        Ok(())
    }
}
