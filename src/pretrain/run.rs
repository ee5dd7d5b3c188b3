//! The pre-training loop.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Instant,
};

use burn::{module::Module, tensor::Device};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Measured, PretrainConfig, PretrainError, Record,
    checkpoint::{self, Checkpoints},
    metrics::Metrics,
    validate,
};
use crate::{
    data::{Corpus, Sampler, Windows},
    device, durable, limits,
    model::{HybridLm, ModelSpec},
    primitive::{PrimitiveId, Primitives, Symbol},
    train::{Outcome, Step, StepReport, TokenBatch, TrainError, Trainer, check_device},
};

/// Pre-trains one model on one corpus in one folder. If the run was stopped, running it again resumes it.
#[derive(Clone, Debug)]
pub struct Pretrainer {
    setup: Setup,
    primitives: Primitives,
    corpus: Corpus,
    folder: PathBuf,
    distil: Option<Distil>,
}

/// The initial weights and the teacher of a distillation; see [`Pretrainer::distil`].
#[derive(Clone, Debug)]
pub(crate) struct Distil {
    /// The model with the initial weights.
    pub start: HybridLm,
    /// The teacher, whose next-token distributions the model learns.
    pub teacher: HybridLm,
    /// Path prefixes of the parameters to train, such as `backbone.layers.3.`. If empty, all parameters are trained.
    pub trained: Vec<String>,
    /// Identifies start and teacher. A run resumes only with the same fingerprint.
    pub fingerprint: String,
}

/// The result of a pre-training.
#[derive(Debug)]
pub struct Pretrained {
    /// The trained model, without autodiff. After a divergence it has the weights of the last good step.
    pub model: HybridLm,
    /// How it ended.
    pub outcome: Outcome,
    /// All measurements of the run, including those of earlier processes.
    pub records: Vec<Record>,
    /// The path of the newest checkpoint.
    pub checkpoint: Option<PathBuf>,
}

/// Everything that the results of a run depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Setup {
    model: ModelSpec,
    primitives: BTreeMap<Symbol, PrimitiveId>,
    corpus: String,
    corpus_vocab_size: usize,
    config: PretrainConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    distillation: Option<String>,
}

const RUN: &str = "run.json";
const METRICS: &str = "metrics.jsonl";

impl Pretrainer {
    /// Creates a run in `folder`.
    ///
    /// # Errors
    /// Returns a [`PretrainError`] if the settings are inconsistent, or if the model and the corpus do not fit
    /// together.
    pub fn new(
        model: &ModelSpec,
        primitives: &Primitives,
        corpus: &Corpus,
        config: &PretrainConfig,
        folder: impl Into<PathBuf>,
    ) -> Result<Self, PretrainError> {
        config.validate()?;
        model.validate()?;
        if corpus.vocab_size > model.vocab_size {
            return Err(PretrainError::Vocabulary { corpus: corpus.vocab_size, model: model.vocab_size });
        }
        let mut letters = BTreeMap::new();
        for &symbol in model.architecture.layers() {
            letters.insert(symbol, primitives.get(symbol).map_err(crate::primitive::BuildError::from)?.id());
        }
        let setup = Setup {
            model: model.clone(),
            primitives: letters,
            corpus: corpus.tokens.digest()?,
            corpus_vocab_size: corpus.vocab_size,
            config: config.clone(),
            distillation: None,
        };
        let folder = folder.into();
        Ok(Self { setup, primitives: primitives.clone(), corpus: corpus.clone(), folder, distil: None })
    }

    /// Starts from existing weights and learns a teacher's next-token distributions instead of the text. The training
    /// losses are then divergences from the teacher. The validation does not change.
    #[must_use]
    pub(crate) fn distil(mut self, distil: Distil) -> Self {
        // The name of version 0.2, so that runs of that version resume.
        let trained: Vec<String> = distil.trained.iter().map(|path| path.replacen("backbone", "trunk", 1)).collect();
        self.setup.distillation = Some(format!("{}, trained {trained:?}", distil.fingerprint));
        self.distil = Some(distil);
        self
    }

    /// Trains to the end, or until `observer` breaks; in that case a checkpoint is written first.
    ///
    /// `device` holds the weights; each of `others` computes parts of every step. `observer` receives every new record.
    ///
    /// # Errors
    /// Returns a [`PretrainError`] if the folder belongs to another run or is in use, or if a file or a device fails.
    pub fn run(
        &self,
        device: &Device,
        others: &[Device],
        observer: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<Pretrained, PretrainError> {
        let config = &self.setup.config;
        let mut metrics = Metrics::open(&self.folder.join(METRICS))?;
        claim(&self.folder.join(RUN), &self.setup)?;
        let corpus = &self.corpus;
        let share = config.validation_share;
        let windows = Windows::split(corpus.tokens.clone(), corpus.vocab_size, config.seq_len, share)?;
        let [training, validation] = windows;
        let validation = validation.sample(config.validation_windows, config.micro_batch)?;

        self.check_memory(device)?;
        let checkpoints = Checkpoints::of_run(&self.folder);
        let accelerator = [device].into_iter().chain(others).any(device::is_accelerator);
        let trainer = device::guarded(accelerator, || self.trainer(&checkpoints, device, others));
        let trainer = trainer.map_err(PretrainError::DeviceFailed)??;
        metrics.rewind(trainer.steps_done());
        let sampler = Sampler::new(training, config.seed.derive("pretrain/data", 0));
        let mut run = Run {
            accelerator,
            config,
            corpus,
            validation,
            checkpoints,
            metrics,
            sampler,
            last: (Instant::now(), trainer.steps_done()),
        };
        let (trainer, outcome) = run.carry_out(trainer, observer)?;
        Ok(Pretrained {
            model: run.computed(|| Ok(trainer.model()))?,
            outcome,
            checkpoint: run.checkpoints.newest()?,
            records: run.metrics.into_records(),
        })
    }

    /// Checks whether the training fits into the memory of `device`. A distillation that trains a part of the weights
    /// is not checked: the estimate counts gradients and moments of all.
    fn check_memory(&self, device: &Device) -> Result<(), PretrainError> {
        if self.distil.as_ref().is_some_and(|distil| !distil.trained.is_empty()) {
            return Ok(());
        }
        let Setup { model, config, .. } = &self.setup;
        let sizes = [config.micro_batch.min(config.train.batch_size), config.seq_len];
        let fits = check_device(model, &self.primitives, &config.train, sizes, 0, device);
        Ok(fits.map(drop).map_err(TrainError::from)?)
    }

    /// Returns the trainer as the newest checkpoint left it, or a new one.
    fn trainer(
        &self,
        checkpoints: &Checkpoints,
        device: &Device,
        others: &[Device],
    ) -> Result<Trainer<HybridLm>, PretrainError> {
        let Setup { model: spec, config, .. } = &self.setup;
        let model = match &self.distil {
            Some(distil) => distil.start.clone().to_device(device),
            None => HybridLm::new(spec, &self.primitives, config.seed, device)?,
        };
        let trainer = match checkpoints.newest()? {
            None => Trainer::new(model, &config.train)?,
            Some(path) => {
                let (model, optimizer, progress) = checkpoint::load(&path, model, &config.train.optimizer, device)?;
                Trainer::new(model, &config.train)?.resume(optimizer, progress)
            }
        };
        let trainer = match &self.distil {
            None => trainer,
            Some(Distil { teacher, trained, .. }) => {
                let is_trained = |name: &str| trained.is_empty() || trained.iter().any(|start| name.starts_with(start));
                trainer.learn_from(teacher.clone().to_device(device)).freeze(|name| !is_trained(name))
            }
        };
        Ok(trainer.also_on(others.iter().cloned()))
    }
}

/// A run in progress.
struct Run<'a> {
    /// Whether any device is one.
    accelerator: bool,
    config: &'a PretrainConfig,
    corpus: &'a Corpus,
    validation: Vec<TokenBatch>,
    checkpoints: Checkpoints,
    metrics: Metrics,
    sampler: Sampler,
    /// The time and the step of the last measurement of the speed.
    last: (Instant, usize),
}

impl Run<'_> {
    fn carry_out(
        &mut self,
        mut trainer: Trainer<HybridLm>,
        observer: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<(Trainer<HybridLm>, Outcome), PretrainError> {
        let config = self.config;
        while trainer.steps_done() < config.train.steps {
            let batches = self.batches(trainer.steps_done())?;
            let shown;
            (trainer, shown) = self.computed(|| Ok(trainer.step(&batches)?))?;
            let mut flow = match shown {
                Step::Silent => ControlFlow::Continue(()),
                Step::Diverged(outcome) => return Ok((trainer, outcome)),
                Step::Progress(progress) => {
                    let measured = self.training(&progress);
                    self.tell(progress.step, measured, observer)?
                }
            };
            let step = trainer.steps_done();
            if trainer.evaluation_is_due() {
                let bytes = self.corpus.token_bytes.as_deref();
                let measured = self.computed(|| Ok(validate(&trainer.model(), &self.validation, bytes)?))?;
                let (point, _) = trainer.evaluated(measured.into());
                if point.is_none() {
                    let reason = crate::train::DivergedQuantity::Evaluation;
                    return Ok((trainer, Outcome::Diverged { step, reason }));
                }
                if self.tell(step, Measured::Validation(measured), observer)?.is_break() {
                    flow = ControlFlow::Break(());
                }
                self.last = (Instant::now(), step);
            }
            let stops = flow.is_break() || step == config.train.steps;
            if stops || step.is_multiple_of(config.checkpoint_every) {
                self.computed(|| self.checkpoints.save(&trainer, config.keep))?;
                self.last = (Instant::now(), step);
            }
            if flow.is_break() && step < config.train.steps {
                return Ok((trainer, Outcome::Cancelled { step }));
            }
        }
        Ok((trainer, Outcome::Finished))
    }

    /// Uses the device, which may fail.
    fn computed<T>(&self, compute: impl FnOnce() -> Result<T, PretrainError>) -> Result<T, PretrainError> {
        device::guarded(self.accelerator, compute).map_err(PretrainError::DeviceFailed)?
    }

    /// Returns the micro-batches of a step.
    fn batches(&mut self, step: usize) -> Result<Vec<TokenBatch>, PretrainError> {
        let PretrainConfig { train, micro_batch, .. } = self.config;
        let first = step as u64 * train.batch_size as u64;
        let all = train.batch_size;
        let starts = (0..all).step_by(*micro_batch);
        let mut part = |at: usize| self.sampler.batch(first + at as u64, (*micro_batch).min(all - at));
        starts.map(|at| Ok(part(at)?)).collect()
    }

    fn training(&mut self, progress: &StepReport) -> Measured {
        let (since, before) = std::mem::replace(&mut self.last, (Instant::now(), progress.step));
        let tokens = (progress.step - before) as u64 * self.config.tokens_per_step();
        let &StepReport { loss, gradient_norm, learning_rate, .. } = progress;
        let tokens_per_second = tokens as f64 / since.elapsed().as_secs_f64().max(1e-9);
        Measured::Training { loss, gradient_norm, learning_rate, tokens_per_second }
    }

    fn tell(
        &mut self,
        step: usize,
        measured: Measured,
        observer: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, PretrainError> {
        let record = Record { step, tokens: step as u64 * self.config.tokens_per_step(), measured };
        self.metrics.append(record)?;
        Ok(observer(&record))
    }
}

/// Writes the description of the run into this folder, or checks it against the existing one.
fn claim(path: &Path, setup: &Setup) -> Result<(), PretrainError> {
    let damaged = |error: serde_json::Error| PretrainError::Damaged { path: path.into(), reason: error.to_string() };
    let now = serde_json::to_value(setup).map_err(damaged)?;
    if !path.exists() {
        let text = serde_json::to_vec_pretty(&now).map_err(damaged)?;
        return durable::write(path, &text).map_err(PretrainError::io(path));
    }
    let text = limits::read(path, limits::MAX_DESCRIPTION).map_err(PretrainError::io(path))?;
    let then: Value = serde_json::from_slice(&text).map_err(damaged)?;
    match difference(&then, &now, String::new()) {
        None => Ok(()),
        Some((part, was, is)) => Err(PretrainError::OtherRun { path: path.into(), part, was, is }),
    }
}

/// Returns the first difference between two values: its path, the old value and the new value.
fn difference(was: &Value, is: &Value, name: String) -> Option<(String, String, String)> {
    if was == is {
        return None;
    }
    if let (Value::Object(was), Value::Object(is)) = (was, is) {
        let inner = |key: &String| {
            let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            difference(was.get(key).unwrap_or(&Value::Null), is.get(key).unwrap_or(&Value::Null), name)
        };
        return was.keys().chain(is.keys()).find_map(inner);
    }
    Some((name, was.to_string(), is.to_string()))
}
