//! qLogNEHVI where one objective is noisy and the others are known exactly: a weighted sum of noisy improvements.
//!
//! What a candidate with known values `x` adds lies below `x` in the known coordinates. There the known values of the
//! baseline make a grid that is the same for all samples. Over a cell of the grid the baseline reaches the height
//! `h_m`, the best of those points that cover the cell, so the candidate adds `volume (f_m - h_m)+`. No sample needs
//! boxes of its own, and nothing but the noisy objective is smoothed. Without known objectives it is qLogNEI.

use std::collections::HashMap;

use nalgebra::{DMatrix, DVector};

use super::{
    AcquisitionError,
    q_log_nehvi::{drawn, marginal},
    smooth::{TAU_RAMP, ramp},
};

/// Candidates whose samples are computed together, see [`QLogNei`](super::QLogNei).
const BLOCK: usize = 64;

/// Width of the sums over samples.
const LANES: usize = 8;

/// Below this improvement, for each unit of volume, the tails of the ramp are added.
const HOPELESS: f64 = 1e-8;

/// The acquisition function for one baseline, one reference point and one set of base samples.
#[derive(Clone, Debug)]
pub(crate) struct OneNoisy {
    root: (DMatrix<f64>, DMatrix<f64>),
    grid: Vec<Patch>,
    /// What the baseline reaches over a patch in each sample, one column for every set of points that cover one.
    heights: Vec<Vec<f64>>,
}

/// A cell of the grid of known values.
#[derive(Clone, Debug)]
struct Patch {
    lower: Vec<f64>,
    upper: Vec<f64>,
    height: usize,
}

/// The baseline: mean b and covariance b x b of the noisy objective, base samples M x (at least b + 1), and the known
/// objectives of every point.
pub(crate) struct NoisyBaseline<'a> {
    pub(crate) mean: &'a DVector<f64>,
    pub(crate) covariance: &'a DMatrix<f64>,
    pub(crate) z: DMatrix<f64>,
    pub(crate) known: &'a [Vec<f64>],
}

/// Candidates: mean C and variance C of the noisy objective, its covariance with the baseline b x C, and the known
/// objectives of every candidate.
pub(crate) struct NoisySingles<'a> {
    pub(crate) mean: &'a [f64],
    pub(crate) variance: &'a [f64],
    pub(crate) cross: DMatrix<f64>,
    pub(crate) known: &'a [Vec<f64>],
}

impl OneNoisy {
    /// Draws the noisy objective at the baseline. Larger is better; `reference` holds the noisy objective first.
    ///
    /// # Errors
    /// [`AcquisitionError`] when sizes disagree or the covariance is none.
    pub(crate) fn new(baseline: NoisyBaseline<'_>, reference: &[f64]) -> Result<Self, AcquisitionError> {
        let NoisyBaseline { mean, covariance, z, known } = baseline;
        let Some((&floor, corner)) = reference.split_first() else {
            return Err(AcquisitionError::Empty { what: "the reference point" });
        };
        let (root, draws) = drawn(mean, covariance, &z)?;
        let mut sets: HashMap<Vec<usize>, usize> = HashMap::new();
        let mut heights = Vec::new();
        let mut grid = Vec::new();
        for (lower, upper) in patches(known, corner) {
            let covers = |&at: &usize| known[at].iter().zip(&upper).all(|(value, upper)| value >= upper);
            let set: Vec<_> = (0..known.len()).filter(covers).collect();
            let height = *sets.entry(set).or_insert_with_key(|set| {
                let mut highest = vec![floor; z.nrows()];
                for &at in set {
                    highest.iter_mut().zip(draws.column(at)).for_each(|(high, &value)| *high = high.max(value));
                }
                heights.push(highest);
                heights.len() - 1
            });
            grid.push(Patch { lower, upper, height });
        }
        Ok(Self { root: (root, z), grid, heights })
    }

    /// The values of many candidates, each by itself; minus infinity where the known values leave nothing to add.
    ///
    /// # Errors
    /// [`AcquisitionError`] when sizes disagree or a conditional variance is negative beyond rounding.
    pub(crate) fn values(&self, candidates: NoisySingles<'_>) -> Result<Vec<f64>, AcquisitionError> {
        let NoisySingles { mean, variance, cross, known } = candidates;
        let mut values = Vec::with_capacity(mean.len());
        while values.len() < mean.len() {
            let from = values.len();
            let width = BLOCK.min(mean.len() - from);
            let range = from..from + width;
            let part = cross.columns(from, width).into_owned();
            let draws = marginal(&self.root, &mean[range.clone()], &variance[range.clone()], &part)?;
            for (column, known) in draws.column_iter().zip(&known[range]) {
                values.push(self.log_mean(column.as_slice(), known));
            }
        }
        Ok(values)
    }

    /// The logarithm of the mean over samples of what one candidate adds.
    fn log_mean(&self, draws: &[f64], known: &[f64]) -> f64 {
        let mut weights = vec![0.0; self.heights.len()];
        for patch in &self.grid {
            let sides = patch.lower.iter().zip(&patch.upper).zip(known);
            weights[patch.height] +=
                sides.map(|((lower, upper), value)| (value.min(*upper) - lower).max(0.0)).product::<f64>();
        }
        let all: f64 = weights.iter().sum();
        let weighted = |rise: &dyn Fn(&[f64], &[f64]) -> f64| {
            let columns = weights.iter().zip(&self.heights).filter(|&(&weight, _)| weight > 0.0);
            columns.map(|(weight, heights)| weight * rise(draws, heights)).sum::<f64>() / draws.len() as f64
        };
        let plain = weighted(&plain_rise);
        if plain > HOPELESS * all { plain.ln() } else { weighted(&smooth_rise).ln() }
    }
}

/// The sum of what the draws are above the heights.
fn plain_rise(draws: &[f64], heights: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (draws, rest) = draws.as_chunks::<LANES>();
    let (heights, heights_rest) = heights.as_chunks::<LANES>();
    for (draws, heights) in draws.iter().zip(heights) {
        for lane in 0..LANES {
            let rise = draws[lane] - heights[lane];
            sums[lane] += if rise > 0.0 { rise } else { 0.0 };
        }
    }
    sums.iter().sum::<f64>() + rest.iter().zip(heights_rest).map(|(draw, height)| (draw - height).max(0.0)).sum::<f64>()
}

/// The same with a rounded corner and tails that never vanish.
fn smooth_rise(draws: &[f64], heights: &[f64]) -> f64 {
    draws.iter().zip(heights).map(|(draw, height)| TAU_RAMP * ramp((draw - height) / TAU_RAMP)).sum()
}

/// The grid that the points' coordinates make above `corner`; the last cells are open. One cell without coordinates.
fn patches(points: &[Vec<f64>], corner: &[f64]) -> Vec<(Vec<f64>, Vec<f64>)> {
    let mut patches = vec![(Vec::new(), Vec::new())];
    for (at, &start) in corner.iter().enumerate() {
        let mut edges: Vec<_> = points.iter().map(|point| point[at]).filter(|&edge| edge > start).collect();
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        edges.insert(0, start);
        edges.push(f64::INFINITY);
        let longer = |(lower, upper): &(Vec<f64>, Vec<f64>)| {
            let with = |side: &Vec<f64>, edge: f64| [side.as_slice(), &[edge]].concat();
            edges.windows(2).map(|pair| (with(lower, pair[0]), with(upper, pair[1]))).collect::<Vec<_>>()
        };
        patches = patches.iter().flat_map(longer).collect();
    }
    patches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        search::gp_bo::acquisition::{Baseline, QLogNehvi, QLogNei, Singles, base_samples},
        seed::Seed,
    };

    /// A posterior over `count` points, from random features.
    fn posterior(count: usize, seed: u64) -> (DVector<f64>, DMatrix<f64>) {
        let mut rng = Seed(seed).rng("test", 0);
        let features = base_samples(count, 60, &mut rng);
        let mean = base_samples(count, 1, &mut rng).column(0) * 0.3;
        (mean, (&features * features.transpose()) / 300.0 + DMatrix::identity(count, count) * 1e-3)
    }

    fn known(count: usize, objectives: usize) -> Vec<Vec<f64>> {
        // Whole numbers, so that some tie.
        let value = |at: usize, k: usize| -(((at * (5 + 2 * k) + k) % 7) as f64);
        (0..count).map(|at| (0..objectives).map(|k| value(at, k)).collect()).collect()
    }

    /// Values by both ways.
    fn both(b: usize, c: usize, objectives: usize) -> (Vec<f64>, Vec<f64>) {
        let (mean, covariance) = posterior(b + c, objectives as u64);
        let known = known(b + c, objectives);
        let z = base_samples(60, b + 1, &mut Seed(2).rng("test", 0));
        let reference: Vec<f64> = std::iter::once(-2.0).chain(std::iter::repeat_n(-6.5, objectives)).collect();
        let mean_b: DVector<f64> = mean.rows(0, b).into();
        let cov_b: DMatrix<f64> = covariance.view((0, 0), (b, b)).into();
        let cross = covariance.view((0, b), (b, c)).into_owned();
        let variance: Vec<_> = (b..b + c).map(|at| covariance[(at, at)]).collect();
        let mean_c = &mean.as_slice()[b..];
        let baseline = NoisyBaseline { mean: &mean_b, covariance: &cov_b, z: z.clone(), known: &known[..b] };
        let singles = NoisySingles { mean: mean_c, variance: &variance, cross: cross.clone(), known: &known[b..] };
        let ours = OneNoisy::new(baseline, &reference).unwrap().values(singles).unwrap();
        if objectives == 0 {
            let plain = QLogNei::new(&mean_b, &cov_b, z).unwrap();
            return (ours, plain.values_of_singles(mean_c, &variance, cross).unwrap());
        }
        let column = |from: usize, to: usize, k: usize| known[from..to].iter().map(|point| point[k]).collect();
        let mut baseline = vec![Baseline::Noisy { mean: mean_b, covariance: cov_b, z }];
        baseline.extend((0..objectives).map(|k| Baseline::Known(column(0, b, k))));
        let mut singles = vec![Singles::Noisy { mean: mean_c.to_vec(), variance, cross }];
        singles.extend((0..objectives).map(|k| Singles::Known(column(b, b + c, k))));
        let general = QLogNehvi::new(baseline, &reference).unwrap();
        (ours, general.values_of_singles(&singles).unwrap())
    }

    #[test]
    fn it_is_the_general_function() {
        for objectives in 0..=3 {
            let (ours, general) = both(9, 70, objectives);
            assert_eq!(ours.len(), 70);
            for (ours, general) in ours.iter().zip(&general) {
                // The tails of hopeless candidates belong to the boxes.
                let error = if *general > -18.0 { 1e-3 } else { 0.5 };
                assert!((ours - general).abs() < error || ours == general, "{objectives}: {ours} {general}");
            }
            assert!(ours.iter().filter(|value| value.is_finite()).count() > 40, "{ours:?}");
        }
    }

    #[test]
    fn nothing_observed_leaves_the_reference() {
        let z = base_samples(64, 1, &mut Seed(1).rng("test", 0));
        let nothing = NoisyBaseline { mean: &DVector::zeros(0), covariance: &DMatrix::zeros(0, 0), z, known: &[] };
        let acquisition = OneNoisy::new(nothing, &[-1.0, -2.0]).unwrap();
        let known = [vec![-1.0], vec![0.0], vec![-3.0]];
        let singles =
            NoisySingles { mean: &[0.0; 3], variance: &[1e-12; 3], cross: DMatrix::zeros(0, 3), known: &known };
        let values = acquisition.values(singles).unwrap();
        assert!(values[0].abs() < 1e-4 && (values[1] - 2f64.ln()).abs() < 1e-4, "{values:?}");
        assert_eq!(values[2], f64::NEG_INFINITY);
    }
}
