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

/// Evaluates trials with a command of your own: a training in Python, a shell script, anything that runs.
///
/// For each trial the command is started with one more argument: the path of a JSON file that says what to evaluate. It
/// answers with lines of JSON on its standard output. `docs/program.md` describes both; in short:
///
/// ```sh
/// echo '{"progress": {"step": 10, "steps": 100, "value": 3.5}}'
/// echo '{"result": {"scores": {"loss": 2.7}}}'
/// ```
///
/// Each trial has a folder of its own with a place for checkpoints, and every attempt at the trial finds the same: a
/// training that was killed goes on where it was. Intermediate values are told in the direction of the score, and
/// [pruners](crate::stopping) apply to them.
///
/// The command and all that it starts are one process group. It is asked to end (SIGTERM) when the trial is called off,
/// runs into its time limit or falls below its bar, and is ended (SIGKILL) after a [grace period](Self::grace); what it
/// leaves running is ended with it. When the driver dies, the same happens; only processes that have left the group
/// escape. Needs Unix.
///
/// ```no_run
/// use composer_nas::{evaluate::Program, prelude::*};
/// let primitives = Primitives::standard();
/// let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu"])?, 6)?;
/// let goal = Goal::minimize("loss");
/// let program = Program::shell("python train.py", "runs/mine/trials", goal.clone())?
///     .version("tokens of March")
///     .candidates(Target::custom("small", Dims::new(256, 768, 4)?, 4096, true, 3)?, &primitives)?;
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

/// The time to end by itself that a program has, by default.
const GRACE: Duration = Duration::from_secs(30);
/// A year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

impl Program {
    /// Evaluates with a program and its arguments; the folders of the trials lie in `folder`. `goal` is that of the
    /// search: the name of the score that the program has to report, and its direction.
    ///
    /// # Errors
    /// [`ProgramError`] for an empty command, or a folder that JSON cannot name.
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
            return Err(refused(io::Error::other("its name is no text in UTF-8")));
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

    /// Evaluates with a line for the shell, such as `python train.py --data 'my texts'`; the path of the specification
    /// is added to it. The shell waits for what it runs when it is asked to end. Otherwise as [`new`](Self::new).
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn shell(line: &str, folder: impl AsRef<Path>, goal: Goal) -> Result<Self, ProgramError> {
        if line.trim().is_empty() {
            return Err(ProgramError::NoCommand);
        }
        Self::new(["sh", "-c", &format!("trap 'exit 143' TERM; {line} \"$@\""), "sh"], folder, goal)
    }

    /// What the scores depend on besides the command, as text: the version of your data or of your code. A search is
    /// resumed only with the same.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Describes candidates as models at the widths and with the vocabulary of this target: the specification then has
    /// the layers by id with their sizes, and the model in full.
    ///
    /// # Errors
    /// [`ProgramError::Target`] for a target that contradicts itself.
    pub fn candidates(mut self, target: Target, primitives: &Primitives) -> Result<Self, ProgramError> {
        target.validate()?;
        self.candidates = Some(Candidates { target, primitives: primitives.clone() });
        Ok(self)
    }

    /// Ends an attempt after this time; no limit by default. A program that has kept a checkpoint until then goes on
    /// from it in another attempt, as often as transient errors are tried again.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit.min(LONGEST));
        self
    }

    /// How long a program may take to end once it is asked to, or once it has answered; 30 seconds by default.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace.min(LONGEST);
        self
    }

    /// The name of a trial's folder: the same for all attempts, another one where the report would be another.
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
    /// [`EvalError::Fatal`] where the command cannot be started, breaks the protocol, or says so;
    /// [`EvalError::Infeasible`] and [`EvalError::Transient`] as `docs/program.md` says.
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

/// A program that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// An empty command.
    #[error("the command is empty: name a program, such as \"python train.py\"")]
    NoCommand,
    /// A folder that cannot be named.
    #[error("the folder {} cannot be used for trials: choose another one", .folder.display())]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// Candidates that cannot be built.
    #[error(transparent)]
    Target(#[from] TargetError),
}
