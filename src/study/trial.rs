//! One evaluation of one architecture.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Race, Report, TrialId};
use crate::{seed::Seed, space::Architecture};

/// One evaluation of one architecture: the input of an evaluator and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Its number.
    pub id: TrialId,
    /// What is evaluated.
    pub architecture: Architecture,
    /// The root of everything random in the evaluation.
    pub seed: Seed,
    /// Who proposed it.
    pub origin: Origin,
    /// Attempts that ended in a transient error.
    pub failed_attempts: u32,
    /// Where it stands.
    pub state: TrialState,
    /// Running values below which the evaluation is stopped; set when the trial is handed out, empty in a study.
    pub threshold: Threshold,
    /// The bar of its repetitions; set when the trial is handed out, absent in a study.
    pub race: Option<Race>,
}

/// Running values that a trial must reach: at each step the value of the last point up to there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Threshold(Arc<[(usize, f64)]>);

impl Threshold {
    /// The bar through these points, (step, value).
    pub fn new(points: impl IntoIterator<Item = (usize, f64)>) -> Self {
        let mut points: Vec<_> = points.into_iter().collect();
        points.sort_by_key(|&(step, _)| step);
        Self(points.into())
    }

    /// The points, by ascending step.
    pub fn points(&self) -> &[(usize, f64)] {
        &self.0
    }

    /// The value that must be reached after so many steps; `None` before the first point.
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
    /// A person.
    Manual,
    /// The search itself, which wants to know what it has merged.
    Merged,
}

/// Where a trial stands.
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
    /// Proposed; waits for a worker or runs.
    Pending,
    /// Evaluated.
    Completed(Report),
    /// Given up; counts as known, has no value.
    Failed(Failure),
    /// Set aside by a person: searchers and aggregators ignore it, and its architecture may be proposed again.
    Invalid {
        /// Why.
        reason: String,
        /// What had been found, kept for the record.
        report: Option<Report>,
    },
}

/// Why a trial was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// The evaluator's words.
    pub reason: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The architecture cannot be evaluated at all.
    Infeasible,
    /// The evaluator panicked.
    Panicked,
    /// Every allowed attempt ended in a transient error, or with the death of its process.
    OutOfAttempts,
    /// The report lacks the goal's score or holds a number that is not finite.
    BadReport,
    /// A pruner gave it up before its end.
    Stopped,
}

impl Trial {
    /// A trial that waits for its evaluation.
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

    /// The report, where the trial is completed and valid.
    pub fn report(&self) -> Option<&Report> {
        match &self.state {
            TrialState::Completed(report) => Some(report),
            TrialState::Pending | TrialState::Failed(_) | TrialState::Invalid { .. } => None,
        }
    }

    /// Whether the trial still needs its evaluation.
    pub fn is_pending(&self) -> bool {
        self.state == TrialState::Pending
    }

    /// Whether the trial was set aside.
    pub fn is_invalid(&self) -> bool {
        matches!(self.state, TrialState::Invalid { .. })
    }
}

impl fmt::Display for TrialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trial {}", self.0)
    }
}
