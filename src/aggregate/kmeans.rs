//! Exact k-means in one dimension.
//!
//! In one dimension, the clusters of an optimal partition are intervals of the sorted values. Dynamic programming over
//! the end of the last interval finds the optimum (Wang and Song 2011, The R Journal 3(2), "Ckmeans.1d.dp", equation
//! 1): `D[q][j] = min over i of D[q-1][i] + SSE(i..j)`. For `n` distinct values and `k` clusters it takes `O(k n^2)`
//! steps. The best start of the last interval does not decrease as its end increases, so many values are solved by
//! divide and conquer in `O(k n log n)` (ibid., version 4 of the package; Wu 1991, "Optimal quantization by matrix
//! searching").

use std::ops::Range;

/// Costs within this relative distance count as equal, so that rounding does not decide ties.
const TIE: f64 = 1e-9;

/// Up to this number of distinct values, every start is tried for every end.
const FEW: usize = 2048;

/// Splits `sorted` (finite, ascending) into the `clusters` intervals with the least sum of squared distances to their
/// means, as index ranges in ascending order.
///
/// Equal values stay together. If there are fewer distinct values than clusters, each value is a cluster. Among
/// partitions of equal cost, it chooses the one whose last interval (that of the highest values) is longest, then the
/// one before it, and so on.
pub(crate) fn kmeans(sorted: &[f64], clusters: usize) -> Vec<Range<usize>> {
    let groups = Groups::new(sorted);
    let clusters = clusters.min(groups.values.len());
    if clusters == 0 {
        return Vec::new();
    }
    let starts = groups.partition(clusters);
    let ends = starts.iter().skip(1).copied().chain([groups.values.len()]);
    starts.iter().zip(ends).map(|(&start, end)| groups.offsets[start]..groups.offsets[end]).collect()
}

/// Distinct values with their multiplicities.
struct Groups {
    /// Scaled to ±1, so that squares neither overflow nor vanish.
    values: Vec<f64>,
    /// The start of each group among the sorted values, and the end of the last group.
    offsets: Vec<usize>,
}

impl Groups {
    fn new(sorted: &[f64]) -> Self {
        let scale = sorted.iter().fold(0.0, |scale: f64, value| scale.max(value.abs()));
        let scale = if scale > 0.0 { scale } else { 1.0 };
        let mut values = Vec::new();
        let mut offsets = vec![0];
        for group in sorted.chunk_by(|a, b| a == b) {
            values.push(group[0] / scale);
            offsets.push(offsets[offsets.len() - 1] + group.len());
        }
        Self { values, offsets }
    }

    /// Returns the first group of each cluster.
    fn partition(&self, clusters: usize) -> Vec<usize> {
        let n = self.values.len();
        // The least cost for each end. Without clusters, only the empty prefix is possible, at no cost.
        let mut costs = vec![f64::INFINITY; n + 1];
        costs[0] = 0.0;
        // The start of the last cluster, for each number of clusters and each end.
        let mut starts = Vec::with_capacity(clusters);
        for _ in 0..clusters {
            let last = if n <= FEW { self.last_clusters(&costs) } else { Sums::new(self).last_clusters(&costs) };
            costs = last.iter().map(|&(cost, _)| cost).collect();
            starts.push(last.into_iter().map(|(_, start)| start).collect::<Vec<_>>());
        }
        let mut end = n;
        let mut path: Vec<_> = starts
            .iter()
            .rev()
            .map(|starts| {
                end = starts[end];
                end
            })
            .collect();
        path.reverse();
        path
    }

    /// Returns for every end the least cost with one more cluster than in `costs`, and the start of that cluster.
    fn last_clusters(&self, costs: &[f64]) -> Vec<(f64, usize)> {
        (0..costs.len()).map(|end| self.last_cluster(costs, end)).collect()
    }

    /// Returns the least cost of the groups before `end` with one more cluster than in `costs`, and its start.
    fn last_cluster(&self, costs: &[f64], end: usize) -> (f64, usize) {
        // Welford's update, from the end of the cluster to its start.
        let mut weight = 0.0;
        let mut mean = 0.0;
        let mut sse = 0.0;
        let mut totals: Vec<_> = (0..end)
            .rev()
            .map(|start| {
                let multiplicity = (self.offsets[start + 1] - self.offsets[start]) as f64;
                let delta = self.values[start] - mean;
                weight += multiplicity;
                mean += delta * (multiplicity / weight);
                // Negative only by rounding.
                sse += (multiplicity * delta * (self.values[start] - mean)).max(0.0);
                costs[start] + sse
            })
            .collect();
        totals.reverse();
        let least = totals.iter().copied().fold(f64::INFINITY, f64::min);
        (least, totals.iter().position(|&total| total <= least * (1.0 + TIE)).unwrap_or(0))
    }
}

/// Prefix sums over the groups, which give the squared distances of any interval in constant time.
struct Sums(Vec<[f64; 3]>);

impl Sums {
    /// Sums weights, values and squares; values are centred on the overall mean to reduce cancellation.
    fn new(groups: &Groups) -> Self {
        let weight = |at: usize| (groups.offsets[at + 1] - groups.offsets[at]) as f64;
        let all = groups.offsets[groups.offsets.len() - 1].max(1) as f64;
        let mean = groups.values.iter().enumerate().map(|(at, value)| weight(at) * value).sum::<f64>() / all;
        let mut sums = vec![[0.0; 3]];
        for (at, value) in groups.values.iter().enumerate() {
            let [w, x, xx] = sums[at];
            let own = weight(at);
            let value = value - mean;
            sums.push([w + own, x + own * value, xx + own * value * value]);
        }
        Self(sums)
    }

    /// Returns the sum of squared distances to the mean of the groups in `start..end`.
    fn sse(&self, start: usize, end: usize) -> f64 {
        let [w, x, xx] = [0, 1, 2].map(|at| self.0[end][at] - self.0[start][at]);
        if end - start > 1 { (xx - x * x / w).max(0.0) } else { 0.0 }
    }

    /// See [`Groups::last_clusters`].
    fn last_clusters(&self, costs: &[f64]) -> Vec<(f64, usize)> {
        let mut last = vec![(costs[0], 0); costs.len()];
        // Before the first group there is no cluster to end.
        last[0].0 = f64::INFINITY;
        self.divide(costs, 1..costs.len(), 0..costs.len() - 1, &mut last);
        last
    }

    /// Fills `last` for these ends, whose best starts lie in `starts`.
    fn divide(&self, costs: &[f64], ends: Range<usize>, starts: Range<usize>, last: &mut [(f64, usize)]) {
        if ends.is_empty() {
            return;
        }
        let end = ends.start + ends.len() / 2;
        let possible = starts.start..starts.end.min(end);
        let totals: Vec<_> = possible.clone().map(|start| costs[start] + self.sse(start, end)).collect();
        let least = totals.iter().copied().fold(f64::INFINITY, f64::min);
        let first = totals.iter().position(|&total| total <= least * (1.0 + TIE)).unwrap_or(0);
        let best = possible.start + first;
        last[end] = (least, best);
        self.divide(costs, ends.start..end, starts.start..best + 1, last);
        self.divide(costs, end + 1..ends.end, best..starts.end, last);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sse(values: &[f64]) -> f64 {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter().map(|value| (value - mean).powi(2)).sum()
    }

    fn cost(sorted: &[f64], ranges: &[Range<usize>]) -> f64 {
        ranges.iter().map(|range| sse(&sorted[range.clone()])).sum()
    }

    /// The least cost over all partitions into `clusters` non-empty intervals.
    fn brute_force(sorted: &[f64], clusters: usize) -> f64 {
        match clusters {
            1 => sse(sorted),
            _ => (1..sorted.len() + 2 - clusters)
                .map(|end| sse(&sorted[..end]) + brute_force(&sorted[end..], clusters - 1))
                .fold(f64::INFINITY, f64::min),
        }
    }

    fn sorted(mut values: Vec<f64>) -> Vec<f64> {
        values.sort_by(f64::total_cmp);
        values
    }

    fn distinct(sorted: &[f64]) -> usize {
        sorted.chunk_by(|a, b| a == b).count()
    }

    proptest! {
        #[test]
        fn dividing_finds_clusters_as_good_as_trying_all(values in prop_oneof![
            proptest::collection::vec((0i32..40).prop_map(|v| f64::from(v) / 10.0), 2..120),
            proptest::collection::vec(-1e3..1e3f64, 2..120),
            proptest::collection::vec(0.9..0.901f64, 2..120),
        ], clusters in 1usize..7) {
            let groups = Groups::new(&sorted(values));
            let n = groups.values.len();
            let mut all = vec![f64::INFINITY; n + 1];
            let mut divided = vec![f64::INFINITY; n + 1];
            (all[0], divided[0]) = (0.0, 0.0);
            for _ in 0..clusters.min(n) {
                all = groups.last_clusters(&all).into_iter().map(|(cost, _)| cost).collect();
                divided = Sums::new(&groups).last_clusters(&divided).into_iter().map(|(cost, _)| cost).collect();
                for (all, divided) in all.iter().zip(&divided) {
                    prop_assert!(all == divided || (all - divided).abs() < 1e-9 * all.abs() + 1e-10, "{all} {divided}");
                }
            }
        }

        #[test]
        fn the_optimum_is_found(values in prop_oneof![
            proptest::collection::vec((0i32..12).prop_map(|v| f64::from(v) / 10.0), 1..10),
            proptest::collection::vec(-1e3..1e3f64, 1..10),
            proptest::collection::vec((0.5..0.500001f64, any::<bool>()).prop_map(|(v, far)| if far { v * 1e6 } else { v }), 1..10),
        ], clusters in 1usize..7) {
            let values = sorted(values);
            let ranges = kmeans(&values, clusters);
            let clusters = clusters.min(distinct(&values));
            prop_assert_eq!(ranges.len(), clusters);
            prop_assert_eq!(ranges.iter().cloned().flatten().collect::<Vec<_>>(), (0..values.len()).collect::<Vec<_>>());
            for pair in ranges.windows(2) {
                prop_assert!(values[pair[0].end - 1] < values[pair[1].start]);
            }
            let found = cost(&values, &ranges);
            let least = brute_force(&values, clusters);
            prop_assert!(found <= least * (1.0 + 1e-6) + 1e-15, "{found} > {least}");
        }
    }

    #[test]
    fn ties_favour_a_large_best_cluster() {
        // {0.1} {0.2, 0.3} and {0.1, 0.2} {0.3} have equal costs, except for rounding.
        for shift in [0.0, 0.1, 0.7, 1e3] {
            let values: Vec<_> = [0.1, 0.2, 0.3].iter().map(|value| value + shift).collect();
            assert_eq!(kmeans(&values, 2), [0..1, 1..3], "{shift}");
        }
    }

    #[test]
    fn an_outlier_does_not_blur_the_rest() {
        assert_eq!(kmeans(&[-1e9, 0.0, 1e-3, 5e-3], 3), [0..1, 1..3, 3..4]);
    }

    #[test]
    fn equal_and_extreme_values_are_no_trouble() {
        assert!(kmeans(&[], 5).is_empty());
        assert_eq!(kmeans(&[0.5; 4], 5), kmeans(&[0.5; 4], 1));
        assert_eq!(kmeans(&[0.5; 4], 5).len(), 1);
        assert_eq!(kmeans(&[-f64::MAX, 0.0, f64::MAX], 2).len(), 2);
        assert_eq!(kmeans(&[f64::MIN_POSITIVE, 2.0 * f64::MIN_POSITIVE, 9.0 * f64::MIN_POSITIVE], 2), [0..2, 2..3]);
        assert_eq!(kmeans(&[-0.0, 0.0, 1.0], 5), [0..2, 2..3]);
        // The mean of equal values is exactly that value, so with as many clusters as values the cost is zero.
        let thrice = [0.1, 0.1, 0.1, 0.4, 0.4, 0.4, 0.7, 1.1, 1.1, 1.1];
        assert_eq!(kmeans(&thrice, 4), [0..3, 3..6, 6..7, 7..10]);
    }

    #[test]
    fn ten_thousand_values_are_split_where_they_part() {
        let values = sorted((0..10_000).map(|i| f64::from(i % 4) + f64::from(i) * 1e-7).collect());
        assert_eq!(kmeans(&values, 4), [0..2500, 2500..5000, 5000..7500, 7500..10_000]);
    }
}
