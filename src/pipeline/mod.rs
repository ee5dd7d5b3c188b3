//! Runs a complete search.
//!
//! [`Pipeline`] runs a search from the first trial to the architecture at full size. It is a loop around a [`Session`],
//! which proposes trials and records their results. Use the session directly if you want to write the loop yourself,
//! for example in a notebook or a scheduler.

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

/// The trials that have finished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished(
    /// Their ids, in ascending order.
    pub Vec<TrialId>,
);

impl fmt::Display for Finished {
    /// Writes the number of trials and their ids, such as `6 trials are finished: 0 to 2, 4, 7 to 8`.
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

/// An error that ended a search. All trials that finished before are in the journal, if the search has one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The budget is 0 trials.
    #[error("the budget is 0 trials: allow at least one")]
    NoTrials,
    /// A symbol of the space has no primitive.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The result of an evaluation could not be written to the journal within the write timeout.
    #[error("a line could not be written to the journal within {} s: {line}", .waited.as_secs())]
    Unsaved {
        /// The error from the journal.
        source: JournalError,
        /// How long the pipeline retried.
        waited: Duration,
        /// The line that could not be written. When the search resumes, this trial runs again and gives the same
        /// result.
        line: String,
    },
    /// The run folder or the journal disappeared during the search.
    #[error("the run folder or its journal disappeared; {finished}{}", .restored.as_ref().map_or_else(String::new, |path| {
        format!(", and the journal, which had been removed, was written to {} again", path.display())
    }))]
    Gone {
        /// What disappeared, and how long the pipeline waited for it to come back.
        source: Box<PipelineError>,
        /// The trials that had finished. They are in the journal, even if it was moved.
        finished: Finished,
        /// Where the journal was written again, if it had been removed.
        restored: Option<PathBuf>,
    },
    /// The study rejected a change.
    #[error(transparent)]
    Study(#[from] StudyError),
    /// A known cost that the goal names is missing or has no value.
    #[error(transparent)]
    Costs(#[from] KnownCostError),
    /// No finished trial is within the bounds of the goal.
    #[error("no finished trial is within the bounds of the goal ({goal}){nearest}: relax a bound or run more trials")]
    NothingWithin {
        /// The goal.
        goal: String,
        /// The trial closest to the bounds, as text.
        nearest: String,
    },
    /// The searcher failed.
    #[error("the searcher failed")]
    Search(#[from] SearchError),
    /// The searcher waits although no trial is running.
    #[error("the searcher waits for results although no trial is pending: this breaks the contract of Searcher::ask")]
    Stuck,
    /// The evaluator reported a fatal error.
    #[error("a fatal error in the evaluation of {id}: {}; fix the cause and run again, all finished trials are kept", line(.reason))]
    Fatal {
        /// The trial that was evaluated.
        id: TrialId,
        /// The reason that the evaluator gave.
        reason: String,
    },
    /// The search was cancelled.
    #[error("the search was cancelled after {finished} finished trials; run it again to continue")]
    Cancelled {
        /// The number of finished trials.
        finished: usize,
    },
    /// The executor failed.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// The aggregator failed.
    #[error(transparent)]
    Aggregate(#[from] AggregateError),
    /// The extrapolator failed.
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
