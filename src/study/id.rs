//! Numbers of trials.

use serde::{Deserialize, Serialize};

/// Number of a trial within its study, from zero, in order of proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrialId(pub u64);
