//! The logarithm of the noisy expected improvement of a batch, by Monte Carlo.
//!
//! qNEI: Balandat et al. 2020, "BoTorch", arXiv 1910.06403, section 3.1, after Letham et al. 2019. In logarithms and
//! smoothed: Ament et al. 2023, arXiv 2310.20708, section 4.2. The factor of the baseline is computed once (Daulton et
//! al. 2021, arXiv 2105.08195, section 4).
//!
//! | symbol | meaning |
//! |---|---|
//! | `M` | number of base samples |
//! | `b` | number of baseline points: evaluated points that may be the best, and pending ones |
//! | `q` | number of points in the batch `X` |
//! | `C` | number of candidates, each a batch of one point |
//! | `z` | base samples, M x (at least b + q) standard normals; the first `b` columns belong to the baseline |
//! | `root` | `L`, lower triangular; `L L^T` is the covariance of `f` at the baseline |
//! | `half` | `L^-1 S_bX`, b x q (or b x C): the cross covariance in whitened coordinates, transposed |

use nalgebra::{DMatrix, DVector};

use super::{
    AcquisitionError,
    cholesky::{lower_root, scalar_root},
    smooth::{FAR, TAU_MAX, TAU_RAMP, far_fatplus, fatmax, log_fatplus, log_mean_exp, ramp},
};

/// The recommended number of base samples for [`QLogNei`]: a power of two, as in Ax.
pub(crate) const SAMPLES: usize = 512;

/// Number of candidates whose samples are computed together. For `M = SAMPLES`, the M x BLOCK numbers fit into a
/// second-level cache.
const BLOCK: usize = 64;

/// Number of independent partial sums over samples, so that they compile to vector instructions.
const LANES: usize = 8;

/// The acquisition function for one baseline and one set of base samples.
///
/// Pending points are part of the baseline. To choose `q` points one after the other, append each chosen point to the
/// baseline and create a new value. This takes `O(b^3 + M b)`, which is little beside scoring the candidates.
#[derive(Clone, Debug)]
pub(crate) struct QLogNei {
    root: DMatrix<f64>,
    /// The largest value of the baseline in each sample (M).
    best: Vec<f64>,
    z: DMatrix<f64>,
}

impl QLogNei {
    /// Draws `f` at the baseline: `best_m = max_j (mean_b + L z_m)_j`.
    ///
    /// # Shapes
    /// `mean_b` b, `cov_b` b x b, `z` M x (b + the number of points of the largest batch).
    ///
    /// # Errors
    /// [`AcquisitionError`] if the baseline is empty, sizes disagree, or `cov_b` is not positive semidefinite.
    pub(crate) fn new(mean_b: &DVector<f64>, cov_b: &DMatrix<f64>, z: DMatrix<f64>) -> Result<Self, AcquisitionError> {
        let baseline = mean_b.len();
        match (baseline, z.nrows()) {
            (0, _) => return Err(AcquisitionError::Empty { what: "the baseline" }),
            (_, 0) => return Err(AcquisitionError::Empty { what: "the set of base samples" }),
            _ => check_shape("the covariance of the baseline", cov_b, (baseline, baseline))?,
        }
        if z.ncols() <= baseline {
            return Err(AcquisitionError::TooFewColumns { found: z.ncols(), needed: baseline + 1 });
        }
        if mean_b.iter().any(|mean| !mean.is_finite()) {
            return Err(AcquisitionError::NotFinite { what: "the mean of the baseline" });
        }
        let root = lower_root(cov_b, "the covariance of the baseline")?;
        let f = z.columns(0, baseline) * root.transpose();
        let mut best = vec![f64::NEG_INFINITY; z.nrows()];
        for (column, mean) in f.column_iter().zip(mean_b) {
            for (best, value) in best.iter_mut().zip(column.iter()) {
                *best = best.max(mean + value);
            }
        }
        Ok(Self { root, best, z })
    }

    /// Returns the number of baseline points.
    pub(crate) fn baseline(&self) -> usize {
        self.root.nrows()
    }

    /// Returns the value of one batch of `q` points.
    ///
    /// `f_m = mean_x + B z_m,b + R z_m,x` with `B = S_Xb L^-T` and `R R^T = S_XX - B B^T` is a joint draw with that of
    /// the baseline, and needs no factor of the whole covariance.
    ///
    /// # Shapes
    /// `mean_x` q, `cov_xx` q x q, `cov_xb` q x b.
    ///
    /// # Errors
    /// [`AcquisitionError`] if sizes disagree or the joint covariance is not positive semidefinite.
    pub(crate) fn value(
        &self,
        mean_x: &DVector<f64>,
        cov_xx: &DMatrix<f64>,
        cov_xb: &DMatrix<f64>,
    ) -> Result<f64, AcquisitionError> {
        let q = mean_x.len();
        let baseline = self.baseline();
        check_shape("the covariance of the batch", cov_xx, (q, q))?;
        check_shape("the covariance of the batch with the baseline", cov_xb, (q, baseline))?;
        if q == 0 {
            return Err(AcquisitionError::Empty { what: "the batch" });
        }
        if baseline + q > self.z.ncols() {
            return Err(AcquisitionError::TooFewColumns { found: self.z.ncols(), needed: baseline + q });
        }
        let half = self.whiten(cov_xb.transpose())?;
        let conditional = cov_xx - half.tr_mul(&half);
        let root = lower_root(&conditional, "the covariance of the batch given the baseline")?;
        let f = self.z.columns(0, baseline) * &half + self.z.columns(baseline, q) * root.transpose();
        let mut improvements = vec![0.0; q];
        let of_samples: Vec<_> = (0..f.nrows())
            .map(|sample| {
                for (point, improvement) in improvements.iter_mut().enumerate() {
                    *improvement = log_fatplus(f[(sample, point)] + mean_x[point] - self.best[sample], TAU_RAMP);
                }
                fatmax(&improvements, TAU_MAX)
            })
            .collect();
        Ok(log_mean_exp(&of_samples))
    }

    /// Returns the values of C candidates, each as a batch of its own: [`value`](Self::value) with `q = 1`, but faster
    /// by orders of magnitude.
    ///
    /// Samples are computed by matrix products over blocks of candidates. The mean over samples is taken before the
    /// logarithm, so nearly all samples need no transcendental function. If the mean of a candidate is not finite,
    /// neither is its value.
    ///
    /// # Shapes
    /// `mean` C, `variance` C, `cov_bx` b x C with one column per candidate. `cov_bx` is overwritten and therefore
    /// taken by value.
    ///
    /// # Errors
    /// [`AcquisitionError`] if sizes disagree or a conditional variance is negative beyond rounding.
    pub(crate) fn values_of_singles(
        &self,
        mean: &[f64],
        variance: &[f64],
        cov_bx: DMatrix<f64>,
    ) -> Result<Vec<f64>, AcquisitionError> {
        let candidates = mean.len();
        let baseline = self.baseline();
        check_shape("the covariance of the baseline with the candidates", &cov_bx, (baseline, candidates))?;
        if variance.len() != candidates {
            let found = (variance.len(), 1);
            let needed = (candidates, 1);
            return Err(AcquisitionError::Shape { what: "the list of variances", found, needed });
        }
        let half = self.whiten(cov_bx)?;
        let own = self.z.column(baseline);
        let mut f = DMatrix::zeros(self.z.nrows(), BLOCK.min(candidates));
        let mut values = Vec::with_capacity(candidates);
        while values.len() < candidates {
            let from = values.len();
            let width = BLOCK.min(candidates - from);
            let mut block = f.columns_mut(0, width);
            block.gemm(1.0, &self.z.columns(0, baseline), &half.columns(from, width), 0.0);
            for (column, at) in block.column_iter().zip(from..) {
                let conditional = variance[at] - half.column(at).norm_squared();
                let deviation = scalar_root(conditional, "the variance of a candidate given the baseline")?;
                let ramp = Ramp { f: column.as_slice(), z: own.as_slice(), best: &self.best };
                values.push(ramp.log_mean(mean[at], deviation));
            }
        }
        Ok(values)
    }

    /// Returns `L^-1 cov_bx` (b x C).
    fn whiten(&self, mut cov_bx: DMatrix<f64>) -> Result<DMatrix<f64>, AcquisitionError> {
        if self.root.solve_lower_triangular_mut(&mut cov_bx) {
            Ok(cov_bx)
        } else {
            Err(AcquisitionError::NotPositiveDefinite { what: "the covariance of the baseline", jitter: 0.0 })
        }
    }
}

/// The samples of one candidate, all of length M.
struct Ramp<'a> {
    /// The contribution of the baseline, `B z_m,b`.
    f: &'a [f64],
    /// The candidate's own base samples.
    z: &'a [f64],
    best: &'a [f64],
}

impl Ramp<'_> {
    /// Returns `ln mean_m tau fatplus(t_m)` with `t_m = (mean + f_m + deviation z_m - best_m) / tau`.
    ///
    /// It equals the log-mean-exp of [`log_fatplus`] over samples. The ramp can be summed directly, because it lies
    /// between 1e-17 and 1e8 for every improvement below 1e2 in size. Only samples within `FAR tau = 5e-5` of the best
    /// need an exponential.
    fn log_mean(&self, mean: f64, deviation: f64) -> f64 {
        let (sum, nearest) = self.sum(mean, deviation, far_fatplus);
        let sum = if nearest < FAR { self.sum(mean, deviation, ramp).0 } else { sum };
        TAU_RAMP.ln() + (sum / self.f.len() as f64).ln()
    }

    /// Returns the sum of `ramp(t_m)` and the smallest `|t_m|`.
    #[inline(always)]
    fn sum(&self, mean: f64, deviation: f64, ramp: impl Fn(f64) -> f64) -> (f64, f64) {
        let t = |f: f64, z: f64, best: f64| (f + mean + deviation * z - best) / TAU_RAMP;
        let mut sums = [0.0; LANES];
        let mut nearest = [f64::INFINITY; LANES];
        let (f, f_rest) = self.f.as_chunks::<LANES>();
        let (z, z_rest) = self.z.as_chunks::<LANES>();
        let (best, best_rest) = self.best.as_chunks::<LANES>();
        for ((f, z), best) in f.iter().zip(z).zip(best) {
            for lane in 0..LANES {
                let t = t(f[lane], z[lane], best[lane]);
                sums[lane] += ramp(t);
                nearest[lane] = if t.abs() < nearest[lane] { t.abs() } else { nearest[lane] };
            }
        }
        for ((f, z), best) in f_rest.iter().zip(z_rest).zip(best_rest) {
            let t = t(*f, *z, *best);
            sums[0] += ramp(t);
            nearest[0] = nearest[0].min(t.abs());
        }
        (sums.iter().sum(), nearest.into_iter().fold(f64::INFINITY, f64::min))
    }
}

/// Checks the shape of a matrix, which `what` names in the message.
///
/// # Errors
/// [`AcquisitionError::Shape`] if it is not `needed`.
pub(super) fn check_shape(
    what: &'static str,
    matrix: &DMatrix<f64>,
    needed: (usize, usize),
) -> Result<(), AcquisitionError> {
    let found = matrix.shape();
    if found == needed { Ok(()) } else { Err(AcquisitionError::Shape { what, found, needed }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        search::gp_bo::acquisition::{base_samples, golden},
        seed::Seed,
    };

    /// Largest error of `value`, of `values_of_singles` and of the best baseline values, over all cases.
    fn errors(sets: &[golden::Set]) -> (usize, [f64; 3]) {
        let mut cases = 0;
        let mut worst = [0.0_f64; 3];
        for set in sets {
            for hyper in &set.hyper {
                let Some(golden) = &hyper.qlognei else { continue };
                for case in &golden.cases {
                    cases += 1;
                    let found = case_errors(set, hyper, golden, case);
                    worst = std::array::from_fn(|i| worst[i].max(found[i]));
                }
            }
        }
        (cases, worst)
    }

    fn case_errors(set: &golden::Set, hyper: &golden::Hyper, all: &golden::QLogNei, case: &golden::Case) -> [f64; 3] {
        let mut baseline: Vec<_> = all.baseline_indices.iter().map(|&at| set.architectures[at].clone()).collect();
        if case.mode == "pending_incremental" {
            baseline.extend(all.pending.clone());
        }
        let b = baseline.len();
        let mut worst = [0.0_f64; 3];
        for (candidates, expected) in case.candidates.iter().zip(&case.values) {
            let mut batch = candidates.clone();
            if case.mode == "pending_joint" {
                batch.extend(all.pending.clone());
            }
            let q = batch.len();
            let (mean, cov) = set.posterior(hyper, &[baseline.clone(), batch].concat());
            let mean_b = mean.rows(0, b).into_owned();
            let mean_x = mean.rows(b, q).into_owned();
            let cov_b = cov.view((0, 0), (b, b)).into_owned();
            let cov_xx = cov.view((b, b), (q, q)).into_owned();
            let cov_xb = cov.view((b, 0), (q, b)).into_owned();
            let acquisition = QLogNei::new(&mean_b, &cov_b, golden::matrix(&case.base_samples)).unwrap();
            let value = acquisition.value(&mean_x, &cov_xx, &cov_xb).unwrap();
            worst[0] = worst[0].max((value - expected).abs());
            if q == 1 {
                let variance = [cov_xx[(0, 0)]];
                let single = acquisition.values_of_singles(mean_x.as_slice(), &variance, cov_xb.transpose()).unwrap();
                worst[1] = worst[1].max((single[0] - expected).abs());
            }
            for (ours, best) in acquisition.best.iter().zip(&case.baseline_best_f) {
                worst[2] = worst[2].max((ours - best).abs());
            }
        }
        worst
    }

    #[test]
    fn values_agree_with_botorch() {
        let (cases, [value, single, best]) = errors(&golden::sets());
        println!("qLogNEI: {cases} cases, error {value:e}, q = 1 batched {single:e}, best of baseline {best:e}");
        assert_eq!(cases, 90);
        assert!(value < 1e-7 && single < 1e-7 && best < 1e-10, "{value:e} {single:e} {best:e}");
    }

    #[test]
    fn values_agree_with_all_of_botorchs_where_they_are_at_hand() {
        let (cases, [value, single, best]) = errors(&golden::full_sets());
        println!("qLogNEI, full: {cases} cases, error {value:e}, q = 1 batched {single:e}, best {best:e}");
        assert!(cases == 0 || cases == 90, "{cases}");
        assert!(value < 1e-7 && single < 1e-7 && best < 1e-10, "{value:e} {single:e} {best:e}");
    }

    /// A posterior over `b` baseline points and `c` candidates, from random features.
    fn posterior(b: usize, c: usize, seed: u64) -> (DVector<f64>, DMatrix<f64>) {
        let mut rng = Seed(seed).rng("test", 0);
        let features = base_samples(b + c, 60, &mut rng);
        let mean = base_samples(b + c, 1, &mut rng).column(0) * 0.3;
        let cov = (&features * features.transpose()) / 600.0 + DMatrix::identity(b + c, b + c) * 1e-3;
        (mean, cov)
    }

    #[test]
    fn the_batched_path_equals_the_plain_one() {
        // 70 candidates fill one block and start another; 60 samples leave a rest beside the lanes.
        let b = 7;
        let c = 70;
        let (mean, cov) = posterior(b, c, 1);
        let z = base_samples(60, b + 1, &mut Seed(2).rng("test", 0));
        let acquisition = QLogNei::new(&mean.rows(0, b).into(), &cov.view((0, 0), (b, b)).into(), z).unwrap();
        let variance: Vec<_> = (b..b + c).map(|at| cov[(at, at)]).collect();
        let cov_bx = cov.view((0, b), (b, c)).into_owned();
        let singles = acquisition.values_of_singles(&mean.as_slice()[b..], &variance, cov_bx).unwrap();
        assert_eq!(singles.len(), c);
        for (at, single) in (b..).zip(singles) {
            let one = (mean.rows(at, 1).into(), cov.view((at, at), (1, 1)).into(), cov.view((at, 0), (1, b)).into());
            let plain = acquisition.value(&one.0, &one.1, &one.2).unwrap();
            assert!((single - plain).abs() < 1e-10, "{at}: {single} {plain}");
        }
    }

    #[test]
    fn samples_near_the_best_are_summed_exactly() {
        let best = vec![0.0; 21];
        let z: Vec<f64> = (-10..=10).map(f64::from).collect();
        let f = vec![0.0; 21];
        for (mean, deviation) in [(0.0, 1e-6), (3e-6, 1e-5), (0.0, 1e-4), (-1e-4, 1e-6), (1e-4, 2e-6), (5.0, 1.0)] {
            let fast = Ramp { f: &f, z: &z, best: &best }.log_mean(mean, deviation);
            let logs: Vec<_> = z.iter().map(|z| log_fatplus(mean + deviation * z, TAU_RAMP)).collect();
            assert!((fast - log_mean_exp(&logs)).abs() < 1e-13, "{mean} {deviation}");
        }
    }

    #[test]
    fn more_points_in_a_batch_promise_more() {
        let b = 5;
        let q = 3;
        let (mean, cov) = posterior(b, q, 3);
        let z = base_samples(SAMPLES, b + q, &mut Seed(4).rng("test", 0));
        let acquisition = QLogNei::new(&mean.rows(0, b).into(), &cov.view((0, 0), (b, b)).into(), z).unwrap();
        let value = |q: usize| {
            let cov_xx = cov.view((b, b), (q, q)).into();
            let cov_xb = cov.view((b, 0), (q, b)).into();
            acquisition.value(&mean.rows(b, q).into(), &cov_xx, &cov_xb).unwrap()
        };
        assert!(value(1) < value(2) && value(2) < value(3));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (mean, cov) = posterior(3, 2, 5);
        let z = DMatrix::zeros(4, 4);
        let mean_b = mean.rows(0, 3).into_owned();
        let cov_b = cov.view((0, 0), (3, 3)).into_owned();
        let refused =
            |mean: &DVector<f64>, cov: &DMatrix<f64>, z: DMatrix<f64>| QLogNei::new(mean, cov, z).unwrap_err();
        use AcquisitionError as E;
        assert!(matches!(refused(&DVector::zeros(0), &cov_b, z.clone()), E::Empty { what: "the baseline" }));
        assert!(matches!(refused(&mean_b, &cov_b, DMatrix::zeros(0, 4)), E::Empty { .. }));
        assert!(matches!(refused(&mean_b, &cov, z.clone()), E::Shape { found: (5, 5), needed: (3, 3), .. }));
        assert!(matches!(refused(&mean_b, &cov_b, DMatrix::zeros(4, 3)), E::TooFewColumns { found: 3, needed: 4 }));
        assert!(matches!(refused(&(&mean_b * f64::NAN), &cov_b, z.clone()), E::NotFinite { .. }));
        assert!(matches!(refused(&mean_b, &-&cov_b, z.clone()), E::NotPositiveDefinite { .. }));

        let acquisition = QLogNei::new(&mean_b, &cov_b, z).unwrap();
        let cov_xx = cov.view((3, 3), (2, 2)).into_owned();
        let cov_xb = cov.view((3, 0), (2, 3)).into_owned();
        let error = acquisition.value(&mean.rows(3, 2).into(), &cov_xx, &cov_xb).unwrap_err();
        assert_eq!(error, E::TooFewColumns { found: 4, needed: 5 });
        let singles = |variance: &[f64]| acquisition.values_of_singles(&[0.0, f64::NAN], variance, cov_xb.transpose());
        assert!(matches!(singles(&[1.0]), Err(E::Shape { .. })));
        assert!(matches!(singles(&[1.0, -1.0]), Err(E::NotPositiveDefinite { .. })));
        assert!(matches!(singles(&[1.0, f64::NAN]), Err(E::NotFinite { .. })));
        let values = singles(&[1.0, 1.0]).unwrap();
        assert!(values[0].is_finite() && values[1].is_nan());
        assert!(acquisition.values_of_singles(&[], &[], DMatrix::zeros(3, 0)).unwrap().is_empty());
    }
}
