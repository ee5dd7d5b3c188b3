//! The optimizer and its settings.

use std::collections::HashMap;

use burn::{
    module::{Module, ModuleMapper, Param, ParamId},
    optim::GradientsParams,
    tensor::Tensor,
};
use serde::{Deserialize, Serialize};

use super::TrainError;
use crate::kernels::{self, AdamWStep};

/// The settings of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2). Weight decay applies to every
/// parameter.
///
/// The defaults are PyTorch's: betas 0.9 and 0.999, epsilon 1e-8, weight decay 1e-2.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWConfig {
    /// The decay rate of the running mean of the gradient.
    pub beta1: f64,
    /// The decay rate of the running mean of the squared gradient.
    pub beta2: f64,
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// The decoupled weight decay: each step subtracts `rate * weight_decay` times the weight.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2 }
    }
}

impl AdamWConfig {
    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// Returns a [`TrainError`] that names the first invalid setting.
    pub(crate) fn validate(&self) -> Result<(), TrainError> {
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

    /// Creates an optimizer with these settings and no state.
    pub fn init(&self) -> AdamW {
        AdamW { config: *self, parameters: HashMap::new() }
    }
}

/// The AdamW optimizer, with the moments of every parameter that has had a gradient.
///
/// It replaces Burn's own AdamW because it updates each parameter in one pass over the memory instead of about a dozen.
#[derive(Clone, Debug)]
pub struct AdamW {
    config: AdamWConfig,
    parameters: HashMap<ParamId, Moments>,
}

/// The state of one parameter, not tracked by autodiff.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    /// The running means of the gradient and of its square, each flattened: `[N]`.
    pub means: [Tensor<1>; 2],
    /// The number of updates so far.
    pub steps: i32,
}

impl AdamW {
    /// Updates the parameters of `module` with learning rate `rate`. Parameters without a gradient do not change.
    pub fn step<M: Module>(&mut self, rate: f64, module: M, gradients: GradientsParams) -> M {
        self.step_clipped(rate, module, gradients, None)
    }

    /// Like [`step`](Self::step), with every gradient multiplied by one factor first (one element). An accelerator does
    /// both in one launch.
    pub(super) fn step_clipped<M: Module>(
        &mut self,
        rate: f64,
        module: M,
        gradients: GradientsParams,
        factor: Option<Tensor<1>>,
    ) -> M {
        module.map(&mut Step { optimizer: self, rate, gradients, factor })
    }

    /// Returns the state of a parameter, or `None` before its first gradient.
    pub(crate) fn moments(&self, id: ParamId) -> Option<&Moments> {
        self.parameters.get(&id)
    }

    /// Restores the state of a parameter.
    pub(crate) fn restore(&mut self, id: ParamId, moments: Moments) {
        self.parameters.insert(id, moments);
    }

    fn update(&mut self, id: ParamId, weights: Tensor<1>, gradient: Tensor<1>, rate: f64) -> Tensor<1> {
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        let Moments { means, steps } = self
            .parameters
            .remove(&id)
            .unwrap_or_else(|| Moments { means: [gradient.zeros_like(), gradient.zeros_like()], steps: 0 });
        let steps = steps + 1;
        let step = AdamWStep {
            beta1,
            beta2,
            eps,
            decay: 1.0 - rate * weight_decay,
            rate: rate / (1.0 - beta1.powi(steps)),
            second_correction: 1.0 / (1.0 - beta2.powi(steps)),
        };
        let (weights, means) = kernels::adamw(weights, gradient, means, step);
        self.parameters.insert(id, Moments { means, steps });
        weights
    }
}

struct Step<'a> {
    optimizer: &'a mut AdamW,
    rate: f64,
    gradients: GradientsParams,
    factor: Option<Tensor<1>>,
}

impl ModuleMapper for Step<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let (id, weights, mapper) = param.consume();
        let shape = weights.dims();
        let count = [shape.iter().product::<usize>()];
        let gradient = gradient.reshape(count);
        // In the shape of the update: accelerators do not join launches of different shapes.
        let gradient = match &self.factor {
            Some(factor) => kernels::scale(gradient, factor),
            None => gradient,
        };
        let tracked = weights.is_require_grad();
        let checkpointing = weights.gradient_checkpointing_strategy();
        let weights = self.optimizer.update(id, weights.inner().reshape(count), gradient, self.rate);
        let mut weights = Tensor::from_inner(weights.reshape(shape));
        if let Some(strategy) = checkpointing {
            weights = weights.with_gradient_checkpointing_strategy(strategy);
        }
        let weights = weights.set_require_grad(tracked);
        Param::from_mapped_value(id, weights, mapper)
    }
}
