//! The categorical kernel: the number of layers that differ, weighted by a lengthscale per layer.
//!
//! | symbol | meaning |
//! |---|---|
//! | n, Z | number of layers, of symbols |
//! | s | output scale |
//! | l_i | lengthscale of layer i, at least 1e-6 |
//! | u | free parameters: ln s, then ln(l_i - 1e-6) |
//!
//! k(a, b) = s exp(-(1/n) sum_i \[a_i != b_i\] / l_i): BoTorch's `CategoricalKernel` in GPyTorch's `ScaleKernel`.
//! Points are encoded rows, on which \[a_i != b_i\] is a squared distance: (x_i - x'_i)^2 for bits, and half the sum of
//! (x_iz - x'_iz)^2 over z for one-hot columns. It is therefore computed by matrix products, like the RBF kernel.

use nalgebra::{DMatrix, DVector};

use super::{Kernel, distance};
use crate::search::gp_bo::prior::LogNormal;

/// The smallest lengthscale, as in GPyTorch's softplus constraint.
const FLOOR: f64 = 1e-6;

/// An exponential of the Hamming distance. Its points are the rows of an N x n (bit) or N x n Z (one-hot) matrix.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::search::gp_bo) struct Categorical {
    /// The variance of the latent function, s.
    pub(in crate::search::gp_bo) scale: f64,
    /// The lengthscale of each layer, l_i (n).
    pub(in crate::search::gp_bo) lengthscales: Vec<f64>,
    /// Priors on s and on each l_i. BoTorch has none.
    pub(in crate::search::gp_bo) priors: Option<Priors>,
}

/// Priors on the hyperparameters of [`Categorical`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::search::gp_bo) struct Priors {
    /// The prior on s.
    pub(in crate::search::gp_bo) scale: LogNormal,
    /// The prior on each l_i.
    pub(in crate::search::gp_bo) lengthscale: LogNormal,
}

impl Priors {
    /// Returns the equivalent of the RBF kernel's dimension-scaled prior for this kernel's lengthscales.
    ///
    /// An RBF kernel with lengthscale r on the columns of layer i is this kernel with l_i = r^2 / n, or 2 r^2 / n for
    /// bits. The log density of v = ln r contains -v - (v - m)^2 / (2 t^2). For w = 2v, the same term is, up to a
    /// constant, -w - (w - 2m - 2t^2)^2 / (8 t^2). With m = sqrt2 + ln(n Z)/2 and t^2 = 3, the n cancels: l_i ~
    /// LogNormal(2 sqrt2 + ln Z + 6, 2 sqrt3). The prior on s has its mode at 1, the variance of the outcomes.
    pub(in crate::search::gp_bo) fn dimension_scaled(symbols: usize) -> Self {
        let loc = 2.0 * 2f64.sqrt() + (symbols.max(2) as f64).ln() + 6.0;
        Self { scale: LogNormal { loc: 0.25, scale: 0.5 }, lengthscale: LogNormal { loc, scale: 2.0 * 3f64.sqrt() } }
    }
}

impl Categorical {
    /// Creates a kernel with equal lengthscales for n layers, without priors.
    pub(in crate::search::gp_bo) fn uniform(layers: usize, scale: f64, lengthscale: f64) -> Self {
        Self { scale, lengthscales: vec![lengthscale; layers], priors: None }
    }

    /// Returns the number of columns that encode a layer, and the weight of a mismatch in each of them.
    fn layout(&self, points: &DMatrix<f64>) -> (usize, f64) {
        let columns = (points.ncols() / self.lengthscales.len().max(1)).max(1);
        (columns, if columns == 1 { 1.0 } else { 0.5 })
    }

    fn weights(&self, points: &DMatrix<f64>) -> Vec<f64> {
        let (columns, share) = self.layout(points);
        let layers = self.lengthscales.len() as f64;
        self.lengthscales.iter().flat_map(|l| std::iter::repeat_n(share / (layers * l), columns)).collect()
    }
}

impl Kernel for Categorical {
    type Points = DMatrix<f64>;

    fn count(points: &DMatrix<f64>) -> usize {
        points.nrows()
    }

    fn free(&self) -> Vec<f64> {
        std::iter::once(self.scale.ln()).chain(self.lengthscales.iter().map(|l| (l - FLOOR).ln())).collect()
    }

    fn at(&self, free: &[f64]) -> Self {
        let (scale, lengthscales) = free.split_first().map_or((1.0, free), |(scale, rest)| (scale.exp(), rest));
        Self { scale, lengthscales: lengthscales.iter().map(|u| FLOOR + u.exp()).collect(), priors: self.priors }
    }

    fn gram(&self, points: &DMatrix<f64>) -> DMatrix<f64> {
        distance::among(points, &self.weights(points), |distance| self.scale * (-distance).exp())
    }

    fn cross(&self, left: &DMatrix<f64>, right: &DMatrix<f64>) -> DMatrix<f64> {
        let mut matrix = distance::between(left, right, &self.weights(right));
        matrix.apply(|distance| *distance = self.scale * (-*distance).exp());
        matrix
    }

    fn variances(&self, points: &DMatrix<f64>) -> DVector<f64> {
        DVector::from_element(points.nrows(), self.scale)
    }

    fn pull_back(&self, points: &DMatrix<f64>, gram: &DMatrix<f64>, weights: &DMatrix<f64>) -> Vec<f64> {
        // dk/d ln s = k; dk/dl_i = k [a_i != b_i] / (n l_i^2) and dl_i/du_i = l_i - 1e-6.
        let weighted = gram.component_mul(weights);
        let spreads = distance::spread(points, &weighted);
        let (columns, share) = self.layout(points);
        let layers = self.lengthscales.len() as f64;
        let mismatches = spreads.chunks(columns).map(|columns| share * columns.iter().sum::<f64>());
        let slopes = mismatches.zip(&self.lengthscales).map(|(sum, l)| sum / (layers * l * l) * (l - FLOOR));
        std::iter::once(weighted.sum()).chain(slopes).collect()
    }

    fn describe(&self) -> Vec<(String, f64)> {
        std::iter::once(("variance".into(), self.scale))
            .chain(self.lengthscales.iter().enumerate().map(|(at, &l)| (format!("lengthscale {at}"), l)))
            .collect()
    }

    fn log_prior(&self) -> (f64, Vec<f64>) {
        let Some(priors) = self.priors else { return (0.0, vec![0.0; 1 + self.lengthscales.len()]) };
        let densities = self.lengthscales.iter().map(|&l| priors.lengthscale.log_density(l));
        let slopes = self.lengthscales.iter().map(|&l| priors.lengthscale.slope(l) * (l - FLOOR));
        let scale_slope = priors.scale.slope(self.scale) * self.scale;
        let value = priors.scale.log_density(self.scale) + densities.sum::<f64>();
        (value, std::iter::once(scale_slope).chain(slopes).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::gp_bo::{golden::close, kernel::Rbf};

    fn codes(i: usize, layer: usize, symbols: usize) -> usize {
        (i * 7 + layer * layer + i * layer) % symbols
    }

    #[test]
    fn it_is_a_kernel_in_both_encodings() {
        let bits = DMatrix::from_fn(8, 4, |i, layer| codes(i, layer, 2) as f64);
        let one_hot = DMatrix::from_fn(8, 12, |i, c| f64::from(u8::from(codes(i, c / 3, 3) == c % 3)));
        let mut kernel = Categorical { lengthscales: vec![0.1, 0.4, 2.0, 9.0], ..Categorical::uniform(4, 0.8, 1.0) };
        for points in [bits, one_hot] {
            super::super::tests::check(&kernel, &points);
            kernel.priors = Some(Priors::dimension_scaled(3));
        }
    }

    #[test]
    fn the_prior_has_the_shape_of_the_rbf_kernel_s() {
        // Both kernels with the same covariances; their log priors differ by a constant.
        let priors = Priors::dimension_scaled(3);
        let density = |r: f64| {
            let rbf = Rbf { lengthscales: vec![r; 12] }.log_prior().0 / 12.0;
            rbf - priors.lengthscale.log_density(r * r / 4.0)
        };
        close("difference", density(0.3), density(7.0), 1e-12);
        close("mode of s", priors.scale.mode(), 1.0, 1e-12);
    }
}
