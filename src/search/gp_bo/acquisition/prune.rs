//! The evaluated points that can be the best one.

use nalgebra::{DMatrix, DVector};

use super::{
    AcquisitionError,
    cholesky::lower_root,
    q_log_nehvi::{Baseline, drawn},
    q_log_nei::check_shape,
};
use crate::study::dominates;

/// The recommended number of joint samples for [`prune_inferior`], as in BoTorch.
pub(crate) const PRUNE_SAMPLES: usize = 2048;

/// Returns the points that are the best in at least one joint sample of the posterior, in ascending order. BoTorch's
/// `prune_inferior_points` keeps the same points (Balandat et al. 2020, arXiv 1910.06403, appendix C). The other points
/// cannot be the incumbent of any sample, so [`QLogNei`](super::QLogNei) has the same value without them and is faster.
///
/// # Shapes
/// With N distinct points and M samples: `mean` N, `cov` N x N, `samples` M x at least N standard normals. The result
/// is empty if there are no points.
///
/// # Errors
/// [`AcquisitionError`] if sizes disagree or `cov` is not positive semidefinite.
pub(crate) fn prune_inferior(
    mean: &DVector<f64>,
    cov: &DMatrix<f64>,
    samples: &DMatrix<f64>,
) -> Result<Vec<usize>, AcquisitionError> {
    let points = mean.len();
    check_shape("the covariance of the points", cov, (points, points))?;
    if samples.ncols() < points {
        return Err(AcquisitionError::TooFewColumns { found: samples.ncols(), needed: points });
    }
    if samples.nrows() == 0 {
        return Err(AcquisitionError::Empty { what: "the set of base samples" });
    }
    if mean.iter().any(|mean| !mean.is_finite()) {
        return Err(AcquisitionError::NotFinite { what: "the mean of the points" });
    }
    let root = lower_root(cov, "the covariance of the points")?;
    let f = samples.columns(0, points) * root.transpose();
    let mut winners = vec![(f64::NEG_INFINITY, 0); f.nrows()];
    for (point, column) in f.column_iter().enumerate() {
        for (winner, value) in winners.iter_mut().zip(column.iter()) {
            if value + mean[point] > winner.0 {
                *winner = (value + mean[point], point);
            }
        }
    }
    let mut kept: Vec<_> = if points == 0 { Vec::new() } else { winners.into_iter().map(|winner| winner.1).collect() };
    kept.sort_unstable();
    kept.dedup();
    Ok(kept)
}

/// Returns the points that no other point dominates in at least one joint sample, in ascending order. BoTorch's
/// `prune_inferior_points_multi_objective` keeps the same points. The first objective must be noisy.
///
/// # Errors
/// [`AcquisitionError`] if sizes disagree or a covariance is not positive semidefinite.
pub(crate) fn surviving(objectives: &[Baseline]) -> Result<Vec<usize>, AcquisitionError> {
    let mut columns = Vec::new();
    let mut samples = 0;
    for objective in objectives {
        columns.push(match objective {
            Baseline::Noisy { mean, covariance, z } => {
                samples = z.nrows();
                Ok(drawn(mean, covariance, z)?.1)
            }
            Baseline::Known(values) => Err(values),
        });
    }
    let points = match objectives.first() {
        Some(Baseline::Noisy { mean, .. }) => mean.len(),
        Some(Baseline::Known(values)) => values.len(),
        None => 0,
    };
    let value = |sample: usize, point: usize, column: &Result<DMatrix<f64>, &Vec<f64>>| match column {
        Ok(draws) => draws[(sample, point)],
        Err(values) => values[point],
    };
    let mut kept = vec![false; points];
    for sample in 0..samples {
        let outcome = |point| columns.iter().map(|column| value(sample, point, column)).collect();
        let outcomes: Vec<Vec<f64>> = (0..points).map(outcome).collect();
        for point in 0..points {
            kept[point] = kept[point] || !outcomes.iter().any(|other| dominates(other, &outcomes[point]));
        }
    }
    Ok((0..points).filter(|&point| kept[point]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        search::gp_bo::acquisition::{base_samples, golden},
        seed::Seed,
    };

    #[test]
    fn the_kept_points_are_botorchs() {
        let golden = golden::prune();
        let sets = golden::sets();
        let set = sets.iter().find(|set| set.name == golden.dataset).unwrap();
        let hyper = set.hyper.iter().find(|hyper| hyper.label == "fitted").unwrap();
        assert_eq!(hyper.hp, golden.hp);
        let (mean, cov) = set.posterior(hyper, &set.architectures);
        let kept = prune_inferior(&mean, &cov, &golden::matrix(&golden.base_samples)).unwrap();
        assert_eq!(kept, golden.kept_indices);
    }

    #[test]
    fn points_that_share_the_lead_are_kept() {
        let samples = base_samples(PRUNE_SAMPLES, 4, &mut Seed(1).rng("test", 0));
        let mean = DVector::from_vec(vec![0.0, -1.0, -50.0, 0.5]);
        let cov = DMatrix::identity(4, 4);
        assert_eq!(prune_inferior(&mean, &cov, &samples).unwrap(), [0, 1, 3]);
        // The same point twice, up to the jitter: both may lead.
        let cov = DMatrix::from_element(4, 4, 1.0);
        assert_eq!(prune_inferior(&DVector::zeros(4), &cov, &samples).unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn what_is_no_posterior_is_refused() {
        let samples = DMatrix::zeros(8, 3);
        assert!(prune_inferior(&DVector::zeros(0), &DMatrix::zeros(0, 0), &samples).unwrap().is_empty());
        let prune = |mean: f64, points: usize, samples: &DMatrix<f64>| {
            prune_inferior(&DVector::from_element(points, mean), &DMatrix::identity(3, 3), samples).unwrap_err()
        };
        assert!(matches!(prune(0.0, 2, &samples), AcquisitionError::Shape { found: (3, 3), needed: (2, 2), .. }));
        assert!(matches!(prune(f64::NAN, 3, &samples), AcquisitionError::NotFinite { .. }));
        assert!(matches!(prune(0.0, 3, &DMatrix::zeros(8, 2)), AcquisitionError::TooFewColumns { .. }));
        assert!(matches!(prune(0.0, 3, &DMatrix::zeros(0, 3)), AcquisitionError::Empty { .. }));
    }
}
