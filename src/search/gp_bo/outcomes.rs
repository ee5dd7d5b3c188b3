//! Standardised outcomes, their known noise, and the map back to the original scale.

use nalgebra::DVector;

use super::GpError;
use crate::statistics::median;

/// The largest variance of known noise on the standardised scale. An outcome with so much noise carries no information.
const LARGEST_NOISE: f64 = 1e6;

/// The smallest known variance, as a share of the median. A variance estimated from few repetitions can be small by
/// chance.
const LEAST_SHARE: f64 = 0.1;

/// The outcomes of N observations, on the original scale.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outcomes {
    /// The values (N). Larger is better.
    pub(super) values: Vec<f64>,
    /// The standard errors of the values (N), where they are known.
    pub(super) errors: Vec<Option<f64>>,
}

impl Outcomes {
    /// Returns the outcomes at these positions.
    pub(super) fn at(&self, positions: &[usize]) -> Self {
        Self {
            values: positions.iter().map(|&at| self.values[at]).collect(),
            errors: positions.iter().map(|&at| self.errors[at]).collect(),
        }
    }

    /// Returns the standardised outcomes with their known noise.
    ///
    /// # Errors
    /// Under the conditions of [`Standardised::new`].
    pub(super) fn standardised(&self) -> Result<Standardised, GpError> {
        Ok(Standardised::new(&self.values)?.with_errors(&self.errors))
    }
}

/// Outcomes with a smaller standard deviation count as constant and are only centred, as in BoTorch's `Standardize`.
const SMALLEST_SD: f64 = 1e-8;

/// Standardised outcomes, y' = (y - mean) / sd, as BoTorch's `Standardize` makes them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Standardised {
    /// The N standardised outcomes.
    pub(super) values: DVector<f64>,
    /// The mean of the original outcomes.
    pub(super) mean: f64,
    /// The sample standard deviation of the original outcomes (divisor N - 1), or 1 if N = 1 or it is below 1e-8.
    pub(super) sd: f64,
    /// The known variances of the noise (N), in units of `sd` squared, or `None` if none is known.
    pub(super) noise: Option<DVector<f64>>,
}

impl Standardised {
    /// Standardises N >= 1 outcomes. They are divided by the largest magnitude before anything is squared, so values
    /// such as 1e300 do not overflow.
    ///
    /// # Errors
    /// [`GpError::NoObservations`] if there are none, [`GpError::NotFinite`] for the first that is NaN or infinite.
    pub(super) fn new(outcomes: &[f64]) -> Result<Self, GpError> {
        if let Some((index, &value)) = outcomes.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(GpError::NotFinite { index, value });
        }
        let &first = outcomes.first().ok_or(GpError::NoObservations)?;
        // A power of two, so that dividing by it is exact.
        let largest = outcomes.iter().fold(0.0, |most: f64, y| most.max(y.abs()));
        let unit = if largest > 1.0 { largest.log2().floor().min(1023.0).exp2() } else { 1.0 };
        let scaled: Vec<_> = outcomes.iter().map(|y| y / unit).collect();
        let count = scaled.len() as f64;
        // Relative to the first value, so that the mean of equal values is exactly that value.
        let first = first / unit;
        let mean = first + scaled.iter().map(|y| y - first).sum::<f64>() / count;
        let squares = scaled.iter().map(|y| (y - mean).powi(2)).sum::<f64>();
        let sd = if scaled.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        let sd = if sd * unit < SMALLEST_SD { 1.0 / unit } else { sd };
        let values = DVector::from_iterator(scaled.len(), scaled.iter().map(|y| (y - mean) / sd));
        // For numbers of opposite sign near the largest double, the standard deviation overflows.
        Ok(Self { values, mean: mean * unit, sd: (sd * unit).min(f64::MAX), noise: None })
    }

    /// Adds the standard errors (N) as known noise, if there are any. An outcome without one is given the median
    /// variance of the others. No variance is taken as smaller than a tenth of this median.
    #[must_use]
    pub(super) fn with_errors(self, errors: &[Option<f64>]) -> Self {
        let variance = |error: f64| (error / self.sd).powi(2).min(LARGEST_NOISE);
        let known = errors.iter().map(|error| error.filter(|error| error.is_finite()).map(variance));
        let known: Vec<_> = known.collect();
        let stated: Vec<_> = known.iter().copied().flatten().collect();
        let Some(median) = median(&stated) else { return self };
        let of = |at: usize| known.get(at).copied().flatten().unwrap_or(median).max(LEAST_SHARE * median);
        let noise = DVector::from_fn(self.values.len(), |at, _| of(at));
        Self { noise: Some(noise), ..self }
    }

    /// Appends outcomes on the standardised scale. The noise of each is the mean of the known noise.
    #[must_use]
    pub(super) fn and(&self, more: &DVector<f64>) -> Self {
        let all = |before: &DVector<f64>, more: &DVector<f64>| {
            DVector::from_iterator(before.len() + more.len(), before.iter().chain(more).copied())
        };
        let longer = |noise: &DVector<f64>| all(noise, &DVector::from_element(more.len(), noise.mean()));
        Self { values: all(&self.values, more), noise: self.noise.as_ref().map(longer), ..*self }
    }

    /// Converts a value from the standardised scale to the original one, limited to finite doubles.
    pub(super) fn restore(&self, value: f64) -> f64 {
        (self.mean + self.sd * value).clamp(f64::MIN, f64::MAX)
    }

    /// Converts a distance, such as a standard deviation, from the standardised scale to the original one, limited to
    /// finite doubles.
    pub(super) fn restore_distance(&self, distance: f64) -> f64 {
        (self.sd * distance).min(f64::MAX)
    }

    /// Converts a value from the original scale to the standardised one.
    pub(super) fn apply(&self, value: f64) -> f64 {
        (value - self.mean) / self.sd
    }

    /// Converts means (M) from the standardised scale to the original one.
    #[cfg(test)]
    pub(super) fn restore_mean(&self, mean: &DVector<f64>) -> DVector<f64> {
        mean.map(|value| self.restore(value))
    }

    /// Converts a covariance (M x M) from the standardised scale to the original one. For outcomes above 1e154, the
    /// result overflows: stay on the standardised scale.
    #[cfg(test)]
    pub(super) fn restore_covariance(&self, covariance: &nalgebra::DMatrix<f64>) -> nalgebra::DMatrix<f64> {
        covariance * (self.sd * self.sd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::gp_bo::golden::{self, close};

    #[test]
    fn outcomes_agree_with_botorch() {
        for fixture in golden::fixtures() {
            let outcomes = Standardised::new(&fixture.y).unwrap();
            close("mean", outcomes.mean, fixture.y_mean, 1e-14);
            close("sd", outcomes.sd, fixture.y_stdv, 1e-9);
            for (&ours, &expected) in outcomes.values.iter().zip(&fixture.y_std) {
                assert!((ours - expected).abs() <= 1e-9 * expected.abs().max(1e-2), "{ours} {expected}");
            }
        }
    }

    #[test]
    fn standard_errors_are_variances_of_the_standardised_scale() {
        let values = [0.1, 0.3, 0.2, 0.6];
        let plain = Standardised::new(&values).unwrap();
        assert_eq!(plain.clone().with_errors(&[None; 4]), plain);
        let known = plain.clone().with_errors(&[Some(0.1), None, Some(0.3), Some(f64::NAN)]);
        let unit = plain.sd.powi(2);
        for (ours, expected) in known.noise.clone().unwrap().iter().zip([0.01, 0.05, 0.09, 0.05]) {
            close("noise", *ours, expected / unit, 1e-12);
        }
        let more = known.and(&DVector::from_vec(vec![0.0, 0.5]));
        assert_eq!((more.values.len(), more.values[5]), (6, 0.5));
        close("noise", more.noise.unwrap()[4], 0.05 / unit, 1e-12);
        // One that is exact by chance is not believed; of exact values all are.
        let absurd = plain.clone().with_errors(&[Some(1e300), Some(0.0), None, None]).noise.unwrap();
        assert!(absurd.iter().all(|noise| noise.is_finite()) && absurd[1] == 0.1 * absurd[2]);
        assert_eq!(plain.with_errors(&[Some(0.0); 4]).noise.unwrap().max(), 0.0);
    }

    #[test]
    fn degenerate_outcomes_are_centred_only() {
        let one = Standardised::new(&[3.5]).unwrap();
        assert_eq!((one.mean, one.sd, one.values[0]), (3.5, 1.0, 0.0));
        for value in [0.0, 0.1, -1e300, 1e-300, f64::MAX] {
            let equal = Standardised::new(&[value; 7]).unwrap();
            assert!((equal.mean - value).abs() <= 1e-15 * value.abs());
            assert!(equal.values.iter().all(|y| y.abs() < 1e-15), "{value}");
        }
        assert_eq!(Standardised::new(&[]), Err(GpError::NoObservations));
        for value in [f64::NAN, f64::INFINITY] {
            assert!(matches!(Standardised::new(&[0.0, value]), Err(GpError::NotFinite { index: 1, .. })));
        }
    }

    #[test]
    fn the_largest_outcomes_do_not_overflow() {
        let outcomes = [1e300, -1e300, 5e299, 0.0];
        let large = Standardised::new(&outcomes).unwrap();
        let small = Standardised::new(&outcomes.map(|y| y / 1e300)).unwrap();
        assert!(large.mean.is_finite() && large.sd.is_finite());
        for (a, b) in large.values.iter().zip(&small.values) {
            close("value", *a, *b, 1e-14);
        }
        for (&y, &value) in outcomes.iter().zip(&large.values) {
            assert!((large.restore(value) - y).abs() <= 1e285);
            assert!((large.apply(y) - value).abs() <= 1e-14);
        }
    }
}
