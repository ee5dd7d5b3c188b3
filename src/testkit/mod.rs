//! Checks that implementations of the traits fulfil their contract, for the tests of a plug-in.
//!
//! Every check returns `Ok(())` or the first [`LawBroken`] with a counterexample. The checks are deterministic: their
//! random numbers come from fixed seeds.
//!
//! ```
//! use composer_nas::{testkit, prelude::*, search::RegularizedEvolution};
//! let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 5)?.max_run(Symbol::ATTENTION, 2)?;
//! testkit::searcher::check(RegularizedEvolution::default, &space)?;
//! testkit::aggregator::check(&NcClustering::n0(), &space)?;
//! testkit::extrapolator::check(&Auto, &Primitives::standard())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod acquisition;
pub mod aggregator;
pub mod evaluator;
pub mod executor;
pub mod extrapolator;
pub mod kernel;
pub mod landscape;
pub mod pipeline;
#[cfg(feature = "model")]
pub mod primitive;
pub mod searcher;
mod simulated;

use thiserror::Error;

/// A law that an implementation violates.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("broken law: {law}; counterexample: {counterexample}")]
pub struct LawBroken {
    /// The law.
    pub law: &'static str,
    /// A case in which the law does not hold.
    pub counterexample: String,
}

impl LawBroken {
    /// Creates an error from a law and a case in which it does not hold.
    pub fn new(law: &'static str, counterexample: impl Into<String>) -> Self {
        Self { law, counterexample: counterexample.into() }
    }
}

/// Returns an error unless the law holds. The counterexample is created only if needed.
fn holds(condition: bool, law: &'static str, counterexample: impl FnOnce() -> String) -> Result<(), LawBroken> {
    if condition { Ok(()) } else { Err(LawBroken::new(law, counterexample())) }
}
