//! Lower bounds of the memory of a training.

use super::{Precision, TrainConfig};
use crate::{
    cost::{CostError, ModelCost, Workload},
    device::{self, Device},
    limits::{self, LimitError},
    model::ModelSpec,
    primitive::{Primitives, RegistryError},
};

/// Bytes of a number in single precision.
const SINGLE: u128 = 4;

/// What a training that exceeds a device can change.
const REMEDY: &str =
    "use smaller batches (batch_size, or micro_batch in a pre-training), shorter sequences, or recompute";

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
    let sizes = [config.batch_size as u64, seq_len as u64];
    let tokens = limits::product(&sizes);
    let channels = spec.architecture.len() as u128 * u128::from(spec.dims.width());
    let inputs = tokens.saturating_mul(channels * u128::from(bytes_per_number(config.precision)));
    let scores = tokens.saturating_mul(spec.vocab_size as u128 * SINGLE);
    let Weights { all, trained, embedding } = Weights::of(spec, primitives, decoder)?;
    let gradients = trained.saturating_sub(embedding).saturating_mul(SINGLE);
    Ok(peak(config, all, trained, inputs.saturating_add(scores), gradients))
}

/// Checks the memory that a training on an accelerator uses at its peak against that of the device, if it is known.
/// `sequences` are computed at once; `decoder` is the number of weights that the model has in addition to those of
/// `spec`.
///
/// The estimate counts what [`least_bytes`] counts, with all gradients, and what the layers keep for the backward pass
/// instead of their inputs alone: [`ModelCost::activation_bytes_per_sequence`]. Composed layers keep more, so what is
/// refused does not fit, but what passes may not fit either.
///
/// Returns the estimate, in bytes.
///
/// # Errors
/// [`LimitError::DeviceMemory`].
pub(crate) fn check_device(
    spec: &ModelSpec,
    primitives: &Primitives,
    config: &TrainConfig,
    [sequences, seq_len]: [usize; 2],
    decoder: u128,
    device: &Device,
) -> Result<u128, LimitError> {
    let memory = device::memory(device);
    // Whatever has no cost cannot be built, and the training says why.
    let needed = device_bytes(spec, primitives, config, [sequences, seq_len], decoder).unwrap_or(0);
    limits::check_device_memory("a training, with its weights, optimizer and activations,", needed, memory, REMEDY)?;
    Ok(needed)
}

/// See [`check_device`].
fn device_bytes(
    spec: &ModelSpec,
    primitives: &Primitives,
    config: &TrainConfig,
    [sequences, seq_len]: [usize; 2],
    decoder: u128,
) -> Result<u128, CostError> {
    let bytes_per_element = bytes_per_number(config.precision);
    let workload = Workload { bytes_per_element, ..Workload::bf16(seq_len as u64) };
    let cost = ModelCost::new(spec, primitives, workload)?;
    let kept = match config.recompute {
        true => cost.recomputed_activation_bytes_per_sequence,
        false => cost.activation_bytes_per_sequence,
    };
    let forward = limits::product(&[kept, sequences as u64]);
    let Weights { all, trained, .. } = Weights::of(spec, primitives, decoder)?;
    Ok(peak(config, all, trained, forward, trained.saturating_mul(SINGLE)))
}

/// The weights of a model.
struct Weights {
    all: u128,
    /// Without experts that no token may be routed to, which may have no gradient.
    trained: u128,
    embedding: u128,
}

impl Weights {
    fn of(spec: &ModelSpec, primitives: &Primitives, decoder: u128) -> Result<Self, RegistryError> {
        let embedding = limits::product(&[spec.vocab_size as u64, spec.dims.width()]);
        let mut all = if spec.tied_embeddings { embedding } else { 2 * embedding }.saturating_add(decoder);
        let mut idle = 0u128;
        for &layer in spec.architecture.layers() {
            let cost = primitives.get(layer)?.cost(&spec.dims, 1);
            all = all.saturating_add(cost.parameters.into());
            idle = idle.saturating_add(cost.inactive_parameters.into());
        }
        Ok(Self { all, trained: all.saturating_sub(idle), embedding })
    }
}

/// Returns the bytes at the peak of a training: `forward` at the end of the forward pass, `gradients` at the end of the
/// backward pass.
fn peak(config: &TrainConfig, all: u128, trained: u128, forward: u128, gradients: u128) -> u128 {
    let optimizer = trained.saturating_mul(2 * SINGLE);
    // During the first step there are no moments yet, and it may be the only step.
    let ends_at_once = config.steps == 1 || (config.evaluate_every == 1 && config.stop_above.is_some());
    let most = if ends_at_once { forward.max(optimizer) } else { optimizer.saturating_add(forward.max(gradients)) };
    all.saturating_mul(SINGLE).saturating_add(most)
}

fn bytes_per_number(precision: Precision) -> u64 {
    match precision {
        Precision::Single => 4,
        Precision::BFloat16 => 2,
    }
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

    #[test]
    fn what_a_device_cannot_hold_is_refused_with_numbers_and_a_remedy() {
        let primitives = Primitives::standard();
        let spec = Target::llama_350m().baseline_model();
        let config = TrainConfig {
            steps: 10,
            batch_size: 8,
            schedule: LrSchedule::constant(1e-3),
            optimizer: AdamWConfig::default(),
            clip_norm: None,
            evaluate_every: 10,
            log_every: 5,
            stop_above: None,
            precision: Precision::Single,
            recompute: false,
        };
        let cost =
            ModelCost::new(&spec, &primitives, Workload { bytes_per_element: 4, ..Workload::bf16(512) }).unwrap();
        // All but the norms, which the bound leaves out.
        let norms = u128::from(spec.dims.width()) * (spec.architecture.len() as u128 + 1);
        let weights = u128::from(cost.total_parameters) - norms;
        let bytes =
            |config: &TrainConfig, sequences| device_bytes(&spec, &primitives, config, [sequences, 512], 0).unwrap();
        let kept = u128::from(cost.activation_bytes_per_sequence);
        assert_eq!(bytes(&config, 64), 12 * weights + 64 * kept);
        // Of one sequence the gradients are more than what is kept.
        assert_eq!(bytes(&config, 1), 16 * weights);
        let recompute = TrainConfig { recompute: true, ..config.clone() };
        assert!(bytes(&recompute, 64) < bytes(&config, 64));
        let check = |memory| limits::check_device_memory("a training", bytes(&config, 64), memory, REMEDY);
        assert_eq!((check(None), check(Some(bytes(&config, 64) as u64))), (Ok(()), Ok(())));
        let text = check(Some(8_000_000_000)).unwrap_err().to_string();
        for words in ["8.0 GB", "micro_batch", "recompute", &format!("{:.1} GB", bytes(&config, 64) as f64 / 1e9)] {
            assert!(text.contains(words), "{text}");
        }
    }
}
