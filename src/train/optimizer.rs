//! The optimizer's settings.

use burn::optim::ModuleOptimizer;
use serde::{Deserialize, Serialize};

use super::TrainError;

/// AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2). Weight decay applies to every parameter.
///
/// The default is PyTorch's: betas 0.9 and 0.999, epsilon 1e-8, weight decay 1e-2.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay rate of the running mean of the gradient.
    pub beta1: f64,
    /// Decay rate of the running mean of the squared gradient.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled: a step takes away `rate * weight_decay` of each weight.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2 }
    }
}

impl AdamWConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`TrainError`] names the first setting that does not fit.
    pub fn validate(&self) -> Result<(), TrainError> {
        for (name, value) in [("optimizer.beta1", self.beta1), ("optimizer.beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(TrainError::Beta { name, value });
            }
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return Err(TrainError::NotPositive { name: "optimizer.eps", value: self.eps });
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return Err(TrainError::Negative { name: "optimizer.weight_decay", value: self.weight_decay });
        }
        Ok(())
    }

    /// The optimizer with these settings, without any state.
    pub fn init(&self) -> ModuleOptimizer {
        burn::optim::AdamWConfig::new()
            .with_beta_1(self.beta1 as f32)
            .with_beta_2(self.beta2 as f32)
            .with_epsilon(self.eps as f32)
            .with_weight_decay(self.weight_decay as f32)
            .init()
    }
}
