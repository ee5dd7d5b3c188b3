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

/// A Gaussian process after N observations, with everything that predicting needs.
///
/// Predictions are those of the latent function on the *standardised* scale, on which outcomes of any size are safe;
/// [`outcomes`](Self::outcomes) leads back.
#[derive(Clone, Debug)]
pub(super) struct Surrogate<K: Kernel> {
    points: K::Points,
    hyper: Hyper<K>,
    outcomes: Standardised,
    posterior: Posterior,
}

/// The process at M points, each by itself.
pub(super) struct Marginals {
    /// M.
    pub(super) mean: DVector<f64>,
    /// M, at least 0.
    pub(super) variance: DVector<f64>,
    /// M x N, see [`Surrogate::whiten`].
    pub(super) white: DMatrix<f64>,
}

impl<K: Kernel> Surrogate<K> {
    /// The process whose hyperparameters maximise their posterior density, and what the fit took.
    ///
    /// # Errors
    /// [`GpError`] for data that no start can explain.
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

    /// The process with given hyperparameters.
    ///
    /// # Errors
    /// [`GpError`] where the covariance is not positive definite.
    pub(super) fn new(points: K::Points, outcomes: Standardised, hyper: Hyper<K>) -> Result<Self, GpError> {
        let posterior = hyper.posterior(&points, &outcomes)?;
        Ok(Self { points, hyper, outcomes, posterior })
    }

    /// The process, with the same hyperparameters and on the same standardised scale, after more outcomes: `points` are
    /// the observed ones, then those at which `believed` (standardised) was seen.
    ///
    /// # Errors
    /// [`GpError`] where the covariance is not positive definite.
    pub(super) fn believing(&self, points: K::Points, believed: &DVector<f64>) -> Result<Self, GpError>
    where
        K: Clone,
    {
        let hyper = self.hyper.clone();
        let outcomes = self.outcomes.and(believed);
        let posterior = hyper.posterior(&points, &outcomes)?;
        Ok(Self { points, hyper, outcomes, posterior })
    }

    /// Mean (M) and covariance (M x M) at M points.
    ///
    /// # Errors
    /// [`GpError::Shape`] never, as long as the kernel keeps its laws.
    pub(super) fn predict(&self, points: &K::Points) -> Result<(DVector<f64>, DMatrix<f64>), GpError> {
        let kernel = &self.hyper.kernel;
        self.posterior.predict(&kernel.cross(points, &self.points), &kernel.gram(points))
    }

    /// Mean (M) and variance (M) at M points.
    ///
    /// # Errors
    /// [`GpError::Shape`] never, as long as the kernel keeps its laws.
    pub(super) fn predict_diagonal(&self, points: &K::Points) -> Result<(DVector<f64>, DVector<f64>), GpError> {
        let kernel = &self.hyper.kernel;
        self.posterior.predict_diagonal(&kernel.cross(points, &self.points), &kernel.variances(points))
    }

    /// The covariance of M points with the observations in whitened coordinates, M x N: what two sets of points have in
    /// common through the observations is the product of theirs.
    pub(super) fn whiten(&self, points: &K::Points) -> DMatrix<f64> {
        self.posterior.whiten(&self.hyper.kernel.cross(points, &self.points))
    }

    /// Mean (M) and variance (M) at M points, and what [`whiten`](Self::whiten) gives for them.
    ///
    /// # Errors
    /// [`GpError::Shape`] never, as long as the kernel keeps its laws.
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

    /// The hyperparameters.
    pub(super) fn hyper(&self) -> &Hyper<K> {
        &self.hyper
    }

    /// The standardised outcomes, and the backward pass to the original scale.
    pub(super) fn outcomes(&self) -> &Standardised {
        &self.outcomes
    }

    /// The process itself: likelihood, leave-one-out predictions, factors.
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
