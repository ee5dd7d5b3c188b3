//! Selective copying (Poli et al. 2024, arXiv 2403.17844).
//!
//! A few content tokens are scattered among blanks. After the copy token, they have to be repeated in order. The gaps
//! are random, so no fixed shift suffices: the model has to select the content tokens and keep their order.
//!
//! # Form
//!
//! The blank is the last id but one, the copy token the last; the other `V − 2` ids are content. `n` independent and
//! uniform content tokens are placed in a head of `L − n − 1` tokens, of which the other `b = L − 2n − 1` are blanks.
//! Then come the copy token and `n` blanks, whose targets are the content tokens in order. The answers are not shown to
//! the model: its inputs at these positions are blanks.
//!
//! # Closed forms
//!
//! Each blank is inserted before a uniformly chosen content token, so the gaps are jointly multinomial: mean `b/n`,
//! variance `b (1/n)(1 − 1/n)`, correlation `−1/(n − 1)`, and on average `n (1 − 1/n)^b` empty gaps. There is no blank
//! directly before the copy token.

use std::sync::Arc;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::error::{TaskError, check_length, check_sizes, check_vocabulary};
use super::{Configuration, Generator, Instance, Split};
use crate::seed::{Rng, Seed};

/// Repeating the tokens among blanks; see the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectiveCopying {
    /// The number of token ids.
    pub vocab_size: usize,
    /// The length in tokens, including the answers.
    pub seq_len: usize,
    /// The number of content tokens in a sequence.
    pub num_tokens_to_copy: usize,
}

impl Default for SelectiveCopying {
    fn default() -> Self {
        SelectiveCopying { vocab_size: 16, seq_len: 256, num_tokens_to_copy: 16 }
    }
}

impl SelectiveCopying {
    pub(super) const NAME: &str = "selective-copying";
}

impl Configuration for SelectiveCopying {
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
        1.0 / self.vocab_size.saturating_sub(2).max(1) as f64
    }

    fn generator(&self, _seed: Seed) -> Result<Arc<dyn Generator>, TaskError> {
        let &SelectiveCopying { vocab_size, seq_len, num_tokens_to_copy: tokens } = self;
        check_sizes([("vocab_size", vocab_size), ("seq_len", seq_len), ("num_tokens_to_copy", tokens)])?;
        check_vocabulary(Self::NAME, vocab_size, 3)?;
        if tokens == 0 {
            return Err(TaskError::NothingToCopy);
        }
        check_length(Self::NAME, seq_len, 2 * tokens + 2)?;
        Ok(Arc::new(Scatter { content: vocab_size as u32 - 2, tokens, blanks: seq_len - 2 * tokens - 1 }))
    }
}

/// A valid configuration: at least one content id, `0..content`, followed by blank and copy token, and one token to
/// copy.
#[derive(Debug)]
struct Scatter {
    content: u32,
    tokens: usize,
    blanks: usize,
}

impl Generator for Scatter {
    fn generate(&self, _split: Split, rng: &mut Rng) -> Instance {
        let blank = self.content;
        let copy = self.content + 1;
        let content: Vec<_> = (0..self.tokens).map(|_| rng.random_range(0..self.content)).collect();
        let mut gaps = vec![0; self.tokens];
        for _ in 0..self.blanks {
            gaps[rng.random_range(0..self.tokens)] += 1;
        }
        let mut inputs = Vec::with_capacity(self.blanks + 2 * self.tokens + 1);
        for (&gap, &token) in gaps.iter().zip(&content) {
            inputs.extend(std::iter::repeat_n(blank, gap));
            inputs.push(token);
        }
        inputs.push(copy);
        let mut targets = vec![None; inputs.len()];
        inputs.extend(std::iter::repeat_n(blank, self.tokens));
        targets.extend(content.into_iter().map(Some));
        Instance { inputs, targets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_stand_on_the_trailing_blanks_in_order() -> Result<(), TaskError> {
        let config = SelectiveCopying { vocab_size: 6, seq_len: 12, num_tokens_to_copy: 4 };
        let instance = config.generator(Seed(0))?.generate(Split::Train, &mut Seed(6).rng("copying", 0));
        let content: Vec<_> = instance.inputs.iter().copied().filter(|&token| token < 4).collect();
        assert_eq!(content.len(), 4);
        assert_eq!(instance.inputs[7..], [5, 4, 4, 4, 4]);
        assert!(instance.targets[..8].iter().all(Option::is_none));
        assert_eq!(instance.targets[8..].iter().copied().flatten().collect::<Vec<_>>(), content);
        Ok(())
    }

    #[test]
    fn gaps_come_from_the_given_stream() -> Result<(), TaskError> {
        let generator = SelectiveCopying::default().generator(Seed(0))?;
        let draw = |index| generator.generate(Split::Test, &mut Seed(7).rng("copying", index));
        assert_eq!(draw(0), draw(0));
        assert_ne!(draw(0), draw(1));
        Ok(())
    }
}
