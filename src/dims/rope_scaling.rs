//! Scaling of rotary frequencies for longer contexts.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

/// Scaling of rotary frequencies for longer contexts, as in Llama 3.1 and later (`rope_type: llama3` in transformers).
///
/// A channel pair that completes fewer than `low_freq_factor` turns within the original context is slowed down by
/// `factor`. A pair with more than `high_freq_factor` turns is unchanged. Pairs in between are interpolated.
///
/// Llama 3.2 uses a factor of 32, Llama 3.1 a factor of 8. Both have 8192 original positions and limits of 1 and 4
/// turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// The slowdown of the lowest frequencies, at least 1.
    pub factor: f64,
    /// Pairs with at most this number of turns within the original context are slowed down fully.
    pub low_freq_factor: f64,
    /// Pairs with at least this number of turns are unchanged. Greater than `low_freq_factor`.
    pub high_freq_factor: f64,
    /// The context length before the extension, in positions.
    pub original_max_position_embeddings: usize,
}

impl RopeScaling {
    /// Returns whether the resulting frequencies are finite, positive and not higher than before.
    pub(crate) fn is_sound(&self) -> bool {
        let Self { factor, low_freq_factor: low, high_freq_factor: high, .. } = *self;
        factor >= 1.0
            && low > 0.0
            && high > low
            && [factor, high].iter().all(|value| value.is_finite())
            && self.original_max_position_embeddings > 0
    }

    /// Returns the scaled frequency of one channel pair, in radians per position.
    pub(crate) fn frequency(&self, original: f64) -> f64 {
        let turns = self.original_max_position_embeddings as f64 * original / TAU;
        let kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
        let kept = kept.clamp(0.0, 1.0);
        kept * original + (1.0 - kept) * (original / self.factor)
    }
}
