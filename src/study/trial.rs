//! Trials.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Race, Report, TrialId};
use crate::{seed::Seed, space::Architecture};

/// One evaluation of one architecture: the input of an evaluator, and its result.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The id.
    pub id: TrialId,
    /// The architecture to evaluate.
    pub architecture: Architecture,
    /// The root seed of all randomness in the evaluation.
    pub seed: Seed,
    /// Who proposed it.
    pub origin: Origin,
    /// The number of attempts that ended in a transient error.
    pub failed_attempts: u32,
    /// The state of the trial.
    pub state: TrialState,
    /// Intermediate values below which the evaluation is stopped. Set when the trial is handed out, empty in a study.
    pub threshold: Threshold,
    /// The race of its repetitions; set when the trial is handed out, absent in a study.
    pub race: Option<Race>,
}

/// The intermediate values that a trial must reach: a step function of the training step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Threshold(Arc<[(usize, f64)]>);

impl Threshold {
    /// Creates a threshold from points (step, value). Each value holds from its step up to the next point.
    pub fn new(points: impl IntoIterator<Item = (usize, f64)>) -> Self {
        let mut points: Vec<_> = points.into_iter().collect();
        points.sort_by_key(|&(step, _)| step);
        Self(points.into())
    }

    /// Returns the points, by ascending step.
    pub fn points(&self) -> &[(usize, f64)] {
        &self.0
    }

    /// Returns the value that must be reached at `step`, or `None` before the first point.
    pub fn at(&self, step: usize) -> Option<f64> {
        self.0.iter().take_while(|&&(from, _)| from <= step).last().map(|&(_, value)| value)
    }
}

/// Who proposed a trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The searcher.
    #[default]
    Searcher,
    /// The user.
    Manual,
    /// The search itself, to evaluate the architecture that it aggregated.
    #[serde(rename = "merged")]
    Aggregated,
}

/// The state of a trial.
///
/// ```text
///            report                invalidate
///  Pending ─────────▶ Completed ───────────────▶ Invalid
///   │  ▲ └──────────▶ Failed    ───────────────▶    ▲
///   └──┘   failure        └─────────────────────────┘
///  transient error
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum TrialState {
    /// Proposed, and waiting for a worker or running.
    Pending,
    /// Evaluated successfully.
    Completed(Report),
    /// Failed. The trial has no value, and its architecture is not proposed again.
    Failed(Failure),
    /// Marked invalid by the user. Searchers and aggregators ignore it, and its architecture may be proposed again.
    Invalid {
        /// The reason.
        reason: String,
        /// The report of the trial, if it had one.
        report: Option<Report>,
    },
}

/// The reason why a trial failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind of failure.
    pub kind: FailureKind,
    /// The error message of the evaluator.
    pub reason: String,
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The architecture cannot be evaluated at all.
    Infeasible,
    /// The evaluator panicked.
    Panicked,
    /// Every allowed attempt ended in a transient error or in the death of its process.
    OutOfAttempts,
    /// The report lacks the goal's score or contains a value that is not finite.
    BadReport,
    /// A pruner stopped it early.
    Stopped,
}

impl Trial {
    /// Creates a pending trial.
    pub fn new(id: TrialId, architecture: Architecture, seed: Seed, origin: Origin) -> Self {
        Self {
            id,
            architecture,
            seed,
            origin,
            failed_attempts: 0,
            state: TrialState::Pending,
            threshold: Threshold::default(),
            race: None,
        }
    }

    /// Returns the report if the trial is completed and valid.
    pub fn report(&self) -> Option<&Report> {
        match &self.state {
            TrialState::Completed(report) => Some(report),
            TrialState::Pending | TrialState::Failed(_) | TrialState::Invalid { .. } => None,
        }
    }

    /// Returns whether the trial has no result yet.
    pub fn is_pending(&self) -> bool {
        self.state == TrialState::Pending
    }

    /// Returns whether the trial is marked invalid.
    pub fn is_invalid(&self) -> bool {
        matches!(self.state, TrialState::Invalid { .. })
    }
}

impl fmt::Display for TrialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trial {}", self.0)
    }
}
