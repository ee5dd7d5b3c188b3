//! How candidates are trained and scored, as plain configuration.

use std::{collections::BTreeSet, ops::RangeInclusive};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::{
    Metric, Task, TaskError,
    task::{
        InContextRecall, Instance, Memorization, SelectiveCopying, Setting, baseline_settings, difficulty_settings,
    },
};
use crate::{
    cost::{CostError, ModelCost, Workload},
    device,
    limits::{self, LimitError},
    model::{AutoEncoder, HybridLm, ModelSpec},
    primitive::{BuildError, Dims, DimsError, InitScheme, Primitives, RegistryError},
    seed::Seed,
    space::Architecture,
    train::{AdamWConfig, LrSchedule, Precision, TrainConfig, TrainError, least_bytes},
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
    /// Two tasks on which the order of attention and MLP layers shows within seconds of one CPU core: in-context recall
    /// (vocabulary 6, length 16, 500 steps) 17 times and selective copying (vocabulary 8, length 24, 4 tokens, 160
    /// steps) 13 times, at width 32 with 4 heads, batches of 16 fresh sequences, AdamW at a constant 4e-3 after
    /// warm-up, clipping at 1.
    ///
    /// When a model gets the point of a task is mostly chance, so many short trainings rank better than a long one of
    /// the same cost. `docs/proxy.md` has the measurements behind every choice.
    pub fn quick() -> Self {
        let recall = Task::InContextRecall(InContextRecall { vocab_size: 6, seq_len: 16, multi_query: true });
        let copying = Task::SelectiveCopying(SelectiveCopying { vocab_size: 8, seq_len: 24, num_tokens_to_copy: 4 });
        Self {
            name: "quick".into(),
            dims: dims(32, 96, 4, false),
            init: InitScheme::FanIn,
            trainings: vec![quick_training(recall, 500, 17), quick_training(copying, 160, 13)],
            metric: Metric::Micro,
            selection: Selection::Last,
            scoring: Scoring::CurveMean,
            data_seed: Seed(12_345),
        }
    }

    /// [`quick`](Self::quick) and memorization (vocabulary 256, length 16, 60 steps, 6 times), with copying at twice the
    /// weight of recall and memorization at half of it: for spaces with more kinds of layers than attention and MLP.
    ///
    /// Train candidates of equal size with it, by [`Mad::of_blocks`](super::Mad::of_blocks).
    pub fn hybrid() -> Self {
        let Self { mut trainings, .. } = Self::quick();
        trainings[1].weight = 2.0;
        let memorization = Task::Memorization(Memorization { vocab_size: 256, seq_len: 16 });
        trainings.push(Training { weight: 0.5, ..quick_training(memorization, 60, 6) });
        Self { name: "hybrid".into(), trainings, ..Self::quick() }
    }

    /// The benchmark at its baseline settings: six tasks, width 128 with 16 heads, SwiGLU 352, 200 epochs over fixed
    /// sets (12,800 sequences; 256 for memorization) in batches of 128, the best of six combinations of learning rate
    /// and weight decay, cosine stepped once per epoch, macro accuracy at the lowest test loss.
    ///
    /// It differs from the published code in what `docs/mad.md` lists: corrected flaws of the data, single precision.
    pub fn reference() -> Self {
        Self::of_settings("reference", baseline_settings())
    }

    /// The benchmark at all 66 difficulty settings, each as in [`reference`](Self::reference).
    pub fn full() -> Self {
        Self::of_settings("full", difficulty_settings())
    }

    /// The preset with this name, or `None`.
    pub fn preset(name: &str) -> Option<Self> {
        [Self::quick, Self::hybrid, Self::reference, Self::full]
            .into_iter()
            .map(|preset| preset())
            .find(|preset| preset.name == name)
    }

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

    fn of_settings(name: &str, settings: Vec<Setting>) -> Self {
        Self {
            name: name.into(),
            dims: dims(128, 352, 16, true),
            init: InitScheme::FanIn,
            trainings: settings.into_iter().map(reference_training).collect(),
            metric: Metric::Macro,
            selection: Selection::LowestLoss,
            scoring: Scoring::Accuracy,
            data_seed: Seed(12_345),
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`ProtocolError`] names the training and says what to change.
    pub fn validate(&self) -> Result<(), ProtocolError> {
        self.dims.validate()?;
        self.init.validate().map_err(Box::new)?;
        if self.trainings.is_empty() {
            return Err(ProtocolError::NoTrainings);
        }
        let mut labels = BTreeSet::new();
        for training in &self.trainings {
            let label = training.label();
            training
                .validate()
                .map_err(|source| ProtocolError::Training { label: label.clone(), source: Box::new(source) })?;
            if !labels.insert(label.clone()) {
                return Err(ProtocolError::Repeated { label });
            }
        }
        Ok(())
    }

    /// Builds the model that `architecture` is, without a vocabulary, and lets go of it. Layers have the same widths in
    /// all trainings, and an auto-encoder asks more of them.
    pub(super) fn build(
        &self,
        architecture: &Architecture,
        primitives: &Primitives,
        device: &Device,
    ) -> Result<(), BuildError> {
        let spec = ModelSpec {
            architecture: architecture.clone(),
            dims: self.dims.clone(),
            vocab_size: 1,
            tied_embeddings: false,
            head_bias: true,
            init: self.init,
        };
        if self.trainings.iter().any(|training| training.task.is_auto_encoding()) {
            AutoEncoder::new(&spec, primitives, Seed(0), device).map(drop)
        } else {
            HybridLm::new(&spec, primitives, Seed(0), device).map(drop)
        }
    }

    /// Holds every training of `architecture`, which may have no layer, against the memory that this process can have.
    pub(super) fn check_memory(
        &self,
        architecture: &Architecture,
        primitives: &Primitives,
        device: &Device,
    ) -> Result<(), ProtocolError> {
        self.trainings.iter().try_for_each(|training| {
            let fits = self.check_training(training, architecture, primitives, device);
            fits.map_err(|source| ProtocolError::Training { label: training.label(), source: Box::new(source) })
        })
    }

    /// Holds what is in memory at once, at least, against what this process can have: the examples, and the training
    /// itself where it is on the processor.
    pub(super) fn check_training(
        &self,
        training: &Training,
        architecture: &Architecture,
        primitives: &Primitives,
        device: &Device,
    ) -> Result<(), TrainingError> {
        let Training { task, train, .. } = training;
        let length = task.input_len();
        let fixed = training.sequences().saturating_sub(training.test_examples) as u64;
        let instance = size_of::<Instance>().saturating_add(length.saturating_mul(BYTES_PER_TOKEN));
        let test = [training.test_examples as u64, length as u64, BYTES_PER_BATCHED_TOKEN];
        let examples = limits::product(&[fixed, instance as u64]).saturating_add(limits::product(&test));
        limits::check_memory("the examples of a training", examples)?;
        if device::is_accelerator(device) {
            return Ok(());
        }
        let width = u128::from(self.dims.width());
        let decoder = if task.is_auto_encoding() { 2 * width * width } else { 0 };
        let spec = self.model(task, architecture.clone());
        let step = least_bytes(&spec, primitives, train, length, decoder)?;
        let all = step.saturating_add(examples);
        Ok(limits::check_memory("a training, with its weights, optimizer and examples,", all)?)
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

    fn validate(&self) -> Result<(), TrainingError> {
        self.task.validate()?;
        if self.repeats == 0 {
            return Err(TrainingError::NoRepeats);
        }
        if !WEIGHTS.contains(&self.weight) {
            return Err(TrainingError::Weight(self.weight));
        }
        if self.test_examples == 0 {
            return Err(TrainingError::NoTestExamples);
        }
        if self.data == TrainData::Fixed(0) {
            return Err(TrainingError::NoTrainExamples);
        }
        self.train.validate()?;
        self.runs().iter().try_for_each(TrainConfig::validate)?;
        Ok(self.check_sizes()?)
    }

    /// Sequences that are in memory together.
    fn sequences(&self) -> usize {
        let fixed = match self.data {
            TrainData::Fresh => 0,
            TrainData::Fixed(examples) => examples,
        };
        self.test_examples.saturating_add(fixed)
    }

    fn check_sizes(&self) -> Result<(), LimitError> {
        limits::at_most("repeats", self.repeats, limits::MAX_REPEATS)?;
        limits::at_most("the number of examples", self.sequences(), limits::MAX_SEQUENCES)?;
        let length = self.task.input_len() as u64;
        for (what, sequences) in
            [("a step's tokens", self.train.batch_size), ("the examples' tokens", self.sequences())]
        {
            limits::product_at_most(what, &[sequences as u64, length], limits::MAX_TOKENS)?;
        }
        Ok(())
    }
}

/// What a training may count beside others.
const WEIGHTS: RangeInclusive<f64> = 1e-3..=1e3;
/// An input and a target of an instance.
const BYTES_PER_TOKEN: usize = size_of::<u32>() + size_of::<Option<u32>>();
/// The same in a batch.
const BYTES_PER_BATCHED_TOKEN: u64 = 2 * size_of::<i32>() as u64;

/// Widths that are constants of this file.
fn dims(d_model: usize, d_ff: usize, heads: usize, attention_bias: bool) -> Dims {
    Dims {
        d_model,
        d_ff,
        heads,
        kv_heads: heads,
        head_dim: d_model / heads,
        rope_theta: 10_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        attention_bias,
    }
}

fn quick_training(task: Task, steps: usize, repeats: usize) -> Training {
    const RATE: f64 = 4e-3;
    Training {
        task,
        data: TrainData::Fresh,
        test_examples: 64,
        train: TrainConfig {
            steps,
            batch_size: 16,
            schedule: LrSchedule { warmup_steps: 30, ..LrSchedule::cosine(RATE, RATE, steps) },
            optimizer: AdamWConfig::default(),
            clip_norm: Some(1.0),
            evaluate_every: 20,
            check_every: 5,
            stop_above: Some(0.999),
            precision: Precision::Single,
            recompute: false,
        },
        grid: Vec::new(),
        repeats,
        weight: 1.0,
    }
}

fn reference_training(setting: Setting) -> Training {
    const EPOCHS: usize = 200;
    const BATCH: usize = 128;
    let epoch = setting.train_examples.div_ceil(BATCH);
    let steps = EPOCHS * epoch;
    let grid = [1e-4, 5e-4, 1e-3]
        .into_iter()
        .flat_map(|learning_rate| [0.0, 0.1].map(|weight_decay| Hyperparameters { learning_rate, weight_decay }));
    Training {
        task: setting.task,
        data: TrainData::Fixed(setting.train_examples),
        test_examples: setting.test_examples,
        train: TrainConfig {
            steps,
            batch_size: BATCH,
            schedule: LrSchedule { interval: epoch, ..LrSchedule::cosine(1e-3, 1e-6, steps) },
            optimizer: AdamWConfig::default(),
            clip_norm: None,
            evaluate_every: epoch,
            check_every: 10,
            stop_above: Some(0.999),
            precision: Precision::Single,
            recompute: false,
        },
        grid: grid.collect(),
        repeats: 1,
        weight: 1.0,
    }
}

/// A protocol that cannot be carried out.
#[derive(Debug, Error)]
pub enum ProtocolError {
    /// The widths contradict each other.
    #[error(transparent)]
    Dims(#[from] DimsError),
    /// The initial weights have no such law.
    #[error(transparent)]
    Init(#[from] Box<BuildError>),
    /// Nothing is trained.
    #[error("the protocol trains nothing: name at least one task")]
    NoTrainings,
    /// Two trainings that cannot be told apart.
    #[error("the protocol trains {label:?} twice: change one of them or leave it out")]
    Repeated {
        /// Label of both.
        label: String,
    },
    /// A training that cannot be carried out.
    #[error("training {label:?} cannot be carried out")]
    Training {
        /// Which training.
        label: String,
        /// What is wrong.
        source: Box<TrainingError>,
    },
}

/// What is wrong with one training.
#[derive(Debug, Error)]
pub enum TrainingError {
    /// The task contradicts itself.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The training contradicts itself.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A size beyond any training, or beyond the memory there is.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The registry lacks a primitive of the architecture.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Trained not even once.
    #[error("repeats is 0: a training is carried out at least once")]
    NoRepeats,
    /// A weight out of bounds, or none.
    #[error("weight is {0}: a training counts between 0.001 and 1000 times as much as another; leave it out for 1")]
    Weight(f64),
    /// An empty test set.
    #[error("test_examples is 0: an accuracy needs at least one sequence")]
    NoTestExamples,
    /// An empty training set.
    #[error("the fixed training set has 0 sequences: give it at least one, or use fresh data")]
    NoTrainExamples,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_survive_json() {
        for name in ["quick", "reference", "full"] {
            let preset = Protocol::preset(name).unwrap();
            preset.validate().unwrap();
            let text = serde_json::to_string(&preset).unwrap();
            assert_eq!(serde_json::from_str::<Protocol>(&text).unwrap(), preset);
        }
        assert!(Protocol::preset("slow").is_none());
    }

    #[test]
    fn the_reference_is_as_large_as_published() {
        let reference = Protocol::reference();
        let full = Protocol::full();
        assert_eq!((reference.trainings.len(), full.trainings.len()), (6, 66));
        let runs = |protocol: &Protocol| protocol.trainings.iter().map(|t| t.runs().len()).sum::<usize>();
        assert_eq!((runs(&reference), runs(&full)), (36, 396));
        let steps = |training: &Training| training.runs().iter().map(|run| run.steps).sum::<usize>();
        let all: usize = full.trainings.iter().map(steps).sum();
        // The specification says 5.38 million optimiser steps in all.
        assert_eq!((all as f64 / 1e4).round() / 100.0, 5.38);
        let memorization = reference.trainings.iter().find(|t| t.task.name() == "memorization").unwrap();
        assert_eq!(memorization.train.steps, 400);
        assert_eq!(full.trainings[1].label(), "in-context-recall vocab_size=32");
        assert_eq!(full.trainings[7].label(), "in-context-recall train_examples=6400");
    }

    #[test]
    fn quick_is_what_its_documentation_says() {
        let quick = Protocol::quick();
        assert_eq!((quick.dims.d_model, quick.dims.heads), (32, 4));
        let described: Vec<_> = quick.trainings.iter().map(|t| (t.label(), t.train.steps, t.repeats)).collect();
        assert_eq!(described[0], ("in-context-recall seq_len=16 vocab_size=6".into(), 500, 17));
        assert_eq!(described[1], ("selective-copying num_tokens_to_copy=4 seq_len=24 vocab_size=8".into(), 160, 13));
        assert_eq!(quick.steps(), 17 * 500 + 13 * 160);
        for Training { data, train, .. } in &quick.trainings {
            assert_eq!((*data, train.batch_size, train.clip_norm), (TrainData::Fresh, 16, Some(1.0)));
            assert_eq!([train.schedule.at(30), train.schedule.at(train.steps - 1)], [4e-3; 2]);
        }
    }

    #[test]
    fn protocols_that_cannot_be_carried_out_are_refused() {
        let broken = |change: fn(&mut Protocol)| {
            let mut protocol = Protocol::quick();
            change(&mut protocol);
            crate::text::causes(&protocol.validate().unwrap_err())
        };
        for (change, words) in [
            ((|p| p.dims.heads = 3) as fn(&mut Protocol), "heads"),
            (|p| p.init = InitScheme::FanInEmbedding(f64::NAN), "standard deviation"),
            (|p| p.trainings.clear(), "at least one task"),
            (|p| p.trainings[1] = p.trainings[0].clone(), "twice"),
            (|p| p.trainings[0].repeats = 0, "at least once"),
            (|p| p.trainings[0].test_examples = 0, "test_examples"),
            (|p| p.trainings[0].data = TrainData::Fixed(0), "fixed training set"),
            (|p| p.trainings[0].train.steps = 0, "steps"),
            (|p| p.trainings[0].train.steps = usize::MAX, "steps is 18446744073709551615"),
            (|p| p.trainings[0].repeats = usize::MAX, "repeats is 18446744073709551615"),
            (|p| p.trainings[0].test_examples = usize::MAX, "examples is 18446744073709551615"),
            (|p| p.trainings[0].data = TrainData::Fixed(1 << 40), "examples is"),
            (|p| p.trainings[0].train.batch_size = 1 << 63, "batch_size is 9223372036854775808"),
            (|p| p.dims.d_ff = 1 << 63, "at most 16777216"),
            (|p| p.trainings[0].train.schedule.peak = f64::NAN, "peak"),
            (|p| p.trainings[0].grid = vec![Hyperparameters { learning_rate: -1.0, weight_decay: 0.0 }], "peak"),
            (
                |p| {
                    p.trainings[0].task =
                        Task::Compression(super::super::task::Compression { vocab_size: 1, seq_len: 8 })
                },
                "vocab",
            ),
        ] {
            let message = broken(change);
            assert!(message.contains(words), "{message}");
        }
    }
}
