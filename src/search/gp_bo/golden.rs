//! Golden values of BoTorch, see `tests/fixtures/bo/README.md`.

use nalgebra::DMatrix;
use serde::Deserialize;

use super::{
    encoding::{Encoder, Encoding},
    hyper::Hyper,
    kernel::{Categorical, Rbf},
};
use crate::{primitive::Symbol, space::SearchSpace};

/// One dataset.
#[derive(Deserialize)]
pub(super) struct Fixture {
    pub(super) name: String,
    n: usize,
    #[serde(rename = "Z")]
    symbols: usize,
    encoding: String,
    #[serde(rename = "A")]
    codes: Vec<Vec<usize>>,
    pub(super) y: Vec<f64>,
    pub(super) y_mean: f64,
    pub(super) y_stdv: f64,
    pub(super) y_std: Vec<f64>,
    tests: Vec<Vec<usize>>,
    pub(super) hyper: Vec<Golden>,
    pub(super) fit: FitGolden,
}

/// Values at fixed hyperparameters.
#[derive(Deserialize)]
pub(super) struct Golden {
    pub(super) label: String,
    hp: Parameters,
    pub(super) log_marginal_likelihood: f64,
    pub(super) log_prior: f64,
    pub(super) map_objective: f64,
    /// Lower triangle, row by row; the first rows only.
    #[serde(default)]
    pub(super) kernel_lower: Vec<f64>,
    grad_map_raw: Gradient,
    pub(super) post_mean: Vec<f64>,
    pub(super) post_var: Vec<f64>,
    pub(super) post_cov: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Parameters {
    noise: f64,
    constant: f64,
    lengthscale: Vec<f64>,
    outputscale: Option<f64>,
}

/// One entry per parameter of GPyTorch, by name.
#[derive(Deserialize)]
struct Gradient {
    noise: Vec<f64>,
    constant: Vec<f64>,
    lengthscale: Vec<f64>,
    #[serde(default)]
    outputscale: Vec<f64>,
}

/// The objective of BoTorch's fits.
#[derive(Deserialize)]
pub(super) struct FitGolden {
    /// Of its default fit.
    pub(super) botorch: f64,
    /// Of the best of four tighter starts.
    pub(super) best_known: f64,
}

/// A row of the log-normal densities.
#[derive(Deserialize)]
pub(super) struct LogNormalGolden {
    pub(super) loc: f64,
    pub(super) scale: f64,
    pub(super) x: Vec<f64>,
    pub(super) logpdf: Vec<f64>,
    pub(super) mode: f64,
}

impl Fixture {
    pub(super) fn is_categorical(&self) -> bool {
        self.encoding == "int"
    }

    pub(super) fn layers(&self) -> usize {
        self.n
    }

    fn rows(&self, codes: &[Vec<usize>]) -> DMatrix<f64> {
        let letters = ["A", "M", "S"].map(|letter| Symbol::try_from(letter.chars().next().unwrap()).unwrap());
        let space = SearchSpace::uniform(letters.into_iter().take(self.symbols), self.n).unwrap();
        let encoding = if self.encoding == "bit" { Encoding::Bit } else { Encoding::OneHot };
        Encoder::with_encoding(&space, encoding).rows_of_codes(codes)
    }

    /// The observed points.
    pub(super) fn points(&self) -> DMatrix<f64> {
        self.rows(&self.codes)
    }

    /// The points that are predicted.
    pub(super) fn tests(&self) -> DMatrix<f64> {
        self.rows(&self.tests)
    }
}

impl Golden {
    pub(super) fn rbf(&self) -> Hyper<Rbf> {
        let kernel = Rbf { lengthscales: self.hp.lengthscale.clone() };
        Hyper { noise: self.hp.noise, mean: self.hp.constant, kernel }
    }

    pub(super) fn categorical(&self) -> Hyper<Categorical> {
        let scale = self.hp.outputscale.unwrap();
        let kernel = Categorical { scale, lengthscales: self.hp.lengthscale.clone(), priors: None };
        Hyper { noise: self.hp.noise, mean: self.hp.constant, kernel }
    }

    /// The gradient of the objective with respect to our free parameters.
    ///
    /// GPyTorch's raw noise and raw RBF lengthscales are the values themselves: ours have the factor s2 - 1e-4 and
    /// l - 0.025. Its categorical kernel uses v = softplus(raw), whose slope is 1 - exp(-v).
    pub(super) fn free_gradient(&self) -> Vec<f64> {
        let slopes = &self.grad_map_raw;
        let hp = &self.hp;
        let mut free = vec![slopes.noise[0] * (hp.noise - 1e-4), slopes.constant[0]];
        let softplus_slope = |value: f64| -(-value).exp_m1();
        match hp.outputscale {
            None => free.extend(slopes.lengthscale.iter().zip(&hp.lengthscale).map(|(slope, l)| slope * (l - 0.025))),
            Some(scale) => {
                free.push(slopes.outputscale[0] / softplus_slope(scale) * scale);
                let above = hp.lengthscale.iter().map(|l| l - 1e-6);
                free.extend(slopes.lengthscale.iter().zip(above).map(|(slope, l)| slope / softplus_slope(l) * l));
            }
        }
        free
    }
}

/// All datasets.
pub(super) fn fixtures() -> Vec<Fixture> {
    let texts = [
        include_str!("../../../tests/fixtures/bo/surrogate_n6_z2_onehot_12.json"),
        include_str!("../../../tests/fixtures/bo/surrogate_n16_z2_bit_30.json"),
        include_str!("../../../tests/fixtures/bo/surrogate_n16_z2_onehot_30.json"),
        include_str!("../../../tests/fixtures/bo/surrogate_n16_z3_categorical_40.json"),
        include_str!("../../../tests/fixtures/bo/surrogate_n8_z3_repeats_40.json"),
        include_str!("../../../tests/fixtures/bo/surrogate_n8_z2_nearconst_15.json"),
        include_str!("../../../tests/fixtures/bo/surrogate_n8_z2_nearconst2_15.json"),
        include_str!("../../../tests/fixtures/bo/surrogate_n32_z3_onehot_64.json"),
    ];
    texts.into_iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

/// Log-normal densities.
pub(super) fn log_normal() -> Vec<LogNormalGolden> {
    serde_json::from_str(include_str!("../../../tests/fixtures/bo/surrogate_log_normal.json")).unwrap()
}

/// Asserts agreement to a relative tolerance.
#[track_caller]
pub(super) fn close(what: &str, ours: f64, expected: f64, tolerance: f64) {
    assert!((ours - expected).abs() <= tolerance * expected.abs(), "{what}: {ours} is not {expected}");
}

/// The largest difference of two lists, relative to the largest entry of the second.
pub(super) fn difference<'a>(
    ours: impl IntoIterator<Item = &'a f64>,
    expected: impl IntoIterator<Item = &'a f64>,
) -> f64 {
    let pairs: Vec<_> = ours.into_iter().zip(expected).collect();
    let largest = pairs.iter().fold(f64::MIN_POSITIVE, |most, (_, expected)| most.max(expected.abs()));
    pairs.iter().fold(0.0, |most: f64, (ours, expected)| most.max((*ours - *expected).abs())) / largest
}
