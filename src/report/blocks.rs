//! Blocks of trials, for figures with many trials.

use std::{collections::BTreeMap, ops::Range};

/// The maximum number of trials that are drawn individually.
pub(super) const FEW: usize = 500;
/// The number of blocks if there are more.
const BLOCKS: usize = 120;

/// The distribution of the values of consecutive trials.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    /// The numbers of its trials.
    pub(super) trials: Range<u64>,
    /// The number of trials with a value.
    pub(super) count: usize,
    /// The 10 %, 25 %, 50 %, 75 % and 90 % quantiles: the value at the rank next to the share.
    pub(super) quantiles: [f64; 5],
}

/// Divides the trials below `trials` into blocks of equal length. `values` are sorted by number. Blocks without values
/// are left out.
pub(super) fn blocks(trials: u64, values: &[(u64, f64)]) -> Vec<Block> {
    let length = trials.div_ceil(BLOCKS as u64).max(1);
    let of_block = |values: &[(u64, f64)]| {
        let start = values[0].0 / length * length;
        let mut sorted: Vec<_> = values.iter().map(|&(_, value)| value).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted[(share * (sorted.len() - 1) as f64).round() as usize];
        Block {
            trials: start..(start + length).min(trials),
            count: sorted.len(),
            quantiles: [0.1, 0.25, 0.5, 0.75, 0.9].map(at),
        }
    };
    values.chunk_by(|a, b| a.0 / length == b.0 / length).map(of_block).collect()
}

/// Returns the number of positions in each bin of this width, by the lower end of the bin.
pub(super) fn bins(places: impl Iterator<Item = i32>, width: i32) -> BTreeMap<i32, usize> {
    let mut bins = BTreeMap::new();
    for place in places {
        *bins.entry(place.div_euclid(width) * width).or_default() += 1;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_equally_long_and_have_their_quantiles() {
        let values: Vec<_> = (0..1000).map(|trial| (trial, (trial % 10) as f64)).collect();
        let found = blocks(1200, &values);
        assert_eq!((found.len(), found.iter().map(|block| block.count).sum::<usize>()), (100, 1000));
        assert_eq!(found[3].trials, 30..40);
        assert_eq!(found[3].quantiles, [1.0, 2.0, 5.0, 7.0, 8.0]);
        assert_eq!(blocks(5, &[]), []);
        assert_eq!(blocks(2, &[(1, 0.5)]), [Block { trials: 1..2, count: 1, quantiles: [0.5; 5] }]);
    }

    #[test]
    fn bins_begin_at_multiples_of_their_width() {
        assert_eq!(bins([-1, 0, 3, 4].into_iter(), 4), BTreeMap::from([(-4, 1), (0, 2), (4, 1)]));
    }
}
