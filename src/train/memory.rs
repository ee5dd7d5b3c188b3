//! A lower bound of the memory of a training.

use super::{Precision, TrainConfig};
use crate::{
    limits,
    model::ModelSpec,
    primitive::{Primitives, RegistryError},
};

/// Bytes of a number in single precision.
const SINGLE: u128 = 4;

/// Returns a lower bound, in bytes, of the memory that a training on the CPU uses at its peak. `decoder` is the number
/// of weights that the model has in addition to those of `spec`.
///
/// The bound counts the weights, the two moments of AdamW, and the larger of two terms: the inputs of all layers with
/// the logits (end of the forward pass), or the gradients (end of the backward pass). It leaves out the gradient of the
/// embedding: most of its rows may be zero pages, which the operating system does not allocate until they are written.
pub(crate) fn least_bytes(
    spec: &ModelSpec,
    primitives: &Primitives,
    config: &TrainConfig,
    seq_len: usize,
    decoder: u128,
) -> Result<u128, RegistryError> {
    let embedding = limits::product(&[spec.vocab_size as u64, spec.dims.width()]);
    let mut weights = if spec.tied_embeddings { embedding } else { 2 * embedding }.saturating_add(decoder);
    // Experts that no token is routed to may have no gradient.
    let mut idle = 0u128;
    for &layer in spec.architecture.layers() {
        let cost = primitives.get(layer)?.cost(&spec.dims, 1);
        weights = weights.saturating_add(cost.parameters.into());
        idle = idle.saturating_add(cost.inactive_parameters.into());
    }
    let trained = weights.saturating_sub(idle);
    let gradients = trained.saturating_sub(embedding).saturating_mul(SINGLE);
    let optimizer = trained.saturating_mul(2 * SINGLE);
    let weights = weights.saturating_mul(SINGLE);
    let sizes = [config.batch_size as u64, seq_len as u64];
    let tokens = limits::product(&sizes);
    let number = match config.precision {
        Precision::Single => SINGLE,
        Precision::BFloat16 => 2,
    };
    let inputs = tokens.saturating_mul(spec.architecture.len() as u128 * u128::from(spec.dims.width()) * number);
    let scores = tokens.saturating_mul(spec.vocab_size as u128 * SINGLE);
    let forward = inputs.saturating_add(scores);
    // During the first step there are no moments yet, and it may be the only step.
    let ends_at_once = config.steps == 1 || (config.evaluate_every == 1 && config.stop_above.is_some());
    let most = if ends_at_once { forward.max(optimizer) } else { optimizer.saturating_add(forward.max(gradients)) };
    Ok(weights.saturating_add(most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dims::Dims,
        extrapolate::Target,
        train::{AdamWConfig, LrSchedule},
    };

    #[test]
    fn weights_moments_gradients_and_activations_count() {
        let config = |steps, batch_size| TrainConfig {
            steps,
            batch_size,
            schedule: LrSchedule::cosine(1e-3, 1e-3, steps),
            optimizer: AdamWConfig::default(),
            clip_norm: None,
            evaluate_every: 20,
            log_every: 5,
            stop_above: None,
            precision: Precision::Single,
            recompute: false,
        };
        let target = Target::custom("tiny", Dims::new(8, 24, 2).unwrap(), 10, true, 1).unwrap();
        let spec = target.baseline_model();
        let least = |spec: &ModelSpec, config: &TrainConfig, decoder| {
            least_bytes(spec, &Primitives::standard(), config, 16, decoder).unwrap()
        };
        let layers = 4 * 8 * 8 + 3 * 8 * 24;
        let embedding = 80;
        // With 3 steps of one sequence each, the gradients are the larger term.
        assert_eq!(least(&spec, &config(3, 1), 0), 4 * (3 * (layers + embedding) + layers));
        let forward = |batch: u128| 16 * batch * (2 * 8 + 10);
        assert_eq!(least(&spec, &config(3, 9), 0), 4 * (3 * (layers + embedding) + forward(9)));
        assert_eq!(least(&spec, &config(1, 9), 0), 4 * (layers + embedding + forward(9)));
        assert_eq!(least(&spec, &config(1, 1), 7), 4 * 3 * (layers + embedding + 7));
        let untied = ModelSpec { tied_embeddings: false, ..spec.clone() };
        let huge = ModelSpec { vocab_size: usize::MAX, ..untied };
        assert!(least(&huge, &config(usize::MAX, usize::MAX), u128::MAX) > u128::from(u64::MAX));
    }
}
