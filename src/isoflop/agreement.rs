//! How well ranks at a small scale foretell losses at a larger one.

use serde::{Deserialize, Serialize};

use crate::{
    seed::Seed,
    statistics::{Estimate, bootstrap, kendall, spearman},
};

/// Rank correlations of what was measured of the same architectures at two scales, with their 95 % intervals over draws
/// of architectures. 1 means the same order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Architectures.
    pub items: usize,
    /// Spearman's.
    pub spearman: Estimate,
    /// Kendall's, corrected for ties.
    pub kendall: Estimate,
}

impl Agreement {
    /// Compares `small` with `large`, both turned the same way, architecture by architecture; none where one side is
    /// constant or the sides are not equally long.
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
