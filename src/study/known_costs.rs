//! Costs that are known without an evaluation.

use std::{fmt, sync::Arc};

use auto_impl::auto_impl;
use thiserror::Error;

use crate::space::Architecture;

/// Costs of a candidate that are known exactly without evaluating it, by name.
///
/// A goal can use them as objectives and bounds. [`TargetCosts`](crate::extrapolate::TargetCosts) provides the costs of
/// the model at the target's size; [`FnCost`] turns a closure into a cost.
///
/// Laws: the result depends only on the configuration and the arguments; every name in [`names`](Self::names) has a
/// value for every sequence from which a model can be built; values are finite.
///
/// ```
/// use composer_nas::{prelude::*, study::{KnownCostError, KnownCosts}};
///
/// /// The number of attention layers.
/// struct AttentionLayers;
///
/// impl KnownCosts for AttentionLayers {
///     fn fingerprint(&self) -> String {
///         "attention_layers".into()
///     }
///
///     fn names(&self) -> Vec<String> {
///         vec!["attention_layers".into()]
///     }
///
///     fn costs(&self, architecture: &Architecture, names: &[String]) -> Result<Vec<f64>, KnownCostError> {
///         let layers = architecture.count(Symbol::ATTENTION) as f64;
///         let cost = |name: &String| match self.names().contains(name) {
///             true => Ok(layers),
///             false => Err(KnownCostError::Unknown { name: name.clone(), known: self.names().join(", ") }),
///         };
///         names.iter().map(cost).collect()
///     }
/// }
/// ```
#[auto_impl(&, Box, Arc)]
pub trait KnownCosts: Send + Sync {
    /// Returns a description of the costs, such as `stack to llama_1b, 4096 tokens`. A search resumes only with costs
    /// of the same fingerprint.
    fn fingerprint(&self) -> String;

    /// Returns whether the costs are those of a model of one size, whatever the length of the small sequence, so that
    /// sequences of different lengths can be compared; `false` by default.
    fn any_length(&self) -> bool {
        false
    }

    /// Returns the names of the available costs.
    fn names(&self) -> Vec<String>;

    /// Returns the costs of a sequence, in the order of `names`.
    ///
    /// # Errors
    /// Returns [`KnownCostError`] if a name is unknown or no model can be built from the sequence.
    fn costs(&self, architecture: &Architecture, names: &[String]) -> Result<Vec<f64>, KnownCostError>;
}

/// The error of a known cost without a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KnownCostError {
    /// The goal names a cost, but no costs were given.
    #[error(
        "the goal names the cost {0:?}, but no costs are given: add those of the target with TargetCosts::new(...)"
    )]
    Missing(String),
    /// There is no cost of this name.
    #[error("there is no cost {name:?}, only [{known}]: use one of these")]
    Unknown {
        /// The requested name.
        name: String,
        /// The available names.
        known: String,
    },
    /// No model can be built from this sequence.
    #[error("{architecture} has no cost: {reason}")]
    Unbuildable {
        /// The sequence.
        architecture: Architecture,
        /// The reason.
        reason: String,
    },
}

/// A single known cost, computed by a closure.
#[derive(Clone)]
pub struct FnCost<F> {
    name: String,
    fingerprint: String,
    cost: F,
}

impl<F: Fn(&Architecture) -> f64 + Send + Sync> FnCost<F> {
    /// Creates a cost with this name. Change `fingerprint` whenever the closure computes something else.
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

/// The known costs of a study. They are equal if their fingerprints are.
#[derive(Clone)]
pub(super) struct Attached {
    pub(super) costs: Arc<dyn KnownCosts>,
    /// The names of the costs that the goal uses.
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
