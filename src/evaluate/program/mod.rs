//! Evaluations by a program in any language.

mod answer;
mod attempt;
mod folder;
mod group;
mod hearing;
mod output;
mod spec;

use std::{
    io, path,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

use self::{
    attempt::{Attempt, cannot},
    folder::TrialFolder,
    spec::Candidates,
};
use super::{Context, EvalError, Evaluator};
use crate::{
    extrapolate::{Target, TargetError},
    primitive::Primitives,
    seed::Seed,
    study::{Goal, Report, Trial},
};

/// Evaluates trials with an external command: a training in Python, a shell script, or any other program.
///
/// For each trial, the command is started with one additional argument: the path of a JSON file that describes what to
/// evaluate. It answers with JSON lines on its standard output. `docs/protocol.md` describes both formats; in short:
///
/// ```sh
/// echo '{"progress": {"step": 10, "steps": 100, "value": 3.5}}'
/// echo '{"result": {"scores": {"loss": 2.7}}}'
/// ```
///
/// Each trial has its own folder with a place for checkpoints, which all attempts share, so a killed training can
/// continue. Report intermediate values with the sign of the score; [pruners](crate::stopping) can then stop the trial
/// early.
///
/// The command and all processes that it starts form one process group. If the trial is cancelled, reaches its time
/// limit or falls below its threshold, the group is asked to end (SIGTERM), and killed (SIGKILL) after a [grace
/// period](Self::grace). Processes that the command leaves running are ended with it. The same happens if the driver
/// dies. Only processes that have left the group escape. Requires Unix.
///
/// ```no_run
/// use composer_nas::{evaluate::Program, prelude::*};
/// let primitives = Primitives::standard();
/// let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu"])?, 6)?;
/// let goal = Goal::minimize("loss");
/// let program = Program::shell("python train.py", "runs/mine/trials", goal.clone())?
///     .version("tokens of March")
///     .target(Target::custom("small", Dims::new(256, 768, 4)?, 4096, true, 3)?, &primitives)?;
/// let found = Pipeline::new(&primitives, space, program)
///     .goal(goal)
///     .journal("runs/mine/journal.jsonl")
///     .run(&Target::llama_1b())?;
/// println!("{}", found.aggregated);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Program {
    command: Vec<String>,
    folder: PathBuf,
    goal: Goal,
    version: String,
    candidates: Option<Candidates>,
    time_limit: Option<Duration>,
    grace: Duration,
}

/// The default grace period.
const GRACE: Duration = Duration::from_secs(30);
/// A year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

impl Program {
    /// Creates an evaluator from a program and its arguments.
    ///
    /// The folders of the trials are created in `folder`. `goal` is the goal of the search: it gives the name and the
    /// direction of the score that the program must report.
    ///
    /// # Errors
    /// [`ProgramError`] if the command is empty or the path of the folder is not valid UTF-8.
    pub fn new(
        command: impl IntoIterator<Item = impl Into<String>>,
        folder: impl AsRef<Path>,
        goal: Goal,
    ) -> Result<Self, ProgramError> {
        let command: Vec<String> = command.into_iter().map(Into::into).collect();
        if command.first().is_none_or(|name| name.trim().is_empty()) {
            return Err(ProgramError::NoCommand);
        }
        let refused = |source| ProgramError::Folder { folder: folder.as_ref().into(), source };
        let absolute = path::absolute(&folder).map_err(refused)?;
        if absolute.to_str().is_none() {
            return Err(refused(io::Error::other("its path is not valid UTF-8")));
        }
        Ok(Self {
            command,
            folder: absolute,
            goal,
            version: String::new(),
            candidates: None,
            time_limit: None,
            grace: GRACE,
        })
    }

    /// Creates an evaluator from a shell command line, such as `python train.py --data 'my texts'`. The path of the
    /// specification is appended to it.
    ///
    /// If the shell is asked to end, it waits for the command that it runs. Otherwise the same as [`new`](Self::new).
    ///
    /// # Errors
    /// [`ProgramError`] if the line is empty or the path of the folder is not valid UTF-8.
    pub fn shell(line: &str, folder: impl AsRef<Path>, goal: Goal) -> Result<Self, ProgramError> {
        if line.trim().is_empty() {
            return Err(ProgramError::NoCommand);
        }
        Self::new(["sh", "-c", &format!("trap 'exit 143' TERM; {line} \"$@\""), "sh"], folder, goal)
    }

    /// Sets a text for everything that the scores depend on apart from the command, such as the version of your data or
    /// code. A search can be resumed only with the same text.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Describes candidates as models with the widths and the vocabulary of this target. The specification then
    /// contains the ids and sizes of the layers and the complete model.
    ///
    /// # Errors
    /// [`ProgramError::Target`] if the target is inconsistent.
    pub fn target(mut self, target: Target, primitives: &Primitives) -> Result<Self, ProgramError> {
        target.validate()?;
        self.candidates = Some(Candidates { target, primitives: primitives.clone() });
        Ok(self)
    }

    /// Sets the time limit of an attempt; none by default. If a program has saved a checkpoint by then, another attempt
    /// continues from it, as often as transient errors are retried.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit.min(LONGEST));
        self
    }

    /// Sets how long a program may take to end after it was asked to, or after its answer; 30 s by default.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace.min(LONGEST);
        self
    }

    /// Returns the name of a trial's folder. It is the same for all attempts, and depends on everything that affects
    /// the report.
    fn folder_name(&self, trial: &Trial) -> String {
        let text = format!("{}\n{}\n{}", self.fingerprint(), trial.architecture.letters(), trial.seed.0);
        format!("trial-{:05}-{:016x}", trial.id.0, Seed(0).derive(&text, trial.id.0).0)
    }
}

impl Evaluator for Program {
    fn fingerprint(&self) -> String {
        let Self { command, version, candidates, .. } = self;
        let model = candidates.as_ref().map(|candidates| candidates.fingerprint()).unwrap_or_default();
        format!("program {command:?}, version {version:?}{model}")
    }

    /// # Errors
    /// [`EvalError::Fatal`] if the command cannot be started, violates the protocol, or reports a fatal error;
    /// [`EvalError::Infeasible`] and [`EvalError::Transient`] as described in `docs/protocol.md`.
    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        if context.cancelled() {
            return Err(EvalError::Cancelled);
        }
        let opened = TrialFolder::open(&self.folder, &self.folder_name(trial));
        let folder =
            opened.map_err(|error| cannot(&self.folder.display().to_string(), "make a folder in it", &error))?;
        Attempt { program: self, trial, context, folder }.carry_out()
    }
}

/// An error in the setup of a [`Program`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The command is empty.
    #[error("the command is empty: name a program, such as \"python train.py\"")]
    NoCommand,
    /// The path of the folder cannot be used.
    #[error("the folder {} cannot be used for trials: choose another one", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The target is invalid.
    #[error(transparent)]
    Target(#[from] TargetError),
}
