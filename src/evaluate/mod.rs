//! Evaluators: from a trial to a report.
//!
//! An [`Evaluator`] measures how good an architecture is.
//!
//! | evaluator | what it does |
//! |---|---|
//! | [`Mad`](mad::Mad) | trains the candidate on the MAD tasks |
//! | [`CorpusEvaluator`](corpus::CorpusEvaluator) | trains it on text |
//! | [`Program`] | runs a command of yours, in any language |
//! | [`from_fn`] | calls a closure |
//! | [`TabularEvaluator`] | replays a [`Table`] of measured scores |
//! | [`Repeated`], [`Cached`] | evaluate each trial several times, or only once, with another evaluator |
//! | [`SizeMatched`] | evaluates all candidates at the same size |

mod cached;
mod context;
#[cfg(feature = "model")]
pub mod corpus;
#[cfg(feature = "model")]
pub(crate) mod failure;
mod from_fn;
#[cfg(feature = "model")]
pub mod mad;
mod program;
mod repeated;
mod size_matched;
mod tabular;

pub use cached::{CacheError, Cached};
pub use context::{CancelToken, Context, Progress};
pub use from_fn::{FnEvaluator, from_fn};
pub use program::{Program, ProgramError};
pub use repeated::{RepeatError, Repeated, Until};
pub use size_matched::SizeMatched;
pub use tabular::{Row, RowError, Table, TableError, TableFile, TabularEvaluator};

use auto_impl::auto_impl;
use thiserror::Error;

use crate::study::{Report, Trial};

/// Measures how good an architecture is.
///
/// Law, checked by `testkit::evaluator`: the report is a function of the trial, including its seed. The same trial
/// gives the same report (bit for bit on a CPU), whatever runs at the same time and however often it is evaluated.
///
/// An evaluator is called from several threads at once. It may block for as long as it needs, but should check
/// [`Context::cancelled`] regularly. If it has intermediate values, such as a validation accuracy during training, it
/// reports them as [`Progress::value`]. They become the [curve](Report::curve) of the report, and
/// [pruners](crate::stopping) use them.
///
/// ```
/// use composer_nas::{evaluate::Progress, prelude::*, study::{Origin, TrialId}};
///
/// /// The share of attention layers, as if it took `steps` steps to measure.
/// struct AttentionShare {
///     steps: usize,
/// }
///
/// impl Evaluator for AttentionShare {
///     fn fingerprint(&self) -> String {
///         format!("attention_share(steps={})", self.steps)
///     }
///
///     fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
///         let share = trial.architecture.count(Symbol::ATTENTION) as f64 / trial.architecture.len() as f64;
///         for step in 1..=self.steps {
///             if context.cancelled() {
///                 return Err(EvalError::Cancelled);
///             }
///             let value = Some(share * step as f64 / self.steps as f64);
///             context.progress(Progress { stage: "count".into(), step, steps: self.steps, value });
///         }
///         Ok(Report::score("accuracy", share))
///     }
/// }
///
/// let trial = Trial::new(TrialId(0), "AM".parse()?, Seed(1), Origin::Searcher);
/// let report = AttentionShare { steps: 10 }.evaluate(&trial, &Context::default())?;
/// assert_eq!(report.scores["accuracy"], 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[auto_impl(Box, Arc)]
pub trait Evaluator: Send + Sync {
    /// Returns everything that reports depend on besides the trial, such as a name and settings. A journal can be
    /// continued only with the same fingerprint.
    fn fingerprint(&self) -> String;

    /// Evaluates one trial.
    ///
    /// # Errors
    /// [`EvalError`] if there is no report; its variants say what happens to the trial and to the search.
    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError>;
}

/// The error of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EvalError {
    /// This architecture cannot be evaluated. The trial is recorded as failed, and the search continues.
    #[error("infeasible: {0}")]
    Infeasible(String),
    /// A temporary error. The trial is evaluated again, up to a limit.
    #[error("transient: {0}")]
    Transient(String),
    /// No trial can be evaluated. The search stops, and all finished trials stay in the journal.
    #[error("fatal: {0}")]
    Fatal(String),
    /// The evaluation was cancelled. The trial stays pending and is evaluated again when the search resumes.
    #[error("cancelled")]
    Cancelled,
}
