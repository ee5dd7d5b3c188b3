//! What can happen to a study.

use serde::{Deserialize, Serialize};

use super::{Failure, Origin, Report, TrialId};
use crate::{
    seed::{self, Seed},
    space::Architecture,
};

/// A change of a study; what a journal stores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A trial was proposed.
    Proposed {
        /// Its number: the number of trials before it.
        id: TrialId,
        /// What is to be evaluated.
        architecture: Architecture,
        /// The root of everything random in the evaluation.
        #[serde(with = "seed::text")]
        seed: Seed,
        /// Who proposed it.
        #[serde(default)]
        origin: Origin,
    },
    /// An attempt ended in a transient error; the trial waits again.
    Retried {
        /// Which trial.
        id: TrialId,
        /// The evaluator's words.
        reason: String,
    },
    /// A trial was evaluated.
    Completed {
        /// Which trial.
        id: TrialId,
        /// What was found.
        report: Report,
    },
    /// A trial was given up.
    Failed {
        /// Which trial.
        id: TrialId,
        /// Why.
        #[serde(flatten)]
        failure: Failure,
    },
    /// A finished trial was set aside.
    Invalidated {
        /// Which trial.
        id: TrialId,
        /// Why.
        reason: String,
    },
}

impl Event {
    /// The trial that it is about.
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
