//! Search spaces as plain values.

use serde::{Deserialize, Serialize};

use super::Constraint;
use crate::primitive::Symbol;

/// Maximum number of constraint states; every practical space stays far below. A budget has one state per reachable
/// sum: with `Z` different costs, at most `binomial(n + Z - 1, n)` after `n` layers.
pub(super) const MAX_STATES: usize = 1 << 21;

/// The unvalidated description of a [`SearchSpace`](super::SearchSpace), as stored in files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceConfig {
    /// The choices of every layer, first to last.
    pub layers: Vec<Vec<Symbol>>,
    /// Constraints on the whole sequence.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
}
