//! Covariance functions.

mod categorical;
mod distance;
mod rbf;
mod sequence;
mod structured;

pub(super) use categorical::{Categorical, Priors};
pub(super) use rbf::Rbf;
pub(super) use sequence::Given;
pub use sequence::SequenceKernel;
pub(super) use structured::{Sequences, Structured};

use nalgebra::{DMatrix, DVector};

/// A covariance function with its hyperparameters.
///
/// Points are passed to the methods, so an implementation holds hyperparameters only. Fits change them through *free*
/// parameters, which may be any real numbers: typically the logarithms of positive hyperparameters.
///
/// Laws:
/// - `at(free())` is the kernel itself, up to rounding;
/// - covariance matrices are symmetric and positive semidefinite;
/// - `pull_back` and the slopes of `log_prior` are derivatives with respect to the free parameters.
pub(super) trait Kernel: Sized {
    /// N points in the form that the kernel needs, such as the rows of a matrix.
    type Points;

    /// Returns the number of points, N.
    fn count(points: &Self::Points) -> usize;

    /// Returns the free parameters.
    fn free(&self) -> Vec<f64>;

    /// Returns the kernel with these free parameters, which must be as many as [`free`](Self::free) returns.
    fn at(&self, free: &[f64]) -> Self;

    /// Returns the covariance of the latent function at N points (N x N), exactly symmetric.
    fn gram(&self, points: &Self::Points) -> DMatrix<f64>;

    /// Returns the covariance between M points and N others (M x N).
    fn cross(&self, left: &Self::Points, right: &Self::Points) -> DMatrix<f64>;

    /// Returns the diagonal of [`gram`](Self::gram) (N) without computing the rest.
    fn variances(&self, points: &Self::Points) -> DVector<f64>;

    /// Returns sum_ij W_ij dK_ij/dfree_k for every free parameter k. `gram` is K = `gram(points)`, `weights` is a
    /// symmetric W; both are N x N.
    fn pull_back(&self, points: &Self::Points, gram: &DMatrix<f64>, weights: &DMatrix<f64>) -> Vec<f64>;

    /// Returns the hyperparameters with their names.
    fn describe(&self) -> Vec<(String, f64)>;

    /// Returns the log density of the priors and its derivatives with respect to the free parameters.
    fn log_prior(&self) -> (f64, Vec<f64>);
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::search::gp_bo::golden::close;

    /// The laws of [`Kernel`], by finite differences.
    pub(crate) fn check<K: Kernel>(kernel: &K, points: &K::Points) {
        let gram = kernel.gram(points);
        let n = K::count(points);
        assert_eq!(gram, gram.transpose());
        assert!((&gram - kernel.cross(points, points)).amax() < 1e-13);
        assert!((gram.diagonal() - kernel.variances(points)).amax() < 1e-13);
        assert!((kernel.at(&kernel.free()).gram(points) - &gram).amax() < 1e-13);
        let weights = DMatrix::from_fn(n, n, |i, j| ((i * j + i + j) % 7) as f64 - 3.0);
        let slopes = kernel.pull_back(points, &gram, &weights);
        let (_, prior_slopes) = kernel.log_prior();
        let free = kernel.free();
        assert_eq!((slopes.len(), prior_slopes.len()), (free.len(), free.len()));
        for k in 0..free.len() {
            let at = |step: f64| {
                let mut free = free.clone();
                free[k] += step;
                let moved = kernel.at(&free);
                (moved.gram(points).dot(&weights), moved.log_prior().0)
            };
            let h = 1e-5;
            let above = at(h);
            let below = at(-h);
            close("trace", slopes[k] + 1.0, (above.0 - below.0) / (2.0 * h) + 1.0, 1e-7);
            close("prior", prior_slopes[k] + 1.0, (above.1 - below.1) / (2.0 * h) + 1.0, 1e-7);
        }
    }
}
