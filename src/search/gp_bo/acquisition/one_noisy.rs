//! qLogNEHVI if one objective is noisy and the others are known exactly: a weighted sum of noisy improvements.
//!
//! A candidate with known values `x` adds hypervolume only below `x` in the known coordinates. In these coordinates,
//! the known values of the baseline form a grid that is the same for all samples. Over a cell of the grid, the baseline
//! reaches the height `h_m`, the best of the points that cover the cell, so the candidate adds `volume (f_m - h_m)+`.
//! No box decomposition per sample is needed, and only the noisy objective is smoothed. Without known objectives, the
//! result is qLogNEI.

use std::collections::HashMap;

use nalgebra::{DMatrix, DVector};

use super::{
    AcquisitionError,
    q_log_nehvi::{drawn, marginal},
    smooth::{TAU_RAMP, ramp},
};

/// Number of candidates whose samples are computed together, see [`QLogNei`](super::QLogNei).
const BLOCK: usize = 64;

/// Number of independent partial sums over samples.
const LANES: usize = 8;

/// If the improvement per unit of volume is below this, the tails of the ramp are added.
const HOPELESS: f64 = 1e-8;

/// The acquisition function for one baseline, one reference point and one set of base samples.
#[derive(Clone, Debug)]
pub(crate) struct OneNoisy {
    root: (DMatrix<f64>, DMatrix<f64>),
    grid: Grid,
    /// For each set of points that covers some cell: the height that it reaches there, one value per sample.
    heights: Vec<Vec<f64>>,
}

/// The grid formed by the known values.
#[derive(Clone, Debug)]
struct Grid {
    /// Lower ends of the intervals of each coordinate, ascending; the last interval is unbounded.
    starts: Vec<Vec<f64>>,
    /// Index of the set of points that covers each cell; the last coordinate varies fastest.
    sets: Vec<usize>,
}

/// The baseline of b points: mean (b) and covariance (b x b) of the noisy objective, base samples (M x at least b + 1),
/// and the known objectives of each point.
pub(crate) struct NoisyBaseline<'a> {
    pub(crate) mean: &'a DVector<f64>,
    pub(crate) covariance: &'a DMatrix<f64>,
    pub(crate) z: DMatrix<f64>,
    pub(crate) known: &'a [Vec<f64>],
}

/// C candidates: mean (C) and variance (C) of the noisy objective, its covariance with the baseline (b x C), and the
/// known objectives of each candidate.
pub(crate) struct NoisySingles<'a> {
    pub(crate) mean: &'a [f64],
    pub(crate) variance: &'a [f64],
    pub(crate) cross: DMatrix<f64>,
    pub(crate) known: &'a [Vec<f64>],
}

impl OneNoisy {
    /// Draws the noisy objective at the baseline. Larger is better. In `reference`, the noisy objective comes first.
    ///
    /// # Errors
    /// [`AcquisitionError`] if sizes disagree or the covariance is not positive semidefinite.
    pub(crate) fn new(baseline: NoisyBaseline<'_>, reference: &[f64]) -> Result<Self, AcquisitionError> {
        let NoisyBaseline { mean, covariance, z, known } = baseline;
        let Some((&floor, corner)) = reference.split_first() else {
            return Err(AcquisitionError::Empty { what: "the reference point" });
        };
        let (root, draws) = drawn(mean, covariance, &z)?;
        let (grid, sets) = Grid::new(known, corner);
        let height = |set: &Points| {
            let mut highest = vec![floor; z.nrows()];
            for at in (0..known.len()).filter(|&at| set.holds(at)) {
                highest.iter_mut().zip(draws.column(at)).for_each(|(high, &value)| *high = high.max(value));
            }
            highest
        };
        let heights = sets.iter().map(height).collect();
        Ok(Self { root: (root, z), grid, heights })
    }

    /// Returns the values of C candidates, each as a batch of its own. The value is minus infinity if the known values
    /// leave nothing to add.
    ///
    /// # Errors
    /// [`AcquisitionError`] if sizes disagree or a conditional variance is negative beyond rounding.
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

    /// Returns the logarithm of the mean hypervolume that one candidate adds, over samples.
    fn log_mean(&self, draws: &[f64], known: &[f64]) -> f64 {
        let mut weights = vec![0.0; self.heights.len()];
        self.grid.add_volumes(known, &mut weights);
        let all: f64 = weights.iter().sum();
        let weighted = |rise: &dyn Fn(&[f64], &[f64]) -> f64| {
            let columns = weights.iter().zip(&self.heights).filter(|&(&weight, _)| weight > 0.0);
            columns.map(|(weight, heights)| weight * rise(draws, heights)).sum::<f64>() / draws.len() as f64
        };
        let plain = weighted(&plain_rise);
        if plain > HOPELESS * all { plain.ln() } else { weighted(&smooth_rise).ln() }
    }
}

/// Returns the sum of the amounts by which draws exceed the heights.
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

/// Like [`plain_rise`], with a rounded corner and tails that are positive everywhere.
fn smooth_rise(draws: &[f64], heights: &[f64]) -> f64 {
    draws.iter().zip(heights).map(|(draw, height)| TAU_RAMP * ramp((draw - height) / TAU_RAMP)).sum()
}

/// A set of points, as one bit per point.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Points(Vec<u64>);

impl Points {
    /// Creates the set of the points below `count` for which `belongs` is true.
    fn of(count: usize, belongs: impl Fn(usize) -> bool) -> Self {
        let mut words = vec![0; count.div_ceil(64)];
        (0..count).filter(|&at| belongs(at)).for_each(|at| words[at / 64] |= 1 << (at % 64));
        Self(words)
    }

    fn holds(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    /// Returns the intersection.
    fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one & other).collect())
    }
}

impl Grid {
    /// Creates the grid of the points' coordinates above `corner`, and the sets of points that cover its cells. Without
    /// coordinates, there is one cell.
    fn new(points: &[Vec<f64>], corner: &[f64]) -> (Self, Vec<Points>) {
        let mut starts = Vec::new();
        let mut covers = vec![Points::of(points.len(), |_| true)];
        for (k, &corner) in corner.iter().enumerate() {
            let mut edges: Vec<_> = points.iter().map(|point| point[k]).filter(|&edge| edge > corner).collect();
            edges.sort_by(f64::total_cmp);
            edges.dedup();
            // A point covers the interval that ends at its value and those below it, and never the unbounded one.
            let ends = edges.iter().copied().chain([f64::INFINITY]);
            let intervals: Vec<_> = ends.map(|end| Points::of(points.len(), |at| points[at][k] >= end)).collect();
            covers = covers.iter().flat_map(|cover| intervals.iter().map(|interval| cover.and(interval))).collect();
            edges.insert(0, corner);
            starts.push(edges);
        }
        let mut known: HashMap<Points, usize> = HashMap::new();
        let mut sets = Vec::new();
        let mut number = |cover: Points| {
            *known.entry(cover).or_insert_with_key(|cover| {
                sets.push(cover.clone());
                sets.len() - 1
            })
        };
        let cells = covers.into_iter().map(&mut number).collect();
        (Self { starts, sets: cells }, sets)
    }

    /// Adds the volume of each cell below these values to the weight of the set that covers it.
    fn add_volumes(&self, values: &[f64], weights: &mut [f64]) {
        let sides = |(starts, &value): (&Vec<f64>, &f64)| {
            let below = starts.partition_point(|&start| start < value);
            let end = |at: usize| starts.get(at + 1).map_or(value, |&end| end.min(value));
            (0..below).map(|at| end(at) - starts[at]).collect::<Vec<_>>()
        };
        let sides: Vec<_> = self.starts.iter().zip(values).map(sides).collect();
        self.add_below(&sides, 0, 1.0, weights);
    }

    /// Does this for the remaining coordinates `sides`, for the cells from index `first` on. `volume` is the product of
    /// the sides so far.
    fn add_below(&self, sides: &[Vec<f64>], first: usize, volume: f64, weights: &mut [f64]) {
        let Some((own, rest)) = sides.split_first() else {
            weights[self.sets[first]] += volume;
            return;
        };
        let stride = self.starts[self.starts.len() - rest.len()..].iter().map(Vec::len).product::<usize>();
        if rest.is_empty() {
            let sets = &self.sets[first..first + own.len()];
            sets.iter().zip(own).for_each(|(&set, side)| weights[set] += volume * side);
            return;
        }
        for (at, side) in own.iter().enumerate() {
            self.add_below(rest, first + at * stride, volume * side, weights);
        }
    }
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
