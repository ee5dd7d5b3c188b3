//! Rotary frequencies for a longer context.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

/// Rotary frequencies slowed down for a longer context, as Llama 3.1 and later do it (`rope_type: llama3` of
/// transformers). A pair of channels that turns fewer than `low_freq_factor` times within the original context turns
/// `factor` times slower, one that turns more than `high_freq_factor` times as before, and those between are
/// interpolated.
///
/// Llama 3.2 has a factor of 32 over 8192 positions, Llama 3.1 one of 8, and both 1 and 4 turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// How much slower the slowest pairs turn; at least 1.
    pub factor: f64,
    /// Turns within the original context, up to which a pair is slowed down in full.
    pub low_freq_factor: f64,
    /// Turns within the original context, from which on a pair is left alone; more than `low_freq_factor`.
    pub high_freq_factor: f64,
    /// Positions of the context before it was extended.
    pub original_max_position_embeddings: usize,
}

impl RopeScaling {
    /// Whether all frequencies that come of it are finite, positive and no higher than they were.
    pub(crate) fn is_sound(&self) -> bool {
        let Self { factor, low_freq_factor: low, high_freq_factor: high, .. } = *self;
        factor >= 1.0
            && low > 0.0
            && high > low
            && [factor, high].iter().all(|value| value.is_finite())
            && self.original_max_position_embeddings > 0
    }

    /// Of one pair of channels, in radians per position.
    pub(crate) fn frequency(&self, original: f64) -> f64 {
        let turns = self.original_max_position_embeddings as f64 * original / TAU;
        let kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
        let kept = kept.clamp(0.0, 1.0);
        kept * original + (1.0 - kept) * (original / self.factor)
    }
}
