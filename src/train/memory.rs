//! What a training needs at least.

use super::{Precision, TrainConfig};
use crate::{
    limits,
    model::ModelSpec,
    primitive::{Primitives, RegistryError},
};

/// Bytes of a number in single precision.
const SINGLE: u128 = 4;

/// Bytes that a training on the processor holds at once, at least: nothing that fits is above this. `decoder` are
/// weights that the model has beside those of `spec`.
///
/// Counted are the weights, the two moments of AdamW, and the larger of what the way forward and the backward pass end
/// with: the input of every layer with the scores, or the gradients. Those of the embedding are left out, since most of
/// their rows may be pages of zeros that the system does not give until they are written.
pub(crate) fn least_bytes(
    spec: &ModelSpec,
    primitives: &Primitives,
    config: &TrainConfig,
    seq_len: usize,
    decoder: u128,
) -> Result<u128, RegistryError> {
    let embedding = limits::product(&[spec.vocab_size as u64, spec.dims.width()]);
    let mut weights = if spec.tied_embeddings { embedding } else { 2 * embedding }.saturating_add(decoder);
    // Experts that no token was sent to may have no gradient.
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
    // The first step has no moments before its end, and may be the last.
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
        // Of 3 steps with one sequence each the gradients are the most.
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
