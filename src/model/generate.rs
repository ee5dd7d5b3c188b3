//! Text generation.

use burn::tensor::{Int, Tensor, TensorData};
use rand::RngExt;
use thiserror::Error;

use super::{Cache, HybridLm};
use crate::seed::Rng;

/// How the next token is sampled from the logits. The settings apply in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits. At 0, the token with the highest logit is taken; ties go to the smallest id.
    pub temperature: f64,
    /// If set, only the `top_k` most likely tokens are sampled.
    pub top_k: Option<usize>,
    /// If set, only the smallest set of most likely tokens with at least this total probability is sampled (nucleus
    /// sampling, Holtzman et al. 2020, arXiv 1904.09751).
    pub top_p: Option<f64>,
}

impl Sampling {
    /// Always takes the most likely token.
    pub const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: None, top_p: None };

    /// Samples from the model's distribution, unchanged.
    pub const PLAIN: Sampling = Sampling { temperature: 1.0, top_k: None, top_p: None };

    fn validate(&self) -> Result<(), GenerateError> {
        match *self {
            Sampling { temperature, .. } if !(temperature.is_finite() && temperature >= 0.0) => {
                Err(GenerateError::Temperature(temperature))
            }
            Sampling { top_k: Some(0), .. } => Err(GenerateError::TopK),
            Sampling { top_p: Some(p), .. } if !(p > 0.0 && p <= 1.0) => Err(GenerateError::TopP(p)),
            Sampling { .. } => Ok(()),
        }
    }

    /// Samples a token. `scores` are the logits of all tokens.
    fn draw(&self, scores: &[f32], rng: &mut Rng) -> Option<u32> {
        // Most likely first; ties go to the smaller id.
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        let &first = order.first()?;
        if self.temperature == 0.0 {
            return Some(first as u32);
        }
        order.truncate(self.top_k.unwrap_or(usize::MAX));
        let weight = |&token: &usize| (f64::from(scores[token] - scores[first]) / self.temperature).exp();
        let mut weights: Vec<f64> = order.iter().map(weight).collect();
        if let Some(p) = self.top_p {
            let total: f64 = weights.iter().sum();
            let mut before = 0.0;
            let kept = weights.iter().take_while(|&&weight| {
                let keep = before < p * total;
                before += weight;
                keep
            });
            let kept = kept.count();
            weights.truncate(kept);
        }
        let mut left = rng.random::<f64>() * weights.iter().sum::<f64>();
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        // Rounding can leave a small remainder after the last weight.
        Some(order[drawn.unwrap_or(weights.len() - 1)] as u32)
    }
}

/// An error in text generation.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The prompt is empty.
    #[error("the prompt is empty: give the model at least one token")]
    EmptyPrompt,
    /// The prompt has a token outside the model's vocabulary.
    #[error(
        "token {token} of the prompt is outside the model's vocabulary of {vocab_size}: use the model's own tokenizer"
    )]
    UnknownToken {
        /// The token.
        token: u32,
        /// Size of the model's vocabulary.
        vocab_size: usize,
    },
    /// The temperature is negative or not finite.
    #[error("temperature is {0}: use 0 for the most likely token, or a positive number")]
    Temperature(f64),
    /// `top_k` is zero.
    #[error("top_k is 0: it must be at least 1")]
    TopK,
    /// `top_p` is not in (0, 1].
    #[error("top_p is {0}: it must be above 0 and at most 1")]
    TopP(f64),
    /// The model's logits are not finite.
    #[error("the model's logits are not finite: its training has diverged, or the weights are damaged")]
    NotFinite,
}

/// An endless iterator over the tokens of a continuation; see [`HybridLm::generate`]. It ends after the first error.
#[derive(Debug)]
pub struct Continuation<'a> {
    model: &'a HybridLm,
    sampling: Sampling,
    rng: Rng,
    cache: Cache,
    /// Tokens that the model has not read yet. Empty after an error.
    unread: Vec<u32>,
}

impl HybridLm {
    /// Continues `prompt` token by token.
    ///
    /// The layers cache the past, so each token costs the same as the one before, or only little more. All randomness
    /// comes from `rng`.
    ///
    /// # Errors
    /// Returns a [`GenerateError`] if the prompt is empty or has tokens outside the vocabulary, or if `sampling` is
    /// invalid.
    pub fn generate(&self, prompt: &[u32], sampling: Sampling, rng: Rng) -> Result<Continuation<'_>, GenerateError> {
        sampling.validate()?;
        let vocab_size = self.backbone.vocab_size();
        if let Some(&token) = prompt.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(GenerateError::UnknownToken { token, vocab_size });
        }
        match prompt.is_empty() {
            true => Err(GenerateError::EmptyPrompt),
            false => Ok(Continuation { model: self, sampling, rng, cache: Cache::default(), unread: prompt.to_vec() }),
        }
    }
}

impl Iterator for Continuation<'_> {
    type Item = Result<u32, GenerateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let unread = std::mem::take(&mut self.unread);
        if unread.is_empty() {
            return None;
        }
        let count = unread.len();
        let device = self.model.backbone.embedding.device();
        let ids: Vec<i64> = unread.into_iter().map(i64::from).collect();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, count]), &device);
        let scores = self.model.decode_last(tokens, &mut self.cache);
        let scores = scores.try_into_vec_as::<f32>().ok().filter(|scores| scores.iter().all(|score| score.is_finite()));
        let Some(token) = scores.and_then(|scores| self.sampling.draw(&scores, &mut self.rng)) else {
            return Some(Err(GenerateError::NotFinite));
        };
        self.unread.push(token);
        Some(Ok(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn shares(sampling: Sampling) -> Vec<f64> {
        let scores = [1.0_f32, 3.0, 2.0, 3.0];
        let mut rng = Seed(1).rng("test", 0);
        let mut counts = vec![0.0; 4];
        for _ in 0..20_000 {
            counts[sampling.draw(&scores, &mut rng).unwrap() as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn close(sampling: Sampling, expected: [f64; 4]) {
        for (share, expected) in shares(sampling).iter().zip(expected) {
            assert!((share - expected).abs() < 0.015, "{sampling:?}: {share} {expected}");
        }
    }

    #[test]
    fn draws_follow_the_scores_within_the_limits() {
        // Softmax of 1 3 2 3: 1, e^2, e, e^2 over 1 + e + 2 e^2.
        let e = 1f64.exp();
        let e2 = 2f64.exp();
        let total = 1.0 + e + 2.0 * e2;
        close(Sampling::PLAIN, [1.0 / total, e2 / total, e / total, e2 / total]);
        close(Sampling::GREEDY, [0.0, 1.0, 0.0, 0.0]);
        close(Sampling { top_k: Some(2), ..Sampling::PLAIN }, [0.0, 0.5, 0.0, 0.5]);
        close(Sampling { top_k: Some(1), ..Sampling::PLAIN }, [0.0, 1.0, 0.0, 0.0]);
        // The first has 0.40, the first two 0.80, three 0.95.
        close(Sampling { top_p: Some(0.39), ..Sampling::PLAIN }, [0.0, 1.0, 0.0, 0.0]);
        close(Sampling { top_p: Some(0.7), ..Sampling::PLAIN }, [0.0, 0.5, 0.0, 0.5]);
        let three = e + 2.0 * e2;
        close(Sampling { top_p: Some(0.9), ..Sampling::PLAIN }, [0.0, e2 / three, e / three, e2 / three]);
        // At temperature 1/2 the odds are squared.
        let total = 1.0 + e2 + 2.0 * e2 * e2;
        close(
            Sampling { temperature: 0.5, ..Sampling::PLAIN },
            [1.0 / total, e2 * e2 / total, e2 / total, e2 * e2 / total],
        );
    }

    #[test]
    fn limits_that_leave_nothing_are_refused() {
        for temperature in [-1.0, f64::NAN, f64::INFINITY] {
            let error = Sampling { temperature, ..Sampling::PLAIN }.validate().unwrap_err();
            assert!(matches!(error, GenerateError::Temperature(_)));
        }
        assert_eq!(Sampling { top_k: Some(0), ..Sampling::PLAIN }.validate(), Err(GenerateError::TopK));
        for top_p in [0.0, 1.5, f64::NAN] {
            let error = Sampling { top_p: Some(top_p), ..Sampling::PLAIN }.validate().unwrap_err();
            assert!(matches!(error, GenerateError::TopP(_)));
        }
        assert_eq!(Sampling { top_p: Some(1.0), ..Sampling::PLAIN }.validate(), Ok(()));
    }
}
