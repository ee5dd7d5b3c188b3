//! The logarithm of the noisy expected hypervolume improvement of a batch, by Monte Carlo.
//!
//! qNEHVI: Daulton et al. 2021, arXiv 2105.08195. In logarithms and smoothed: Ament et al. 2023, arXiv 2310.20708,
//! section 4.3. Given the points, objectives are independent. Pending points are part of the baseline.
//!
//! | symbol | meaning |
//! |---|---|
//! | `M`, `K` | number of base samples, of objectives |
//! | `b`, `q`, `C` | number of baseline points, of points in the batch, of candidates |
//! | `cells` | for each sample, the boxes that the front of the baseline does not dominate |
//!
//! An objective is either noisy, with a posterior of its own, or known exactly. All samples of a known objective are
//! equal.

use nalgebra::{DMatrix, DVector};

use super::{
    AcquisitionError,
    cells::{Cell, cells},
    cholesky::{lower_root, scalar_root},
    q_log_nei::check_shape,
    smooth::{TAU_RAMP, fatmin, log_fatplus, log_mean_exp, log_sum_exp, ramp},
};

/// Temperature of the smooth minimum over the sides of a box, in logarithms: `tau_max` of BoTorch's qLogNEHVI.
const TAU_SIDE: f64 = 1e-3;

/// Upper bound on the sides of a box, so that their logarithms are finite.
const LONGEST: f64 = 1e10;

/// One objective at the b points of the baseline.
#[derive(Clone, Debug)]
pub(crate) enum Baseline {
    /// Mean (b) and covariance (b x b) of the latent function, and base samples (M x at least b + q).
    Noisy { mean: DVector<f64>, covariance: DMatrix<f64>, z: DMatrix<f64> },
    /// One exact value per point (b).
    Known(Vec<f64>),
}

/// One objective at the q points of a batch.
#[derive(Clone, Debug)]
pub(crate) enum Batch {
    /// Mean (q), covariance (q x q), and covariance with the baseline (q x b).
    Noisy { mean: DVector<f64>, covariance: DMatrix<f64>, cross: DMatrix<f64> },
    /// One exact value per point (q).
    Known(Vec<f64>),
}

/// One objective at C candidates, each a batch of its own.
#[derive(Clone, Debug)]
pub(crate) enum Singles {
    /// Mean (C), variance (C), and covariance of the baseline with the candidates (b x C).
    Noisy { mean: Vec<f64>, variance: Vec<f64>, cross: DMatrix<f64> },
    /// One exact value per candidate (C).
    Known(Vec<f64>),
}

/// The Cholesky factor of a noisy objective's covariance at the baseline (b x b) and its base samples (M x at least b +
/// q), or `None` for a known objective.
type Root = Option<(DMatrix<f64>, DMatrix<f64>)>;

/// The acquisition function for one baseline, one reference point and one set of base samples.
#[derive(Clone, Debug)]
pub(crate) struct QLogNehvi {
    roots: Vec<Root>,
    cells: Vec<Vec<Cell>>,
    baseline: usize,
}

impl QLogNehvi {
    /// Draws all objectives at the baseline and decomposes the region that their fronts do not dominate. Larger is
    /// better.
    ///
    /// # Errors
    /// [`AcquisitionError`] if sizes disagree, no objective is noisy, or a covariance is not positive semidefinite.
    pub(crate) fn new(baseline: Vec<Baseline>, reference: &[f64]) -> Result<Self, AcquisitionError> {
        let mut samples = None;
        let mut roots = Vec::new();
        let mut draws = Vec::new();
        for objective in &baseline {
            let Baseline::Noisy { mean, covariance, z } = objective else {
                roots.push(None);
                draws.push(None);
                continue;
            };
            let (root, draw) = drawn(mean, covariance, z)?;
            samples = Some(z.nrows());
            roots.push(Some((root, z.clone())));
            draws.push(Some(draw));
        }
        let samples = samples.ok_or(AcquisitionError::Empty { what: "the set of noisy objectives" })?;
        let points = match &baseline[0] {
            Baseline::Noisy { mean, .. } => mean.len(),
            Baseline::Known(values) => values.len(),
        };
        let value = |sample: usize, point: usize, at: usize| match (&draws[at], &baseline[at]) {
            (Some(draw), _) => draw[(sample, point)],
            (None, Baseline::Known(values)) => values[point],
            (None, Baseline::Noisy { .. }) => f64::NAN,
        };
        let of_sample = |sample| {
            let outcome = |point| (0..baseline.len()).map(|at| value(sample, point, at)).collect();
            cells(&(0..points).map(outcome).collect::<Vec<Vec<f64>>>(), reference)
        };
        Ok(Self { roots, cells: (0..samples).map(of_sample).collect(), baseline: points })
    }

    /// Returns the value of one batch as BoTorch defines it: smoothed, with inclusion and exclusion over its points.
    ///
    /// # Errors
    /// [`AcquisitionError`] if sizes disagree or a joint covariance is not positive semidefinite.
    pub(crate) fn value(&self, batch: &[Batch]) -> Result<f64, AcquisitionError> {
        let mut draws = Vec::new();
        let mut points = 0;
        for (objective, root) in batch.iter().zip(&self.roots) {
            let draw = match (objective, root) {
                (Batch::Noisy { mean, covariance, cross }, Some(root)) => {
                    points = mean.len();
                    self.joint(root, mean, covariance, cross)?
                }
                (Batch::Known(values), None) => {
                    points = values.len();
                    DMatrix::from_fn(self.cells.len(), values.len(), |_, point| values[point])
                }
                (Batch::Noisy { .. }, None) | (Batch::Known(_), Some(_)) => {
                    return Err(AcquisitionError::Empty { what: "the posterior of an objective" });
                }
            };
            draws.push(draw);
        }
        if points == 0 || draws.len() != self.roots.len() {
            return Err(AcquisitionError::Empty { what: "the batch" });
        }
        let of_sample = |sample: usize| {
            let outcome = |point| draws.iter().map(|draw: &DMatrix<f64>| draw[(sample, point)]).collect();
            let outcomes: Vec<Vec<f64>> = (0..points).map(outcome).collect();
            let areas: Vec<_> = self.cells[sample].iter().map(|cell| log_area(cell, &outcomes)).collect();
            log_sum_exp(&areas)
        };
        Ok(log_mean_exp(&(0..self.cells.len()).map(of_sample).collect::<Vec<_>>()))
    }

    /// Returns the values of C candidates, each as a batch of its own. Up to smoothing, they equal
    /// [`value`](Self::value) with `q = 1`, but are computed about ten times faster: the sides of boxes are clipped
    /// without rounding, and the mean over samples is taken before the logarithm. Exactly known objectives are not
    /// smoothed at all, so a candidate that cannot improve has the value minus infinity.
    ///
    /// # Errors
    /// [`AcquisitionError`] if sizes disagree or a conditional variance is negative beyond rounding.
    pub(crate) fn values_of_singles(&self, candidates: &[Singles]) -> Result<Vec<f64>, AcquisitionError> {
        let mut draws = Vec::new();
        for (objective, root) in candidates.iter().zip(&self.roots) {
            draws.push(match (objective, root) {
                (Singles::Noisy { mean, variance, cross }, Some(root)) => {
                    Draws::Noisy(marginal(root, mean, variance, cross)?)
                }
                (Singles::Known(values), None) => Draws::Known(values),
                (Singles::Noisy { .. }, None) | (Singles::Known(_), Some(_)) => {
                    return Err(AcquisitionError::Empty { what: "the posterior of an objective" });
                }
            });
        }
        let count = draws.first().map_or(0, Draws::len);
        Ok((0..count).map(|candidate| self.log_mean(&draws, candidate)).collect())
    }

    /// Returns the logarithm of the mean hypervolume that one candidate adds, over samples.
    fn log_mean(&self, draws: &[Draws<'_>], candidate: usize) -> f64 {
        let side = |draw: &Draws<'_>, sample: usize, lower: f64| match draw {
            Draws::Noisy(values) => TAU_RAMP * ramp((values[(sample, candidate)] - lower) / TAU_RAMP),
            Draws::Known(values) => (values[candidate] - lower).max(0.0),
        };
        let volume = |sample: usize, cell: &Cell| {
            let sides = draws.iter().zip(cell.lower.iter().zip(&cell.upper));
            let sides = sides.map(|(draw, (&lower, &upper))| side(draw, sample, lower).min(upper - lower));
            sides.product::<f64>()
        };
        let of_sample = |sample: usize| self.cells[sample].iter().map(|cell| volume(sample, cell)).sum::<f64>();
        ((0..self.cells.len()).map(of_sample).sum::<f64>() / self.cells.len() as f64).ln()
    }

    /// Returns joint draws of a batch (M x q), given those of the baseline: see
    /// [`QLogNei::value`](super::QLogNei::value).
    fn joint(
        &self,
        (root, z): &(DMatrix<f64>, DMatrix<f64>),
        mean: &DVector<f64>,
        covariance: &DMatrix<f64>,
        cross: &DMatrix<f64>,
    ) -> Result<DMatrix<f64>, AcquisitionError> {
        let q = mean.len();
        check_shape("the covariance of the batch", covariance, (q, q))?;
        check_shape("the covariance of the batch with the baseline", cross, (q, self.baseline))?;
        if self.baseline + q > z.ncols() {
            return Err(AcquisitionError::TooFewColumns { found: z.ncols(), needed: self.baseline + q });
        }
        let half = whitened(root, cross.transpose())?;
        let conditional = covariance - half.tr_mul(&half);
        let own = lower_root(&conditional, "the covariance of the batch given the baseline")?;
        let mut f = z.columns(0, self.baseline) * half + z.columns(self.baseline, q) * own.transpose();
        f.column_iter_mut().zip(mean).for_each(|(mut column, mean)| column.add_scalar_mut(*mean));
        Ok(f)
    }
}

/// Draws of one objective at all candidates.
enum Draws<'a> {
    /// One row per sample, one column per candidate (M x C).
    Noisy(DMatrix<f64>),
    Known(&'a [f64]),
}

impl Draws<'_> {
    fn len(&self) -> usize {
        match self {
            Draws::Noisy(values) => values.ncols(),
            Draws::Known(values) => values.len(),
        }
    }
}

/// Returns the Cholesky factor of the baseline's covariance (b x b) and the draws at the baseline (M x b).
pub(super) fn drawn(
    mean: &DVector<f64>,
    covariance: &DMatrix<f64>,
    z: &DMatrix<f64>,
) -> Result<(DMatrix<f64>, DMatrix<f64>), AcquisitionError> {
    let baseline = mean.len();
    check_shape("the covariance of the baseline", covariance, (baseline, baseline))?;
    if z.nrows() == 0 {
        return Err(AcquisitionError::Empty { what: "the set of base samples" });
    }
    if z.ncols() <= baseline {
        return Err(AcquisitionError::TooFewColumns { found: z.ncols(), needed: baseline + 1 });
    }
    if mean.iter().any(|mean| !mean.is_finite()) {
        return Err(AcquisitionError::NotFinite { what: "the mean of the baseline" });
    }
    let root = lower_root(covariance, "the covariance of the baseline")?;
    let mut f = z.columns(0, baseline) * root.transpose();
    f.column_iter_mut().zip(mean).for_each(|(mut column, mean)| column.add_scalar_mut(*mean));
    Ok((root, f))
}

/// Returns draws of each candidate on its own (M x C), given those of the baseline.
pub(super) fn marginal(
    (root, z): &(DMatrix<f64>, DMatrix<f64>),
    mean: &[f64],
    variance: &[f64],
    cross: &DMatrix<f64>,
) -> Result<DMatrix<f64>, AcquisitionError> {
    let baseline = root.nrows();
    check_shape("the covariance of the baseline with the candidates", cross, (baseline, mean.len()))?;
    if variance.len() != mean.len() {
        let found = (variance.len(), 1);
        return Err(AcquisitionError::Shape { what: "the list of variances", found, needed: (mean.len(), 1) });
    }
    let half = whitened(root, cross.clone())?;
    let mut f = z.columns(0, baseline) * &half;
    let own = z.column(baseline);
    for (at, mut column) in f.column_iter_mut().enumerate() {
        let conditional = variance[at] - half.column(at).norm_squared();
        let deviation = scalar_root(conditional, "the variance of a candidate given the baseline")?;
        column.zip_apply(&own, |value, z| *value += mean[at] + deviation * z);
    }
    Ok(f)
}

/// Returns `L^-1 cross` (b x C).
fn whitened(root: &DMatrix<f64>, mut cross: DMatrix<f64>) -> Result<DMatrix<f64>, AcquisitionError> {
    if root.solve_lower_triangular_mut(&mut cross) {
        Ok(cross)
    } else {
        Err(AcquisitionError::NotPositiveDefinite { what: "the covariance of the baseline", jitter: 0.0 })
    }
}

/// Returns the logarithm of the volume of a box that the points of a batch cover together, by inclusion and exclusion:
/// odd subsets are added, even ones subtracted.
fn log_area(cell: &Cell, points: &[Vec<f64>]) -> f64 {
    let mut odd = Vec::new();
    let mut even = Vec::new();
    for subset in 1u32..1 << points.len() {
        let members: Vec<_> = (0..points.len()).filter(|point| subset >> point & 1 == 1).collect();
        let side = |at: usize| {
            let rise = |&point: &usize| log_fatplus(points[point][at] - cell.lower[at], TAU_RAMP);
            let common = fatmin(&members.iter().map(rise).collect::<Vec<_>>(), TAU_SIDE);
            let length = (cell.upper[at].min(LONGEST) - cell.lower[at]).ln();
            fatmin(&[common, length], TAU_SIDE)
        };
        let area: f64 = (0..cell.lower.len()).map(side).sum();
        if members.len() % 2 == 1 { odd.push(area) } else { even.push(area) }
    }
    let odd = log_sum_exp(&odd);
    if even.is_empty() {
        return odd;
    }
    let less = log_sum_exp(&even) - odd;
    odd + (-less.exp()).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        search::gp_bo::acquisition::{base_samples, golden},
        seed::Seed,
        study::hypervolume,
    };

    /// Baseline and batch of a golden case.
    fn case(golden: &golden::Nehvi, batch: &golden::NehviBatch) -> (Vec<Baseline>, Vec<Batch>) {
        let b = golden.baseline;
        let objective = |(moments, z): (&golden::Moments, &Vec<Vec<f64>>)| {
            let q = moments.mean.len() - b;
            let mean = DVector::from_vec(moments.mean.clone());
            let covariance = golden::matrix(&moments.covariance);
            let view = |from: (usize, usize), size: (usize, usize)| covariance.view(from, size).into_owned();
            let z = golden::matrix(z);
            let at_baseline = Baseline::Noisy { mean: mean.rows(0, b).into(), covariance: view((0, 0), (b, b)), z };
            let cross = view((b, 0), (q, b));
            (at_baseline, Batch::Noisy { mean: mean.rows(b, q).into(), covariance: view((b, b), (q, q)), cross })
        };
        batch.posterior.iter().zip(&golden.base_samples).map(objective).unzip()
    }

    #[test]
    fn values_are_botorchs() {
        let mut values = 0;
        let mut worst = 0.0_f64;
        let mut modes = std::collections::BTreeSet::new();
        for golden in golden::multi_objective().acquisition {
            modes.insert((golden.objectives, golden.mode.clone()));
            for batch in &golden.batches {
                let (baseline, points) = case(&golden, batch);
                let found = QLogNehvi::new(baseline, &golden.reference).unwrap().value(&points).unwrap();
                worst = worst.max((found - batch.value).abs());
                values += 1;
            }
        }
        println!("qLogNEHVI: {values} values, error {worst:e}");
        assert_eq!((values, modes.len()), (28, 6));
        assert!(worst < 1e-7, "{worst:e}");
    }

    /// The last columns of a posterior as candidates by themselves.
    fn singles(points: &[Batch]) -> Vec<Singles> {
        let single = |batch: &Batch| match batch {
            Batch::Noisy { mean, covariance, cross } => Singles::Noisy {
                mean: mean.as_slice().to_vec(),
                variance: covariance.diagonal().as_slice().to_vec(),
                cross: cross.transpose(),
            },
            Batch::Known(values) => Singles::Known(values.clone()),
        };
        points.iter().map(single).collect()
    }

    #[test]
    fn many_candidates_at_once_are_the_same_up_to_smoothing() {
        for golden in golden::multi_objective()
            .acquisition
            .iter()
            .filter(|golden| golden.base_samples[0][0].len() == golden.baseline + 1)
        {
            for batch in &golden.batches {
                let (baseline, points) = case(golden, batch);
                let acquisition = QLogNehvi::new(baseline, &golden.reference).unwrap();
                let plain = acquisition.value(&points).unwrap();
                let fast = acquisition.values_of_singles(&singles(&points)).unwrap();
                assert!((fast[0] - plain).abs() < 0.05, "{} {plain}", fast[0]);
            }
        }
    }

    /// Without noise the value is the logarithm of the hypervolume that a point adds.
    #[test]
    fn without_noise_it_is_the_hypervolume_improvement() {
        let seen = [[1.0, -3.0], [2.0, -5.0], [0.0, -1.0]];
        let reference = [-1.0, -6.0];
        let column = |at: usize| seen.iter().map(|point| point[at]).collect::<Vec<_>>();
        let z = base_samples(64, 4, &mut Seed(1).rng("test", 0));
        let covariance = DMatrix::identity(3, 3) * 1e-16;
        let noisy = Baseline::Noisy { mean: DVector::from_vec(column(0)), covariance, z };
        let acquisition = QLogNehvi::new(vec![noisy, Baseline::Known(column(1))], &reference).unwrap();
        for candidate in [[1.5, -2.0], [0.5, -4.0], [3.0, -5.5], [9.0, -9.0]] {
            let single =
                Singles::Noisy { mean: vec![candidate[0]], variance: vec![1e-16], cross: DMatrix::zeros(3, 1) };
            let value = acquisition.values_of_singles(&[single, Singles::Known(vec![candidate[1]])]).unwrap()[0];
            let before: Vec<_> = seen.iter().map(|point| point.to_vec()).collect();
            let after = [before.clone(), vec![candidate.to_vec()]].concat();
            let gain = hypervolume(&after, &reference) - hypervolume(&before, &reference);
            assert!((value.exp() - gain).abs() < 1e-5, "{candidate:?}: {} {gain}", value.exp());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        use AcquisitionError as E;
        let known = || Baseline::Known(vec![1.0]);
        assert!(matches!(QLogNehvi::new(vec![known(), known()], &[0.0; 2]), Err(E::Empty { .. })));
        let noisy = |columns: usize| Baseline::Noisy {
            mean: DVector::zeros(1),
            covariance: DMatrix::identity(1, 1),
            z: DMatrix::zeros(4, columns),
        };
        assert!(matches!(QLogNehvi::new(vec![noisy(1), known()], &[0.0; 2]), Err(E::TooFewColumns { .. })));
        let acquisition = QLogNehvi::new(vec![noisy(2), known()], &[0.0; 2]).unwrap();
        assert!(matches!(acquisition.value(&[]), Err(E::Empty { .. })));
        let swapped = [Batch::Known(vec![1.0]), Batch::Known(vec![1.0])];
        assert!(matches!(acquisition.value(&swapped), Err(E::Empty { .. })));
    }
}
