//! Exact inference with a Gaussian process, given its covariance matrices.
//!
//! | symbol | meaning |
//! |---|---|
//! | N, M | number of observed points, of points to predict |
//! | y, c | observed outcomes, constant prior mean |
//! | K, s2 | covariance of the latent function at the observed points, variance of the noise |
//! | L, X | Cholesky factor of K + s2 I, and its inverse |
//! | alpha | (K + s2 I)^-1 (y - c) |
//! | K*, K** | covariance between the M and the N points (M x N), and among the M points (M x M) |
//!
//! Equation numbers are those of Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006).

use std::f64::consts::TAU;

use nalgebra::{DMatrix, DVector};

use super::{GpError, factor::Factor};

/// A Gaussian process after N noisy observations.
#[derive(Clone, Debug)]
pub(super) struct Posterior {
    mean: f64,
    residuals: DVector<f64>,
    factor: Factor,
    /// X (y - c), of length N.
    white: DVector<f64>,
    alpha: DVector<f64>,
}

impl Posterior {
    /// Conditions the process on N outcomes. `covariance` is K (N x N) without noise, of which only the lower triangle
    /// is read.
    ///
    /// # Errors
    /// [`GpError`] if sizes differ, if there are no outcomes, if an outcome is not finite, or if K + s2 I is not
    /// positive definite.
    pub(super) fn fit(
        mut covariance: DMatrix<f64>,
        noise: f64,
        mean: f64,
        outcomes: &DVector<f64>,
    ) -> Result<Self, GpError> {
        let count = outcomes.len();
        if count == 0 {
            return Err(GpError::NoObservations);
        }
        if covariance.nrows() != count {
            return Err(GpError::Shape { what: "rows of a covariance", expected: count, found: covariance.nrows() });
        }
        if let Some((index, &value)) = outcomes.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(GpError::NotFinite { index, value });
        }
        for i in 0..count.min(covariance.ncols()) {
            covariance[(i, i)] += noise;
        }
        let factor = Factor::new(&covariance)?;
        let residuals = outcomes.add_scalar(-mean);
        let white = factor.whiten(&residuals);
        let alpha = factor.unwhiten(&white);
        Ok(Self { mean, residuals, factor, white, alpha })
    }

    /// Returns the mean (M) and covariance (M x M) of the latent function at M points, given K* (M x N) and K** (M x
    /// M): eq. 2.25 and 2.26.
    ///
    /// # Errors
    /// [`GpError::Shape`] if the sizes of the matrices disagree.
    pub(super) fn predict(
        &self,
        cross: &DMatrix<f64>,
        prior: &DMatrix<f64>,
    ) -> Result<(DVector<f64>, DMatrix<f64>), GpError> {
        self.check_cross(cross)?;
        let expected = cross.nrows();
        if let Some(&found) = [prior.nrows(), prior.ncols()].iter().find(|&&size| size != expected) {
            return Err(GpError::Shape { what: "rows or columns of a prior covariance", expected, found });
        }
        let white = self.whiten(cross);
        Ok((self.mean_of(cross), prior - &white * white.transpose()))
    }

    /// Returns the mean (M) and variance (M, at least 0) of the latent function at M points, given K* (M x N) and the
    /// diagonal of K** (M).
    ///
    /// # Errors
    /// [`GpError::Shape`] if the sizes of the matrices disagree.
    pub(super) fn predict_diagonal(
        &self,
        cross: &DMatrix<f64>,
        prior: &DVector<f64>,
    ) -> Result<(DVector<f64>, DVector<f64>), GpError> {
        self.check_cross(cross)?;
        if prior.len() != cross.nrows() {
            return Err(GpError::Shape { what: "prior variances", expected: cross.nrows(), found: prior.len() });
        }
        let mut variance = prior.clone();
        for column in self.whiten(cross).column_iter() {
            variance.zip_apply(&column, |variance, white| *variance -= white * white);
        }
        variance.apply(|variance| *variance = variance.max(0.0));
        Ok((self.mean_of(cross), variance))
    }

    /// Returns only the mean (M), given K* (M x N).
    ///
    /// # Errors
    /// [`GpError::Shape`] if `cross` does not have one column per observation.
    pub(super) fn predict_mean(&self, cross: &DMatrix<f64>) -> Result<DVector<f64>, GpError> {
        self.check_cross(cross)?;
        Ok(self.mean_of(cross))
    }

    /// Returns K* X' (M x N). [`predict`](Self::predict) subtracts the product of this matrix with its own transpose.
    pub(super) fn whiten(&self, cross: &DMatrix<f64>) -> DMatrix<f64> {
        cross * self.factor.lower_inverse().transpose()
    }

    /// Returns ln N(y; c, K + s2 I), eq. 2.30, not divided by N.
    pub(super) fn log_marginal_likelihood(&self) -> f64 {
        let count = self.residuals.len() as f64;
        -0.5 * (self.white.norm_squared() + self.factor.log_determinant() + count * TAU.ln())
    }

    /// Returns the mean (N) and variance (N) of each outcome, including noise, given all others: eq. 5.10 to 5.12,
    /// after Sundararajan and Keerthi (2001). Errors divided by their standard deviations should look standard normal.
    pub(super) fn leave_one_out(&self) -> (DVector<f64>, DVector<f64>) {
        let inverse = self.factor.lower_inverse();
        let variance =
            DVector::from_iterator(self.alpha.len(), inverse.column_iter().map(|column| column.norm_squared().recip()));
        let mean = (&self.residuals - self.alpha.component_mul(&variance)).add_scalar(self.mean);
        (mean, variance)
    }

    /// Returns (K + s2 I)^-1 (y - c), of length N.
    pub(super) fn alpha(&self) -> &DVector<f64> {
        &self.alpha
    }

    /// Returns the factor of K + s2 I (N x N).
    pub(super) fn factor(&self) -> &Factor {
        &self.factor
    }

    fn mean_of(&self, cross: &DMatrix<f64>) -> DVector<f64> {
        (cross * &self.alpha).add_scalar(self.mean)
    }

    fn check_cross(&self, cross: &DMatrix<f64>) -> Result<(), GpError> {
        let expected = self.alpha.len();
        let found = cross.ncols();
        if expected == found {
            Ok(())
        } else {
            Err(GpError::Shape { what: "columns of a cross-covariance", expected, found })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five points on a line and a kernel on it.
    fn process() -> (DMatrix<f64>, DVector<f64>) {
        let covariance = DMatrix::from_fn(5, 5, |i, j| (-(i as f64 - j as f64).powi(2) / 3.0).exp());
        (covariance, DVector::from_vec(vec![0.3, -1.0, 0.8, 1.4, -0.2]))
    }

    #[test]
    fn leaving_one_out_is_conditioning_on_the_others() {
        let (covariance, outcomes) = process();
        let noise = 0.05;
        let mean = 0.2;
        let (means, variances) = Posterior::fit(covariance.clone(), noise, mean, &outcomes).unwrap().leave_one_out();
        for out in 0..5 {
            let others = covariance.clone().remove_row(out).remove_column(out);
            let rest = Posterior::fit(others, noise, mean, &outcomes.clone().remove_row(out)).unwrap();
            let cross = covariance.row(out).into_owned().remove_column(out);
            let cross = DMatrix::from_row_slice(1, 4, cross.as_slice());
            let prior = DVector::from_element(1, covariance[(out, out)]);
            let (expected, variance) = rest.predict_diagonal(&cross, &prior).unwrap();
            assert!((means[out] - expected[0]).abs() < 1e-13);
            assert!((variances[out] - variance[0] - noise).abs() < 1e-13);
            assert_eq!(rest.predict_mean(&cross).unwrap(), expected);
        }
    }

    #[test]
    fn whitened_covariances_subtract_to_the_posterior() {
        let (covariance, outcomes) = process();
        let process = Posterior::fit(covariance.clone(), 0.05, 0.0, &outcomes).unwrap();
        let (_, posterior) = process.predict(&covariance, &covariance).unwrap();
        let (_, variance) = process.predict_diagonal(&covariance, &covariance.diagonal()).unwrap();
        assert!((posterior.diagonal() - variance).amax() < 1e-14);
        let white = process.whiten(&covariance);
        assert!((&covariance - &white * white.transpose() - posterior).amax() < 1e-14);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (covariance, outcomes) = process();
        let empty = Posterior::fit(DMatrix::zeros(0, 0), 0.1, 0.0, &DVector::zeros(0));
        assert!(matches!(empty, Err(GpError::NoObservations)));
        let short = Posterior::fit(covariance.clone(), 0.1, 0.0, &DVector::zeros(4));
        assert!(matches!(short, Err(GpError::Shape { expected: 4, found: 5, .. })));
        let flat = Posterior::fit(DMatrix::zeros(5, 3), 0.1, 0.0, &outcomes);
        assert!(matches!(flat, Err(GpError::Shape { .. })));
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut outcomes = outcomes.clone();
            outcomes[2] = value;
            let refused = Posterior::fit(covariance.clone(), 0.1, 0.0, &outcomes);
            assert!(matches!(refused, Err(GpError::NotFinite { index: 2, .. })));
        }
        let process = Posterior::fit(covariance, 0.1, 0.0, &outcomes).unwrap();
        let cross = DMatrix::zeros(2, 5);
        assert!(process.predict(&DMatrix::zeros(2, 4), &DMatrix::zeros(2, 2)).is_err());
        assert!(process.predict(&cross, &DMatrix::zeros(2, 3)).is_err());
        assert!(process.predict_diagonal(&cross, &DVector::zeros(3)).is_err());
        assert!(process.predict_mean(&DMatrix::zeros(1, 6)).is_err());
    }
}
