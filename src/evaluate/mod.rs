//! From a trial to a report.
//!
//! An [`Evaluator`] answers "how good is this architecture?". [`Mad`](mad::Mad) trains the candidate on the MAD tasks;
//! [`CorpusEvaluator`](corpus::CorpusEvaluator) trains it on text, [`TabularEvaluator`] replays a [`Table`] of what was
//! measured; [`Program`] runs a command of your own, in any language; [`from_fn`] makes an evaluator of any closure.
//! [`Repeated`] and [`Cached`] evaluate several times, or once, with any of them; [`SizeMatched`] evaluates candidates
//! of equal size.

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

/// Finds out how good an architecture is.
///
/// LAW: a function of the trial, its seed included. The same trial gives the same report, bit for bit on a CPU,
/// whatever runs beside it and however often it is tried; `testkit::evaluator` checks it. Called from several threads
/// at once. It may block for as long as it needs, but looks at [`Context::cancelled`] now and then.
///
/// An evaluator that knows how good a trial looks on its way tells it ([`Progress::value`]): the executor makes the
/// report's [curve](Report::curve) of that, and [pruners](crate::stopping) apply to it.
#[auto_impl(Box, Arc)]
pub trait Evaluator: Send + Sync {
    /// Everything that the reports depend on besides the trial, as text: a search is resumed only with the same.
    fn fingerprint(&self) -> String;

    /// Evaluates one trial.
    ///
    /// # Errors
    /// [`EvalError`] says what becomes of the trial and of the search.
    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError>;
}

/// Why there is no report, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EvalError {
    /// This architecture cannot be evaluated. The trial is recorded as failed; the search goes on.
    #[error("infeasible: {0}")]
    Infeasible(String),
    /// Something passing went wrong. The trial is tried again, up to a limit.
    #[error("transient: {0}")]
    Transient(String),
    /// No trial can be evaluated. The search stops; everything finished stays in the journal.
    #[error("fatal: {0}")]
    Fatal(String),
    /// The evaluation was called off. The trial stays pending and runs again when the search resumes.
    #[error("cancelled")]
    Cancelled,
}
