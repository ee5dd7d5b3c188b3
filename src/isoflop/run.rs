//! Runs the trainings of a grid and stores one line per training.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Cell;
use crate::{
    cost::{CostError, ModelCost, Workload},
    data::Corpus,
    evaluate::{
        EvalError, Evaluator,
        corpus::{CorpusError, CorpusEvaluator, TrainBudget},
        from_fn,
    },
    execute::{AttemptError, ExecuteError, Executor, Message, Threads},
    limits,
    line_file::{
        LineFileError,
        json::{BadLine, JsonFile, values},
    },
    primitive::Primitives,
    seed::Seed,
    study::{Origin, Report, Trial, TrialId},
    text::causes,
};

/// The result of one training: a line of the study's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The trained cell.
    pub cell: Cell,
    /// A digest of the corpus.
    pub corpus: String,
    /// `N`: the number of parameters of the layers.
    pub parameters: u64,
    /// The training work in floating-point operations, slightly less than the budget.
    pub flops: f64,
    /// `L`: the validation loss, in nats per token.
    pub loss: f64,
    /// The share of tokens that the model predicted as the most likely.
    pub accuracy: f64,
    /// The reason if the training diverged. The loss is then that of a uniform guess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<String>,
}

impl Measurement {
    /// Returns `C`: the planned training work, in floating-point operations.
    pub fn budget(&self) -> f64 {
        match self.cell.protocol.budget {
            TrainBudget::Flops(flops) => flops,
            TrainBudget::Tokens(_) => self.flops,
        }
    }
}

/// A study that cannot continue. Completed measurements stay in its file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IsoflopError {
    /// The file cannot be written or is in use.
    #[error(transparent)]
    File(#[from] LineFileError),
    /// The file cannot be opened.
    #[error("cannot open {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// A line is not a measurement.
    #[error("line {line} of {} is not a measurement: {reason}; choose another file", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The problem.
        reason: String,
    },
    /// A training cannot be set up.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The cost of a model cannot be computed.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// A training failed.
    #[error("the training of {family} {architecture} failed")]
    Training {
        /// The family.
        family: String,
        /// The sequence.
        architecture: String,
        /// The error of the training.
        source: AttemptError,
    },
    /// The worker threads cannot be started.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

/// Trains every cell that is not yet in the file at `path`, with `workers` trainings at a time, and appends each result
/// to the file. Returns the results of all cells, in the order of `cells`.
///
/// On a CPU, each training uses one thread. `progress` is called after each training with the number of completed ones.
/// A result depends only on its cell and the corpus, so a study that is stopped and resumed gives the same results as
/// an uninterrupted one.
///
/// # Errors
/// Returns a [`IsoflopError`] if the file cannot be used or a training fails. Trainings in progress are completed
/// first.
pub fn measure(
    cells: &[Cell],
    corpus: &Corpus,
    primitives: &Primitives,
    device: &Device,
    path: &Path,
    workers: usize,
    progress: &(dyn Fn(usize, &Measurement) + Sync),
) -> Result<Vec<Measurement>, IsoflopError> {
    // Reject invalid protocols before the file is created.
    cells.iter().try_for_each(|cell| cell.protocol.validate())?;
    if let Some(cell) = cells.first() {
        CorpusEvaluator::new(cell.protocol.clone(), corpus, primitives, device)?;
    }
    let digest = corpus.tokens.digest().map_err(CorpusError::from)?;
    let (file, bytes) = JsonFile::open(path)?;
    let mut done = parse(path, &bytes)?;
    done.retain(|known| known.corpus == digest);
    let missing = cells.iter().filter(|cell| !done.iter().any(|known| known.cell == **cell));
    let missing: Vec<Cell> = missing.cloned().collect();
    let workers = workers.min(missing.len()).max(1);
    let executor = Threads::new(Arc::new(evaluator(&missing, corpus, primitives, device)), workers)?;
    let mut run = Run { missing: &missing, digest, vocab_size: corpus.vocab_size, primitives, file, done, progress };
    run.carry_out(executor)?;
    Ok(cells.iter().filter_map(|cell| run.done.iter().find(|known| known.cell == *cell)).cloned().collect())
}

/// Returns an evaluator that trains the cell whose index is the trial's number.
fn evaluator(cells: &[Cell], corpus: &Corpus, primitives: &Primitives, device: &Device) -> impl Evaluator + use<> {
    let protocols: Vec<_> = cells.iter().map(|cell| cell.protocol.clone()).collect();
    let corpus = corpus.clone();
    let primitives = primitives.clone();
    let device = device.clone();
    from_fn("cells", move |trial, context| {
        let protocol = protocols[trial.id.0 as usize].clone();
        let evaluator = CorpusEvaluator::new(protocol, &corpus, &primitives, &device);
        evaluator.map_err(|error| EvalError::Infeasible(causes(&error)))?.evaluate(trial, context)
    })
}

/// A study in progress.
struct Run<'a> {
    missing: &'a [Cell],
    digest: String,
    vocab_size: usize,
    primitives: &'a Primitives,
    file: JsonFile<Measurement>,
    done: Vec<Measurement>,
    progress: &'a (dyn Fn(usize, &Measurement) + Sync),
}

impl Run<'_> {
    /// Hands out the cells and stores the results. Hands out nothing more after an error.
    fn carry_out(&mut self, mut executor: Threads) -> Result<(), IsoflopError> {
        /// There is nothing else to do in the meantime.
        const WAIT: Duration = Duration::from_secs(3600);
        let trial = |(id, cell): (u64, &Cell)| {
            Trial::new(TrialId(id), cell.architecture.clone(), Seed(cell.seed), Origin::Manual)
        };
        let mut waiting = (0..).zip(self.missing).map(trial).fuse();
        let mut ended = Ok(());
        loop {
            while ended.is_ok()
                && executor.idle() > 0
                && let Some(trial) = waiting.next()
            {
                executor.submit(trial)?;
            }
            if executor.idle() == executor.capacity() {
                return ended;
            }
            if let Some(Message::Done(id, outcome)) = executor.recv(WAIT)? {
                let written = self.write_down(&self.missing[id.0 as usize], outcome);
                ended = ended.and(written);
            }
        }
    }

    fn write_down(&mut self, cell: &Cell, outcome: Result<Report, AttemptError>) -> Result<(), IsoflopError> {
        let report = outcome.map_err(|source| IsoflopError::Training {
            family: cell.family.clone(),
            architecture: cell.architecture.to_string(),
            source,
        })?;
        let model = cell.protocol.model(cell.architecture.clone(), self.vocab_size);
        let cost = ModelCost::new(&model, self.primitives, Workload::bf16(cell.protocol.seq_len as u64))?;
        let score = |name: &str| report.scores.get(name).copied().unwrap_or(f64::NAN);
        let measured = Measurement {
            cell: cell.clone(),
            corpus: self.digest.clone(),
            parameters: cost.non_embedding_parameters,
            flops: report.train_flops.unwrap_or_default(),
            loss: score("loss"),
            accuracy: score("accuracy"),
            diverged: report.tasks.into_iter().find_map(|task| task.diverged),
        };
        self.file.append(&measured)?;
        (self.progress)(self.done.len() + 1, &measured);
        self.done.push(measured);
        Ok(())
    }
}

/// Reads the measurements in a file. A study may be writing to it.
///
/// # Errors
/// Returns a [`IsoflopError`] if the file cannot be read or has a line that is not a measurement.
pub fn read(path: &Path) -> Result<Vec<Measurement>, IsoflopError> {
    let bytes =
        limits::read(path, limits::MAX_LINES).map_err(|source| IsoflopError::Open { path: path.into(), source })?;
    parse(path, &bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Measurement>, IsoflopError> {
    let wrong = |BadLine { number, reason }| IsoflopError::Line { path: path.into(), line: number, reason };
    values(bytes).map_err(wrong)
}
