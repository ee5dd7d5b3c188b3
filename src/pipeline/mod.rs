//! Composition of the stages.
//!
//! A [`Pipeline`] runs a whole search: it is a loop around a [`Session`], which proposes trials and takes in what came
//! of them. Whoever wants the loop for themselves, in a notebook or a scheduler, uses the session.

mod along;
mod builder;
mod metrics;
mod observer;
mod progress_bar;
mod run;
mod run_folder;
mod session;
mod trace;
mod verdict;
mod written;

pub use along::FrontModel;
pub use builder::Pipeline;
pub use metrics::MetricsFile;
pub use observer::Observer;
pub use progress_bar::ProgressBar;
pub use run::Found;
pub use run_folder::{RunFolder, RunFolderError, Summary, read_model};
pub use session::{Ask, Session, Told};
pub(crate) use verdict::{few_voters, verdict};

use std::{fmt, path::PathBuf, time::Duration};

use thiserror::Error;

use crate::{
    aggregate::AggregateError,
    execute::ExecuteError,
    extrapolate::ExtrapolateError,
    journal::JournalError,
    primitive::RegistryError,
    search::SearchError,
    study::{KnownCostError, StudyError, TrialId},
    text::line,
};

/// Trials that have an outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished(
    /// Their numbers, ascending.
    pub Vec<TrialId>,
);

impl fmt::Display for Finished {
    /// How many, and which.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} trials are finished", self.0.len())?;
        for (place, run) in self.0.chunk_by(|one, next| one.0 + 1 == next.0).enumerate() {
            let from = run[0].0;
            let to = run[run.len() - 1].0;
            f.write_str(if place == 0 { ": " } else { ", " })?;
            match from == to {
                true => write!(f, "{from}")?,
                false => write!(f, "{from} to {to}")?,
            }
        }
        Ok(())
    }
}

/// A search that stopped. Everything finished before is in the journal, where there is one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// No trial was asked for.
    #[error("a search of 0 trials finds nothing: ask for at least one")]
    NoTrials,
    /// A symbol of the space is no primitive.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A finished evaluation could not be written, for as long as the pipeline was told to wait.
    #[error("a line is not in the journal, after {} s of waiting: {line}", .waited.as_secs())]
    Unsaved {
        /// What the journal said.
        source: JournalError,
        /// How long it was tried.
        waited: Duration,
        /// The line that is missing. When the search resumes, the trial runs again and gives the same.
        line: String,
    },
    /// The run's folder or the journal went away while the search ran.
    #[error("the run's folder or its journal went away; {finished}{}", .restored.as_ref().map_or_else(String::new, |path| {
        format!(", and the journal, which was removed, is written to {} again", path.display())
    }))]
    Gone {
        /// What went away, and how long it was waited for.
        source: Box<PipelineError>,
        /// What had been finished until then: it is in the journal, wherever that was moved to.
        finished: Finished,
        /// Where the journal was written again, if it had been removed.
        restored: Option<PathBuf>,
    },
    /// The study refused a change.
    #[error(transparent)]
    Study(#[from] StudyError),
    /// A known cost that the goal names has no value.
    #[error(transparent)]
    Costs(#[from] KnownCostError),
    /// No trial is within the bounds of the goal.
    #[error("no finished trial is within the bounds of the goal ({goal}){nearest}: relax a bound, or search on")]
    NothingWithin {
        /// The goal.
        goal: String,
        /// The trial that comes nearest, in words.
        nearest: String,
    },
    /// The searcher failed.
    #[error("the searcher failed")]
    Search(#[from] SearchError),
    /// The searcher waits although nothing is running.
    #[error("the searcher waits for results although no trial is pending: it breaks the law of Searcher::ask")]
    Stuck,
    /// The evaluator cannot go on.
    #[error("the evaluator gave up at {id}: {}; nothing finished is lost, run again once the cause is removed", line(.reason))]
    Fatal {
        /// The trial at which it happened.
        id: TrialId,
        /// The evaluator's words.
        reason: String,
    },
    /// The search was called off.
    #[error("the search was cancelled after {finished} finished trials; run it again to go on")]
    Cancelled {
        /// Trials that have an outcome.
        finished: usize,
    },
    /// The executor failed.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// Nothing could be aggregated.
    #[error(transparent)]
    Aggregate(#[from] AggregateError),
    /// The result cannot be scaled.
    #[error(transparent)]
    Extrapolate(#[from] ExtrapolateError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_finished_is_named_by_number() {
        let named = |ids: &[u64]| Finished(ids.iter().copied().map(TrialId).collect()).to_string();
        assert_eq!(named(&[]), "0 trials are finished");
        assert_eq!(named(&[0, 1, 2, 4, 7, 8]), "6 trials are finished: 0 to 2, 4, 7 to 8");
    }
}
