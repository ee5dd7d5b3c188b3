//! Costs that are known without an evaluation.

use std::{fmt, sync::Arc};

use auto_impl::auto_impl;
use thiserror::Error;

use crate::space::Architecture;

/// Costs of what a sequence becomes, by name: known exactly, without an evaluation.
///
/// [`TargetCosts`](crate::extrapolate::TargetCosts) states those of the model at a target's size; [`FnCost`] makes a
/// cost of a closure.
///
/// Laws: the answer depends on the configuration and the arguments alone; every name of [`names`](Self::names) has a
/// value for every sequence that can be built; values are finite.
#[auto_impl(&, Box, Arc)]
pub trait KnownCosts: Send + Sync {
    /// What the costs are of, such as `stack to llama_1b, 4096 tokens`: what a resumed search compares.
    fn fingerprint(&self) -> String;

    /// Whether costs are those of a model of one size, whatever the length of the small sequence: sequences of other
    /// lengths than the space's can be compared then. Not so, unless said otherwise.
    fn any_length(&self) -> bool {
        false
    }

    /// The names of the costs there are.
    fn names(&self) -> Vec<String>;

    /// The costs of a sequence, in the order of `names`.
    ///
    /// # Errors
    /// [`KnownCostError`] for a name that is not there, or a sequence of which nothing can be built.
    fn costs(&self, architecture: &Architecture, names: &[String]) -> Result<Vec<f64>, KnownCostError>;
}

/// Why a known cost has no value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KnownCostError {
    /// The goal names a cost, and nothing says what costs are.
    #[error("the goal names the cost {0:?}, but no costs are given: give those of the target, TargetCosts::new(...)")]
    Missing(String),
    /// No cost of this name.
    #[error("there is no cost {name:?}, only [{known}]: name one of these")]
    Unknown {
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
    /// Nothing can be built of this sequence.
    #[error("{architecture} has no cost: {reason}")]
    Unbuildable {
        /// The sequence.
        architecture: Architecture,
        /// Why.
        reason: String,
    },
}

/// One cost from a closure.
#[derive(Clone)]
pub struct FnCost<F> {
    name: String,
    fingerprint: String,
    cost: F,
}

impl<F: Fn(&Architecture) -> f64 + Send + Sync> FnCost<F> {
    /// The cost of this name; `fingerprint` is to change with what the closure computes.
    pub fn new(name: impl Into<String>, fingerprint: impl Into<String>, cost: F) -> Self {
        Self { name: name.into(), fingerprint: fingerprint.into(), cost }
    }
}

impl<F: Fn(&Architecture) -> f64 + Send + Sync> KnownCosts for FnCost<F> {
    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn names(&self) -> Vec<String> {
        vec![self.name.clone()]
    }

    fn costs(&self, architecture: &Architecture, names: &[String]) -> Result<Vec<f64>, KnownCostError> {
        let cost = |name: &String| {
            if *name != self.name {
                return Err(KnownCostError::Unknown { name: name.clone(), known: self.name.clone() });
            }
            let cost = (self.cost)(architecture);
            let reason = || format!("it is {cost}, not a finite number");
            let unbuildable = || KnownCostError::Unbuildable { architecture: architecture.clone(), reason: reason() };
            if cost.is_finite() { Ok(cost) } else { Err(unbuildable()) }
        };
        names.iter().map(cost).collect()
    }
}

/// The costs of a study: equal where their fingerprints are.
#[derive(Clone)]
pub(super) struct Attached {
    pub(super) costs: Arc<dyn KnownCosts>,
    /// The costs that the goal names.
    pub(super) names: Vec<String>,
}

impl PartialEq for Attached {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names && self.costs.fingerprint() == other.costs.fingerprint()
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KnownCosts").field(&self.costs.fingerprint()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closure_is_a_cost() {
        let cost = FnCost::new("layers", "layers", |a: &Architecture| a.len() as f64);
        let architecture: Architecture = "2A+4M".parse().unwrap();
        assert_eq!(cost.costs(&architecture, &["layers".into(), "layers".into()]), Ok(vec![6.0, 6.0]));
        let unknown = cost.costs(&architecture, &["cache".into()]).unwrap_err();
        assert!(unknown.to_string().contains("only [layers]"), "{unknown}");
        let broken = FnCost::new("layers", "", |_: &Architecture| f64::NAN);
        assert!(matches!(broken.costs(&architecture, &["layers".into()]), Err(KnownCostError::Unbuildable { .. })));
    }
}
