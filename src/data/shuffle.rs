//! A random permutation that needs no memory.

use rand::Rng as _;

use crate::seed::Rng;

/// Rounds of the network. Four rounds of good round functions give a pseudo-random permutation (Luby and Rackoff 1988,
/// SIAM Journal on Computing 17(2)); two more compensate for the simple round function used here.
const ROUNDS: usize = 6;

/// With fewer bits, few items could not reach most of their orders: networks over two single bits only reach even
/// permutations.
const MIN_HALF: u32 = 4;

/// A random permutation of the items `0..items`, with direct access to every position. It is a balanced Feistel network
/// over the next power of four, iterated until the result is below `items` (cycle walking; Black and Rogaway 2002,
/// "Ciphers with arbitrary finite domains", section 3).
#[derive(Clone, Debug)]
pub struct Permutation {
    items: u64,
    /// Bits of one half.
    half: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// Creates the permutation of `items` items that `rng` draws.
    pub fn new(items: u64, rng: &mut Rng) -> Self {
        let bits = u64::BITS - items.saturating_sub(1).leading_zeros();
        Self { items, half: bits.div_ceil(2).max(MIN_HALF), keys: std::array::from_fn(|_| rng.next_u64()) }
    }

    /// Returns the item at position `place`. Positions from `items` on repeat.
    pub fn at(&self, place: u64) -> u64 {
        let mut item = place % self.items.max(1);
        loop {
            item = self.network(item);
            if item < self.items.max(1) {
                return item;
            }
        }
    }

    fn network(&self, value: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let (left, right) = self
            .keys
            .iter()
            .fold((value >> self.half, value & mask), |(left, right), key| (right, left ^ (mixed(right ^ key) & mask)));
        left << self.half | right
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014, OOPSLA).
fn mixed(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::seed::Seed;

    proptest! {
        #[test]
        fn every_item_has_one_place(items in 1u64..3000, seed: u64) {
            let order = Permutation::new(items, &mut Seed(seed).rng("order", 0));
            let mut all: Vec<_> = (0..items).map(|place| order.at(place)).collect();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..items));
        }

        #[test]
        fn large_orders_stay_within_their_items(items in 1u64..1 << 62, place: u64, seed: u64) {
            let order = Permutation::new(items, &mut Seed(seed).rng("order", 0));
            prop_assert!(order.at(place % items) < items);
        }
    }

    #[test]
    fn all_orders_of_four_items_are_equally_likely() {
        let mut counts = std::collections::HashMap::<Vec<u64>, u32>::new();
        const DRAWS: u32 = 24 * 1000;
        for draw in 0..DRAWS {
            let order = Permutation::new(4, &mut Seed(3).rng("order", u64::from(draw)));
            *counts.entry((0..4).map(|place| order.at(place)).collect()).or_default() += 1;
        }
        let chi_square: f64 = counts.values().map(|&count| (f64::from(count) - 1000.0).powi(2) / 1000.0).sum();
        // 99.9 % of a chi-square distribution with 23 degrees of freedom lie below 49.7.
        assert!(counts.len() == 24 && chi_square < 49.7, "{chi_square} {counts:?}");
    }

    #[test]
    fn neighbours_are_torn_apart() {
        let order = Permutation::new(1000, &mut Seed(1).rng("order", 0));
        let steps: f64 = (1..1000).map(|place| order.at(place).abs_diff(order.at(place - 1)) as f64).sum();
        // The mean distance of two random items is a third of the range.
        assert!((steps / 999.0 / 333.3 - 1.0).abs() < 0.1, "{}", steps / 999.0);
    }
}
