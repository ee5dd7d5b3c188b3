//! The training loop.

use std::{fmt, ops::ControlFlow};

use burn::{
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use serde::{Deserialize, Serialize};

use super::{AdamW, DataError, TokenBatch, TrainConfig, TrainError, clip_global_norm, cross_entropy};
use crate::model::Network;

/// What a model achieves on data it was not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean negative log-likelihood in nats.
    pub loss: f64,
    /// Share of right answers, in the evaluator's own metric.
    pub accuracy: f64,
}

/// One evaluation during a training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps done.
    pub step: usize,
    /// Mean training loss since the point before.
    pub train_loss: f64,
    /// The evaluation after those steps.
    pub evaluation: Evaluation,
}

/// Where a training stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Mean training loss since the last report.
    pub loss: f64,
    /// Mean norm of the gradient since the last report, before clipping.
    pub gradient_norm: f64,
    /// The learning rate of the last step.
    pub learning_rate: f64,
}

/// How a training ended. Steps are counted as done, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// All steps done.
    Finished,
    /// The accuracy came above `stop_above`.
    ReachedThreshold {
        /// Steps done.
        step: usize,
    },
    /// A number ceased to be finite. A lower learning rate, or clipping, usually helps.
    Diverged {
        /// The step at which it was noticed; the update of this step was not made.
        step: usize,
        /// Which number.
        reason: DivergedQuantity,
    },
    /// `progress` asked for it.
    Cancelled {
        /// Steps done.
        step: usize,
    },
}

/// The number that ceased to be finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DivergedQuantity {
    /// The training loss.
    Loss,
    /// The norm of the gradient.
    GradientNorm,
    /// The loss or the accuracy of an evaluation.
    Evaluation,
}

impl fmt::Display for DivergedQuantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantity = match self {
            DivergedQuantity::Loss => "the training loss",
            DivergedQuantity::GradientNorm => "the norm of the gradient",
            DivergedQuantity::Evaluation => "the validation loss",
        };
        write!(f, "{quantity} is not finite")
    }
}

/// A training that ended.
#[derive(Clone, Debug)]
pub struct Trained<N> {
    /// The last weights, without autodiff: ready to evaluate and to save. `train()` takes it back into training.
    pub model: N,
    /// The evaluations, first to last.
    pub history: Vec<Point>,
    /// How it ended.
    pub outcome: Outcome,
}

/// Trains `model`.
///
/// `data` gives the batch of each step, counted from 0; `evaluate` measures a snapshot without autodiff every
/// `evaluate_every` steps and after the last; `progress` hears of the loss every `check_every` steps and can break off.
/// The loss is the mean over the scored positions of the batch.
///
/// # Errors
/// [`TrainError`] when the configuration or a batch does not fit, `data` or `evaluate` fail, or the device does.
pub fn train<N: Network>(
    model: N,
    config: &TrainConfig,
    data: &mut dyn FnMut(usize) -> Result<TokenBatch, DataError>,
    evaluate: &mut dyn FnMut(&N) -> Result<Evaluation, TrainError>,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Trained<N>, TrainError> {
    config.validate()?;
    let mut run = Run::new(model, config)?;
    for index in 0..config.steps {
        let batch = data(index).map_err(|source| TrainError::Data { step: index, source })?;
        batch.validate(run.vocab_size).map_err(|source| TrainError::Batch { step: index, source })?;
        let step = index + 1;
        let evaluates = step.is_multiple_of(config.evaluate_every) || step == config.steps;
        let checks = evaluates || step.is_multiple_of(config.check_every);

        let gradients = run.gradients(&batch);
        let means = if checks { Some(run.window.take()?) } else { None };
        if let Some(reason) = means.and_then(Means::diverged) {
            return Ok(run.end(Outcome::Diverged { step, reason }));
        }
        let learning_rate = config.schedule.at(index);
        run.model = run.optimizer.step(learning_rate, run.model, gradients);

        if let Some(Means { loss, gradient_norm }) = means {
            let report = Progress { step, steps: config.steps, loss, gradient_norm, learning_rate };
            if progress(&report).is_break() {
                return Ok(run.end(Outcome::Cancelled { step }));
            }
        }
        if evaluates && let Some(outcome) = run.evaluate(step, evaluate)? {
            return Ok(run.end(outcome));
        }
    }
    Ok(run.end(Outcome::Finished))
}

/// A training under way.
struct Run<'a, N> {
    config: &'a TrainConfig,
    model: N,
    vocab_size: usize,
    optimizer: AdamW,
    device: Device,
    window: Window,
    history: Vec<Point>,
}

impl<'a, N: Network> Run<'a, N> {
    fn new(model: N, config: &'a TrainConfig) -> Result<Self, TrainError> {
        let device = model.devices().into_iter().next().ok_or(TrainError::NoParameters)?.autodiff();
        Ok(Self {
            config,
            vocab_size: model.vocab_size(),
            model: model.train(),
            optimizer: config.optimizer.init(),
            device,
            window: Window::default(),
            history: Vec::new(),
        })
    }

    /// Clipped gradients of the loss on `batch` and the network's own penalty, which the reported loss leaves out.
    fn gradients(&mut self, batch: &TokenBatch) -> GradientsParams {
        let (logits, penalty) = self.model.logits_and_penalty(batch.tokens(&self.device));
        let loss = cross_entropy(logits, batch);
        let sum = penalty.map_or(loss.clone(), |penalty| loss.clone() + penalty);
        let mut gradients = GradientsParams::from_grads(sum.backward(), &self.model);
        let norm = clip_global_norm(&self.model, &mut gradients, self.config.clip_norm);
        self.window.add(loss.inner(), norm);
        gradients
    }

    /// Adds a point to the history; an outcome if the training ends here.
    fn evaluate(
        &mut self,
        step: usize,
        evaluate: &mut dyn FnMut(&N) -> Result<Evaluation, TrainError>,
    ) -> Result<Option<Outcome>, TrainError> {
        let evaluation = evaluate(&self.model.valid())?;
        if !(evaluation.loss.is_finite() && evaluation.accuracy.is_finite()) {
            return Ok(Some(Outcome::Diverged { step, reason: DivergedQuantity::Evaluation }));
        }
        self.history.push(Point { step, train_loss: self.window.take_epoch_loss(), evaluation });
        let reached = self.config.stop_above.is_some_and(|threshold| evaluation.accuracy > threshold);
        Ok(reached.then_some(Outcome::ReachedThreshold { step }))
    }

    fn end(self, outcome: Outcome) -> Trained<N> {
        Trained { model: self.model.valid(), history: self.history, outcome }
    }
}

/// Sums since the last look, kept on the device: a step that diverges shows in every later sum.
#[derive(Default)]
struct Window {
    /// `[2]`: losses, gradient norms.
    sums: Option<Tensor<1>>,
    steps: usize,
    /// Sum and number of the losses since the last evaluation.
    epoch: (f64, usize),
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

    /// Reads the means and starts anew. Waits for the device.
    fn take(&mut self) -> Result<Means, TrainError> {
        let sums = self.sums.take().map(|sums| sums.try_into_vec_as::<f32>()).transpose()?.unwrap_or_default();
        let steps = std::mem::take(&mut self.steps);
        let [loss, norm] = [0, 1].map(|at| sums.get(at).map_or(0.0, |&sum| f64::from(sum)));
        self.epoch = (self.epoch.0 + loss, self.epoch.1 + steps);
        let count = steps.max(1) as f64;
        Ok(Means { loss: loss / count, gradient_norm: norm / count })
    }

    fn take_epoch_loss(&mut self) -> f64 {
        let (sum, steps) = std::mem::take(&mut self.epoch);
        sum / steps.max(1) as f64
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
