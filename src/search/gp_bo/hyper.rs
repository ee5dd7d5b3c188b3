//! The hyperparameters of a Gaussian process and their posterior density.
//!
//! | symbol | meaning |
//! |---|---|
//! | N | number of observations |
//! | s2 | variance of the noise on the standardised scale, at least 1e-4 |
//! | S | covariance of the noise, diagonal: s2 I, or the known variance of each outcome plus 1e-4 |
//! | c | constant mean |
//! | K, alpha | covariance of the latent function, (K + S)^-1 (y - c) |
//! | u | free parameters: ln(s2 - 1e-4), c, then those of the kernel |
//!
//! The objective is BoTorch's `ExactMarginalLogLikelihood`, (ln N(y; c, K + S) + ln priors) / N. Priors are densities
//! in s2 and l, whatever variables the fit uses. The gradient is eq. 5.9 of Rasmussen and Williams (2006), d/dt = 1/2
//! tr((alpha alpha' - (K + S)^-1) dK/dt), which takes one Cholesky factor and one inverse. Known noise corresponds to
//! BoTorch's `train_Yvar`: the model then has no s2, and no prior on it.

use nalgebra::{DMatrix, DVector};

use super::{GpError, kernel::Kernel, outcomes::Standardised, posterior::Posterior, prior::LogNormal};

/// The smallest variance of the noise, as in BoTorch.
const NOISE_FLOOR: f64 = 1e-4;

/// Prior on the variance of the noise, as in BoTorch; its mode is e^-5.
pub(super) const NOISE_PRIOR: LogNormal = LogNormal { loc: -4.0, scale: 1.0 };

/// The hyperparameters that a fit determines.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Hyper<K> {
    /// Variance of the noise on the standardised scale, if it is not known. Above 1e-4 at the start of a fit.
    pub(super) noise: f64,
    /// The constant mean on the standardised scale.
    pub(super) mean: f64,
    /// The covariance function.
    pub(super) kernel: K,
}

impl<K: Kernel> Hyper<K> {
    /// Returns the free parameters, which may be any real numbers: 2 + the number of the kernel.
    pub(super) fn free(&self) -> Vec<f64> {
        let mut free = vec![(self.noise - NOISE_FLOOR).ln(), self.mean];
        free.extend(self.kernel.free());
        free
    }

    /// Returns the hyperparameters with these free parameters, which must be as many as [`free`](Self::free) returns.
    pub(super) fn at(&self, free: &[f64]) -> Self {
        let (&[noise, mean], kernel) = free.split_first_chunk().unwrap_or((&[0.0; 2], free));
        Self { noise: NOISE_FLOOR + noise.exp(), mean, kernel: self.kernel.at(kernel) }
    }

    /// Returns the process with these hyperparameters, conditioned on N standardised outcomes at N points.
    ///
    /// # Errors
    /// [`GpError`] under the conditions of [`Posterior::fit`].
    pub(super) fn posterior(&self, points: &K::Points, outcomes: &Standardised) -> Result<Posterior, GpError> {
        self.posterior_of(self.kernel.gram(points), outcomes)
    }

    /// Returns the same, given K (N x N).
    fn posterior_of(&self, gram: DMatrix<f64>, outcomes: &Standardised) -> Result<Posterior, GpError> {
        match &outcomes.noise {
            None => Posterior::fit(gram, self.noise, self.mean, &outcomes.values),
            Some(known) => Posterior::fit(with_diagonal(gram, known), NOISE_FLOOR, self.mean, &outcomes.values),
        }
    }

    /// Returns the log density of the priors.
    #[cfg(test)]
    pub(super) fn log_prior(&self) -> f64 {
        NOISE_PRIOR.log_density(self.noise) + self.kernel.log_prior().0
    }

    /// Returns the objective, (ln N(y; c, K + S) + ln priors) / N, and its gradient with respect to the free
    /// parameters, as many as [`free`](Self::free) returns.
    ///
    /// # Errors
    /// [`GpError`] under the conditions of [`Posterior::fit`].
    pub(super) fn map_objective(
        &self,
        points: &K::Points,
        outcomes: &Standardised,
    ) -> Result<(f64, Vec<f64>), GpError> {
        let gram = self.kernel.gram(points);
        let posterior = self.posterior_of(gram.clone(), outcomes)?;
        let alpha = posterior.alpha();
        // W = alpha alpha' - (K + S)^-1.
        let mut weights = posterior.factor().inverse();
        let trace = alpha.norm_squared() - weights.trace();
        weights.ger(1.0, alpha, alpha, -1.0);

        let (kernel_prior, prior_slopes) = self.kernel.log_prior();
        // If the noise is known, the model has no s2.
        let free = outcomes.noise.is_none();
        let noise_slope = if free { 0.5 * trace + NOISE_PRIOR.slope(self.noise) } else { 0.0 };
        let noise_prior = if free { NOISE_PRIOR.log_density(self.noise) } else { 0.0 };
        let mut gradient = vec![noise_slope * (self.noise - NOISE_FLOOR), alpha.sum()];
        let slopes = self.kernel.pull_back(points, &gram, &weights);
        gradient.extend(slopes.iter().zip(&prior_slopes).map(|(slope, prior)| 0.5 * slope + prior));

        let count = outcomes.values.len() as f64;
        let log_prior = noise_prior + kernel_prior;
        gradient.iter_mut().for_each(|slope| *slope /= count);
        Ok(((posterior.log_marginal_likelihood() + log_prior) / count, gradient))
    }
}

/// Returns K (N x N) with `variances` (N) added to its diagonal.
fn with_diagonal(mut gram: DMatrix<f64>, variances: &DVector<f64>) -> DMatrix<f64> {
    for (at, variance) in variances.iter().enumerate().take(gram.nrows().min(gram.ncols())) {
        gram[(at, at)] += variance;
    }
    gram
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::gp_bo::{
        golden::{self, Fixture, Golden, close, difference},
        kernel::{Categorical, Rbf},
    };

    /// The standardised outcomes of a golden file.
    fn seen(fixture: &Fixture) -> Standardised {
        let values = DVector::from_column_slice(&fixture.y_std);
        Standardised { values, mean: fixture.y_mean, sd: fixture.y_stdv, noise: None }
    }

    fn check<K>(fixture: &Fixture, golden: &Golden, hyper: &Hyper<K>)
    where
        K: Kernel<Points = nalgebra::DMatrix<f64>>,
    {
        let points = fixture.points();
        let outcomes = seen(fixture);
        let gram = hyper.kernel.gram(&points);
        let rows = (0..gram.nrows()).flat_map(|i| (0..=i).map(move |j| (i, j)));
        let lower: Vec<_> = rows.map(|at| gram[at]).take(golden.kernel_lower.len()).collect();
        let kernel = difference(&lower, &golden.kernel_lower);

        let posterior = hyper.posterior(&points, &outcomes).unwrap();
        assert_eq!(posterior.factor().jitter(), 0.0);
        let likelihood = relative(posterior.log_marginal_likelihood(), golden.log_marginal_likelihood);
        let prior = relative(hyper.log_prior(), golden.log_prior);
        let (value, gradient) = hyper.map_objective(&points, &outcomes).unwrap();
        let objective = relative(value, golden.map_objective);
        // Slopes vanish at a fit: relative to at least 0.01 there.
        let expected = DVector::from_vec(golden.free_gradient());
        let slopes = (DVector::from_vec(gradient) - &expected).amax() / expected.amax().max(0.01);

        let cross = hyper.kernel.cross(&fixture.tests(), &points);
        let tests = fixture.tests();
        let (mean, covariance) = posterior.predict(&cross, &hyper.kernel.gram(&tests)).unwrap();
        let (same, variance) = posterior.predict_diagonal(&cross, &hyper.kernel.variances(&tests)).unwrap();
        assert!((&mean - &same).amax() < 1e-14 * mean.amax().max(1.0));
        let mean = difference(&outcomes.restore_mean(&mean), &golden.post_mean);
        let covariance = outcomes.restore_covariance(&covariance);
        let expected: Vec<_> = golden.post_cov.iter().flatten().copied().collect();
        let covariance = difference(&covariance, &expected);
        // GPyTorch returns no variance below 1e-10.
        let variance: Vec<_> = variance.iter().map(|v| (v * outcomes.sd * outcomes.sd).max(1e-10)).collect();
        let variance = difference(&variance, &golden.post_var);
        println!(
            "{:22} {:15} kernel {kernel:.0e} lml {likelihood:.0e} prior {prior:.0e} map {objective:.0e} \
             gradient {slopes:.0e} \
             mean {mean:.0e} variance {variance:.0e} covariance {covariance:.0e}",
            fixture.name, golden.label,
        );
        for error in [kernel, likelihood, prior, objective, slopes, mean, variance, covariance] {
            assert!(error < 1e-9);
        }
    }

    fn relative(ours: f64, expected: f64) -> f64 {
        (ours - expected).abs() / expected.abs()
    }

    #[test]
    fn everything_agrees_with_botorch() {
        for fixture in golden::fixtures() {
            for golden in &fixture.hyper {
                if fixture.is_categorical() {
                    check(&fixture, golden, &golden.categorical());
                } else {
                    check(&fixture, golden, &golden.rbf());
                }
            }
        }
    }

    fn check_gradient<K>(hyper: &Hyper<K>, points: &K::Points, outcomes: &Standardised)
    where
        K: Kernel,
    {
        let (_, gradient) = hyper.map_objective(points, outcomes).unwrap();
        let free = hyper.free();
        for k in 0..free.len() {
            let at = |step: f64| {
                let mut free = free.clone();
                free[k] += step;
                hyper.at(&free).map_objective(points, outcomes).unwrap().0
            };
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((numeric - gradient[k]).abs() < 1e-7, "{k}: {numeric} {}", gradient[k]);
        }
    }

    /// Standard errors of very different sizes, one of them unknown.
    fn errors(fixture: &Fixture) -> Vec<Option<f64>> {
        let error = |at: usize| (at != 1).then_some(fixture.y_stdv * [0.0, 0.1, 0.5, 2.0][at % 4]);
        (0..fixture.y.len()).map(error).collect()
    }

    #[test]
    fn known_noise_takes_the_place_of_the_common_one() {
        let fixture = &golden::fixtures()[0];
        let hyper = fixture.hyper[0].rbf();
        let points = fixture.points();
        let outcomes = seen(fixture).with_errors(&errors(fixture));
        let known = outcomes.noise.clone().unwrap().add_scalar(NOISE_FLOOR);
        let covariance = hyper.kernel.gram(&points) + DMatrix::from_diagonal(&known);
        let residuals = outcomes.values.add_scalar(-hyper.mean);
        let expected = covariance.clone().cholesky().unwrap().solve(&residuals);
        let posterior = hyper.posterior(&points, &outcomes).unwrap();
        assert!((posterior.alpha() - &expected).amax() < 1e-9 * expected.amax());
        let determinant = covariance.cholesky().unwrap().ln_determinant();
        let count = residuals.len() as f64;
        let likelihood = -0.5 * (residuals.dot(&expected) + determinant + count * std::f64::consts::TAU.ln());
        assert!(relative(posterior.log_marginal_likelihood(), likelihood) < 1e-10);
        let louder = Hyper { noise: 1.0, ..hyper.clone() };
        let objective = |hyper: &Hyper<Rbf>| hyper.map_objective(&points, &outcomes).unwrap().0;
        assert_eq!(objective(&hyper), objective(&louder));
    }

    #[test]
    fn gradients_are_derivatives() {
        for fixture in golden::fixtures() {
            let golden = &fixture.hyper[0];
            for outcomes in [seen(&fixture), seen(&fixture).with_errors(&errors(&fixture))] {
                if fixture.is_categorical() {
                    check_gradient(&golden.categorical(), &fixture.points(), &outcomes);
                } else {
                    check_gradient(&golden.rbf(), &fixture.points(), &outcomes);
                }
            }
        }
    }

    #[test]
    fn free_parameters_round_trip() {
        for start in Hyper::<Rbf>::starts(12) {
            close("noise", start.at(&start.free()).noise, start.noise, 1e-14);
            close("l", start.at(&start.free()).kernel.lengthscales[3], start.kernel.lengthscales[3], 1e-14);
        }
        for start in Hyper::<Categorical>::starts(5, None) {
            close("s", start.at(&start.free()).kernel.scale, start.kernel.scale, 1e-14);
        }
    }
}
