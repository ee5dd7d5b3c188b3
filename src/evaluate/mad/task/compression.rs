//! Compression (Poli et al. 2024, arXiv 2403.17844).
//!
//! Random tokens are followed by a compression token, and the whole sequence has to be reconstructed from the state at
//! this last position alone. The model is an auto-encoder, whose decoder sees one vector and a position. The task
//! measures how much information a layer sequence can collect in one state.
//!
//! # Form
//!
//! There are `L − 1` tokens, independent and uniform over the first `V − 1` ids, then the last id. Targets equal the
//! inputs, without a shift, and every position is scored, including the constant compression token. The mean number of
//! distinct content tokens in a sequence is `(V − 1)[1 − (1 − 1/(V − 1))^(L − 1)]`.

use std::sync::Arc;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::error::{TaskError, check_length, check_sizes, check_vocabulary};
use super::{Configuration, Generator, Instance, Split};
use crate::seed::{Rng, Seed};

/// Reconstructing a sequence from the state at its last position; see the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compression {
    /// The number of token ids.
    pub vocab_size: usize,
    /// The length in tokens, including the compression token.
    pub seq_len: usize,
}

impl Default for Compression {
    fn default() -> Self {
        Compression { vocab_size: 16, seq_len: 32 }
    }
}

impl Compression {
    pub(super) const NAME: &str = "compression";
}

impl Configuration for Compression {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn input_len(&self) -> usize {
        self.seq_len
    }

    /// All content tokens are possible at the first `L − 1` positions; the last one is known.
    fn chance(&self) -> f64 {
        let content = self.vocab_size.saturating_sub(1).max(1) as f64;
        let length = self.seq_len.max(1) as f64;
        ((length - 1.0) / content + 1.0) / length
    }

    fn generator(&self, _seed: Seed) -> Result<Arc<dyn Generator>, TaskError> {
        check_sizes([("vocab_size", self.vocab_size), ("seq_len", self.seq_len)])?;
        check_vocabulary(Self::NAME, self.vocab_size, 2)?;
        check_length(Self::NAME, self.seq_len, 2)?;
        Ok(Arc::new(Echo { compress: self.vocab_size as u32 - 1, content: self.seq_len - 1 }))
    }
}

/// A valid configuration: at least one content id, `0..compress`, and `content` ≥ 1 positions for content.
#[derive(Debug)]
struct Echo {
    compress: u32,
    content: usize,
}

impl Generator for Echo {
    fn generate(&self, _split: Split, rng: &mut Rng) -> Instance {
        let content = (0..self.content).map(|_| rng.random_range(0..self.compress));
        let inputs: Vec<_> = content.chain([self.compress]).collect();
        let targets = inputs.iter().copied().map(Some).collect();
        Instance { inputs, targets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_instance_is_one_token_and_the_compression_token() -> Result<(), TaskError> {
        let config = Compression { vocab_size: 2, seq_len: 2 };
        let instance = config.generator(Seed(0))?.generate(Split::Train, &mut Seed(0).rng("compression", 0));
        assert_eq!(instance, Instance { inputs: vec![0, 1], targets: vec![Some(0), Some(1)] });
        assert_eq!(config.chance(), 1.0);
        Ok(())
    }

    #[test]
    fn chance_counts_the_known_last_token() {
        assert!((Compression::default().chance() - (31.0 / 15.0 + 1.0) / 32.0).abs() < 1e-15);
    }
}
