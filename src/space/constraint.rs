//! Constraints on complete sequences.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::primitive::Symbol;

/// A constraint that every sequence of a space satisfies.
///
/// To fix a single layer, use [`SearchSpace::pin`](super::SearchSpace::pin), which leaves that layer one choice.
///
/// ```
/// use composer_nas::prelude::*;
/// let a = Symbol::ATTENTION;
/// let m = Symbol::SWIGLU;
/// // The first layer is attention, one to three layers are in total, and no two of them are adjacent.
/// let space = SearchSpace::uniform([a, m], 8)?.pin(0, a)?.count(a, 1..=3)?.max_run(a, 1)?;
/// assert_eq!(space.size(), 1 + 6 + 10);
/// // The same constraint in a file:
/// let constraint: Constraint = serde_json::from_str(r#"{"max_run": {"symbol": "A", "max": 1}}"#)?;
/// assert_eq!(space.config().constraints[1], constraint);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`cost::Budget`](crate::cost::Budget) creates constraints that bound parameters, FLOPs or cache size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Constraint {
    /// The number of `symbol` layers is between `min` and `max`, inclusive.
    Count {
        /// The symbol that is counted.
        symbol: Symbol,
        /// Minimum number of layers.
        min: usize,
        /// Maximum number of layers.
        max: usize,
    },
    /// No run of consecutive `symbol` layers is longer than `max`. With 1, no two of them are adjacent.
    MaxRun {
        /// The symbol whose runs are limited.
        symbol: Symbol,
        /// Maximum length of a run, in layers.
        max: usize,
    },
    /// The sum of the costs of all layers is at most `max`.
    Budget {
        /// Name and unit of the cost, for display.
        what: String,
        /// The cost of one layer of each kind. Every symbol of the space needs an entry.
        costs: BTreeMap<Symbol, u64>,
        /// Maximum sum of the costs.
        max: u64,
    },
}

impl Constraint {
    /// Returns the state of the constraint after one more layer, or `None` if the layer violates it.
    ///
    /// The state of an empty prefix is zero.
    pub(super) fn step(&self, memory: u64, layer: Symbol) -> Option<u64> {
        match self {
            // Without an upper limit, counts beyond `min` need not be distinguished.
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

    /// Returns whether a complete sequence that ends in this state satisfies the constraint.
    pub(super) fn accepts(&self, memory: u64) -> bool {
        match *self {
            Constraint::Count { min, .. } => memory >= min as u64,
            Constraint::MaxRun { .. } | Constraint::Budget { .. } => true,
        }
    }
}
