//! A fitted Gaussian process over encoded points.

use nalgebra::{DMatrix, DVector};

use super::{
    GpError,
    fit::{Fit, fit},
    hyper::Hyper,
    kernel::Kernel,
    minimise::Limits,
    outcomes::Standardised,
    posterior::Posterior,
};

/// A Gaussian process conditioned on N observations.
///
/// Predictions are those of the latent function on the *standardised* scale, where outcomes of any magnitude are safe.
/// Use [`outcomes`](Self::outcomes) to convert them to the original scale.
#[derive(Clone, Debug)]
pub(super) struct Surrogate<K: Kernel> {
    points: K::Points,
    hyper: Hyper<K>,
    outcomes: Standardised,
    posterior: Posterior,
}

/// Marginal predictions at M points.
pub(super) struct Marginals {
    /// The means (M).
    pub(super) mean: DVector<f64>,
    /// The variances (M), at least 0.
    pub(super) variance: DVector<f64>,
    /// The covariance with the observations in whitened coordinates (M x N), see [`Surrogate::whiten`].
    pub(super) white: DMatrix<f64>,
}

impl<K: Kernel> Surrogate<K> {
    /// Fits the hyperparameters to N points and N outcomes, and returns the process and the result of the fit.
    ///
    /// # Errors
    /// [`GpError`] if no starting point has a finite posterior density.
    pub(super) fn fit(
        points: K::Points,
        outcomes: Standardised,
        starts: &[Hyper<K>],
        limits: Limits,
    ) -> Result<(Self, Fit<K>), GpError>
    where
        K: Clone,
    {
        let found = fit(&points, &outcomes, starts, limits)?;
        let posterior = found.hyper.posterior(&points, &outcomes)?;
        let hyper = found.hyper.clone();
        Ok((Self { points, hyper, outcomes, posterior }, found))
    }

    /// Creates a process with given hyperparameters.
    ///
    /// # Errors
    /// [`GpError`] if the covariance is not positive definite.
    pub(super) fn new(points: K::Points, outcomes: Standardised, hyper: Hyper<K>) -> Result<Self, GpError> {
        let posterior = hyper.posterior(&points, &outcomes)?;
        Ok(Self { points, hyper, outcomes, posterior })
    }

    /// Returns the process conditioned on further outcomes, with the same hyperparameters and on the same standardised
    /// scale. `points` are the observed points, followed by those at which `believed` (standardised) is assumed.
    ///
    /// # Errors
    /// [`GpError`] if the covariance is not positive definite.
    pub(super) fn believer(&self, points: K::Points, believed: &DVector<f64>) -> Result<Self, GpError>
    where
        K: Clone,
    {
        let hyper = self.hyper.clone();
        let outcomes = self.outcomes.and(believed);
        let posterior = hyper.posterior(&points, &outcomes)?;
        Ok(Self { points, hyper, outcomes, posterior })
    }

    /// Returns the mean (M) and covariance (M x M) at M points.
    ///
    /// # Errors
    /// [`GpError::Shape`] if the kernel returns matrices of the wrong shape.
    pub(super) fn predict(&self, points: &K::Points) -> Result<(DVector<f64>, DMatrix<f64>), GpError> {
        let kernel = &self.hyper.kernel;
        self.posterior.predict(&kernel.cross(points, &self.points), &kernel.gram(points))
    }

    /// Returns the mean (M) and variance (M) at M points.
    ///
    /// # Errors
    /// [`GpError::Shape`] if the kernel returns matrices of the wrong shape.
    pub(super) fn predict_diagonal(&self, points: &K::Points) -> Result<(DVector<f64>, DVector<f64>), GpError> {
        let kernel = &self.hyper.kernel;
        self.posterior.predict_diagonal(&kernel.cross(points, &self.points), &kernel.variances(points))
    }

    /// Returns the covariance of M points with the observations in whitened coordinates (M x N). The part of the
    /// covariance of two sets of points that the observations explain is the product of their matrices.
    pub(super) fn whiten(&self, points: &K::Points) -> DMatrix<f64> {
        self.posterior.whiten(&self.hyper.kernel.cross(points, &self.points))
    }

    /// Returns the mean and variance at M points, and the result of [`whiten`](Self::whiten) for them.
    ///
    /// # Errors
    /// [`GpError::Shape`] if the kernel returns matrices of the wrong shape.
    pub(super) fn predict_white(&self, points: &K::Points) -> Result<Marginals, GpError> {
        let kernel = &self.hyper.kernel;
        let cross = kernel.cross(points, &self.points);
        let mean = self.posterior.predict_mean(&cross)?;
        let white = self.posterior.whiten(&cross);
        let mut variance = kernel.variances(points);
        for column in white.column_iter() {
            variance.zip_apply(&column, |variance, white| *variance -= white * white);
        }
        variance.apply(|variance| *variance = variance.max(0.0));
        Ok(Marginals { mean, variance, white })
    }

    /// Returns the hyperparameters.
    pub(super) fn hyper(&self) -> &Hyper<K> {
        &self.hyper
    }

    /// Returns the standardised outcomes, which also convert between the two scales.
    pub(super) fn outcomes(&self) -> &Standardised {
        &self.outcomes
    }

    /// Returns the posterior: likelihood, leave-one-out predictions, factors.
    pub(super) fn posterior(&self) -> &Posterior {
        &self.posterior
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::gp_bo::kernel::{Categorical, Priors, Rbf};

    fn bits(count: usize) -> DMatrix<f64> {
        DMatrix::from_fn(count, 6, |i, layer| ((i >> layer) & 1) as f64)
    }

    fn fitted(points: DMatrix<f64>, outcomes: &[f64]) -> Surrogate<Rbf> {
        let starts = Hyper::<Rbf>::starts(points.ncols());
        Surrogate::fit(points, Standardised::new(outcomes).unwrap(), &starts, Limits::default()).unwrap().0
    }

    /// Predictions everywhere are finite and variances are between 0 and the prior's.
    fn check(surrogate: &Surrogate<Rbf>) {
        let everywhere = bits(64);
        let (mean, variance) = surrogate.predict_diagonal(&everywhere).unwrap();
        assert!(mean.iter().all(|mean| mean.is_finite()));
        assert!(variance.iter().all(|&variance| (0.0..=1.0 + 1e-12).contains(&variance)));
        let (same, covariance) = surrogate.predict(&everywhere).unwrap();
        assert!((mean - same).amax() < 1e-12);
        assert!((covariance.diagonal() - variance).amax() < 1e-12);
    }

    #[test]
    fn degenerate_data_are_fitted() {
        check(&fitted(bits(1), &[0.7]));
        check(&fitted(bits(20), &[0.7; 20]));
        check(&fitted(DMatrix::zeros(12, 6), &(0..12).map(f64::from).collect::<Vec<_>>()));
        check(&fitted(DMatrix::zeros(12, 6), &[3.0; 12]));
    }

    #[test]
    fn the_largest_outcomes_are_fitted_like_small_ones() {
        let small: Vec<_> = (0..24).map(|i| f64::from(i * i % 7) - 2.0).collect();
        let large: Vec<_> = small.iter().map(|y| y * 2f64.powi(990)).collect();
        let small = fitted(bits(24), &small);
        let large = fitted(bits(24), &large);
        check(&large);
        assert_eq!(small.hyper(), large.hyper());
        let (mean, _) = large.predict_diagonal(&bits(64)).unwrap();
        assert!(large.outcomes().restore_mean(&mean).iter().all(|mean| mean.is_finite()));
        check(&fitted(bits(3), &[1e300, -1e300, f64::MAX]));
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        let starts = Hyper::<Rbf>::starts(6);
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let refused = Standardised::new(&[0.1, value, 0.2]);
            assert!(matches!(refused, Err(GpError::NotFinite { index: 1, .. })));
        }
        assert!(matches!(Standardised::new(&[]), Err(GpError::NoObservations)));
        let outcomes = Standardised::new(&[0.1, 0.2]).unwrap();
        let refused = Surrogate::fit(bits(3), outcomes, &starts, Limits::default());
        assert!(matches!(refused, Err(GpError::Shape { .. })));
    }

    #[test]
    fn a_precise_outcome_moves_the_process_more_than_a_noisy_one() {
        let values = [0.5, 0.2, 0.6, 0.3, 0.9, 0.1, 0.4, 0.7];
        let at = |error: f64| {
            let mut errors = vec![Some(0.01); values.len()];
            errors[4] = Some(error);
            let outcomes = Standardised::new(&values).unwrap().with_errors(&errors);
            let hyper = Hyper::<Rbf>::starts(6)[0].clone();
            let surrogate = Surrogate::new(bits(8), outcomes, hyper).unwrap();
            let (mean, variance) = surrogate.predict_diagonal(&bits(8)).unwrap();
            (surrogate.outcomes().restore(mean[4]), variance[4])
        };
        let (precise, sure) = at(0.01);
        let (noisy, unsure) = at(0.5);
        assert!((precise - 0.9).abs() < 0.05 && noisy < 0.7 && unsure > 2.0 * sure, "{precise} {noisy}");
    }

    #[test]
    fn a_categorical_surrogate_with_priors_finds_what_matters() {
        // Only the first two layers matter.
        let points = bits(48);
        let outcomes: Vec<_> = points.row_iter().map(|row| row[0] - 2.0 * row[1]).collect();
        let starts = Hyper::<Categorical>::starts(6, Some(Priors::dimension_scaled(2)));
        let outcomes = Standardised::new(&outcomes).unwrap();
        let (surrogate, _) = Surrogate::fit(points, outcomes, &starts, Limits::default()).unwrap();
        let lengthscales = &surrogate.hyper().kernel.lengthscales;
        assert!(lengthscales[2..].iter().all(|&l| l > lengthscales[0].max(lengthscales[1])), "{lengthscales:?}");
        let (mean, _) = surrogate.predict_diagonal(&bits(64)).unwrap();
        for (row, mean) in bits(64).row_iter().zip(&mean) {
            assert!((surrogate.outcomes().restore(*mean) - row[0] + 2.0 * row[1]).abs() < 0.1);
        }
    }
}
