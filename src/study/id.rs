//! Trial ids.

use serde::{Deserialize, Serialize};

/// The number of a trial within its study, counted from zero in order of proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrialId(pub u64);
