//! Rules about whole sequences.

use serde::{Deserialize, Serialize};

use crate::primitive::Symbol;

/// A rule that every sequence of a space keeps. A layer is pinned by giving it one choice, not by a constraint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Constraint {
    /// Between `min` and `max` layers carry `symbol`.
    Count {
        /// Which layers are counted.
        symbol: Symbol,
        /// At least so many.
        min: usize,
        /// At most so many.
        max: usize,
    },
    /// No run of `symbol` is longer than `max`; 1 forbids repeats.
    MaxRun {
        /// Which runs are limited.
        symbol: Symbol,
        /// The longest run allowed, in layers.
        max: usize,
    },
}

impl Constraint {
    /// What a constraint has to remember of a prefix: a number that starts at zero. `None`: the prefix breaks the rule.
    pub(super) fn step(&self, memory: usize, layer: Symbol) -> Option<usize> {
        match *self {
            // Beyond the last limit nothing depends on the exact count.
            Constraint::Count { symbol, min, max } => match memory + usize::from(layer == symbol) {
                count if count > max => None,
                count if max == usize::MAX => Some(count.min(min)),
                count => Some(count),
            },
            Constraint::MaxRun { symbol, .. } if layer != symbol => Some(0),
            Constraint::MaxRun { max, .. } => (memory < max).then_some(memory + 1),
        }
    }

    /// Whether a whole sequence that left this memory keeps the rule.
    pub(super) fn accepts(&self, memory: usize) -> bool {
        match *self {
            Constraint::Count { min, .. } => memory >= min,
            Constraint::MaxRun { .. } => true,
        }
    }
}
