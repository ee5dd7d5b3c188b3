//! The structured kernel: a sum of linear kernels, one for each way in which layers may matter, and a kernel of the
//! Hamming distance.
//!
//! | symbol | meaning |
//! |---|---|
//! | Phi_b | features of block b, d x N, see [`Term`] |
//! | s_b | variance that block b explains |
//! | s, l | variance and range of the Hamming term |
//! | H(x, y) | share of layers that differ |
//! | u | free parameters: ln s_b for every block, then ln s, ln l |
//!
//! `k(x, y) = sum_b s_b phi_b(x)' phi_b(y) + s exp(-H(x, y) / l)`. Linear kernels on blocks of features are additive
//! models (Duvenaud et al. 2011, arXiv 1112.4394) with automatic relevance determination by block: the fit finds how
//! much each block explains, and the variance of a block that explains nothing goes to zero. The last term is the
//! transformed overlap kernel (Wan et al. 2021, CASMOPOLITAN, arXiv 2102.07188). It keeps the process universal: no
//! function is excluded.

use std::cell::OnceCell;

use nalgebra::{DMatrix, DVector};

use super::Kernel;
use crate::search::gp_bo::features::{Described, Term, linear};

/// Log-normal priors as (location, scale), as densities of the logarithm.
const BLOCK_PRIOR: (f64, f64) = (-3.0, 1.5);
const REST_PRIOR: (f64, f64) = (-1.5, 1.5);
const RANGE_PRIOR: (f64, f64) = (-std::f64::consts::LN_2, 0.7);

/// The kernel: additive in the blocks of features, with the Hamming term as a remainder.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::search::gp_bo) struct Structured {
    /// Each term that has features, with its s_b.
    blocks: Vec<(Term, f64)>,
    /// The Hamming term, if [`Term::Distance`] is used.
    rest: Option<Rest>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rest {
    /// s.
    variance: f64,
    /// l.
    range: f64,
}

/// The points of the kernel: N sequences by their features and codes.
#[derive(Clone, Debug)]
pub(in crate::search::gp_bo) struct Sequences {
    /// Phi_b of each block (d x N).
    features: Vec<DMatrix<f64>>,
    /// One-hot codes (n Z x N), from which H is computed.
    codes: DMatrix<f64>,
    layers: usize,
    /// Phi_b' Phi_b of each block (N x N) and n H (N x N): constant during a fit, so computed once.
    among: OnceCell<(Vec<DMatrix<f64>>, DMatrix<f64>)>,
}

impl Sequences {
    /// Creates points from features and codes. All codes must be below `symbols`.
    pub(in crate::search::gp_bo) fn new(Described { features, codes }: Described, symbols: usize) -> Self {
        let layers = codes.first().map_or(0, Vec::len);
        let mut one_hot = DMatrix::zeros(layers * symbols, codes.len());
        for (sequence, codes) in codes.iter().enumerate() {
            codes.iter().enumerate().for_each(|(layer, code)| one_hot[(layer * symbols + code, sequence)] = 1.0);
        }
        Self { features, codes: one_hot, layers, among: OnceCell::new() }
    }

    /// Returns the number of layers that differ, between M points and N others (M x N).
    fn differing(&self, other: &Self) -> DMatrix<f64> {
        let mut differing = self.codes.transpose() * &other.codes;
        differing.apply(|same| *same = self.layers as f64 - *same);
        differing
    }

    fn among(&self) -> &(Vec<DMatrix<f64>>, DMatrix<f64>) {
        // nalgebra is fast only for products without a transposed view.
        let product = |features: &DMatrix<f64>| features.transpose() * features;
        self.among.get_or_init(|| (self.features.iter().map(product).collect(), self.differing(self)))
    }
}

impl Structured {
    /// Creates the kernel at which fits start: each variance at the location of its prior.
    pub(in crate::search::gp_bo) fn start(terms: &[Term]) -> Self {
        let rest = Rest { variance: REST_PRIOR.0.exp(), range: RANGE_PRIOR.0.exp() };
        Self {
            blocks: linear(terms).map(|term| (term, BLOCK_PRIOR.0.exp())).collect(),
            rest: terms.contains(&Term::Distance).then_some(rest),
        }
    }

    fn priors(&self) -> impl Iterator<Item = (f64, f64)> {
        let rest = self.rest.map(|_| [REST_PRIOR, RANGE_PRIOR]);
        self.blocks.iter().map(|_| BLOCK_PRIOR).chain(rest.into_iter().flatten())
    }

    /// Returns the Hamming term for a matrix of numbers of differing layers.
    fn rest_of(&self, differing: &DMatrix<f64>, layers: usize) -> DMatrix<f64> {
        let Some(rest) = self.rest else { return DMatrix::zeros(differing.nrows(), differing.ncols()) };
        let covariances = rest.covariances(layers);
        differing.map(|differing| covariances[differing as usize])
    }
}

impl Rest {
    /// Returns s exp(-H / l) for 0 to `layers` differing layers.
    fn covariances(self, layers: usize) -> Vec<f64> {
        (0..=layers).map(|differing| self.variance * (-share(differing, layers) / self.range).exp()).collect()
    }
}

/// Returns H.
fn share(differing: usize, layers: usize) -> f64 {
    differing as f64 / layers.max(1) as f64
}

impl Kernel for Structured {
    type Points = Sequences;

    fn count(points: &Sequences) -> usize {
        points.codes.ncols()
    }

    fn free(&self) -> Vec<f64> {
        let rest = self.rest.map(|Rest { variance, range }| [variance, range]);
        let blocks = self.blocks.iter().map(|&(_, variance)| variance);
        blocks.chain(rest.into_iter().flatten()).map(f64::ln).collect()
    }

    fn at(&self, free: &[f64]) -> Self {
        // These bounds are far beyond any sensible fit and keep exponentials finite.
        let mut values = free.iter().map(|u| u.clamp(-40.0, 40.0).exp());
        let mut next = || values.next().unwrap_or(1.0);
        let blocks = self.blocks.iter().map(|&(term, _)| (term, next())).collect();
        Self { blocks, rest: self.rest.map(|_| Rest { variance: next(), range: next() }) }
    }

    fn gram(&self, points: &Sequences) -> DMatrix<f64> {
        let (products, differing) = points.among();
        let mut gram = self.rest_of(differing, points.layers);
        for (&(_, weight), product) in self.blocks.iter().zip(products) {
            gram.zip_apply(product, |sum, product| *sum += weight * product);
        }
        gram
    }

    fn cross(&self, left: &Sequences, right: &Sequences) -> DMatrix<f64> {
        let mut cross = self.rest_of(&left.differing(right), left.layers);
        for ((&(_, weight), left), right) in self.blocks.iter().zip(&left.features).zip(&right.features) {
            // Skip the product of a block that explains nothing.
            if weight > NEGLIGIBLE {
                cross.gemm(weight, &left.transpose(), right, 1.0);
            }
        }
        cross
    }

    fn variances(&self, points: &Sequences) -> DVector<f64> {
        let mut variances = DVector::from_element(Self::count(points), self.rest.map_or(0.0, |rest| rest.variance));
        for (&(_, weight), features) in self.blocks.iter().zip(&points.features) {
            for (variance, column) in variances.iter_mut().zip(features.column_iter()) {
                *variance += weight * column.norm_squared();
            }
        }
        variances
    }

    fn pull_back(&self, points: &Sequences, _gram: &DMatrix<f64>, weights: &DMatrix<f64>) -> Vec<f64> {
        // dk/d ln s_b = s_b Phi_b' Phi_b; with r = s exp(-H/l): dk/d ln s = r, dk/d ln l = r H / l.
        let (products, differing) = points.among();
        let mut slopes: Vec<_> =
            self.blocks.iter().zip(products).map(|(&(_, weight), product)| weight * product.dot(weights)).collect();
        if let Some(rest) = self.rest {
            let mut sums = vec![0.0; points.layers + 1];
            differing.iter().zip(weights.iter()).for_each(|(&differing, &weight)| sums[differing as usize] += weight);
            let mut variance = 0.0;
            let mut range = 0.0;
            for (differing, (sum, covariance)) in sums.iter().zip(rest.covariances(points.layers)).enumerate() {
                variance += sum * covariance;
                range += sum * covariance * share(differing, points.layers) / rest.range;
            }
            slopes.extend([variance, range]);
        }
        slopes
    }

    fn describe(&self) -> Vec<(String, f64)> {
        let blocks = self.blocks.iter().map(|(term, variance)| (format!("variance of {}", term.name()), *variance));
        let rest = self.rest.map(|Rest { variance, range }| {
            let name = Term::Distance.name();
            [(format!("variance of {name}"), variance), (format!("range of {name}"), range)]
        });
        blocks.chain(rest.into_iter().flatten()).collect()
    }

    fn log_prior(&self) -> (f64, Vec<f64>) {
        let scores: Vec<_> =
            self.free().iter().zip(self.priors()).map(|(u, (loc, scale))| ((u - loc) / scale, scale)).collect();
        let density = scores.iter().map(|(z, _)| -0.5 * z * z).sum();
        (density, scores.iter().map(|(z, scale)| -z / scale).collect())
    }
}

/// Variances below this, on the standardised scale, do not change any proposal.
const NEGLIGIBLE: f64 = 1e-7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::Symbol,
        search::gp_bo::{features::FeatureMap, kernel::tests::check},
        seed::Seed,
        space::SearchSpace,
    };

    fn sequences(symbols: &[Symbol], layers: usize, count: u64, terms: &[Term]) -> Sequences {
        let space = SearchSpace::uniform(symbols.iter().copied(), layers).unwrap();
        let sample: Vec<_> = (0..count).map(|index| space.sample(&mut Seed(3).rng("test", index))).collect();
        Sequences::new(FeatureMap::new(&space, terms).unwrap().features(&sample).unwrap(), symbols.len())
    }

    #[test]
    fn the_laws_of_a_kernel_hold() {
        let symbols = [Symbol::ATTENTION, Symbol::SWIGLU, Symbol::MLP];
        for (symbols, layers) in [(&symbols[..2], 1), (&symbols[..2], 6), (&symbols[..], 9)] {
            for terms in [&Term::ALL[..], &[Term::Counts, Term::Runs], &[Term::Distance]] {
                let free: Vec<f64> = (0..11).map(|k| 0.3 * f64::from(k % 5) - 1.5).collect();
                let kernel = Structured::start(terms);
                let free = &free[..kernel.free().len()];
                check(&kernel.at(free), &sequences(symbols, layers, 12, terms));
            }
        }
    }
}
