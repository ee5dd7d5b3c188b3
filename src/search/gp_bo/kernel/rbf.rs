//! The RBF kernel with one lengthscale per column.
//!
//! | symbol | meaning |
//! |---|---|
//! | d | number of columns |
//! | l_c | lengthscale of column c, at least 0.025 |
//! | u_c | free parameter, ln(l_c - 0.025) |
//!
//! k(x, x') = exp(-1/2 sum_c (x_c - x'_c)^2 / l_c^2), without an output scale, and l_c ~ LogNormal(sqrt2 + ln(d)/2,
//! sqrt3): Hvarfner et al. 2024, arXiv 2402.02229; BoTorch's `get_covar_module_with_dim_scaled_prior`. Priors are
//! densities in l, whatever variables the fit uses.

use nalgebra::{DMatrix, DVector};

use super::{Kernel, distance};
use crate::search::gp_bo::prior::LogNormal;

/// The smallest lengthscale.
const FLOOR: f64 = 0.025;

const GOLDEN_RATIO: f64 = 0.618_033_988_749_894_9;

/// The RBF kernel with automatic relevance determination. Its points are the rows of an N x d matrix.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::search::gp_bo) struct Rbf {
    /// The lengthscale of each column (d). Above 0.025 at the start of a fit.
    pub(in crate::search::gp_bo) lengthscales: Vec<f64>,
}

impl Rbf {
    /// Creates a kernel with equal lengthscales for d columns: `factor` times the mode of their prior, which is 0.2047
    /// sqrt(d).
    pub(in crate::search::gp_bo) fn scaled(columns: usize, factor: f64) -> Self {
        Self { lengthscales: vec![(factor * prior(columns).mode()).max(2.0 * FLOOR); columns] }
    }

    /// Multiplies each lengthscale by a different factor between 1/`spread` and `spread`.
    ///
    /// If two one-hot columns always sum to 1 and have equal lengthscales, their slopes are equal too. A fit that
    /// starts there keeps them equal and may stay at a saddle point. The factors are multiples of the golden ratio
    /// modulo 1, so that neighbouring columns differ without random numbers.
    pub(in crate::search::gp_bo) fn spread(mut self, spread: f64) -> Self {
        for (column, l) in self.lengthscales.iter_mut().enumerate() {
            let position = (column as f64 * GOLDEN_RATIO).fract();
            *l = (*l * spread.powf(2.0 * position - 1.0)).max(2.0 * FLOOR);
        }
        self
    }

    fn weights(&self) -> Vec<f64> {
        self.lengthscales.iter().map(|l| 0.5 / (l * l)).collect()
    }
}

fn prior(columns: usize) -> LogNormal {
    LogNormal { loc: 2f64.sqrt() + 0.5 * (columns.max(1) as f64).ln(), scale: 3f64.sqrt() }
}

impl Kernel for Rbf {
    type Points = DMatrix<f64>;

    fn count(points: &DMatrix<f64>) -> usize {
        points.nrows()
    }

    fn free(&self) -> Vec<f64> {
        self.lengthscales.iter().map(|l| (l - FLOOR).ln()).collect()
    }

    fn at(&self, free: &[f64]) -> Self {
        Self { lengthscales: free.iter().map(|u| FLOOR + u.exp()).collect() }
    }

    fn gram(&self, points: &DMatrix<f64>) -> DMatrix<f64> {
        distance::among(points, &self.weights(), |distance| (-distance).exp())
    }

    fn cross(&self, left: &DMatrix<f64>, right: &DMatrix<f64>) -> DMatrix<f64> {
        let mut matrix = distance::between(left, right, &self.weights());
        matrix.apply(|distance| *distance = (-*distance).exp());
        matrix
    }

    fn variances(&self, points: &DMatrix<f64>) -> DVector<f64> {
        DVector::from_element(points.nrows(), 1.0)
    }

    fn pull_back(&self, points: &DMatrix<f64>, gram: &DMatrix<f64>, weights: &DMatrix<f64>) -> Vec<f64> {
        // dk/dl_c = k (x_c - x'_c)^2 / l_c^3 and dl_c/du_c = l_c - 0.025.
        let spreads = distance::spread(points, &gram.component_mul(weights));
        spreads.iter().zip(&self.lengthscales).map(|(spread, l)| spread / l.powi(3) * (l - FLOOR)).collect()
    }

    fn describe(&self) -> Vec<(String, f64)> {
        self.lengthscales.iter().enumerate().map(|(at, &l)| (format!("lengthscale {at}"), l)).collect()
    }

    fn log_prior(&self) -> (f64, Vec<f64>) {
        let prior = prior(self.lengthscales.len());
        let value = self.lengthscales.iter().map(|&l| prior.log_density(l)).sum();
        (value, self.lengthscales.iter().map(|&l| prior.slope(l) * (l - FLOOR)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::gp_bo::golden::close;

    #[test]
    fn it_is_a_kernel() {
        let points = DMatrix::from_fn(8, 5, |i, c| ((i * 3 + c * c) % 4) as f64 / 3.0);
        super::super::tests::check(&Rbf { lengthscales: vec![0.3, 0.9, 2.0, 0.5, 40.0] }, &points);
    }

    #[test]
    fn documented_constants_hold() {
        close("mode", Rbf::scaled(16, 1.0).lengthscales[0], 0.2047 * 4.0, 1e-3);
    }
}
