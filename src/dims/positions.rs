//! Rotary position embeddings.

use serde::{Deserialize, Serialize};

/// The channels of queries and keys to which attention applies rotary position embeddings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Positions {
    /// All channels, as in Llama.
    #[default]
    Rotary,
    /// A percentage of each head, rounded down to whole pairs but at least one pair: `partial_rotary_factor` in
    /// transformers. Bamba uses 50, Qwen3-Next 25.
    Partial(u8),
    /// No channels. The order of the tokens comes from the causal mask and other layers, as in Nemotron-H.
    None,
}

impl Positions {
    /// Returns the number of rotated channels per head.
    pub(crate) fn channels(self, head_dim: usize) -> usize {
        match self {
            Positions::Rotary => head_dim,
            Positions::Partial(percent) => {
                let share = head_dim.saturating_mul(usize::from(percent)) / 100;
                (share / 2 * 2).clamp(2, head_dim.max(2))
            }
            Positions::None => 0,
        }
    }

    /// Returns this crate's channel index for each head channel in the order of transformers.
    ///
    /// Transformers rotates the first channels of a head, split into halves. This crate pairs channel `c` with `c +
    /// C/2`, for the first `c`, so that one computation covers every percentage.
    pub(crate) fn order(self, head_dim: usize) -> Vec<usize> {
        let rotated = self.channels(head_dim) / 2;
        let half = head_dim / 2;
        let channels = (0..rotated).chain(half..half + rotated);
        channels.chain(rotated..half).chain(half + rotated..head_dim).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_channels_turns_in_whole_pairs() {
        let channels = |positions: Positions| [4, 6, 64, 128, 256].map(|width| positions.channels(width));
        assert_eq!(channels(Positions::Rotary), [4, 6, 64, 128, 256]);
        assert_eq!(channels(Positions::Partial(25)), [2, 2, 16, 32, 64]);
        assert_eq!(channels(Positions::Partial(50)), [2, 2, 32, 64, 128]);
        assert_eq!(channels(Positions::None), [0; 5]);
    }

    #[test]
    fn the_order_of_channels_is_a_permutation() {
        assert_eq!(Positions::Partial(50).order(8), [0, 1, 4, 5, 2, 3, 6, 7]);
        for positions in [Positions::Rotary, Positions::None] {
            assert_eq!(positions.order(6), [0, 1, 2, 3, 4, 5]);
        }
        for percent in [1, 10, 25, 99, 100] {
            let mut order = Positions::Partial(percent).order(10);
            order.sort_unstable();
            assert_eq!(order, (0..10).collect::<Vec<_>>());
        }
    }
}
