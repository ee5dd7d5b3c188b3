//! Rules about whole sequences.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::primitive::Symbol;

/// A rule that every sequence of a space keeps. A layer is pinned by giving it one choice, not by a constraint.
///
/// ```
/// use composer_nas::prelude::*;
/// let (a, m) = (Symbol::ATTENTION, Symbol::SWIGLU);
/// // The first layer is attention, one to three layers are, and no two of them follow each other.
/// let space = SearchSpace::uniform([a, m], 8)?.pin(0, a)?.count(a, 1..=3)?.max_run(a, 1)?;
/// assert_eq!(space.size(), 1 + 6 + 10);
/// // The same in a file:
/// let constraint: Constraint = serde_json::from_str(r#"{"max_run": {"symbol": "A", "max": 1}}"#)?;
/// assert_eq!(space.config().constraints[1], constraint);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`cost::Budget`](crate::cost::Budget) makes the constraint that bounds parameters, work or cache.
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
    /// The costs of all layers sum to at most `max`.
    Budget {
        /// What is counted and in which unit, for people.
        what: String,
        /// What a layer of each kind costs. Every symbol of the space has an entry.
        costs: BTreeMap<Symbol, u64>,
        /// The largest sum allowed.
        max: u64,
    },
}

impl Constraint {
    /// What a constraint has to remember of a prefix: a number that starts at zero. `None`: the prefix breaks the rule.
    pub(super) fn step(&self, memory: u64, layer: Symbol) -> Option<u64> {
        match self {
            // Beyond the last limit nothing depends on the exact count.
            &Constraint::Count { symbol, min, max } => match memory + u64::from(layer == symbol) {
                count if count > max as u64 => None,
                count if max == usize::MAX => Some(count.min(min as u64)),
                count => Some(count),
            },
            &Constraint::MaxRun { symbol, .. } if layer != symbol => Some(0),
            &Constraint::MaxRun { max, .. } => (memory < max as u64).then_some(memory + 1),
            Constraint::Budget { costs, max, .. } => memory.checked_add(*costs.get(&layer)?).filter(|sum| sum <= max),
        }
    }

    /// Whether a whole sequence that left this memory keeps the rule.
    pub(super) fn accepts(&self, memory: u64) -> bool {
        match *self {
            Constraint::Count { min, .. } => memory >= min as u64,
            Constraint::MaxRun { .. } | Constraint::Budget { .. } => true,
        }
    }
}
