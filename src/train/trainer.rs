//! Training step by step.

use burn::{
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use super::{
    AdamW, DivergedQuantity, Evaluation, Outcome, Point, StepReport, TokenBatch, TrainConfig, TrainError,
    clip::{clipping_factor, global_norm},
    freeze::frozen_where,
    gradients::{self, Gradients},
    window::{Window, WindowSums},
};
use crate::model::Network;

/// Trains a model step by step. Every call of [`step`](Self::step) updates the weights once. [`train`](super::train) is
/// a loop around it.
///
/// For trainings that are saved and resumed, use [`Pretrainer`](crate::pretrain::Pretrainer).
#[derive(Debug)]
pub struct Trainer<N> {
    config: TrainConfig,
    model: N,
    /// If set, the model learns the teacher's next-token distributions instead of the targets.
    teacher: Option<N>,
    vocab_size: usize,
    optimizer: AdamW,
    /// The first device holds the weights and the optimizer.
    devices: Vec<Device>,
    window: Window,
    done: TrainerProgress,
}

/// The progress of a training, as a plain value that can be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainerProgress {
    /// The number of steps so far.
    pub steps: usize,
    /// The sum of the losses since the last evaluation.
    pub loss_sum: f64,
    /// The number of steps since the last evaluation.
    pub loss_steps: usize,
}

impl TrainerProgress {
    /// Adds losses that were read.
    pub(super) fn add(&mut self, sums: WindowSums) {
        self.loss_sum += sums.loss;
        self.loss_steps += sums.steps;
    }

    /// Records an evaluation after these steps. Returns the point for the history if the evaluation is finite, and an
    /// outcome if it ends the training.
    pub(super) fn evaluated(
        &mut self,
        evaluation: Evaluation,
        stop_above: Option<f64>,
    ) -> (Option<Point>, Option<Outcome>) {
        let step = self.steps;
        if !(evaluation.loss.is_finite() && evaluation.accuracy.is_finite()) {
            return (None, Some(Outcome::Diverged { step, reason: DivergedQuantity::Evaluation }));
        }
        let train_loss = self.loss_sum / self.loss_steps.max(1) as f64;
        self.loss_sum = 0.0;
        self.loss_steps = 0;
        let reached = stop_above.is_some_and(|threshold| evaluation.accuracy > threshold);
        (Some(Point { step, train_loss, evaluation }), reached.then_some(Outcome::ReachedThreshold { step }))
    }
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// The loss of this step was not read.
    Silent,
    /// The mean loss and gradient norm since the last reading.
    Progress(StepReport),
    /// A value was infinite or NaN. The update was not made.
    Diverged(Outcome),
}

impl<N: Network> Trainer<N> {
    /// Creates a trainer on the device of the model.
    ///
    /// # Errors
    /// Returns a [`TrainError`] if the configuration is invalid or the model has no parameters.
    pub fn new(model: N, config: &TrainConfig) -> Result<Self, TrainError> {
        config.validate()?;
        let device = model.devices().into_iter().next().ok_or(TrainError::NoParameters)?;
        let model = model.train();
        Ok(Self {
            config: config.clone(),
            vocab_size: model.vocab_size(),
            model: gradients::recomputing(model, config.recompute),
            teacher: None,
            optimizer: config.optimizer.init(),
            devices: vec![device.without_autodiff()],
            window: Window::default(),
            done: TrainerProgress::default(),
        })
    }

    /// Adds devices for data parallelism. Each device computes one batch at a time. The gradients are summed on the
    /// device of the model, in the order of the batches. The sum does not depend on the number of devices, except for
    /// rounding differences between devices.
    #[must_use]
    pub(crate) fn also_on(mut self, devices: impl IntoIterator<Item = Device>) -> Self {
        self.devices.extend(devices.into_iter().map(Device::without_autodiff));
        self
    }

    /// Makes the model learn the next-token distributions of `teacher` instead of the targets. The loss is the
    /// [`divergence`](super::divergence) from these distributions. The teacher must have the same vocabulary; it is
    /// evaluated on every batch.
    #[must_use]
    pub(crate) fn learn_from(self, teacher: N) -> Self {
        Self { teacher: Some(teacher.valid()), ..self }
    }

    /// Freezes all parameters whose path in the model, such as `backbone.embedding`, is accepted by `frozen`. Frozen
    /// parameters have no gradient, no moments and no weight decay.
    #[must_use]
    pub(crate) fn freeze(self, frozen: impl Fn(&str) -> bool) -> Self {
        Self { model: frozen_where(self.model, &frozen), ..self }
    }

    /// Resumes a saved training with this optimizer and progress. The model of `self` must have the saved weights.
    #[must_use]
    pub(crate) fn resume(self, optimizer: AdamW, progress: TrainerProgress) -> Self {
        Self { optimizer, done: progress, ..self }
    }

    /// Returns the number of steps so far.
    pub(crate) fn steps_done(&self) -> usize {
        self.done.steps
    }

    /// Returns the progress. It excludes losses that have not been read yet, so save a training after a step that
    /// returned [`Step::Progress`].
    pub(crate) fn progress(&self) -> TrainerProgress {
        self.done
    }

    /// Returns the optimizer and its state.
    pub(crate) fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    /// Returns a copy of the current model, without autodiff.
    pub fn model(&self) -> N {
        self.model.valid()
    }

    /// Updates the weights once, with the gradient of the mean loss over all scored positions of all batches.
    ///
    /// # Errors
    /// Returns a [`TrainError`] if a batch does not fit the model or the device fails.
    pub fn step(mut self, batches: &[TokenBatch]) -> Result<(Self, Step), TrainError> {
        let index = self.done.steps;
        let fits = |batch: &TokenBatch| batch.validate(self.vocab_size);
        batches.iter().try_for_each(fits).map_err(|source| TrainError::Batch { step: index, source })?;
        let Some(Gradients { gradients, loss }) =
            gradients::mean(&self.model, self.teacher.as_ref(), &self.config, batches, &self.devices)
        else {
            return Err(TrainError::NoBatch { step: index });
        };
        let norm = global_norm(&self.model, &gradients, 1);
        let factor = self.config.clip_norm.zip(norm.as_ref()).map(|(max_norm, norm)| clipping_factor(norm, max_norm));
        self.window.add(loss, norm);
        self.update(gradients, factor)
    }

    /// Updates the weights with the gradients, multiplied by `factor`.
    fn update(mut self, gradients: GradientsParams, factor: Option<Tensor<1>>) -> Result<(Self, Step), TrainError> {
        let index = self.done.steps;
        let step = index + 1;
        let sums = if self.config.looks_at(step) { self.window.take()?.pop() } else { None };
        if let Some(sums) = sums {
            self.done.add(sums);
            if let Some(reason) = sums.diverged() {
                return Ok((self, Step::Diverged(Outcome::Diverged { step, reason })));
            }
        }
        let learning_rate = self.config.schedule.at(index);
        self.model = self.optimizer.step_clipped(learning_rate, self.model, gradients, factor);
        self.done.steps = step;
        let steps = self.config.steps;
        let shown = sums.map_or(Step::Silent, |sums| {
            let [loss, gradient_norm] = sums.means();
            Step::Progress(StepReport { step, steps, loss, gradient_norm, learning_rate })
        });
        Ok((self, shown))
    }

    /// Whether the model is due for an evaluation after the steps so far.
    pub(crate) fn evaluation_is_due(&self) -> bool {
        self.config.evaluates_after(self.done.steps)
    }

    /// Records an evaluation of [`model`](Self::model). Returns the point for the history if the evaluation is finite,
    /// and an outcome if it ends the training.
    pub(crate) fn evaluated(&mut self, evaluation: Evaluation) -> (Option<Point>, Option<Outcome>) {
        self.done.evaluated(evaluation, self.config.stop_above)
    }
}
