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
    let of_parts = predict_parts(model, batches, 1)?;
    Ok(of_parts.into_iter().flatten().collect())
}

/// Like [`predict`], but returns separate results for `parts` equal parts of each batch.
pub(super) fn predict_parts<N: Network>(
    model: &N,
    batches: &[TokenBatch],
    parts: usize,
) -> Result<Vec<Vec<Predictions>>, TrainError> {
    let model = model.valid();
    let device = model.devices().into_iter().next().ok_or(TrainError::NoParameters)?.without_autodiff();
    let predict_batch = |batch: &TokenBatch| {
        batch.validate(model.vocab_size())?;
        let logits = model.logits(batch.tokens(&device));
        let best = logits.clone().argmax(2).try_into_vec_as::<i32>()?;
        let losses = negative_log_likelihood(logits, batch).try_into_vec_as::<f32>()?;
        let size = (batch.batch * batch.seq / parts).max(1);
        let parts = batch.targets.chunks(size).zip(best.chunks(size)).zip(losses.chunks(size));
        Ok(parts.map(|((targets, best), losses)| Predictions::new(targets, best, losses)).collect())
    };
    batches.iter().map(predict_batch).collect()
}

impl Predictions {
    /// All have one element per position.
    fn new(targets: &[i32], best: &[i32], losses: &[f32]) -> Self {
        let scored = targets.iter().zip(best).zip(losses).filter(|&((&target, _), _)| target != IGNORE);
        let mut loss_sum = 0.0;
        let tokens = scored
            .map(|((&target, &prediction), &loss)| {
                loss_sum += f64::from(loss);
                ScoredToken { prediction, target }
            })
            .collect();
        Self { loss_sum, tokens }
    }
}
