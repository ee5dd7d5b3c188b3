//! A training under way, step by step.

use burn::{
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use super::{
    AdamW, DivergedQuantity, Evaluation, Outcome, Point, Progress, TokenBatch, TrainConfig, TrainError,
    clip_global_norm,
    freeze::frozen_where,
    gradients::{self, Gradients},
};
use crate::model::Network;

/// A training under way, of which [`train`](super::train) is the plain client: every call of [`step`](Self::step)
/// updates the weights once. It can be put aside and taken up again: weights, [`optimizer`](Self::optimizer) and
/// [`progress`](Self::progress) are all there is.
#[derive(Debug)]
pub struct Trainer<N> {
    config: TrainConfig,
    model: N,
    /// Whose next-token distributions are learned, in place of the text.
    teacher: Option<N>,
    vocab_size: usize,
    optimizer: AdamW,
    /// The first holds weights and optimizer.
    devices: Vec<Device>,
    window: Window,
    done: TrainerProgress,
}

/// How far a training is, as a plain value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerProgress {
    /// Steps done.
    pub steps: usize,
    /// Sum of the losses since the last evaluation.
    pub loss_sum: f64,
    /// Steps since the last evaluation.
    pub loss_steps: usize,
}

/// What a step has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Nothing: its loss was not looked at.
    Silent,
    /// The loss since the last look.
    Progress(Progress),
    /// A number was not finite; the update was not made.
    Diverged(Outcome),
}

impl<N: Network> Trainer<N> {
    /// Begins a training on the device of the model.
    ///
    /// # Errors
    /// [`TrainError`] when the configuration does not fit or the model has no parameters.
    pub fn new(model: N, config: &TrainConfig) -> Result<Self, TrainError> {
        config.validate()?;
        let device = model.devices().into_iter().next().ok_or(TrainError::NoParameters)?;
        let model = model.train();
        Ok(Self {
            config: config.clone(),
            vocab_size: model.vocab_size(),
            model: if config.recompute { gradients::recomputing(model) } else { model },
            teacher: None,
            optimizer: config.optimizer.init(),
            devices: vec![device.without_autodiff()],
            window: Window::default(),
            done: TrainerProgress::default(),
        })
    }

    /// Computes the batches of a step on these devices as well: one batch at a time on each, gradients summed on the
    /// device of the model in the order of the batches. The same batches give the same sum on any number of devices, up
    /// to their rounding.
    #[must_use]
    pub fn also_on(mut self, devices: impl IntoIterator<Item = Device>) -> Self {
        self.devices.extend(devices.into_iter().map(Device::without_autodiff));
        self
    }

    /// Learns the next-token distributions of `teacher`, a model with the same vocabulary, in place of the text: the
    /// loss is the [`divergence`](super::divergence) from them. The teacher is computed along with every batch.
    #[must_use]
    pub fn learn_from(self, teacher: N) -> Self {
        Self { teacher: Some(teacher.valid()), ..self }
    }

    /// Leaves the parameters alone whose path in the model `frozen` holds for, such as `trunk.embedding`: they have no
    /// gradient, no moments and no weight decay.
    #[must_use]
    pub fn freeze(self, frozen: impl Fn(&str) -> bool) -> Self {
        Self { model: frozen_where(self.model, &frozen), ..self }
    }

    /// Goes on where a training with this optimizer and progress was put aside; `self` holds its weights.
    #[must_use]
    pub fn resume(self, optimizer: AdamW, progress: TrainerProgress) -> Self {
        Self { optimizer, done: progress, ..self }
    }

    /// Steps done.
    pub fn steps_done(&self) -> usize {
        self.done.steps
    }

    /// How far the training is. Losses that were not looked at yet are missing: put a training aside after a step that
    /// gave [`Step::Progress`].
    pub fn progress(&self) -> TrainerProgress {
        self.done
    }

    /// The state of the optimizer.
    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    /// The weights so far, without autodiff.
    pub fn model(&self) -> N {
        self.model.valid()
    }

    /// Updates the weights once, by the gradient of the mean loss over all scored positions of all batches.
    ///
    /// # Errors
    /// [`TrainError`] when a batch does not fit or the device fails.
    pub fn step(mut self, batches: &[TokenBatch]) -> Result<(Self, Step), TrainError> {
        let index = self.done.steps;
        let fits = |batch: &TokenBatch| batch.validate(self.vocab_size);
        batches.iter().try_for_each(fits).map_err(|source| TrainError::Batch { step: index, source })?;
        let Some(Gradients { mut gradients, loss }) =
            gradients::mean(&self.model, self.teacher.as_ref(), &self.config, batches, &self.devices)
        else {
            return Err(TrainError::NoBatch { step: index });
        };
        let norm = clip_global_norm(&self.model, &mut gradients, self.config.clip_norm);
        self.window.add(loss, norm);
        self.update(gradients)
    }

    fn update(mut self, gradients: GradientsParams) -> Result<(Self, Step), TrainError> {
        let index = self.done.steps;
        let step = index + 1;
        let means = if self.looks_at(step) { Some(self.window.take(&mut self.done)?) } else { None };
        if let Some(reason) = means.and_then(Means::diverged) {
            return Ok((self, Step::Diverged(Outcome::Diverged { step, reason })));
        }
        let learning_rate = self.config.schedule.at(index);
        self.model = self.optimizer.step(learning_rate, self.model, gradients);
        self.done.steps = step;
        let steps = self.config.steps;
        let shown = means.map_or(Step::Silent, |Means { loss, gradient_norm }| {
            Step::Progress(Progress { step, steps, loss, gradient_norm, learning_rate })
        });
        Ok((self, shown))
    }

    fn looks_at(&self, step: usize) -> bool {
        self.evaluates_after(step) || step.is_multiple_of(self.config.log_every)
    }

    fn evaluates_after(&self, step: usize) -> bool {
        step.is_multiple_of(self.config.evaluate_every) || step == self.config.steps
    }

    /// Whether the steps done so far call for an evaluation.
    pub fn evaluation_is_due(&self) -> bool {
        self.evaluates_after(self.done.steps)
    }

    /// Takes note of an evaluation of [`model`](Self::model): a point of the history where it is finite, an outcome
    /// where the training ends with it.
    pub fn evaluated(&mut self, evaluation: Evaluation) -> (Option<Point>, Option<Outcome>) {
        let step = self.done.steps;
        if !(evaluation.loss.is_finite() && evaluation.accuracy.is_finite()) {
            return (None, Some(Outcome::Diverged { step, reason: DivergedQuantity::Evaluation }));
        }
        let train_loss = self.done.loss_sum / self.done.loss_steps.max(1) as f64;
        self.done.loss_sum = 0.0;
        self.done.loss_steps = 0;
        let reached = self.config.stop_above.is_some_and(|threshold| evaluation.accuracy > threshold);
        (Some(Point { step, train_loss, evaluation }), reached.then_some(Outcome::ReachedThreshold { step }))
    }
}

/// Sums since the last look, kept on the device: a step that diverges shows in every later sum.
#[derive(Debug, Default)]
struct Window {
    /// `[2]`: losses, gradient norms.
    sums: Option<Tensor<1>>,
    steps: usize,
}

#[derive(Clone, Copy)]
struct Means {
    loss: f64,
    gradient_norm: f64,
}

impl Window {
    fn add(&mut self, loss: Tensor<1>, gradient_norm: Option<Tensor<1>>) {
        let gradient_norm = gradient_norm.unwrap_or_else(|| loss.zeros_like());
        let step = Tensor::cat(vec![loss, gradient_norm], 0);
        self.sums = Some(match self.sums.take() {
            Some(sums) => sums + step,
            None => step,
        });
        self.steps += 1;
    }

    /// Reads the means and starts anew; adds the losses to `done`. Waits for the device.
    fn take(&mut self, done: &mut TrainerProgress) -> Result<Means, TrainError> {
        let sums = self.sums.take().map(|sums| sums.try_into_vec_as::<f32>()).transpose()?.unwrap_or_default();
        let steps = std::mem::take(&mut self.steps);
        let [loss, norm] = [0, 1].map(|at| sums.get(at).map_or(0.0, |&sum| f64::from(sum)));
        done.loss_sum += loss;
        done.loss_steps += steps;
        let count = steps.max(1) as f64;
        Ok(Means { loss: loss / count, gradient_norm: norm / count })
    }
}

impl Means {
    fn diverged(self) -> Option<DivergedQuantity> {
        if !self.loss.is_finite() {
            Some(DivergedQuantity::Loss)
        } else if !self.gradient_norm.is_finite() {
            Some(DivergedQuantity::GradientNorm)
        } else {
            None
        }
    }
}
