//! How a training runs, as a plain value.

use serde::{Deserialize, Serialize};

use super::{AdamWConfig, LrSchedule, TrainError};
use crate::limits;

/// How a training runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Updates of the weights.
    pub steps: usize,
    /// Sequences per update. The source of batches reads it; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// The learning rate.
    pub schedule: LrSchedule,
    /// The update rule.
    #[serde(default)]
    pub optimizer: AdamWConfig,
    /// Clips the norm of all gradients together to this; none leaves them alone.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// Steps between evaluations; the last step is always evaluated.
    pub evaluate_every: usize,
    /// Steps between looks at the loss, which report progress, notice divergence and heed cancellation. Each look waits
    /// for the device: free on a CPU, so 1 is right there; on an accelerator 10 to 50 keep the queue filled.
    #[serde(default = "every_step", rename = "check_every", alias = "log_every")]
    pub log_every: usize,
    /// Stops at the first evaluation whose accuracy is above this.
    #[serde(default)]
    pub stop_above: Option<f64>,
    /// In which precision the network computes.
    #[serde(default, skip_serializing_if = "Precision::is_single")]
    pub precision: Precision,
    /// Whether cheap activations are computed again in the backward pass rather than kept, by Burn's balanced gradient
    /// checkpointing: less memory for some time.
    #[serde(default, skip_serializing_if = "is_false")]
    pub recompute: bool,
}

/// The precision of activations and gradients. Weights, moments and updates are in single precision always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    Single,
    /// 16 bits of which 8 are exponent, from a copy of the weights that every step makes; normalizations, attention
    /// weights and the loss are taken in 32 bits.
    BFloat16,
}

impl Precision {
    // Left out of files where it is the default, so that what was written before stays the same.
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
    /// Checks every setting.
    ///
    /// # Errors
    /// [`TrainError`] names the first one that does not fit and says what to change.
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
