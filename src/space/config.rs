//! Spaces as plain values.

use serde::{Deserialize, Serialize};

use super::Constraint;
use crate::primitive::Symbol;

/// A bound on the bookkeeping; every practical space stays far below. A budget has a state per sum that can be reached:
/// with `Z` different costs at most `binomial(n + Z - 1, n)` after `n` layers.
pub(super) const MAX_STATES: usize = 1 << 21;

/// The plain, unchecked description of a [`SearchSpace`](super::SearchSpace); what files hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceConfig {
    /// The choices of every layer, first to last.
    pub layers: Vec<Vec<Symbol>>,
    /// Rules about the whole sequence.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
}
