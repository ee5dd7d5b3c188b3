//! The configuration of a training.

use serde::{Deserialize, Serialize};

use super::{AdamWConfig, LrSchedule, TrainError};
use crate::limits;

/// The configuration of a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The number of weight updates.
    pub steps: usize,
    /// Sequences per update. The source of the batches uses it; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// The learning rate schedule.
    pub schedule: LrSchedule,
    /// The optimizer.
    #[serde(default)]
    pub optimizer: AdamWConfig,
    /// If set, the global norm of the gradients is clipped to this value.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// Steps between evaluations. The model is always evaluated after the last step.
    pub evaluate_every: usize,
    /// Steps between readings of the loss. At each reading, the training reports its progress and checks for divergence
    /// and cancellation. A reading waits for the device. On a CPU this costs nothing, so use 1; on an accelerator, use
    /// 10 to 50 to keep the device busy.
    #[serde(default = "every_step", rename = "check_every", alias = "log_every")]
    pub log_every: usize,
    /// If set, the training stops at the first evaluation with an accuracy above this value.
    #[serde(default)]
    pub stop_above: Option<f64>,
    /// The precision in which the network computes.
    #[serde(default, skip_serializing_if = "Precision::is_single")]
    pub precision: Precision,
    /// Whether to recompute cheap activations in the backward pass instead of storing them (Burn's balanced gradient
    /// checkpointing). This saves memory at the cost of time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub recompute: bool,
}

/// The precision of activations and gradients. Weights, moments and updates are always in single precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    Single,
    /// 16-bit brain floating point. Every step computes with a converted copy of the weights. Normalizations, attention
    /// weights and the loss are computed in single precision.
    BFloat16,
}

impl Precision {
    // Omitted from files if it is the default, so that the content of existing files does not change.
    fn is_single(&self) -> bool {
        *self == Self::Single
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn every_step() -> usize {
    1
}

impl TrainConfig {
    /// Whether the losses are read after this number of steps.
    pub(super) fn looks_at(&self, step: usize) -> bool {
        self.evaluates_after(step) || step.is_multiple_of(self.log_every)
    }

    /// Whether the model is evaluated after this number of steps.
    pub(super) fn evaluates_after(&self, step: usize) -> bool {
        step.is_multiple_of(self.evaluate_every) || step == self.steps
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// Returns a [`TrainError`] that names the first invalid setting and says what to change.
    pub fn validate(&self) -> Result<(), TrainError> {
        let counts = [
            ("steps", self.steps),
            ("batch_size", self.batch_size),
            ("evaluate_every", self.evaluate_every),
            ("log_every", self.log_every),
        ];
        if let Some((name, _)) = counts.into_iter().find(|&(_, count)| count == 0) {
            return Err(TrainError::Zero(name));
        }
        limits::at_most("steps", self.steps, limits::MAX_STEPS)?;
        limits::at_most("batch_size", self.batch_size, limits::MAX_SEQUENCES)?;
        if let Some(value) = self.clip_norm.filter(|norm| !(norm.is_finite() && *norm > 0.0)) {
            return Err(TrainError::NotPositive { name: "clip_norm", value });
        }
        if let Some(threshold) = self.stop_above.filter(|threshold| !(0.0..=1.0).contains(threshold)) {
            return Err(TrainError::Threshold(threshold));
        }
        self.schedule.validate()?;
        self.optimizer.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_are_refused_by_name() {
        let good = TrainConfig {
            steps: 10,
            batch_size: 4,
            schedule: LrSchedule::constant(1e-3),
            optimizer: AdamWConfig::default(),
            clip_norm: Some(1.0),
            evaluate_every: 5,
            log_every: 1,
            stop_above: Some(0.999),
            precision: Precision::Single,
            recompute: false,
        };
        assert!(good.validate().is_ok());
        let bad = [
            (TrainConfig { steps: 0, ..good.clone() }, "steps"),
            (TrainConfig { batch_size: 0, ..good.clone() }, "batch_size"),
            (TrainConfig { steps: 1 << 40, ..good.clone() }, "steps is 1099511627776: at most 100000000"),
            (TrainConfig { batch_size: usize::MAX, ..good.clone() }, "batch_size is"),
            (TrainConfig { clip_norm: Some(f64::NAN), ..good.clone() }, "clip_norm"),
            (TrainConfig { stop_above: Some(99.9), ..good.clone() }, "stop_above"),
            (TrainConfig { schedule: LrSchedule::constant(-1.0), ..good.clone() }, "schedule.peak"),
            (
                TrainConfig { optimizer: AdamWConfig { beta2: 1.0, ..good.optimizer }, ..good.clone() },
                "optimizer.beta2",
            ),
            (TrainConfig { optimizer: AdamWConfig { eps: 0.0, ..good.optimizer }, ..good.clone() }, "optimizer.eps"),
        ];
        for (config, name) in bad {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn defaults_are_pytorchs_and_unknown_keys_are_refused() {
        let schedule = serde_json::to_string(&LrSchedule::constant(1e-3)).unwrap();
        let text = format!(r#"{{"steps":1,"batch_size":2,"schedule":{schedule},"evaluate_every":1}}"#);
        let config: TrainConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(config.optimizer, AdamWConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2 });
        assert_eq!((config.clip_norm, config.log_every, config.stop_above), (None, 1, None));
        assert_eq!((config.precision, config.recompute), (Precision::Single, false));
        assert!(serde_json::from_str::<TrainConfig>(&text.replace("steps", "step")).is_err());
    }
}
