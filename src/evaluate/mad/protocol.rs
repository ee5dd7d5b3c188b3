//! How candidates are trained and scored, as plain configuration.

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

/// How candidates are trained and scored on MAD. A plain value: read one from JSON, or change a preset.
///
/// The score of a trial is the mean over tasks of the mean over that task's trainings; of a training, the mean over its
/// repetitions of the best over its grid. Trainings may be given [weights](Training::weight). A run that diverges
/// scores 0. Where everything is repeated, the report has the standard error of the score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// What it is called in reports.
    pub name: String,
    /// Widths of the candidates.
    pub dims: Dims,
    /// Initial weights of the language models; the auto-encoder always draws N(0, 0.02), as the reference does.
    pub init: InitScheme,
    /// What is trained.
    pub trainings: Vec<Training>,
    /// How answers become an accuracy.
    pub metric: Metric,
    /// Which evaluation of a run is taken as its accuracy.
    pub selection: Selection,
    /// How the evaluations of a run become its score.
    pub scoring: Scoring,
    /// The root of test sets, fixed training sets and the facts of memorization: the same for every trial.
    pub data_seed: Seed,
}

/// One task at one difficulty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The task and its difficulty.
    pub task: Task,
    /// Where the training sequences come from.
    pub data: TrainData,
    /// Sequences in the test set.
    pub test_examples: usize,
    /// The training itself.
    pub train: TrainConfig,
    /// Trained once per entry, with these in place of those of `train`; empty: once, as `train` says.
    #[serde(default)]
    pub grid: Vec<Hyperparameters>,
    /// How often all that is done, each time with initial weights and training sequences of its own: several short
    /// trainings tell more than one long one where chance decides when a model gets the point.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub repeats: usize,
    /// How much it counts in the mean over its task's trainings, and the task in the mean over tasks, which weighs each
    /// task by the mean weight of its trainings. From 0.001 to 1000; 1 where it is left out.
    #[serde(default = "even", skip_serializing_if = "is_even")]
    pub weight: f64,
}

/// Where training sequences come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainData {
    /// New sequences at every step, drawn from the trial's seed.
    Fresh,
    /// A fixed set of this many sequences, the same for every trial, in an order drawn anew for every epoch.
    Fixed(usize),
}

fn once() -> usize {
    1
}

/// Left out of the text, so that journals and tables of protocols without repetitions keep their fingerprint.
fn is_once(repeats: &usize) -> bool {
    *repeats == 1
}

fn even() -> f64 {
    1.0
}

/// Left out of the text for the same reason.
fn is_even(weight: &f64) -> bool {
    *weight == 1.0
}

/// A point of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hyperparameters {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Weight decay of AdamW.
    pub weight_decay: f64,
}

/// Which evaluation of a run is taken as its accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The one with the lowest validation loss, as in the reference.
    LowestLoss,
    /// The last.
    Last,
}

/// How the evaluations of a run become its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// The selected accuracy.
    Accuracy,
    /// The mean accuracy over the planned evaluations: the area under the learning curve, which also tells apart runs
    /// that end alike. A run that stopped early at its threshold counts as staying there.
    CurveMean,
}

impl Protocol {
    /// Training steps of one trial, over all trainings, their repetitions and the points of their grids.
    pub fn steps(&self) -> usize {
        let steps = |training: &Training| training.runs().iter().map(|run| run.steps).fold(0, usize::saturating_add);
        let all = self.trainings.iter().map(|training| training.repeats.saturating_mul(steps(training)));
        all.fold(0, usize::saturating_add)
    }

    /// The model that `architecture` is in a training on `task`.
    pub(super) fn model(&self, task: &Task, architecture: Architecture) -> ModelSpec {
        // The reference draws the auto-encoder's weights, layers included, in the manner of GPT-2.
        let init = if task.is_auto_encoding() { InitScheme::Normal(0.02) } else { self.init };
        let vocab_size = task.vocab_size();
        ModelSpec { architecture, dims: self.dims.clone(), vocab_size, tied_embeddings: false, head_bias: true, init }
    }

    /// Floating-point operations of all trainings of one trial, where none of them diverges.
    ///
    /// # Errors
    /// [`CostError`] when the cost of a model cannot be stated.
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
    /// The task's name, followed by the settings in which it differs from the benchmark's baseline.
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

    /// The configurations of one repetition, one per point of the grid.
    pub(super) fn runs(&self) -> Vec<TrainConfig> {
        let with = |point: &Hyperparameters| {
            let mut train = self.train.clone();
            // The floor keeps its place below the peak.
            train.schedule.floor = train.schedule.floor.min(point.learning_rate);
            train.schedule.peak = point.learning_rate;
            train.optimizer.weight_decay = point.weight_decay;
            train
        };
        if self.grid.is_empty() { vec![self.train.clone()] } else { self.grid.iter().map(with).collect() }
    }
}
