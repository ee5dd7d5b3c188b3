//! Reference values made with BoTorch 0.18.1, and the small Gaussian process that their posteriors come from.

use std::{collections::HashMap, fs, path::Path};

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, de::DeserializeOwned};

/// `acquisition_scalars.json`.
#[derive(Deserialize)]
pub(super) struct Scalars {
    pub(super) log_ei_helper: Helper,
    pub(super) log_ei: Rows,
    pub(super) log_fatplus: Fatplus,
    pub(super) fatmax: OfLists,
    pub(super) logmeanexp: OfLists,
}

#[derive(Deserialize)]
pub(super) struct Helper {
    pub(super) u: Vec<f64>,
    pub(super) exact: Vec<f64>,
}

/// Rows of mean, variance, best, BoTorch's value, exact value.
#[derive(Deserialize)]
pub(super) struct Rows {
    pub(super) rows: Vec<[f64; 5]>,
}

#[derive(Deserialize)]
pub(super) struct Fatplus {
    pub(super) tau: f64,
    pub(super) x: Vec<f64>,
    pub(super) botorch: Vec<f64>,
    pub(super) botorch_tau1: Vec<f64>,
}

#[derive(Deserialize)]
pub(super) struct OfLists {
    pub(super) x: Vec<Vec<f64>>,
    pub(super) botorch: Vec<f64>,
}

/// `acquisition_prune.json`.
#[derive(Deserialize)]
pub(super) struct Prune {
    pub(super) dataset: String,
    pub(super) hp: HyperParameters,
    pub(super) base_samples: Vec<Vec<f64>>,
    pub(super) kept_indices: Vec<usize>,
}

/// A data set with the values of acquisition functions on it.
#[derive(Deserialize)]
pub(super) struct Set {
    pub(super) name: String,
    encoding: String,
    #[serde(rename = "Z")]
    choices: usize,
    #[serde(rename = "A")]
    pub(super) architectures: Vec<Vec<usize>>,
    y_mean: f64,
    y_stdv: f64,
    y_std: Vec<f64>,
    pub(super) tests: Vec<Vec<usize>>,
    pub(super) hyper: Vec<Hyper>,
}

#[derive(Deserialize)]
pub(super) struct Hyper {
    pub(super) label: String,
    pub(super) hp: HyperParameters,
    pub(super) logei: Vec<f64>,
    pub(super) logei_best_f: f64,
    pub(super) qlognei: Option<QLogNei>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct HyperParameters {
    noise: f64,
    constant: f64,
    lengthscale: Vec<f64>,
    outputscale: Option<f64>,
}

#[derive(Deserialize)]
pub(super) struct QLogNei {
    pub(super) baseline_indices: Vec<usize>,
    pub(super) pending: Vec<Vec<usize>>,
    pub(super) cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(super) struct Case {
    q: usize,
    pub(super) mode: String,
    pub(super) candidates: Vec<Vec<Vec<usize>>>,
    /// In the trimmed file these stand once, for all data sets.
    #[serde(default)]
    pub(super) base_samples: Vec<Vec<f64>>,
    pub(super) values: Vec<f64>,
    pub(super) baseline_best_f: Vec<f64>,
}

#[derive(Deserialize)]
struct Trimmed {
    base_samples: HashMap<String, Vec<Vec<f64>>>,
    sets: Vec<Set>,
}

fn parse<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap()
}

pub(super) fn scalars() -> Scalars {
    parse(include_str!("../../../../tests/fixtures/bo/acquisition_scalars.json"))
}

pub(super) fn prune() -> Prune {
    parse(include_str!("../../../../tests/fixtures/bo/acquisition_prune.json"))
}

/// All data sets that have values of qLogNEI.
pub(super) fn sets() -> Vec<Set> {
    let Trimmed { base_samples, mut sets } =
        parse(include_str!("../../../../tests/fixtures/bo/acquisition_q_log_nei.json"));
    let hypers = sets.iter_mut().flat_map(|set| &mut set.hyper);
    for case in hypers.filter_map(|hyper| hyper.qlognei.as_mut()).flat_map(|golden| &mut golden.cases) {
        case.base_samples = base_samples[&format!("{}/{}", case.q, case.mode)].clone();
    }
    sets
}

/// The untrimmed data sets, where they lie beside the project; none elsewhere.
pub(super) fn full_sets() -> Vec<Set> {
    let folder = Path::new("../shared/golden/bo");
    let files = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let named = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('n'));
    // Python writes a number that JSON does not have, in a field that is not read here.
    let text = |path| fs::read_to_string(path).unwrap().replace("-Infinity", "null");
    files.filter(|path| named(path)).map(|path| parse(&text(path))).collect()
}

/// The matrix of these rows.
pub(super) fn matrix(rows: &[Vec<f64>]) -> DMatrix<f64> {
    DMatrix::from_fn(rows.len(), rows.first().map_or(0, Vec::len), |row, column| rows[row][column])
}

impl Set {
    /// Mean and covariance of the latent function at `points`, on the scale of the outcomes.
    pub(super) fn posterior(&self, hyper: &Hyper, points: &[Vec<usize>]) -> (DVector<f64>, DMatrix<f64>) {
        let hp = &hyper.hp;
        let data = &self.architectures;
        let kernel = |a: &[Vec<usize>], b: &[Vec<usize>]| {
            DMatrix::from_fn(a.len(), b.len(), |i, j| self.kernel(hp, &a[i], &b[j]))
        };
        let noisy = kernel(data, data) + DMatrix::identity(data.len(), data.len()) * hp.noise;
        let factor = noisy.cholesky().unwrap();
        let cross = kernel(data, points);
        let residual = DVector::from_vec(self.y_std.clone()).add_scalar(-hp.constant);
        let mean = cross.tr_mul(&factor.solve(&residual)).add_scalar(hp.constant);
        let cov = kernel(points, points) - cross.tr_mul(&factor.solve(&cross));
        (mean.map(|mean| self.y_mean + self.y_stdv * mean), cov * self.y_stdv.powi(2))
    }

    fn kernel(&self, hp: &HyperParameters, a: &[usize], b: &[usize]) -> f64 {
        let differing = a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b);
        let scale = |column: usize| hp.lengthscale[column];
        match self.encoding.as_str() {
            "int" => {
                let sum: f64 = differing.map(|(layer, _)| 1.0 / scale(layer)).sum();
                hp.outputscale.unwrap() * (-sum / a.len() as f64).exp()
            }
            "bit" => (-0.5 * differing.map(|(layer, _)| scale(layer).powi(-2)).sum::<f64>()).exp(),
            "onehot" => {
                let column = |layer: usize, choice: usize| scale(layer * self.choices + choice).powi(-2);
                let sum: f64 = differing.map(|(layer, (&a, &b))| column(layer, a) + column(layer, b)).sum();
                (-0.5 * sum).exp()
            }
            other => panic!("no encoding {other}"),
        }
    }
}

/// `multi_objective.json`.
#[derive(Deserialize)]
pub(super) struct MultiObjective {
    pub(super) fronts: Vec<Front>,
    pub(super) acquisition: Vec<Nehvi>,
}

/// Points and the boxes of what they do not dominate.
#[derive(Deserialize)]
pub(super) struct Front {
    pub(super) points: Vec<Vec<f64>>,
    pub(super) reference: Vec<f64>,
    pub(super) lower: Vec<Vec<f64>>,
    pub(super) upper: Vec<Vec<f64>>,
}

/// Values of qLogNEHVI.
#[derive(Deserialize)]
pub(super) struct Nehvi {
    pub(super) objectives: usize,
    pub(super) mode: String,
    pub(super) reference: Vec<f64>,
    pub(super) baseline: usize,
    /// One matrix for each objective.
    pub(super) base_samples: Vec<Vec<Vec<f64>>>,
    pub(super) batches: Vec<NehviBatch>,
}

#[derive(Deserialize)]
pub(super) struct NehviBatch {
    /// One for each objective, over the baseline and then the batch.
    pub(super) posterior: Vec<Moments>,
    pub(super) value: f64,
}

#[derive(Deserialize)]
pub(super) struct Moments {
    pub(super) mean: Vec<f64>,
    pub(super) covariance: Vec<Vec<f64>>,
}

pub(super) fn multi_objective() -> MultiObjective {
    parse(include_str!("../../../../tests/fixtures/bo/multi_objective.json"))
}
