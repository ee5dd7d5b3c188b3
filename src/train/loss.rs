//! The losses, averaged over the scored positions of a batch.

use burn::tensor::{DType, Int, Tensor, TensorData, activation::log_softmax};

use super::{IGNORE, TokenBatch};
use crate::kernels;

/// Returns the mean negative log-likelihood of the targets, in nats, over all positions whose target is not [`IGNORE`]
/// (one element). It is computed in single precision, regardless of the precision of the logits.
///
/// If no position is scored, the loss and its gradient are zero; trainings reject such a batch.
///
/// # Shapes
/// `logits`: `[B, S, V]`, for a batch of `B` sequences of `S` tokens and a vocabulary of `V`.
pub fn cross_entropy(logits: Tensor<3>, batch: &TokenBatch) -> Tensor<1> {
    cross_entropies(logits, batch, 1)
}

/// Like [`cross_entropy`], but separately for each of `R` (`parts`) equal parts of the batch.
///
/// # Shapes
/// `logits`: `[B, S, V]`, to `[R]`.
pub(super) fn cross_entropies(logits: Tensor<3>, batch: &TokenBatch, parts: usize) -> Tensor<1> {
    let [_, _, vocab] = logits.dims();
    let rows = batch.batch * batch.seq;
    let logits = logits.reshape([rows, vocab]).cast(DType::F32);
    let (targets, weights) = batch.targets.chunks((rows / parts).max(1)).flat_map(scored_targets).unzip();
    kernels::cross_entropy(logits, targets, weights, parts)
}

/// Returns the mean Kullback-Leibler divergence `KL(teacher || student)` of the next-token distributions, in nats, over
/// all positions whose target is not [`IGNORE`] (one element).
///
/// This is the distillation loss of Hinton et al. 2015 (arXiv 1503.02531) at temperature 1. It is computed in single
/// precision, regardless of the precision of the logits.
///
/// # Shapes
/// `logits` (of the student) and `teacher`: `[B, S, V]`, for a batch of `B` sequences of `S` tokens. `teacher` must not
/// be tracked by autodiff.
pub(crate) fn divergence(logits: Tensor<3>, teacher: Tensor<3>, batch: &TokenBatch) -> Tensor<1> {
    let rows = batch.batch * batch.seq;
    let [_, _, vocab] = logits.dims();
    let own = log_softmax(logits.reshape([rows, vocab]).cast(DType::F32), 1);
    let theirs = log_softmax(teacher.reshape([rows, vocab]).cast(DType::F32), 1);
    let weights: Vec<f32> = scored_targets(&batch.targets).map(|(_, weight)| weight).collect();
    let weights = TensorData::new(weights, [rows, 1]);
    let weighted = theirs.clone().exp() * Tensor::from_data(weights, &theirs.device());
    let negative_entropy = (weighted.clone() * theirs).sum();
    negative_entropy - (weighted * own).sum()
}

/// Returns the negative log-likelihood of the target at every position, or zero where none is scored. `logits`:
/// `[B, S, V]` to `[B S, 1]`.
pub(super) fn negative_log_likelihood(logits: Tensor<3>, batch: &TokenBatch) -> Tensor<2> {
    let [_, _, vocab] = logits.dims();
    let logits = logits.reshape([batch.batch * batch.seq, vocab]).cast(DType::F32);
    let targets: Vec<i32> = scored_targets(&batch.targets).map(|(target, _)| target).collect();
    let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, [batch.batch * batch.seq, 1]), &logits.device());
    -log_softmax(logits, 1).gather(1, targets)
}

/// Returns, per position, the target (0 in place of [`IGNORE`]) and the weight (`1/n` if the position is one of `n`
/// scored ones, else 0).
fn scored_targets(targets: &[i32]) -> impl Iterator<Item = (i32, f32)> {
    let scored = targets.iter().filter(|&&target| target != IGNORE).count();
    let weight = 1.0 / scored.max(1) as f32;
    targets.iter().map(move |&target| if target == IGNORE { (0, 0.0) } else { (target, weight) })
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn value_and_gradient_agree_with_a_hand_computed_case() {
        // Softmax of (0, ln 2, ln 5) is (1, 2, 5) / 8; of (ln 3, 0, 0) it is (3, 1, 1) / 5. The middle position is not
        // scored.
        let ln2 = 2f32.ln();
        let ln3 = 3f32.ln();
        let ln5 = 5f32.ln();
        let device = Device::flex().autodiff();
        let data = TensorData::new(vec![0.0, ln2, ln5, 9.0, -9.0, 3.0, ln3, 0.0, 0.0], [1, 3, 3]);
        let logits = Tensor::<3>::from_data(data, &device).require_grad();
        let batch = TokenBatch { batch: 1, seq: 3, inputs: vec![0; 3], targets: vec![1, IGNORE, 0] };
        let loss = cross_entropy(logits.clone(), &batch);
        let gradients = loss.backward();
        let value: f32 = loss.into_scalar();
        assert!((value - 0.5 * (4f32.ln() + (5f32 / 3.0).ln())).abs() < 1e-6, "{value}");
        let gradient = logits.grad(&gradients).unwrap().into_data().try_into_vec::<f32>().unwrap();
        let want = [0.0625, -0.375, 0.3125, 0.0, 0.0, 0.0, -0.2, 0.1, 0.1];
        for (got, want) in gradient.iter().zip(want) {
            assert!((got - want).abs() < 1e-6, "{gradient:?}");
        }
    }

    #[test]
    fn divergence_and_its_gradient_agree_with_a_hand_computed_case() {
        // The teacher's distribution is (1/2, 1/4, 1/4), the model's (1/4, 1/4, 1/2). The second position is not
        // scored.
        for device in [Device::flex().autodiff(), Device::flex().autodiff().gradient_checkpointing()] {
            divergence_on(&device);
        }
    }

    fn divergence_on(device: &Device) {
        let ln = |values: [f32; 3]| values.map(f32::ln);
        let data = |first: [f32; 3], second: [f32; 3]| TensorData::new([ln(first), ln(second)].concat(), [1, 2, 3]);
        let own = Tensor::<3>::from_data(data([0.25, 0.25, 0.5], [0.1, 0.1, 0.8]), device).require_grad();
        let teacher = Tensor::<3>::from_data(data([0.5, 0.25, 0.25], [0.8, 0.1, 0.1]), &Device::flex());
        let batch = TokenBatch { batch: 1, seq: 2, inputs: vec![0; 2], targets: vec![1, IGNORE] };
        let loss = divergence(own.clone(), teacher, &batch);
        let gradients = loss.backward();
        let value: f32 = loss.into_scalar();
        assert!((value - 2f32.ln() / 4.0).abs() < 1e-6, "{value}");
        let gradient = own.grad(&gradients).unwrap().into_data().try_into_vec::<f32>().unwrap();
        // The student's minus the teacher's probabilities.
        for (got, want) in gradient.iter().zip([-0.25, 0.0, 0.25, 0.0, 0.0, 0.0]) {
            assert!((got - want).abs() < 1e-6, "{gradient:?}");
        }
    }

    #[test]
    fn nothing_scored_means_zero_and_large_logits_stay_finite() {
        let device = Device::flex().autodiff();
        let logits = Tensor::<3>::from_data(TensorData::new(vec![1e4f32, -1e4, 0.0], [1, 1, 3]), &device);
        let batch = |target| TokenBatch { batch: 1, seq: 1, inputs: vec![0], targets: vec![target] };
        assert_eq!(cross_entropy(logits.clone(), &batch(IGNORE)).into_scalar::<f32>(), 0.0);
        assert_eq!(cross_entropy(logits, &batch(1)).into_scalar::<f32>(), 2e4);
    }
}
