//! Predictions at the scored positions of a batch.

use crate::model::Network;

use super::{IGNORE, TokenBatch, TrainError, loss::negative_log_likelihood};

/// The most likely token at one scored position, and the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoredToken {
    /// The token with the largest logit.
    pub prediction: i32,
    /// The target.
    pub target: i32,
}

/// The predictions of a model for one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// The negative log-likelihood in nats, summed over the scored positions.
    pub loss_sum: f64,
    /// The scored positions, in the order of the batch.
    pub tokens: Vec<ScoredToken>,
}

/// Evaluates `model` on `batches` without gradients. Returns one result per batch.
///
/// # Errors
/// Returns a [`TrainError`] if a batch does not fit the model or the device fails.
pub fn predict<N: Network>(model: &N, batches: &[TokenBatch]) -> Result<Vec<Predictions>, TrainError> {
    let model = model.valid();
    let device = model.devices().into_iter().next().ok_or(TrainError::NoParameters)?.without_autodiff();
    let predict_batch = |batch: &TokenBatch| {
        batch.validate(model.vocab_size())?;
        let logits = model.logits(batch.tokens(&device));
        let best = logits.clone().argmax(2).try_into_vec_as::<i32>()?;
        let losses = negative_log_likelihood(logits, batch).try_into_vec_as::<f32>()?;
        let scored = batch.targets.iter().zip(best).zip(losses).filter(|&((&target, _), _)| target != IGNORE);
        let mut loss_sum = 0.0;
        let tokens = scored
            .map(|((&target, prediction), loss)| {
                loss_sum += f64::from(loss);
                ScoredToken { prediction, target }
            })
            .collect();
        Ok(Predictions { loss_sum, tokens })
    };
    batches.iter().map(predict_batch).collect()
}
