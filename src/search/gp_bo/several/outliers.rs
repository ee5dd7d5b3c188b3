//! Outliers: values far below all others.

/// The distance below the lower quartile from which a value counts as an outlier, in interquartile ranges.
const FAR_BELOW: f64 = 3.0;

/// Returns the values, with outliers at the low end raised to the threshold; they remain the worst. The cheapest
/// sequences, which a front needs, can be so bad that they would dominate the standard deviation.
pub(super) fn winsorised(mut values: Vec<f64>) -> Vec<f64> {
    let mut sorted: Vec<_> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    if sorted.len() < 8 {
        return values;
    }
    let lower = sorted[sorted.len() / 4];
    let range = sorted[sorted.len() * 3 / 4] - lower;
    let least = lower - FAR_BELOW * range;
    if range > 0.0 && least.is_finite() {
        values.iter_mut().filter(|value| **value < least).for_each(|value| *value = least);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_stays_the_worst_and_no_more() {
        let values = vec![0.25, 0.56, 0.65, 0.66, 0.67, 0.68, 0.69, 0.70, 0.71];
        let raised = winsorised(values.clone());
        assert_eq!(raised[1..], values[1..]);
        assert!(raised[0] > 0.5 && raised[0] < 0.56, "{raised:?}");
        assert_eq!(winsorised(values[..7].to_vec()), values[..7]);
        let equal = vec![0.5; 9];
        assert_eq!(winsorised(equal.clone()), equal);
        let unknown = winsorised(vec![f64::NAN; 9]);
        assert!(unknown.iter().all(|value| value.is_nan()));
    }
}
