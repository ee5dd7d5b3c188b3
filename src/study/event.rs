//! Changes of a study.

use serde::{Deserialize, Serialize};

use super::{Failure, Origin, Report, TrialId};
use crate::{
    seed::{self, Seed},
    space::Architecture,
};

/// A change of a study, as stored in a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A trial was proposed.
    Proposed {
        /// Its id, which is the number of trials before it.
        id: TrialId,
        /// The architecture to evaluate.
        architecture: Architecture,
        /// The root seed of all randomness in the evaluation.
        #[serde(with = "seed::text")]
        seed: Seed,
        /// Who proposed it.
        #[serde(default)]
        origin: Origin,
    },
    /// An attempt ended in a transient error, and the trial is pending again.
    Retried {
        /// The trial.
        id: TrialId,
        /// The error message of the evaluator.
        reason: String,
    },
    /// A trial was evaluated.
    Completed {
        /// The trial.
        id: TrialId,
        /// The result.
        report: Report,
    },
    /// A trial failed.
    Failed {
        /// The trial.
        id: TrialId,
        /// The reason.
        #[serde(flatten)]
        failure: Failure,
    },
    /// A finished trial was marked invalid.
    Invalidated {
        /// The trial.
        id: TrialId,
        /// The reason.
        reason: String,
    },
}

impl Event {
    /// Returns the trial that changes.
    pub fn id(&self) -> TrialId {
        match self {
            Event::Proposed { id, .. }
            | Event::Retried { id, .. }
            | Event::Completed { id, .. }
            | Event::Failed { id, .. }
            | Event::Invalidated { id, .. } => *id,
        }
    }
}
