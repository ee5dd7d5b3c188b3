//! The optimizer and its settings.

use std::collections::HashMap;

use burn::{
    module::{Module, ModuleMapper, Param, ParamId},
    optim::GradientsParams,
    tensor::{GradientCheckpointingStrategy, Tensor},
};
use serde::{Deserialize, Serialize};

use super::TrainError;
use crate::{
    device,
    kernels::{self, AdamWStep},
};

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

    /// Like [`step`](Self::step), with every gradient multiplied by one factor first (one element).
    ///
    /// A processor updates one parameter after the other. An accelerator updates those of equal length one right after
    /// the other, so that they share launches.
    pub(super) fn step_clipped<M: Module>(
        &mut self,
        rate: f64,
        module: M,
        gradients: GradientsParams,
        factor: Option<Tensor<1>>,
    ) -> M {
        let elsewhere = module.devices().iter().any(device::is_accelerator);
        let mut step = Step { optimizer: self, rate, factor };
        if !elsewhere {
            return module.map(&mut OneByOne { step, gradients });
        }
        let mut taken = Taken { gradients, waiting: Vec::new() };
        let module = module.map(&mut taken);
        let mut waiting = taken.waiting;
        waiting.sort_by_key(|(_, [weights, _])| weights.shape().num_elements());
        let updated = waiting.into_iter().map(|(id, [weights, gradient])| (id, step.apply(id, weights, gradient)));
        module.map(&mut Updated(updated.collect()))
    }

    /// Returns the state of a parameter, or `None` before its first gradient.
    pub(crate) fn moments(&self, id: ParamId) -> Option<&Moments> {
        self.parameters.get(&id)
    }

    /// Restores the state of a parameter.
    pub(crate) fn restore(&mut self, id: ParamId, moments: Moments) {
        self.parameters.insert(id, moments);
    }

    /// Keeps the moments of these members of an ensemble of `count`, in this order.
    pub(super) fn keep_members(&mut self, members: &[usize], count: usize) {
        for Moments { means, .. } in self.parameters.values_mut() {
            *means = means.each_ref().map(|mean| members_of(mean.clone(), members, count));
        }
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
    factor: Option<Tensor<1>>,
}

impl Step<'_> {
    /// Returns the new weights. All `[N]`.
    fn apply(&mut self, id: ParamId, weights: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        let gradient = match &self.factor {
            Some(factor) => kernels::scale(gradient, factor),
            None => gradient,
        };
        self.optimizer.update(id, weights, gradient, self.rate)
    }
}

/// Updates every parameter where it is.
struct OneByOne<'a> {
    step: Step<'a>,
    gradients: GradientsParams,
}

impl ModuleMapper for OneByOne<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let (id, weights, mapper) = param.consume();
        let like = Tracking::of(&weights);
        let shape = weights.dims();
        let weights = self.step.apply(id, weights.inner().flatten(0, D - 1), gradient.flatten(0, D - 1));
        Param::from_mapped_value(id, like.applied(weights.reshape(shape)), mapper)
    }
}

/// Takes the weights that have gradients out of a module, so that their memory can be used again. The gradients stay
/// there in their place.
struct Taken {
    gradients: GradientsParams,
    /// Weights and gradients, flattened.
    waiting: Vec<(ParamId, [Tensor<1>; 2])>,
}

impl ModuleMapper for Taken {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let (id, weights, mapper) = param.consume();
        let like = Tracking::of(&weights);
        self.waiting.push((id, [weights.inner().flatten(0, D - 1), gradient.clone().flatten(0, D - 1)]));
        Param::from_mapped_value(id, like.applied(gradient), mapper)
    }
}

/// Puts the new weights into the module.
struct Updated(HashMap<ParamId, Tensor<1>>);

impl ModuleMapper for Updated {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(weights) = self.0.remove(&param.id) else {
            return param;
        };
        let (id, gradient, mapper) = param.consume();
        let weights = Tracking::of(&gradient).applied(weights.reshape(gradient.dims()));
        Param::from_mapped_value(id, weights, mapper)
    }
}

/// What autodiff knows about a parameter.
pub(super) struct Tracking {
    tracked: bool,
    checkpointing: Option<GradientCheckpointingStrategy>,
}

impl Tracking {
    pub fn of<const D: usize>(weights: &Tensor<D>) -> Self {
        Self { tracked: weights.is_require_grad(), checkpointing: weights.gradient_checkpointing_strategy() }
    }

    /// Returns plain weights as a leaf of the graph like the one before.
    pub fn applied<const D: usize>(&self, weights: Tensor<D>) -> Tensor<D> {
        let mut weights = Tensor::from_inner(weights);
        if let Some(strategy) = self.checkpointing {
            weights = weights.with_gradient_checkpointing_strategy(strategy);
        }
        weights.set_require_grad(self.tracked)
    }
}

/// Returns the parts of these members of an ensemble of `count`, one after the other. `x`: `[N]`, of which `count` is a
/// divisor.
pub(super) fn members_of(x: Tensor<1>, members: &[usize], count: usize) -> Tensor<1> {
    let [all] = x.dims();
    let size = all / count;
    Tensor::cat(members.iter().map(|member| x.clone().narrow(0, member * size, size)).collect(), 0)
}
