//! The scale of an axis, for any finite values.

use std::ops::Range;

use crate::text;

/// Values closer than this, relative to the largest, count as equal, because their ticks could not be distinguished.
const CLOSE: f64 = 1e-9;
/// Smaller values count as zero.
const TINY: f64 = 1e-300;
/// Values further from the median than this many interquartile ranges are drawn at the edge.
const FAR: f64 = 1e6;
/// The maximum length of a bar, in ranges of the values or medians of all bars, whichever is larger.
const LONGEST_BAR: f64 = 10.0;

/// The maximum number of labels of an axis for which the drawing library is not told one.
pub(super) const LABELS: usize = 11;

/// A scale for values of any magnitude. It is in units of a power of ten, so nothing overflows between its ends. Values
/// beyond the ends are drawn on them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    /// The power of ten of the unit, or 0 for values of ordinary magnitude.
    exponent: i32,
    low: f64,
    high: f64,
}

impl Axis {
    /// Creates an axis slightly larger than the range of the values, never empty. Values that are not finite are left
    /// out.
    pub(super) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let near = near(&values);
        let (Some(&low), Some(&high)) = (near.first(), near.last()) else {
            return Self { exponent: 0, low: 0.0, high: 1.0 };
        };
        let largest = low.abs().max(high.abs());
        let exponent = exponent(largest);
        let low = scaled(low, exponent);
        let high = scaled(high, exponent);
        let apart = high - low > CLOSE * scaled(largest, exponent) && largest >= TINY;
        let margin = if apart { 0.06 * (high - low) } else { 0.05 * high.abs().max(1.0) };
        Self { exponent, low: low - margin, high: high + margin }
    }

    /// Like [`new`](Self::new) for values with symmetric bars, some of which are unknown. Excessively long bars are
    /// cut.
    pub(super) fn with_bars(values: &[(f64, Option<f64>)]) -> Self {
        let mut bars: Vec<_> = values.iter().filter_map(|&(_, bar)| bar).filter(|bar| bar.is_finite()).collect();
        bars.sort_by(f64::total_cmp);
        let median = bars.get(bars.len().saturating_sub(1) / 2).copied().unwrap_or(0.0);
        let finite = || values.iter().map(|&(value, _)| value).filter(|value| value.is_finite());
        let range = finite().fold(f64::NEG_INFINITY, f64::max) - finite().fold(f64::INFINITY, f64::min);
        let longest = LONGEST_BAR * median.max(range);
        Self::new(values.iter().flat_map(|&(value, bar)| ends(value, bar.unwrap_or(0.0).min(longest))))
    }

    /// Creates an axis from zero to slightly more than the largest value.
    pub(super) fn upward(values: impl IntoIterator<Item = f64>) -> Self {
        let largest = values.into_iter().filter(|value| value.is_finite()).fold(0.0, f64::max);
        match largest < TINY {
            true => Self { exponent: 0, low: 0.0, high: 1.0 },
            false => {
                let exponent = exponent(largest);
                Self { exponent, low: 0.0, high: 1.08 * scaled(largest, exponent) }
            }
        }
    }

    /// Returns the range, in units.
    pub(super) fn range(&self) -> Range<f64> {
        self.low..self.high
    }

    /// Returns the value in units, limited to the range.
    pub(super) fn at(&self, value: f64) -> f64 {
        match value.is_nan() {
            true => self.low,
            false => scaled(value, self.exponent).clamp(self.low, self.high),
        }
    }

    /// Returns the ends of the bar around a value, in units.
    pub(super) fn bar(&self, value: f64, bar: f64) -> [f64; 2] {
        ends(value, bar).map(|end| self.at(end))
    }

    /// Returns the position of a value between the ends, from 0 to 1.
    pub(super) fn share(&self, value: f64) -> f64 {
        (self.at(value) - self.low) / (self.high - self.low)
    }

    /// Returns the position of a tick, which is in units, from 0 to 1.
    pub(super) fn share_of_tick(&self, tick: f64) -> f64 {
        (tick - self.low) / (self.high - self.low)
    }

    /// Returns whether the value lies beyond the ends and is drawn at an edge.
    pub(super) fn leaves_out(&self, value: f64) -> bool {
        let own = scaled(value, self.exponent);
        own < self.low || own > self.high
    }

    /// Returns at most `most` round numbers between the ends: the position of each, from 0 to 1, and its label.
    pub(super) fn ticks(&self, most: usize) -> Vec<(f64, String)> {
        let step = self.step(most);
        let first = (self.low / step).ceil();
        let ticks = (0..=most).map(|at| (first + at as f64) * step + 0.0);
        let within = ticks.filter(|&tick| self.low <= tick && tick <= self.high);
        within.map(|tick| (self.share_of_tick(tick), self.label_in_steps(tick, step))).collect()
    }

    /// Returns the label of a tick, which is in units, with the digits that tell `most` ticks apart.
    pub(super) fn label(&self, tick: f64, most: usize) -> String {
        self.label_in_steps(tick, self.step(most))
    }

    fn label_in_steps(&self, tick: f64, step: f64) -> String {
        // The logarithm of a power of ten may be slightly below a whole number.
        let digits = (-(step.log10() + CLOSE).floor()).clamp(0.0, 9.0) as usize;
        match self.exponent {
            0 if tick.abs() >= 1e4 && step >= 1e-3 * tick.abs() => text::quantity(tick),
            0 => text::number(tick + 0.0, digits),
            exponent => format!("{tick:.digits$}e{exponent}"),
        }
    }

    /// Returns the distance of the ticks if there are at most `most`: 1, 2 or 5 times a power of ten, as the drawing
    /// library has it.
    fn step(&self, most: usize) -> f64 {
        let least = (self.high - self.low) / (most + 1) as f64;
        let power = 10f64.powi(least.log10().floor() as i32);
        let fits = |step: f64| (self.high / step).floor() - (self.low / step).ceil() < most as f64;
        let steps = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
        steps.into_iter().find(|&step| fits(step)).unwrap_or(10.0 * power)
    }
}

/// Returns both ends of a bar, limited to finite doubles.
fn ends(value: f64, bar: f64) -> [f64; 2] {
    [(value - bar).max(f64::MIN), (value + bar).min(f64::MAX)]
}

/// Returns the values that are not too far from the middle half. `sorted` is ascending.
fn near(sorted: &[f64]) -> &[f64] {
    let quarter = |share: usize| sorted.get(share * sorted.len().saturating_sub(1) / 4).copied().unwrap_or(0.0);
    // Halves, so that nothing overflows.
    let width = 0.5 * quarter(3) - 0.5 * quarter(1);
    let reach = FAR * width;
    if width < TINY || !reach.is_finite() {
        return sorted;
    }
    let middle = quarter(2);
    let from = sorted.partition_point(|&value| 0.5 * value - 0.5 * middle < -reach);
    let to = sorted.partition_point(|&value| 0.5 * value - 0.5 * middle <= reach);
    &sorted[from..to]
}

/// Returns the power of ten of the unit for values up to this magnitude.
fn exponent(largest: f64) -> i32 {
    match (1e-6..1e9).contains(&largest) || largest < TINY {
        true => 0,
        false => largest.log10().floor() as i32,
    }
}

/// Returns the value in units.
fn scaled(value: f64, exponent: i32) -> f64 {
    match exponent {
        0 => value,
        exponent => value / 10f64.powi(exponent),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_of_a_usual_size_have_a_margin_and_stay_as_they_are() {
        let axis = Axis::new([0.25, 0.75]);
        assert_eq!((axis.range(), axis.at(0.5), axis.share(0.5)), (0.22..0.78, 0.5, 0.5));
        assert_eq!(Axis::new([0.5]).range(), 0.45..0.55);
        assert_eq!(Axis::new([]).range(), 0.0..1.0);
        let almost = Axis::new([2.0, 2.0 + 1e-15]).range();
        assert!((almost.start - 1.9).abs() < 1e-9 && (almost.end - 2.1).abs() < 1e-9);
        assert_eq!([5, 11, 20, 1000].map(|most| axis.label(0.25, most)), ["0.2", "0.25", "0.25", "0.250"]);
        assert_eq!(Axis::new([2.735, 2.75]).label(2.742, 6), "2.742");
        assert_eq!(Axis::upward([2e-5]).label(1e-5, 6), "0.000010");
        assert_eq!([0.0, 2e5].map(|tick| Axis::upward([3e5]).label(tick, 6)), ["0", "200k"]);
        assert_eq!(Axis::new([123_400.0, 123_500.0]).label(123_450.0, 6), "123450");
        let labels: Vec<_> = axis.ticks(6).into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["0.3", "0.4", "0.5", "0.6", "0.7"]);
    }

    #[test]
    fn what_is_out_of_proportion_does_not_flatten_the_rest() {
        let axis = Axis::new([0.1, 0.2, 0.3, 0.4, 0.5, 1e308, -1e300]);
        assert!(axis.range().end < 1.0 && axis.leaves_out(1e308) && axis.at(1e308) == axis.range().end);
        assert!(!axis.leaves_out(0.5) && axis.at(-1e300) == axis.range().start);
        let bars = Axis::with_bars(&[(0.1, Some(0.01)), (0.2, Some(1e308)), (0.3, Some(0.02))]);
        assert!(bars.range().end < 3.0, "{bars:?}");
        assert_eq!(Axis::with_bars(&[(1.0, Some(0.5)), (2.0, None)]), Axis::new([0.5, 1.5, 2.0]));
        let huge = Axis::new([0.0, 1e308]);
        assert_eq!((huge.label(1.0, 6).as_str(), huge.share(1e308) > 0.9), ("1.0e308", true));
    }

    proptest! {
        #[test]
        fn every_value_has_a_place(values in proptest::collection::vec(any::<f64>(), 0..12), bars in proptest::collection::vec(any::<f64>(), 12)) {
            let pairs: Vec<_> = values.iter().zip(&bars).map(|(&value, bar)| (value, Some(bar.abs()))).collect();
            for axis in [Axis::new(values.iter().copied()), Axis::with_bars(&pairs), Axis::upward(values.iter().copied())] {
                let Range { start, end } = axis.range();
                prop_assert!(start.is_finite() && end.is_finite());
                // Plotters steps from tick to tick: a step must not vanish beside the ends.
                prop_assert!(end - start > 1e-10 * start.abs().max(end.abs()), "{axis:?}");
                let ticks = axis.ticks(5);
                prop_assert!(ticks.len() <= 6 && ticks.iter().all(|(share, _)| (0.0..=1.0).contains(share)), "{axis:?}");
                for &(value, bar) in &pairs {
                    prop_assert!((0.0..=1.0).contains(&axis.share(value)));
                    prop_assert!(axis.bar(value, bar.unwrap_or(0.0)).iter().all(|at| (start..=end).contains(at)));
                }
            }
        }
    }
}
