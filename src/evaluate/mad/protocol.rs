//! How candidates are trained and scored.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Metric, Task, task::baseline_settings};
use crate::{
    cost::{CostError, ModelCost, Workload},
    dims::{Dims, InitScheme},
    model::ModelSpec,
    primitive::Primitives,
    seed::Seed,
    space::Architecture,
    train::TrainConfig,
};

/// The settings for training and scoring candidates on MAD. Start from a preset or read one from JSON.
///
/// The score of a trial is the mean over tasks of the mean over the trainings of the task. The score of a training is
/// the mean over its repetitions of the best run in its grid. Trainings can have [weights](Training::weight). A run
/// that diverges scores 0. If every training is repeated, the report has the standard error of the score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// The name, for reports.
    pub name: String,
    /// The widths of the candidates.
    pub dims: Dims,
    /// The initialisation of the weights of the language models. The auto-encoder always uses N(0, 0.02), as in the
    /// reference.
    pub init: InitScheme,
    /// The trainings of a trial.
    pub trainings: Vec<Training>,
    /// How predictions become an accuracy.
    pub metric: Metric,
    /// Which evaluation of a run gives its accuracy.
    pub selection: Selection,
    /// How the evaluations of a run become its score.
    pub scoring: Scoring,
    /// The seed of the test sets, the fixed training sets and the facts of memorization. These are the same for all
    /// trials.
    pub data_seed: Seed,
}

/// A task at one difficulty, with the settings of its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The task and its difficulty.
    pub task: Task,
    /// Where the training sequences come from.
    pub data: TrainData,
    /// The number of sequences in the test set.
    pub test_examples: usize,
    /// The settings of the training.
    pub train: TrainConfig,
    /// The grid: one run per entry, which replaces the values in `train`. If empty, there is one run with those of
    /// `train`.
    #[serde(default)]
    pub grid: Vec<Hyperparameters>,
    /// The number of repetitions of the whole grid, each with new initial weights and training sequences. If chance
    /// decides when a model solves the task, several short trainings are more informative than a long one.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub repeats: usize,
    /// The weight of this training in the mean over the trainings of its task, from 0.001 to 1000; 1 by default. The
    /// weight of a task in the mean over tasks is the mean weight of its trainings.
    #[serde(default = "even", skip_serializing_if = "is_even")]
    pub weight: f64,
}

/// The source of training sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainData {
    /// New sequences at every step, drawn from the trial's seed.
    Fresh,
    /// A fixed set with this number of sequences, the same for all trials, in a new order in every epoch.
    Fixed(usize),
}

fn once() -> usize {
    1
}

/// The default is not serialised, so protocols without repetitions keep the fingerprint in existing journals and
/// tables.
fn is_once(repeats: &usize) -> bool {
    *repeats == 1
}

fn even() -> f64 {
    1.0
}

/// The default is not serialised, for the same reason.
fn is_even(weight: &f64) -> bool {
    *weight == 1.0
}

/// A point in the grid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hyperparameters {
    /// The peak learning rate.
    pub learning_rate: f64,
    /// The weight decay of AdamW.
    pub weight_decay: f64,
}

/// Which evaluation of a run gives its accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The one with the lowest validation loss, as in the reference.
    LowestLoss,
    /// The last one.
    Last,
}

/// How the evaluations of a run become its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// The accuracy of the selected evaluation.
    Accuracy,
    /// The mean accuracy over the planned evaluations: the area under the learning curve, which also distinguishes runs
    /// that end with the same accuracy. A run that was stopped early at its threshold counts as staying there.
    CurveMean,
}

impl Protocol {
    /// Returns the number of training steps of a trial, for all trainings, repetitions and points of the grids.
    pub fn steps(&self) -> usize {
        let steps = |training: &Training| training.runs().iter().map(|run| run.steps).fold(0, usize::saturating_add);
        let all = self.trainings.iter().map(|training| training.repeats.saturating_mul(steps(training)));
        all.fold(0, usize::saturating_add)
    }

    /// Returns the model of `architecture` in a training on `task`.
    pub(super) fn model(&self, task: &Task, architecture: Architecture) -> ModelSpec {
        // The reference initialises the auto-encoder, including its layers, like GPT-2.
        let init = if task.is_auto_encoding() { InitScheme::Normal(0.02) } else { self.init };
        let vocab_size = task.vocab_size();
        ModelSpec { architecture, dims: self.dims.clone(), vocab_size, tied_embeddings: false, head_bias: true, init }
    }

    /// Returns the number of floating-point operations of all trainings of a trial, if none of them diverges.
    ///
    /// # Errors
    /// [`CostError`] if the cost of a model is not known.
    pub fn train_flops(&self, architecture: &Architecture, primitives: &Primitives) -> Result<f64, CostError> {
        let flops = |training: &Training| {
            let task = &training.task;
            let seq_len = task.input_len() as u64;
            let spec = self.model(task, architecture.clone());
            let per_token = ModelCost::new(&spec, primitives, Workload::bf16(seq_len))?.train_flops_per_token as f64;
            let tokens = |run: &TrainConfig| run.steps as f64 * run.batch_size as f64 * seq_len as f64;
            let grid: f64 = training.runs().iter().map(tokens).sum();
            Ok(training.repeats as f64 * grid * per_token)
        };
        self.trainings.iter().map(flops).sum()
    }
}

impl Training {
    /// Returns the name of the task, followed by the settings that differ from the benchmark's baseline.
    pub fn label(&self) -> String {
        let json = |task: &Task| serde_json::to_value(task).unwrap_or_default();
        let baseline = Task::all().iter().find(|task| task.name() == self.task.name()).map(json).unwrap_or_default();
        let mut label = self.task.name().to_owned();
        if let Value::Object(fields) = json(&self.task) {
            for (key, value) in fields.iter().filter(|(key, value)| baseline.get(key) != Some(value)) {
                label += &format!(" {key}={value}");
            }
        }
        if let TrainData::Fixed(examples) = self.data
            && baseline_settings().iter().all(|s| s.task.name() != self.task.name() || s.train_examples != examples)
        {
            label += &format!(" train_examples={examples}");
        }
        label
    }

    /// Returns the settings of the runs of one repetition, one per point of the grid.
    pub(super) fn runs(&self) -> Vec<TrainConfig> {
        let with = |point: &Hyperparameters| {
            let mut train = self.train.clone();
            // The floor must not exceed the peak.
            train.schedule.floor = train.schedule.floor.min(point.learning_rate);
            train.schedule.peak = point.learning_rate;
            train.optimizer.weight_decay = point.weight_decay;
            train
        };
        if self.grid.is_empty() { vec![self.train.clone()] } else { self.grid.iter().map(with).collect() }
    }
}
