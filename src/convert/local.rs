//! Training one block to imitate a layer of the parent.

use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use super::ConvertError;
use crate::{
    layer::Block,
    seed::Seed,
    train::{AdamWConfig, LrSchedule, TrainError, clip_global_norm},
};

/// The settings for training blocks to imitate the parent's layers on a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalDistillation {
    /// The number of windows to train on, which are reused in turn.
    pub windows: u64,
    /// The number of additional windows on which the error is measured.
    pub held_out: u64,
    /// The number of windows per step.
    pub batch_size: usize,
    /// The number of steps per block.
    pub steps: usize,
    /// The peak learning rate. It rises linearly for a tenth of the steps, then falls to a tenth of the peak along a
    /// cosine.
    pub learning_rate: f64,
    /// The seed of randomly drawn weights and of the choice of windows.
    pub seed: Seed,
}

impl Default for LocalDistillation {
    /// 64 windows, 8 held-out windows, and 200 steps of 4 windows with a peak learning rate of 1e-3.
    fn default() -> Self {
        Self { windows: 64, held_out: 8, batch_size: 4, steps: 200, learning_rate: 1e-3, seed: Seed(0) }
    }
}

impl LocalDistillation {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`ConvertError`] for the first invalid setting.
    pub(crate) fn validate(&self) -> Result<(), ConvertError> {
        let counts = [
            ("windows", self.windows),
            ("held_out", self.held_out),
            ("batch_size", self.batch_size as u64),
            ("steps", self.steps as u64),
        ];
        if let Some((name, _)) = counts.into_iter().find(|&(_, count)| count == 0) {
            return Err(TrainError::Zero(name).into());
        }
        Ok(self.schedule().validate()?)
    }

    fn schedule(&self) -> LrSchedule {
        let rate = self.learning_rate;
        LrSchedule { warmup_steps: self.steps / 10, ..LrSchedule::cosine(rate, rate / 10.0, self.steps) }
    }
}

/// The input and the output of a layer, each `[B, S, D]`, without autodiff.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub input: Tensor<3>,
    pub target: Tensor<3>,
}

/// Returns the squared error of `block`, summed over all pairs, relative to that of a layer that adds nothing.
pub(super) fn error(block: &Block, pairs: &[Pair]) -> Result<f64, ConvertError> {
    let mut wrong = 0.0;
    let mut all = 0.0;
    for Pair { input, target } in pairs {
        let difference = block.forward(input.clone()) - target.clone();
        wrong += number(difference.square().sum())?;
        all += number(target.clone().square().sum())?;
    }
    Ok(if all > 0.0 { wrong / all } else { wrong })
}

/// Trains `block` on batches of pairs in turn. The inner error is the step at which the loss was not finite.
pub(super) fn imitate(
    block: Block,
    batches: &[Pair],
    settings: &LocalDistillation,
    device: &Device,
) -> Result<Result<Block, usize>, ConvertError> {
    const CLIP: f64 = 1.0;
    let device = device.clone().autodiff();
    let schedule = settings.schedule();
    let mut optimizer = AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() }.init();
    let mut block = block.train();
    for (step, Pair { input, target }) in batches.iter().cycle().take(settings.steps).enumerate() {
        let scale = number(target.clone().square().sum())?.max(f64::from(f32::MIN_POSITIVE));
        let [input, target] = [input, target].map(|tensor| Tensor::from_inner(tensor.clone()).to_device(&device));
        let loss = (block.forward(input) - target).square().sum() / scale;
        if !number(loss.clone().inner())?.is_finite() {
            return Ok(Err(step));
        }
        let mut gradients = GradientsParams::from_grads(loss.backward(), &block);
        clip_global_norm(&block, &mut gradients, Some(CLIP));
        block = optimizer.step(schedule.at(step), block, gradients);
    }
    Ok(Ok(block.valid()))
}

/// Reads a tensor with one element.
fn number(tensor: Tensor<1>) -> Result<f64, ConvertError> {
    let values = tensor.try_into_vec_as::<f32>().map_err(TrainError::from)?;
    Ok(values.first().copied().map_or(f64::NAN, f64::from))
}
