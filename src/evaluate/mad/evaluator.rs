//! Training a candidate on the tasks of a protocol.

use std::cell::RefCell;

use burn::tensor::Device;
use thiserror::Error;

use super::{
    Metric, Protocol, ProtocolError, Scoring, Selection, Training,
    completed_runs::{CompletedRun, CompletedRuns},
    data::Data,
    progress_tracker::ProgressTracker,
    repetitions::{Repetitions, order, score, share},
    training_metrics::curve_mean,
};
use crate::{
    cost::{ModelCost, Workload},
    device,
    evaluate::{
        Context, EvalError, Evaluator, SizeMatched,
        failure::{guarded, infeasible, train_error},
    },
    extrapolate::{Cycle, Target, TargetError},
    model::{AutoEncoder, HybridLm, Network},
    primitive::{BuildError, Primitives, RegistryError, Symbol},
    seed::Seed,
    space::Architecture,
    study::{Report, TaskReport, Trial},
    train::{Evaluation, Outcome, Room, TokenBatch, TrainConfig, TrainError, Trained, predict, train},
};

/// Evaluates architectures by training them on the MAD tasks. The score is named `accuracy`.
///
/// In a [race](crate::study::Race) for this score, the repetitions of the trainings alternate between tasks and stop
/// when the race is lost.
///
/// If there is a folder for [checkpoints](Context::checkpoint), the next attempt does not repeat finished trainings.
#[derive(Clone, Debug)]
pub struct Mad {
    protocol: Protocol,
    primitives: Primitives,
    device: Device,
}

/// The error of a proxy that cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MadError {
    /// The protocol is invalid, or needs more memory than there is.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// A layer cannot be built at the widths of the protocol, so no candidate with it could be trained.
    #[error("no candidate with {primitive} can be trained at the widths of protocol {protocol:?}")]
    Primitive {
        /// The primitive with its letter.
        primitive: String,
        /// The name of the protocol.
        protocol: String,
        /// Why it cannot be built.
        source: Box<BuildError>,
    },
    /// A symbol has no primitive.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Mad {
    /// Creates an evaluator that follows `protocol`, with the layers of `primitives`, on `device`.
    ///
    /// # Errors
    /// [`MadError`] if the protocol is invalid, or needs more memory than this machine has.
    pub fn new(protocol: Protocol, primitives: &Primitives, device: &Device) -> Result<Self, MadError> {
        protocol.validate()?;
        protocol.check_memory(&Architecture::default(), primitives, device)?;
        Ok(Self::unchecked(protocol, primitives, device))
    }

    /// Checks, before a search begins, that candidates with layers of each of these symbols can be trained. It builds a
    /// model of one layer for every symbol.
    ///
    /// # Errors
    /// [`MadError`] for the first symbol whose layer cannot be built at the widths of the protocol, or needs more
    /// memory than there is.
    pub fn check(&self, symbols: impl IntoIterator<Item = Symbol>) -> Result<(), MadError> {
        let Self { protocol, primitives, device } = self;
        for symbol in symbols {
            let primitive = primitives.get(symbol)?;
            let architecture = Architecture::new([symbol]);
            protocol.check_memory(&architecture, primitives, device)?;
            protocol.build(&architecture, primitives, device).map_err(|source| MadError::Primitive {
                primitive: format!("{} ({symbol})", primitive.id()),
                protocol: protocol.name.clone(),
                source: Box::new(source),
            })?;
        }
        Ok(())
    }

    /// Creates an evaluator with [`Protocol::quick`]. [`new`](Self::new) takes the other presets.
    pub fn quick(primitives: &Primitives, device: &Device) -> Self {
        Self::unchecked(Protocol::quick(), primitives, device)
    }

    /// Creates an evaluator with [`Protocol::hybrid`].
    pub fn hybrid(primitives: &Primitives, device: &Device) -> Self {
        Self::unchecked(Protocol::hybrid(), primitives, device)
    }

    fn unchecked(protocol: Protocol, primitives: &Primitives, device: &Device) -> Self {
        Self { protocol, primitives: primitives.clone(), device: device.clone().without_autodiff() }
    }

    /// Grows every candidate by [`Cycle`] to the size of `blocks` blocks of attention and SwiGLU at the widths of the
    /// protocol. Use it for spaces that mix kinds of layers. `docs/proxy.md` has measurements with 5 blocks.
    ///
    /// # Errors
    /// [`TargetError`] if `blocks` is 0 or more than a model can have.
    pub fn of_blocks(self, blocks: usize) -> Result<SizeMatched<Self, Cycle>, TargetError> {
        let target = Target::custom("candidates", self.protocol.dims.clone(), 1, false, blocks)?;
        let primitives = self.primitives.clone();
        SizeMatched::new(self, Cycle, target, &primitives)
    }

    /// Returns the protocol.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }
}

impl Evaluator for Mad {
    /// Returns the protocol as JSON. The device is left out: a search may move to a faster one, where results agree up
    /// to rounding.
    fn fingerprint(&self) -> String {
        let protocol = serde_json::to_string(&self.protocol).unwrap_or_else(|error| error.to_string());
        format!("mad {protocol}")
    }

    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        let trainings = &self.protocol.trainings;
        let mut tracker = ProgressTracker::new(context, self.protocol.steps());
        let mut runs = CompletedRuns::in_folder(context.checkpoint());
        let accelerator = device::is_accelerator(&self.device);
        let mut repetitions = Repetitions::new(&self.protocol);
        for (index, repeat) in order(trainings, trial.race.is_some()) {
            let training = &trainings[index];
            let configs = training.runs();
            tracker.begin(training.label(), share(trainings, training) / training.repeats as f64);
            let mut best: Option<TaskReport> = None;
            for (point, config) in configs.iter().enumerate() {
                let number = repeat * configs.len() + point;
                let seed = trial.seed.derive(&format!("mad/{}", tracker.stage), number as u64);
                let run = Run { mad: self, training, config, seed };
                let done = match runs.next() {
                    Some(done) => {
                        tracker.again(&done.told);
                        done
                    }
                    None => {
                        let done = guarded(accelerator, || run.carry_out(&trial.architecture, &mut tracker))?;
                        runs.keep(&done);
                        done
                    }
                };
                repetitions.parameters = repetitions.parameters.max(done.parameters);
                repetitions.train_flops += done.train_flops;
                tracker.end(config.steps, score(&done.task));
                // The first on ties, so that the result depends on the order of the grid.
                if best.as_ref().is_none_or(|best| score(&done.task) > score(best)) {
                    best = Some(done.task);
                }
            }
            repetitions.add(index, best.unwrap_or_default());
            if context.stopped().is_some() {
                return Err(EvalError::Cancelled);
            }
            if let Some(report) = trial.race.as_ref().and_then(|race| repetitions.lost(race)) {
                return Ok(report);
            }
        }
        Ok(repetitions.report())
    }
}

/// One training with one set of hyperparameters.
struct Run<'a> {
    mad: &'a Mad,
    training: &'a Training,
    config: &'a TrainConfig,
    seed: Seed,
}

impl Run<'_> {
    /// Builds and trains the candidate.
    fn carry_out(&self, architecture: &Architecture, tracker: &mut ProgressTracker) -> Result<CompletedRun, EvalError> {
        let protocol = &self.mad.protocol;
        let task = &self.training.task;
        let spec = protocol.model(task, architecture.clone());
        let primitives = &self.mad.primitives;
        let fits = protocol.check_training(self.training, architecture, primitives, &self.mad.device);
        let needed = fits.map_err(infeasible)?;
        let room = Room::enter(&self.mad.device, needed, &|| tracker.cancelled());
        let _room = room.ok_or(EvalError::Cancelled)?;
        let device = self.mad.device.clone().autodiff();
        let data = Data::new(self.training, protocol.data_seed, self.seed).map_err(infeasible)?;
        let seq_len = task.input_len();
        let (task, parameters) = if task.is_auto_encoding() {
            let model = AutoEncoder::new(&spec, primitives, self.seed, &device).map_err(infeasible)?;
            self.train(model, data, tracker)?
        } else {
            let model = HybridLm::new(&spec, primitives, self.seed, &device).map_err(infeasible)?;
            self.train(model, data, tracker)?
        };
        let cost = ModelCost::new(&spec, primitives, Workload::bf16(seq_len as u64)).map_err(infeasible)?;
        let tokens = (task.steps * self.config.batch_size * seq_len) as f64;
        let train_flops = cost.train_flops_per_token as f64 * tokens;
        Ok(CompletedRun { task, parameters, train_flops, told: tracker.told.clone() })
    }

    fn train<N: Network>(
        &self,
        model: N,
        mut data: Data,
        tracker: &mut ProgressTracker,
    ) -> Result<(TaskReport, u64), EvalError> {
        let parameters = model.num_params() as u64;
        let test = std::mem::take(&mut data.test);
        let metric = self.mad.protocol.metric;
        let tracker = RefCell::new(tracker);
        let mut history = Vec::new();
        let trained = train(
            model,
            self.config,
            &mut |step| Ok(data.batch(step)),
            &mut |model| {
                let evaluation = measure(model, &test, metric)?;
                history.push(evaluation);
                let step = (history.len() * self.config.evaluate_every).min(self.config.steps);
                tracker.borrow_mut().evaluated(step, self.running_score(&history));
                Ok(evaluation)
            },
            &mut |now| tracker.borrow().progress(now.step),
        );
        Ok((self.task_report(&trained.map_err(train_error)?)?, parameters))
    }

    /// Returns the score of the run so far, as if its accuracy were 0 from now on.
    fn running_score(&self, history: &[Evaluation]) -> f64 {
        let selected = match self.mad.protocol.selection {
            Selection::Last => history.last(),
            Selection::LowestLoss => history.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)),
        };
        match self.mad.protocol.scoring {
            Scoring::Accuracy => selected.map_or(0.0, |evaluation| evaluation.accuracy),
            Scoring::CurveMean => {
                let made: f64 = history.iter().map(|evaluation| evaluation.accuracy).sum();
                made / self.config.steps.div_ceil(self.config.evaluate_every).max(1) as f64
            }
        }
    }

    fn task_report<N>(&self, trained: &Trained<N>) -> Result<TaskReport, EvalError> {
        let protocol = &self.mad.protocol;
        let history = &trained.history;
        let curve = history.iter().map(|point| (point.step, point.evaluation.accuracy)).collect();
        let (steps, diverged) = match trained.outcome {
            Outcome::Finished => (self.config.steps, None),
            Outcome::ReachedThreshold { step } => (step, None),
            Outcome::Diverged { step, reason } => (step, Some(format!("{reason} at step {step}"))),
            Outcome::Cancelled { .. } => return Err(EvalError::Cancelled),
        };
        let selected = match protocol.selection {
            Selection::Last => history.last(),
            Selection::LowestLoss => history.iter().min_by(|a, b| a.evaluation.loss.total_cmp(&b.evaluation.loss)),
        };
        let Some(selected) = selected.filter(|_| diverged.is_none()) else {
            let score = Some(0.0);
            let accuracy = Some(0.0);
            return Ok(TaskReport { score, accuracy, steps, curve, diverged, ..TaskReport::default() });
        };
        let Evaluation { loss, accuracy } = selected.evaluation;
        let planned = self.config.steps.div_ceil(self.config.evaluate_every);
        let score = match protocol.scoring {
            Scoring::Accuracy => accuracy,
            Scoring::CurveMean => curve_mean(&curve, planned),
        };
        let score = Some(score);
        let accuracy = Some(accuracy);
        let loss = Some(loss);
        Ok(TaskReport { score, accuracy, loss, steps, curve, ..TaskReport::default() })
    }
}

/// Returns the loss per scored position, and the accuracy, averaged over batches as in the reference implementation.
fn measure<N: Network>(model: &N, test: &[TokenBatch], metric: Metric) -> Result<Evaluation, TrainError> {
    let predictions = predict(model, test)?;
    let scored: usize = predictions.iter().map(|batch| batch.tokens.len()).sum();
    let loss: f64 = predictions.iter().map(|batch| batch.loss_sum).sum();
    let accuracies: Vec<f64> = predictions
        .iter()
        .filter_map(|batch| {
            metric.accuracy(batch.tokens.iter().map(|token| (token.prediction as u32, token.target as u32)))
        })
        .collect();
    let accuracy = accuracies.iter().sum::<f64>() / accuracies.len().max(1) as f64;
    Ok(Evaluation { loss: loss / scored.max(1) as f64, accuracy })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "flex")]
    #[test]
    fn the_processor_is_no_accelerator() {
        assert!(!device::is_accelerator(&Device::flex()) && !device::is_accelerator(&Device::flex().autodiff()));
    }
}
