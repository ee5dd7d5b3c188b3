//! The trainings of a candidate, one by one or several as one network.

use std::{cell::RefCell, collections::BTreeMap, sync::Once};

use burn::{module::Module, tensor::Device};
use tracing::warn;

use super::{
    Metric, Protocol, Scoring, Selection, Training, completed_runs::CompletedRun, data::Data,
    progress_tracker::ProgressTracker, repetitions::Repetitions, training_metrics::curve_mean,
};
use crate::{
    cost::{ModelCost, Workload},
    device,
    evaluate::{
        EvalError,
        failure::{guarded, infeasible, train_error},
    },
    model::{AutoEncoder, HybridLm, Network},
    primitive::Primitives,
    seed::Seed,
    space::Architecture,
    study::{TaskReport, Trial},
    train::{Evaluation, Outcome, Point, Predictions, Room, TrainConfig, Trained, predict, train, train_ensemble},
};

/// What all trainings of an evaluator have in common.
#[derive(Clone, Debug)]
pub(super) struct TrainingSetup {
    pub protocol: Protocol,
    pub primitives: Primitives,
    /// Without autodiff.
    pub device: Device,
    /// The largest number of trainings that are made at once.
    pub at_once: usize,
}

/// The runs of a trial that were trained together with one that was due.
pub(super) struct Ahead<'a> {
    setup: &'a TrainingSetup,
    trial: &'a Trial,
    /// The largest number of runs that are trained as one.
    at_once: usize,
    /// By training, repetition and point of the grid.
    finished: BTreeMap<[usize; 3], FinishedRun>,
}

/// A run that was trained to its end.
struct FinishedRun {
    task: TaskReport,
    parameters: u64,
    train_flops: f64,
    /// The scores so far after each evaluation: (step, score).
    scores: Vec<(usize, f64)>,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(setup: &'a TrainingSetup, trial: &'a Trial) -> Self {
        // The values of trainings at once are known too late to stop the first of them.
        let at_once = if trial.threshold.points().is_empty() { setup.at_once } else { 1 };
        Self { setup, trial, at_once, finished: BTreeMap::new() }
    }

    /// Returns the run with this training, repetition and point of the grid. If it is not known yet, it is trained,
    /// together with later repetitions.
    pub(super) fn run(
        &mut self,
        [index, repeat, point]: [usize; 3],
        config: &TrainConfig,
        repetitions: &Repetitions,
        tracker: &mut ProgressTracker,
    ) -> Result<CompletedRun, EvalError> {
        if !self.finished.contains_key(&[index, repeat, point]) {
            let training = &self.setup.protocol.trainings[index];
            let run = Run { setup: self.setup, training, config, architecture: &self.trial.architecture };
            let grid = training.runs().len();
            let leaders = device::is_accelerator(&self.setup.device);
            let wanted = repetitions.wanted(index, self.trial.race.as_ref(), leaders).saturating_sub(repeat);
            let seed = |repeat: usize| {
                self.trial.seed.derive(&format!("mad/{}", tracker.stage), (repeat * grid + point) as u64)
            };
            let seeds: Vec<Seed> = (repeat..repeat + wanted.clamp(1, self.at_once)).map(seed).collect();
            let finished = run.carry_out_ahead(&seeds, tracker)?;
            if finished.len() < seeds.len() {
                self.at_once = finished.len();
            }
            self.finished.extend((repeat..).map(|repeat| [index, repeat, point]).zip(finished));
        }
        let finished = self.finished.remove(&[index, repeat, point]);
        let FinishedRun { task, parameters, train_flops, scores } = finished.ok_or(EvalError::Cancelled)?;
        tracker.trained(&scores);
        Ok(CompletedRun { task, parameters, train_flops, told: tracker.told.clone() })
    }
}

/// A training of a candidate with one set of hyperparameters.
struct Run<'a> {
    setup: &'a TrainingSetup,
    training: &'a Training,
    config: &'a TrainConfig,
    architecture: &'a Architecture,
}

/// Several trainings are made at once if they need at most this share of the memory: the estimate is a lower bound, and
/// other workers need theirs.
const SHARE_OF_MEMORY: usize = 4;

impl Run<'_> {
    /// Trains the candidate with the first of these seeds, and with as many of the next ones as can be trained at once.
    fn carry_out_ahead(&self, seeds: &[Seed], tracker: &mut ProgressTracker) -> Result<Vec<FinishedRun>, EvalError> {
        let accelerator = device::is_accelerator(&self.setup.device);
        let mut train = |seeds: &[Seed]| guarded(accelerator, || self.carry_out(seeds, tracker));
        let at_once = self.at_once(seeds.len());
        if at_once > 1 && guarded(accelerator, || Ok(self.can_ensemble())).unwrap_or(false) {
            match train(&seeds[..at_once]) {
                Ok(finished) => return Ok(finished),
                Err(EvalError::Cancelled) => return Err(EvalError::Cancelled),
                Err(error) => self.notice(&format!("{at_once} trainings at once failed: {error}")),
            }
        }
        train(&seeds[..1])
    }

    /// Returns how many of `wanted` trainings are to be made at once: at least one.
    fn at_once(&self, wanted: usize) -> usize {
        let Self { setup: TrainingSetup { protocol, primitives, device, .. }, training, architecture, .. } = self;
        if training.task.is_auto_encoding() {
            return 1;
        }
        let fits = |count: usize| {
            let bytes = count.saturating_mul(SHARE_OF_MEMORY);
            protocol.check_training(training, bytes, architecture, primitives, device).is_ok()
        };
        let mut count = wanted;
        while count > 1 && !fits(count) {
            count /= 2;
        }
        if count < wanted {
            self.notice(&format!("{count} instead of {wanted} trainings at once fit into the memory"));
        }
        count
    }

    /// Whether several trainings can be one.
    fn can_ensemble(&self) -> bool {
        let TrainingSetup { protocol, primitives, device, .. } = self.setup;
        let spec = protocol.model(&self.training.task, self.architecture.clone());
        HybridLm::new(&spec, primitives, Seed(0), device).is_ok_and(|model| model.can_ensemble())
    }

    /// Tells once per process why trainings are not made at once.
    fn notice(&self, text: &str) {
        static NOTICE: Once = Once::new();
        NOTICE.call_once(|| warn!(target: "composer_nas::search", training = self.training.label(), text, "notice"));
    }

    /// Builds and trains the candidate once with each of these seeds.
    fn carry_out(&self, seeds: &[Seed], tracker: &mut ProgressTracker) -> Result<Vec<FinishedRun>, EvalError> {
        let TrainingSetup { protocol, primitives, device, .. } = self.setup;
        let task = &self.training.task;
        let spec = protocol.model(task, self.architecture.clone());
        let fits = protocol.check_training(self.training, seeds.len(), self.architecture, primitives, device);
        let needed = fits.map_err(infeasible)?;
        let room = Room::enter(device, needed, &|| tracker.cancelled());
        let _room = room.ok_or(EvalError::Cancelled)?;
        let device = device.clone().autodiff();
        let data = |&seed: &Seed| Data::new(self.training, protocol.data_seed, seed).map_err(infeasible);
        let data = seeds.iter().map(data).collect::<Result<Vec<_>, _>>()?;
        let lm = |&seed: &Seed| HybridLm::new(&spec, primitives, seed, &device).map_err(infeasible);
        let (parameters, trained) = match seeds {
            [seed] if task.is_auto_encoding() => {
                let model = AutoEncoder::new(&spec, primitives, *seed, &device).map_err(infeasible)?;
                self.train(model, data, tracker)?
            }
            [seed] => self.train(lm(seed)?, data, tracker)?,
            seeds => self.train_together(seeds.iter().map(lm).collect::<Result<_, _>>()?, data, tracker)?,
        };
        let seq_len = task.input_len();
        let cost = ModelCost::new(&spec, primitives, Workload::bf16(seq_len as u64)).map_err(infeasible)?;
        let finished = |trained: Trained<()>| {
            let task = self.task_report(&trained)?;
            let tokens = (task.steps * self.config.batch_size * seq_len) as f64;
            let train_flops = cost.train_flops_per_token as f64 * tokens;
            let scores = self.scores(&trained.history);
            Ok(FinishedRun { task, parameters, train_flops, scores })
        };
        trained.into_iter().map(finished).collect()
    }

    /// Trains a model with its data. Returns the number of its parameters and the training.
    fn train<N: Network>(
        &self,
        model: N,
        data: Vec<Data>,
        tracker: &mut ProgressTracker,
    ) -> Result<(u64, Vec<Trained<()>>), EvalError> {
        let parameters = model.num_params() as u64;
        let mut data = data.into_iter();
        let Some(mut data) = data.next() else { return Ok((parameters, Vec::new())) };
        let test = std::mem::take(&mut data.test);
        let metric = self.setup.protocol.metric;
        let tracker = RefCell::new(tracker);
        let mut history = Vec::new();
        let trained = train(
            model,
            self.config,
            &mut |step| Ok(data.batch(step)),
            &mut |model| {
                let evaluation = measure(&predict(model, &test)?, metric);
                // One that is not a number ends the training.
                if evaluation.loss.is_finite() && evaluation.accuracy.is_finite() {
                    history.push(evaluation);
                    let step = (history.len() * self.config.evaluate_every).min(self.config.steps);
                    tracker.borrow_mut().evaluated(step, self.running_score(&history));
                }
                Ok(evaluation)
            },
            &mut |now| tracker.borrow().progress(now.step),
        );
        Ok((parameters, vec![trained.map_err(train_error)?.without_model()]))
    }

    /// Trains models of equal shape as one, each with its own data. Returns the number of parameters of a model and the
    /// trainings.
    fn train_together(
        &self,
        models: Vec<HybridLm>,
        mut data: Vec<Data>,
        tracker: &ProgressTracker,
    ) -> Result<(u64, Vec<Trained<()>>), EvalError> {
        let parameters = models.first().map_or(0, |model| model.num_params() as u64);
        // All have the same test set.
        let test = data.iter_mut().map(|data| std::mem::take(&mut data.test)).next_back().unwrap_or_default();
        let metric = self.setup.protocol.metric;
        let trained = train_ensemble(
            models,
            self.config,
            &mut |member, step| Ok(data[member].batch(step)),
            &mut |ensemble| {
                Ok(ensemble.predict(&test)?.iter().map(|predictions| measure(predictions, metric)).collect())
            },
            // As in the first run; the others are reported when they are due.
            &mut |step| tracker.progress(step),
        );
        let trained = trained.map_err(train_error)?;
        Ok((parameters, trained.into_iter().map(Trained::without_model).collect()))
    }

    /// Returns the scores after each evaluation of a run: (step, score).
    fn scores(&self, history: &[Point]) -> Vec<(usize, f64)> {
        let evaluations: Vec<Evaluation> = history.iter().map(|point| point.evaluation).collect();
        let so_far = |(index, point): (usize, &Point)| (point.step, self.running_score(&evaluations[..=index]));
        history.iter().enumerate().map(so_far).collect()
    }

    /// Returns the score of the run so far, as if its accuracy were 0 from now on.
    fn running_score(&self, history: &[Evaluation]) -> f64 {
        let selected = match self.setup.protocol.selection {
            Selection::Last => history.last(),
            Selection::LowestLoss => history.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)),
        };
        match self.setup.protocol.scoring {
            Scoring::Accuracy => selected.map_or(0.0, |evaluation| evaluation.accuracy),
            Scoring::CurveMean => {
                let made: f64 = history.iter().map(|evaluation| evaluation.accuracy).sum();
                made / self.config.steps.div_ceil(self.config.evaluate_every).max(1) as f64
            }
        }
    }

    fn task_report<N>(&self, trained: &Trained<N>) -> Result<TaskReport, EvalError> {
        let protocol = &self.setup.protocol;
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
fn measure(predictions: &[Predictions], metric: Metric) -> Evaluation {
    let scored: usize = predictions.iter().map(|batch| batch.tokens.len()).sum();
    let loss: f64 = predictions.iter().map(|batch| batch.loss_sum).sum();
    let accuracies: Vec<f64> = predictions
        .iter()
        .filter_map(|batch| {
            metric.accuracy(batch.tokens.iter().map(|token| (token.prediction as u32, token.target as u32)))
        })
        .collect();
    let accuracy = accuracies.iter().sum::<f64>() / accuracies.len().max(1) as f64;
    Evaluation { loss: loss / scored.max(1) as f64, accuracy }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn fewer_trainings_are_made_at_once_where_memory_is_short() {
        let primitives = Primitives::standard();
        let setup = TrainingSetup {
            protocol: Protocol::quick(),
            primitives: primitives.clone(),
            device: Device::flex(),
            at_once: 8,
        };
        let training = &setup.protocol.trainings[0];
        let architecture = "AM".parse().unwrap();
        let run = Run { setup: &setup, training, config: &training.train, architecture: &architecture };
        assert_eq!(run.at_once(8), 8);
        let wanted = 1 << 50;
        let count = run.at_once(wanted);
        assert!((8..wanted).contains(&count), "{count}");
        let fits =
            |count| setup.protocol.check_training(training, count, &architecture, &primitives, &Device::flex()).is_ok();
        assert!(fits(SHARE_OF_MEMORY * count) && !fits(2 * SHARE_OF_MEMORY * count));
    }
}
