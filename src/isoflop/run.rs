//! Carrying a grid out, one line per training.

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
        corpus::{Budget, CorpusError, CorpusEvaluator},
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
#[non_exhaustive]
pub enum StudyError {
    /// The file.
    #[error(transparent)]
    File(#[from] LineFileError),
    /// The file cannot be read.
    #[error("cannot open {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The I/O error.
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
        source: AttemptError,
    },
    /// The threads cannot be started.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
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
// One call does everything and keeps nothing: each argument is a thing of its own.
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

/// Trains the cell whose place is the trial's number.
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

/// A study under way.
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
    /// Hands out the cells and writes down what comes back. After an error nothing more is handed out.
    fn carry_out(&mut self, mut executor: Threads) -> Result<(), StudyError> {
        /// Nothing else is to be done meanwhile.
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

    fn write_down(&mut self, cell: &Cell, outcome: Result<Report, AttemptError>) -> Result<(), StudyError> {
        let report = outcome.map_err(|source| StudyError::Training {
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
    let wrong = |BadLine { number, reason }| StudyError::Line { path: path.into(), line: number, reason };
    values(bytes).map_err(wrong)
}
