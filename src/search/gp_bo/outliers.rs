//! Outliers: values far below all others, which would dominate the standard deviation.

/// Returns the values, with those more than four interquartile ranges below the lower quartile raised to the least of
/// the others. With fewer than eight values, or equal quartiles, nothing changes.
pub(super) fn raised_to_the_others(values: Vec<f64>) -> Vec<f64> {
    let Some(bound) = bound(&values, 4.0) else { return values };
    let least = values.iter().copied().filter(|&value| value >= bound).fold(f64::INFINITY, f64::min);
    raised(values, least)
}

/// Returns the values, with those more than three interquartile ranges below the lower quartile raised to that bound,
/// where they remain the worst: a front needs its cheapest sequences, and those are often the worst.
pub(super) fn raised_to_a_bound(values: Vec<f64>) -> Vec<f64> {
    match bound(&values, 3.0) {
        Some(bound) => raised(values, bound),
        None => values,
    }
}

fn raised(mut values: Vec<f64>, least: f64) -> Vec<f64> {
    values.iter_mut().filter(|value| **value < least).for_each(|value| *value = least);
    values
}

/// Returns the value `ranges` interquartile ranges below the lower quartile, or `None` if there are fewer than eight
/// values or the quartiles are equal.
fn bound(values: &[f64], ranges: f64) -> Option<f64> {
    let mut sorted: Vec<_> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    if sorted.len() < 8 {
        return None;
    }
    let lower = sorted[sorted.len() / 4];
    let range = sorted[sorted.len() * 3 / 4] - lower;
    let bound = lower - ranges * range;
    (range > 0.0 && bound.is_finite()).then_some(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [f64; 9] = [0.25, 0.56, 0.65, 0.66, 0.67, 0.68, 0.69, 0.70, 0.71];

    #[test]
    fn the_worst_is_raised_and_no_other() {
        let values = VALUES.to_vec();
        let still_the_worst = raised_to_a_bound(values.clone());
        assert_eq!(still_the_worst[1..], values[1..]);
        assert!(still_the_worst[0] > 0.5 && still_the_worst[0] < 0.56, "{still_the_worst:?}");
        let like_the_others = raised_to_the_others(values.clone());
        assert_eq!((like_the_others[0], &like_the_others[1..]), (0.56, &values[1..]));
        // Far by three ranges, and not by four.
        let between = [&[0.51], &VALUES[1..]].concat();
        assert_ne!(raised_to_a_bound(between.clone()), between);
        assert_eq!(raised_to_the_others(between.clone()), between);
    }

    #[test]
    fn what_has_no_quartiles_stays() {
        for raise in [raised_to_a_bound, raised_to_the_others] {
            assert_eq!(raise(VALUES[..7].to_vec()), VALUES[..7]);
            assert_eq!(raise(vec![0.5; 9]), [0.5; 9]);
            assert!(raise(vec![f64::NAN; 9]).iter().all(|value| value.is_nan()));
            assert!(raise(Vec::new()).is_empty());
        }
    }
}
