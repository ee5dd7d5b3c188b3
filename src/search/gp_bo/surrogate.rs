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

impl<K: Kernel> Surrogate<K> {
    /// The process whose hyperparameters maximise their posterior density, and what the fit took.
    ///
    /// # Errors
    /// [`GpError`] for outcomes that are missing or not finite, and for data that no start can explain.
    pub(super) fn fit(
        points: K::Points,
        outcomes: &[f64],
        starts: &[Hyper<K>],
        limits: Limits,
    ) -> Result<(Self, Fit<K>), GpError>
    where
        K: Clone,
    {
        let standardised = Standardised::new(outcomes)?;
        let found = fit(&points, &standardised.values, starts, limits)?;
        let posterior = found.hyper.posterior(&points, &standardised.values)?;
        let hyper = found.hyper.clone();
        Ok((Self { points, hyper, outcomes: standardised, posterior }, found))
    }

    /// The process with given hyperparameters.
    ///
    /// # Errors
    /// [`GpError`] for outcomes that are missing or not finite, and where the covariance is not positive definite.
    pub(super) fn new(points: K::Points, outcomes: &[f64], hyper: Hyper<K>) -> Result<Self, GpError> {
        let outcomes = Standardised::new(outcomes)?;
        let posterior = hyper.posterior(&points, &outcomes.values)?;
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

    /// The observed points.
    pub(super) fn points(&self) -> &K::Points {
        &self.points
    }

    /// The hyperparameters.
    pub(super) fn hyper(&self) -> &Hyper<K> {
        &self.hyper
    }

    /// The standardised outcomes, and the way back to the original scale.
    pub(super) fn outcomes(&self) -> &Standardised {
        &self.outcomes
    }

    /// The process itself: likelihood, leave-one-out predictions, factors.
    pub(super) fn posterior(&self) -> &Posterior {
        &self.posterior
    }
}
