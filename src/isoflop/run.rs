//! Carrying a grid out, one line per training.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Cell;
use crate::{
    cost::{CostError, ModelCost, Workload},
    data::Corpus,
    device::is_accelerator,
    evaluate::{
        CancelToken, Context, EvalError, Evaluator,
        corpus::{Budget, CorpusError, CorpusEvaluator},
    },
    limits,
    line_file::{LineFile, LineFileError, complete},
    primitive::Primitives,
    seed::Seed,
    study::{Origin, Trial, TrialId},
};

/// One training that ended; a line of the study's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What was trained.
    pub cell: Cell,
    /// A digest of the corpus.
    pub corpus: String,
    /// `N`: parameters of the layers.
    pub parameters: u64,
    /// Work that was spent, in floating-point operations; a little less than the budget.
    pub flops: f64,
    /// `L`: validation loss, in nats per token.
    pub loss: f64,
    /// Share of next tokens that were the most likely.
    pub accuracy: f64,
    /// Why the training was given up, where it diverged; its loss is then that of guessing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<String>,
}

impl Measurement {
    /// `C`: what the training was planned to cost, in floating-point operations.
    pub fn budget(&self) -> f64 {
        match self.cell.protocol.budget {
            Budget::Flops(flops) => flops,
            Budget::Tokens(_) => self.flops,
        }
    }
}

/// A study that cannot go on. What was measured stays in its file.
#[derive(Debug, Error)]
pub enum StudyError {
    /// The file.
    #[error(transparent)]
    File(#[from] LineFileError),
    /// The file cannot be read.
    #[error("cannot open {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A line that is no measurement.
    #[error("line {line} of {} is no measurement: {reason}; choose another file", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A training cannot be set up.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The cost of a model cannot be stated.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// A training failed.
    #[error("the training of {family} {architecture} failed")]
    Training {
        /// The family.
        family: String,
        /// The sequence.
        architecture: String,
        /// Why.
        source: EvalError,
    },
}

/// Trains every cell that `path` does not have yet, `workers` at once, and writes each result down; all results of the
/// cells, in their order. On a CPU each training has one thread. `progress` hears after each training how many are
/// done.
///
/// A result is a function of its cell and the corpus, so a study that is stopped and resumed ends like an uninterrupted
/// one.
///
/// # Errors
/// [`StudyError`] when the file cannot be used or a training cannot be carried out; those under way end first.
pub fn measure(
    cells: &[Cell],
    corpus: &Corpus,
    primitives: &Primitives,
    device: &Device,
    path: &Path,
    workers: usize,
    progress: &(dyn Fn(usize, &Measurement) + Sync),
) -> Result<Vec<Measurement>, StudyError> {
    // What no training would take is refused before there is a file.
    cells.iter().try_for_each(|cell| cell.protocol.validate())?;
    if let Some(cell) = cells.first() {
        CorpusEvaluator::new(cell.protocol.clone(), corpus, primitives, device)?;
    }
    let digest = corpus.tokens.digest().map_err(CorpusError::from)?;
    let (file, bytes) = LineFile::open(path)?;
    let mut done = parse(path, &bytes)?;
    done.retain(|known| known.corpus == digest);
    let missing = cells.iter().filter(|cell| !done.iter().any(|known| known.cell == **cell));
    let queue: VecDeque<_> = missing.collect();
    let workers = workers.min(queue.len()).max(1);
    let queue = Mutex::new(queue);
    let results = Mutex::new((file, done));
    let work = || -> Result<(), StudyError> {
        loop {
            let Some(cell) = lock(&queue).pop_front() else { return Ok(()) };
            let measured = train(cell, corpus, &digest, primitives, device).inspect_err(|_| lock(&queue).clear())?;
            let line = serde_json::to_string(&measured).map_err(|error| StudyError::Line {
                path: path.into(),
                line: 0,
                reason: error.to_string(),
            })?;
            let mut results = lock(&results);
            results.0.append(&line)?;
            progress(results.1.len() + 1, &measured);
            results.1.push(measured);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| alone(device, work))).collect();
        let ended =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.collect::<Vec<_>>().into_iter().collect::<Result<(), _>>()
    })?;
    let (_, done) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(cells.iter().filter_map(|cell| done.iter().find(|known| known.cell == *cell)).cloned().collect())
}

/// The measurements in a file, also while a study writes it.
///
/// # Errors
/// [`StudyError`] when the file cannot be read or holds something else.
pub fn read(path: &Path) -> Result<Vec<Measurement>, StudyError> {
    let bytes =
        limits::read(path, limits::MAX_LINES).map_err(|source| StudyError::Open { path: path.into(), source })?;
    parse(path, &bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Measurement>, StudyError> {
    let lines = complete(bytes).split_inclusive(|&byte| byte == b'\n').enumerate();
    let parsed = lines.map(|(at, line)| {
        let wrong =
            |error: serde_json::Error| StudyError::Line { path: path.into(), line: at + 1, reason: error.to_string() };
        serde_json::from_slice(line).map_err(wrong)
    });
    parsed.collect()
}

/// On a CPU one thread per training: sums depend on how many share them.
fn alone<T: Send>(device: &Device, work: impl FnOnce() -> T + Send) -> T {
    if is_accelerator(device) {
        return work();
    }
    match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    }
}

fn train(
    cell: &Cell,
    corpus: &Corpus,
    digest: &str,
    primitives: &Primitives,
    device: &Device,
) -> Result<Measurement, StudyError> {
    let evaluator = CorpusEvaluator::new(cell.protocol.clone(), corpus, primitives, device)?;
    let trial = Trial::new(TrialId(0), cell.architecture.clone(), Seed(cell.seed), Origin::Manual);
    let report = evaluator.evaluate(&trial, &Context::new(CancelToken::default(), |_| ()));
    let report = report.map_err(|source| StudyError::Training {
        family: cell.family.clone(),
        architecture: cell.architecture.to_string(),
        source,
    })?;
    let model = cell.protocol.model(cell.architecture.clone(), corpus.vocab_size);
    let cost = ModelCost::new(&model, primitives, Workload::bf16(cell.protocol.seq_len as u64))?;
    let score = |name: &str| report.scores.get(name).copied().unwrap_or(f64::NAN);
    Ok(Measurement {
        cell: cell.clone(),
        corpus: digest.into(),
        parameters: cost.body_parameters,
        flops: report.train_flops.unwrap_or_default(),
        loss: score("loss"),
        accuracy: score("accuracy"),
        diverged: report.tasks.into_iter().find_map(|task| task.diverged),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
