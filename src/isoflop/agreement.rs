//! How well the ranking at a small scale predicts losses at a larger scale.

use serde::{Deserialize, Serialize};

use crate::{
    seed::Seed,
    statistics::{Estimate, bootstrap, kendall, spearman},
};

/// Rank correlations between measurements of the same architectures at two scales, with 95 % bootstrap intervals over
/// the architectures. 1 means the same order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// The number of architectures.
    pub items: usize,
    /// Spearman's rank correlation.
    pub spearman: Estimate,
    /// Kendall's rank correlation, corrected for ties.
    pub kendall: Estimate,
}

impl Agreement {
    /// Compares `small` with `large`, architecture by architecture. In both, either higher or lower must mean better.
    /// Returns `None` if one side is constant or the lengths differ.
    pub fn new(small: &[f64], large: &[f64], resamples: u64, seed: Seed) -> Option<Self> {
        if small.len() != large.len() {
            return None;
        }
        let of = |correlation: fn(&[f64], &[f64]) -> Option<f64>| {
            bootstrap(small.len(), resamples, seed, |drawn| {
                let pick = |values: &[f64]| drawn.iter().map(|&at| values[at]).collect::<Vec<_>>();
                correlation(&pick(small), &pick(large))
            })
        };
        Some(Self { items: small.len(), spearman: of(spearman)?, kendall: of(kendall)? })
    }
}
