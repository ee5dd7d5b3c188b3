//! Validation of a language model.

use std::f64::consts::LN_2;

use serde::{Deserialize, Serialize};

use crate::{
    model::Network,
    train::{Evaluation, TokenBatch, TrainError, predict},
};

/// How well a model predicts the next token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// The mean negative log-likelihood per token, in nats.
    pub loss: f64,
    /// The share of tokens that the model predicted as the most likely.
    pub accuracy: f64,
    /// The negative log-likelihood per byte of text, in bits. It compares models with different tokenizers. `None` if
    /// the number of bytes per token is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
}

/// Validates `model` on `batches`. `token_bytes` is the number of bytes of text per token id.
///
/// # Errors
/// Returns a [`TrainError`] if a batch does not fit the model or the device fails.
pub(crate) fn validate<N: Network>(
    model: &N,
    batches: &[TokenBatch],
    token_bytes: Option<&[u32]>,
) -> Result<Validation, TrainError> {
    let mut loss = 0.0;
    let mut tokens = 0;
    let mut right = 0;
    let mut bytes = 0;
    for batch in batches {
        for predictions in predict(model, std::slice::from_ref(batch))? {
            loss += predictions.loss_sum;
            tokens += predictions.tokens.len();
            right += predictions.tokens.iter().filter(|token| token.prediction == token.target).count();
            let of = |target: i32| token_bytes.and_then(|bytes| bytes.get(target as usize)).copied().unwrap_or(0);
            bytes += predictions.tokens.iter().map(|token| u64::from(of(token.target))).sum::<u64>();
        }
    }
    let count = tokens.max(1) as f64;
    let bits_per_byte = (bytes > 0).then(|| loss / LN_2 / bytes as f64);
    Ok(Validation { loss: loss / count, accuracy: right as f64 / count, bits_per_byte })
}

impl From<Validation> for Evaluation {
    fn from(Validation { loss, accuracy, .. }: Validation) -> Self {
        Self { loss, accuracy }
    }
}
