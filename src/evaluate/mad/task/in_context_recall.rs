//! In-context recall, without and with noise (Poli et al. 2024, arXiv 2403.17844).
//!
//! The sequence is a list of key-value pairs. The assignment of values to keys is drawn for every instance, so it can
//! only be learned from the sequence itself: whenever a key is repeated, the model has to predict the value that
//! followed it before. The noisy variant scatters pairs of meaningless tokens among the real ones, which the model has
//! to ignore.
//!
//! # Form
//!
//! Of `V` token ids, one (the copy prefix, the last id) is special if there is a single query; `N` are noise; of the
//! `S` others the first `K = ⌊S/2⌋` are keys and the rest values. With `P = L/2`, there are `P − 1` slots of two
//! tokens: with probability `f` two noise tokens, otherwise a uniform key and its value, which is assigned uniformly
//! when the key first occurs (two keys may share one). One slot, drawn uniformly, is never noise. At the end comes a
//! key that was shown, uniform over the distinct ones, and its value is asked for. With many queries, every repeated
//! key is a question; with a single query only the last one, which follows the copy prefix.
//!
//! # Closed forms
//!
//! | quantity | expectation |
//! |---|---|
//! | pairs in the slots | `f + (P − 1)(1 − f)` |
//! | distinct keys `D` | `K [1 − (1 − 1/K)(1 − (1 − f)/K)^(P − 2)]` |
//! | scored positions of a test, many queries | `pairs − D + 1` |
//!
//! The reference draws the protected slot among `P`, one of which does not exist. So once in `P` instances nothing is
//! protected, and the reference fails if all slots are then noise. Here the slot is drawn among the `P − 1` real ones.
//! This adds `f/P` pairs to the mean (0.003 of 50.6 at the benchmark's `f = 0.2`, 0.0125 of 13.4 at 0.8) and nothing at
//! `f = 0`.

use std::ops::Range;
use std::sync::Arc;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::error::{TaskError, check_even, check_length, check_sizes, check_vocabulary};
use super::next_token::Transcript;
use super::{Configuration, Generator, Instance, Split};
use crate::seed::{Rng, Seed};

/// In-context recall; see the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InContextRecall {
    /// The number of token ids.
    pub vocab_size: usize,
    /// The length in tokens, which must be even. The inputs have one token less if `multi_query` is set.
    pub seq_len: usize,
    /// Whether every repeated key is a question, or only the last one.
    pub multi_query: bool,
}

impl Default for InContextRecall {
    fn default() -> Self {
        InContextRecall { vocab_size: 16, seq_len: 128, multi_query: true }
    }
}

impl InContextRecall {
    pub(super) const NAME: &str = "in-context-recall";

    fn layout(&self) -> Layout {
        let &InContextRecall { vocab_size, seq_len, multi_query } = self;
        Layout { task: Self::NAME, vocab_size, noise_vocab_size: 0, frac_noise: 0.0, seq_len, multi_query }
    }
}

/// In-context recall with noise between the pairs; see the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoisyInContextRecall {
    /// The number of token ids, including noise.
    pub vocab_size: usize,
    /// The number of token ids that are noise.
    pub noise_vocab_size: usize,
    /// The probability, from 0 to 1, that a slot is noise.
    pub frac_noise: f64,
    /// The length in tokens, which must be even. The inputs have one token less if `multi_query` is set.
    pub seq_len: usize,
    /// Whether every repeated key is a question, or only the last one.
    pub multi_query: bool,
}

impl Default for NoisyInContextRecall {
    fn default() -> Self {
        NoisyInContextRecall { vocab_size: 32, noise_vocab_size: 16, frac_noise: 0.2, seq_len: 128, multi_query: true }
    }
}

impl NoisyInContextRecall {
    pub(super) const NAME: &str = "noisy-in-context-recall";

    fn layout(&self) -> Layout {
        let &NoisyInContextRecall { vocab_size, noise_vocab_size, frac_noise, seq_len, multi_query } = self;
        Layout { task: Self::NAME, vocab_size, noise_vocab_size, frac_noise, seq_len, multi_query }
    }
}

/// The common form of both configurations.
struct Layout {
    task: &'static str,
    vocab_size: usize,
    noise_vocab_size: usize,
    frac_noise: f64,
    seq_len: usize,
    multi_query: bool,
}

impl Layout {
    fn input_len(&self) -> usize {
        self.seq_len.saturating_sub(usize::from(self.multi_query))
    }

    /// The number of ids that are neither keys nor values.
    fn reserved(&self) -> usize {
        self.noise_vocab_size.saturating_add(usize::from(!self.multi_query))
    }

    fn chance(&self) -> f64 {
        let values = self.vocab_size.saturating_sub(self.reserved()).div_ceil(2);
        1.0 / values.max(1) as f64
    }

    fn generator(&self) -> Result<Arc<dyn Generator>, TaskError> {
        let &Layout { task, vocab_size, noise_vocab_size, frac_noise, seq_len, multi_query } = self;
        check_sizes([("vocab_size", vocab_size), ("noise_vocab_size", noise_vocab_size), ("seq_len", seq_len)])?;
        if !(0.0..=1.0).contains(&frac_noise) {
            return Err(TaskError::NoiseFraction { frac_noise });
        }
        if frac_noise > 0.0 && noise_vocab_size == 0 {
            return Err(TaskError::NoNoiseTokens { frac_noise });
        }
        check_vocabulary(task, vocab_size, self.reserved() + 2)?;
        check_even(task, seq_len)?;
        check_length(task, seq_len, 4)?;
        let content = (vocab_size - self.reserved()) as u32;
        Ok(Arc::new(Recall {
            keys: 0..content / 2,
            values: content / 2..content,
            noise: content..content + noise_vocab_size as u32,
            frac_noise,
            slots: seq_len / 2 - 1,
            copy_prefix: (!multi_query).then_some(vocab_size as u32 - 1),
        }))
    }
}

/// A valid configuration: at least one slot, key and value, and a noise token if there is noise.
#[derive(Debug)]
struct Recall {
    keys: Range<u32>,
    values: Range<u32>,
    noise: Range<u32>,
    frac_noise: f64,
    slots: usize,
    copy_prefix: Option<u32>,
}

impl Generator for Recall {
    fn generate(&self, split: Split, rng: &mut Rng) -> Instance {
        let mut transcript = Transcript::with_capacity(2 * self.slots + 3);
        let mut value_of = vec![None; self.keys.len()];
        let mut shown = Vec::new();
        let protected = rng.random_range(0..self.slots);
        for slot in 0..self.slots {
            if slot != protected && self.frac_noise > 0.0 && rng.random_bool(self.frac_noise) {
                let noise = [0; 2].map(|_| rng.random_range(self.noise.clone()));
                transcript.push(&noise, false);
                continue;
            }
            let key = rng.random_range(self.keys.clone());
            let known = value_of[key as usize];
            let value = known.unwrap_or_else(|| rng.random_range(self.values.clone()));
            if known.is_none() {
                value_of[key as usize] = Some(value);
                shown.push((key, value));
            }
            transcript.push(&[key], false);
            transcript.push(&[value], known.is_some() && self.copy_prefix.is_none());
        }
        // The protected slot has shown a key, so there is at least one.
        let (key, value) = shown[rng.random_range(0..shown.len())];
        transcript.push(self.copy_prefix.as_slice(), false);
        transcript.push(&[key], false);
        transcript.push(&[value], true);
        transcript.into_instance(split)
    }
}

impl Configuration for InContextRecall {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn input_len(&self) -> usize {
        self.layout().input_len()
    }

    fn chance(&self) -> f64 {
        self.layout().chance()
    }

    fn generator(&self, _seed: Seed) -> Result<Arc<dyn Generator>, TaskError> {
        self.layout().generator()
    }
}

impl Configuration for NoisyInContextRecall {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn input_len(&self) -> usize {
        self.layout().input_len()
    }

    fn chance(&self) -> f64 {
        self.layout().chance()
    }

    fn generator(&self, _seed: Seed) -> Result<Arc<dyn Generator>, TaskError> {
        self.layout().generator()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scored_positions_follow_the_closed_form() -> Result<(), TaskError> {
        // (V, N, f, L), many queries. In the last one, all slots but the protected one are noise.
        for (vocab_size, noise_vocab_size, frac_noise, seq_len) in
            [(9, 0, 0.0, 16), (12, 3, 0.5, 20), (10, 4, 0.9, 6), (8, 2, 1.0, 12)]
        {
            let config = NoisyInContextRecall { vocab_size, noise_vocab_size, frac_noise, seq_len, multi_query: true };
            let generator = config.generator(Seed(0))?;
            let mut rng = Seed(1).rng("recall", 0);
            let scored: Vec<_> = (0..20_000)
                .map(|_| generator.generate(Split::Test, &mut rng).targets.iter().flatten().count() as f64)
                .collect();
            let mean = scored.iter().sum::<f64>() / scored.len() as f64;
            let variance = scored.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / scored.len() as f64;

            let slots = seq_len as i32 / 2 - 1;
            let keys = ((vocab_size - noise_vocab_size) / 2) as f64;
            let pairs = frac_noise + f64::from(slots) * (1.0 - frac_noise);
            let missed = (1.0 - 1.0 / keys) * (1.0 - (1.0 - frac_noise) / keys).powi(slots - 1);
            let expected = pairs - keys * (1.0 - missed) + 1.0;
            let error = (variance / scored.len() as f64).sqrt();
            assert!((mean - expected).abs() <= 4.0 * error + 1e-9, "{config:?}: {mean} is not {expected} ± {error}");
        }
        Ok(())
    }

    #[test]
    fn a_single_query_asks_once_and_announces_it() -> Result<(), TaskError> {
        let config = InContextRecall { vocab_size: 7, seq_len: 12, multi_query: false };
        let instance = config.generator(Seed(0))?.generate(Split::Test, &mut Seed(2).rng("recall", 0));
        assert_eq!(instance.inputs.len(), 12);
        assert_eq!(instance.inputs[10], 6);
        assert_eq!(instance.targets.iter().flatten().count(), 1);
        assert!(instance.targets[11].is_some());
        Ok(())
    }

    #[test]
    fn odd_content_leaves_one_value_more_than_keys() {
        assert_eq!(InContextRecall { vocab_size: 9, ..Default::default() }.chance(), 1.0 / 5.0);
        assert_eq!(NoisyInContextRecall::default().chance(), 1.0 / 8.0);
    }
}
