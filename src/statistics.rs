//! Statistics of noisy measurements.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::seed::Seed;

/// A value with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

/// Returns the arithmetic mean, even if the sum overflows; NaN without values.
pub fn mean(values: &[f64]) -> f64 {
    let sum = values.iter().sum::<f64>();
    let count = values.len() as f64;
    // Finite numbers have a finite mean, even after rounding.
    let scaled = || values.iter().map(|value| value / count).sum::<f64>().clamp(f64::MIN, f64::MAX);
    if sum.is_finite() || values.iter().any(|value| !value.is_finite()) { sum / count } else { scaled() }
}

/// Returns a scale by which to divide the numbers before squaring them.
///
/// It is 1 unless the squares could overflow, else a power of two near the largest number, so that the division is
/// exact.
fn unit(values: &[f64]) -> f64 {
    const SAFE: f64 = 1e140;
    let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    if largest > SAFE && largest.is_finite() { largest.log2().floor().min(1023.0).exp2() } else { 1.0 }
}

/// Returns the sample standard deviation, with divisor n - 1, or `None` for fewer than two values. It saturates.
pub(crate) fn standard_deviation(values: &[f64]) -> Option<f64> {
    let degrees = values.len().checked_sub(1).filter(|&degrees| degrees > 0)?;
    let unit = unit(values);
    let mean = mean(values) / unit;
    let squares = values.iter().map(|value| (value / unit - mean).powi(2)).sum::<f64>();
    Some(((squares / degrees as f64).sqrt() * unit).min(f64::MAX))
}

/// Returns the standard error of the mean, `s / √n`, or `None` for fewer than two values.
pub fn standard_error(values: &[f64]) -> Option<f64> {
    Some(standard_deviation(values)? / (values.len() as f64).sqrt())
}

/// Returns the median (the mean of the middle two if the number of values is even), or `None` without values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(mean(&sorted[middle - 1..=middle])),
    }
}

/// Returns the ranks, from 1 for the smallest value. Equal values share the mean of their ranks.
pub(crate) fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<_> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        // Ranks before + 1 ..= before + equal.len().
        equal.iter().for_each(|&at| ranks[at] = before as f64 + (equal.len() as f64 + 1.0) / 2.0);
        before += equal.len();
    }
    ranks
}

/// Returns Pearson's correlation, or `None` if one side is constant or the lengths differ.
pub(crate) fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() {
        return None;
    }
    let unit_x = unit(x);
    let unit_y = unit(y);
    let mean_x = mean(x) / unit_x;
    let mean_y = mean(y) / unit_y;
    let mut xy = 0.0;
    let mut xx = 0.0;
    let mut yy = 0.0;
    for (x, y) in x.iter().zip(y) {
        let x = x / unit_x - mean_x;
        let y = y / unit_y - mean_y;
        xy += x * y;
        xx += x * x;
        yy += y * y;
    }
    let scale = (xx * yy).sqrt();
    (scale > 0.0).then(|| (xy / scale).clamp(-1.0, 1.0))
}

/// Returns Spearman's rank correlation, which is Pearson's correlation of the [`ranks`], or `None` if one side is
/// constant or the lengths differ.
pub(crate) fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    pearson(&ranks(x), &ranks(y))
}

/// Returns Kendall's rank correlation τ-b (Kendall 1945, Biometrika 33(3)), or `None` if one side is constant or the
/// lengths differ.
///
/// τ-b is the share of pairs in the same order minus the share in the opposite order, corrected for ties.
pub(crate) fn kendall(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() {
        return None;
    }
    let mut same = 0.0;
    let mut untied_x = 0.0;
    let mut untied_y = 0.0;
    for first in 0..x.len() {
        for second in first + 1..x.len() {
            // Zero if the two are equal or one is NaN.
            let order =
                |values: &[f64]| values[first].partial_cmp(&values[second]).map_or(0.0, |order| f64::from(order as i8));
            let order_x = order(x);
            let order_y = order(y);
            same += order_x * order_y;
            untied_x += order_x * order_x;
            untied_y += order_y * order_y;
        }
    }
    let scale = f64::sqrt(untied_x * untied_y);
    (scale > 0.0).then(|| same / scale)
}

/// Returns the reliability of a measurement made `factor` times as long: `f r / (1 + (f - 1) r)` (Spearman 1910 and
/// Brown 1910, British Journal of Psychology 3(3)). A reliability that is not positive is returned unchanged.
pub(crate) fn spearman_brown(reliability: f64, factor: f64) -> f64 {
    if reliability > 0.0 { factor * reliability / (1.0 + (factor - 1.0) * reliability) } else { reliability }
}

/// Computes a statistic of the items `0..n` with its percentile bootstrap interval (Efron 1979, Annals of Statistics
/// 7(1)).
///
/// The interval contains the middle 95 % of the statistic's values over `resamples` draws of `n` items with
/// replacement. `statistic` gets the drawn items and may return `None`; such draws are left out. Returns `None` if the
/// statistic of the items themselves is `None`.
pub(crate) fn bootstrap(
    items: usize,
    resamples: u64,
    seed: Seed,
    statistic: impl Fn(&[usize]) -> Option<f64>,
) -> Option<Estimate> {
    let all: Vec<_> = (0..items).collect();
    let value = statistic(&all)?;
    let draw = |index| {
        let mut rng = seed.rng("bootstrap", index);
        let drawn: Vec<_> = all.iter().map(|_| rng.random_range(0..items)).collect();
        statistic(&drawn)
    };
    Some(Estimate::from_draws(value, (0..resamples).filter_map(draw).collect()))
}

/// Returns the mean with its bootstrap interval, or `None` without values.
pub fn bootstrap_mean(values: &[f64], resamples: u64, seed: Seed) -> Option<Estimate> {
    let mean_of =
        |drawn: &[usize]| (!drawn.is_empty()).then(|| mean(&drawn.iter().map(|&at| values[at]).collect::<Vec<_>>()));
    bootstrap(values.len(), resamples, seed, mean_of)
}

impl Estimate {
    /// Creates an estimate whose interval is the middle 95 % of `draws`. Without draws, both ends equal `value`.
    pub fn from_draws(value: f64, mut draws: Vec<f64>) -> Self {
        draws.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let at = share * draws.len().saturating_sub(1) as f64;
            let below = draws.get(at.floor() as usize)?;
            let above = draws.get(at.ceil() as usize)?;
            let width = above - below;
            // The difference of two numbers may overflow.
            let between = || below * (1.0 - at.fract()) + above * at.fract();
            Some(if width.is_finite() { below + width * at.fract() } else { between() })
        };
        Self { value, low: quantile(0.025).unwrap_or(value), high: quantile(0.975).unwrap_or(value) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-12)
    }

    #[test]
    fn golden_values() {
        // By hand: the squares sum to 32, so the variance is 32/7 (numpy.std(ddof=1) and scipy.stats.sem agree).
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        assert_eq!(mean(&values), 5.0);
        assert!(close(standard_deviation(&values), (32.0f64 / 7.0).sqrt()));
        assert!(close(standard_error(&values), (4.0f64 / 7.0).sqrt()));
        assert_eq!((median(&values), median(&[3.0, 1.0, 2.0]), median(&[])), (Some(4.5), Some(2.0), None));
        assert_eq!((standard_deviation(&[1.0]), standard_error(&[])), (None, None));
        assert_eq!(ranks(&values), [1.0, 3.0, 3.0, 3.0, 5.5, 5.5, 7.0, 8.0]);
        // Spearman without ties: 1 - 6 Σd² / n(n² - 1) = 1 - 6 * 4 / 120.
        assert!(close(spearman(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 4.0, 3.0, 5.0]), 0.8));
        // Kendall: 8 pairs in the same order, 2 in the opposite; with a tie on one side, 5 of 6 and sqrt(5 * 6).
        assert!(close(kendall(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 4.0, 3.0, 5.0]), 0.6));
        assert!(close(kendall(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]), 5.0 / 30f64.sqrt()));
        assert_eq!((kendall(&[1.0, 1.0], &[1.0, 2.0]), kendall(&[1.0], &[])), (None, None));
        // Anscombe's first set: r = 0.81642051634484.
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        assert!(close(pearson(&x, &y), 0.81642051634484));
        assert_eq!((pearson(&x, &[1.0; 11]), pearson(&x, &y[1..]), spearman(&[], &[])), (None, None, None));
        // Two seeds with a correlation of 0.47: about ten of them reach 0.9.
        assert!((spearman_brown(0.47, 10.0) - 0.9).abs() < 2e-3);
        assert_eq!([(0.3, 1.0), (0.0, 4.0), (-0.5, 4.0)].map(|(r, f)| spearman_brown(r, f)), [0.3, 0.0, -0.5]);
    }

    #[test]
    fn intervals_of_a_mean_cover_it_as_often_as_they_say() {
        let covered = |sample: u64| {
            let mut rng = Seed(1).rng("sample", sample);
            let values: Vec<f64> = (0..40).map(|_| StandardNormal.sample(&mut rng)).collect();
            let estimate = bootstrap_mean(&values, 400, Seed(2)).unwrap();
            estimate.low <= 0.0 && 0.0 <= estimate.high
        };
        let share = (0..300).filter(|&sample| covered(sample)).count() as f64 / 300.0;
        // The percentile interval of 40 values covers slightly less than 95 %; four binomial standard errors are 0.05.
        assert!((0.88..0.99).contains(&share), "{share}");
    }

    #[test]
    fn draws_without_a_value_are_left_out() {
        let estimate = bootstrap(3, 200, Seed(0), |drawn| {
            let distinct = drawn.iter().any(|at| *at != drawn[0]);
            distinct.then(|| drawn.iter().sum::<usize>() as f64)
        });
        assert!(estimate.is_some_and(|e| e.value == 3.0 && e.low >= 1.0 && e.high <= 5.0), "{estimate:?}");
        assert_eq!(bootstrap(0, 9, Seed(0), |drawn| drawn.first().map(|&at| at as f64)), None);
        assert_eq!(bootstrap_mean(&[], 9, Seed(0)), None);
        assert_eq!(Estimate::from_draws(0.5, Vec::new()), Estimate { value: 0.5, low: 0.5, high: 0.5 });
    }

    /// Numbers that are finite but extreme.
    fn absurd() -> impl Strategy<Value = f64> {
        prop_oneof![
            proptest::sample::select(vec![0.0, 0.5, 1e308, -1e308, f64::MAX, f64::MIN, 1e300, -1e300, 1e-320, 5e-324]),
            any::<f64>().prop_filter("finite", |value| value.is_finite()),
            0.0..1.0,
        ]
    }

    proptest! {
        #[test]
        fn finite_numbers_have_finite_statistics(
            pairs in proptest::collection::vec((absurd(), absurd()), 1..12)
        ) {
            let (x, y): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let low = x.iter().copied().fold(f64::MAX, f64::min);
            let high = x.iter().copied().fold(f64::MIN, f64::max);
            let median = median(&x).unwrap();
            prop_assert!(low <= median && median <= high);
            prop_assert!(mean(&x).is_finite());
            prop_assert!(standard_deviation(&x).is_none_or(|sd| sd.is_finite() && sd >= 0.0));
            prop_assert!(pearson(&x, &y).is_none_or(|r| (-1.0..=1.0).contains(&r)));
            prop_assert!(spearman(&x, &y).is_none_or(|r| (-1.0..=1.0).contains(&r)));
            let interval = bootstrap_mean(&x, 50, Seed(0)).unwrap();
            prop_assert!(interval.low <= interval.high, "{interval:?}");
            prop_assert!([interval.value, interval.low, interval.high].iter().all(|end| end.is_finite()), "{interval:?}");
        }

        #[test]
        fn ranks_add_up_and_ignore_the_scale(values in proptest::collection::vec(-9i32..9, 1..30)) {
            let values: Vec<_> = values.into_iter().map(f64::from).collect();
            let n = values.len() as f64;
            prop_assert!((ranks(&values).iter().sum::<f64>() - n * (n + 1.0) / 2.0).abs() < 1e-9);
            let scaled: Vec<_> = values.iter().map(|value| (value / 3.0).exp()).collect();
            prop_assert_eq!(ranks(&values), ranks(&scaled));
            if let Some(own) = spearman(&values, &scaled) {
                prop_assert!((own - 1.0).abs() < 1e-12);
            }
        }
    }
}
