//! The data behind acquisition functions of several objectives: baseline, reference point, units.

use std::collections::HashSet;

use nalgebra::{DMatrix, DVector};

use super::{Several, Source};
use crate::{
    search::gp_bo::{
        GpError,
        acquisition::{Baseline, base_samples, surviving},
        kernel::Kernel,
    },
    seed::Rng,
    space::Architecture,
    study::{by_room, reference},
};

/// Number of joint samples for the choice of the baseline; fewer for many points.
const PRUNE_DRAWS: usize = 512;
/// Number of sequences from which the range of known costs is estimated, in addition to the observed ones.
const RANGE_DRAWS: usize = 128;

/// The maximum number of cells into which a baseline divides the space of outcomes.
const CELLS: f64 = 262_144.0;

/// Mean (b) and covariance (b x b) of a model at b points.
type Moments = (DVector<f64>, DMatrix<f64>);

/// The data of an acquisition function. The baseline are the b points that are pending or may be on the front.
pub(super) struct Ground<K: Kernel> {
    pub(super) reference: Vec<f64>,
    /// The known objectives of each point of the baseline, in units.
    pub(super) known: Vec<Vec<f64>>,
    /// Mean and covariance of each model at the baseline.
    pub(super) posteriors: Vec<Moments>,
    pub(super) points: K::Points,
    /// For each model: the covariance of the baseline with the observations, in whitened coordinates (b x N).
    pub(super) white: Vec<DMatrix<f64>>,
    /// The units by which known costs are divided.
    pub(super) units: Vec<f64>,
}

/// Returns known costs in these units.
pub(super) fn scaled(known: &[f64], units: &[f64]) -> Vec<f64> {
    known.iter().zip(units).map(|(value, unit)| value / unit).collect()
}

impl<K: Kernel + Clone> Several<'_, K> {
    /// Returns the sequences that have costs and satisfy all bounds with a probability of at least 1/2, each with its
    /// known objectives.
    pub(super) fn likely(&self, sequences: Vec<Architecture>) -> Result<Vec<(Architecture, Vec<f64>)>, GpError> {
        if sequences.is_empty() {
            return Ok(Vec::new());
        }
        let points = (self.encode)(&sequences)?;
        let moments: Vec<_> = (0..self.models())
            .map(|model| self.surrogate(model).predict_diagonal(&points))
            .collect::<Result<_, _>>()?;
        let of = |at: usize| moments.iter().map(|(mean, variance)| (mean[at], variance[at])).collect::<Vec<_>>();
        let inside = sequences
            .into_iter()
            .enumerate()
            .filter(|(at, sequence)| self.ln_feasible(&of(*at)) >= 0.5f64.ln() && self.study.admits(sequence));
        Ok(inside.filter_map(|(_, sequence)| self.known(&sequence).map(|known| (sequence, known))).collect())
    }

    /// Returns the outcomes of these sequences: one list per sequence, with the posterior mean or the known value of
    /// each objective.
    pub(super) fn outcomes(&self, seen: &[(Architecture, Vec<f64>)]) -> Result<Vec<Vec<f64>>, GpError> {
        if seen.is_empty() {
            return Ok(Vec::new());
        }
        let sequences: Vec<_> = seen.iter().map(|(sequence, _)| sequence.clone()).collect();
        let points = (self.encode)(&sequences)?;
        let means: Vec<_> = (0..self.models())
            .map(|model| Ok(self.surrogate(model).predict_diagonal(&points)?.0))
            .collect::<Result<_, GpError>>()?;
        let value = |at: usize, source: &Source| match *source {
            Source::Model(model) => means[model][at],
            Source::Cost(cost) => seen[at].1[cost],
        };
        Ok((0..seen.len()).map(|at| self.objectives.iter().map(|source| value(at, source)).collect()).collect())
    }

    /// Returns the mean and covariance of each model at these points.
    pub(super) fn posteriors(&self, points: &K::Points) -> Result<Vec<Moments>, GpError> {
        (0..self.models()).map(|model| self.surrogate(model).predict(points)).collect()
    }

    /// Computes the data of an acquisition function.
    pub(super) fn ground(&self, rng: &mut Rng) -> Result<Ground<K>, GpError> {
        let observed = self.likely(self.primary.distinct().to_vec())?;
        let mut baseline = self.spread(self.survivors(&observed, rng)?)?;
        let mut met: HashSet<_> = observed.iter().map(|(sequence, _)| sequence.clone()).collect();
        let pending = self.primary.pending().filter(|sequence| met.insert((*sequence).clone())).cloned().collect();
        baseline.extend(self.likely(pending)?);

        let units = self.units(&observed, rng);
        let reference = self.reference(&observed, rng)?;
        let reference = self.objectives.iter().zip(reference).map(|(source, value)| match *source {
            Source::Model(_) => value,
            Source::Cost(cost) => value / units[cost],
        });
        let reference = reference.collect();
        let known = baseline.iter().map(|(_, known)| scaled(known, &units)).collect();
        let sequences: Vec<_> = baseline.into_iter().map(|(sequence, _)| sequence).collect();
        let points = (self.encode)(&sequences)?;
        let posteriors = self.posteriors(&points)?;
        let white = (0..self.models()).map(|model| self.surrogate(model).whiten(&points)).collect();
        Ok(Ground { reference, known, posteriors, points, white, units })
    }

    /// Returns the observed sequences that are on the front of at least one joint sample.
    fn survivors(
        &self,
        observed: &[(Architecture, Vec<f64>)],
        rng: &mut Rng,
    ) -> Result<Vec<(Architecture, Vec<f64>)>, GpError> {
        if observed.is_empty() {
            return Ok(Vec::new());
        }
        let sequences: Vec<_> = observed.iter().map(|(sequence, _)| sequence.clone()).collect();
        let posteriors = self.posteriors(&(self.encode)(&sequences)?)?;
        let draws = (PRUNE_DRAWS * 64 / observed.len().max(64)).max(32);
        let objective = |source: &Source| match *source {
            Source::Model(model) => {
                let (mean, covariance) = posteriors[model].clone();
                Baseline::Noisy { mean, covariance, z: base_samples(draws, observed.len() + 1, rng) }
            }
            Source::Cost(cost) => Baseline::Known(observed.iter().map(|(_, known)| known[cost]).collect()),
        };
        let objectives: Vec<_> = self.objectives.iter().map(objective).collect();
        Ok(surviving(&objectives)?.into_iter().map(|at| observed[at].clone()).collect())
    }

    /// Returns as many points of the baseline as the limit on cells allows: those with the most room around them. The
    /// number of cells grows as a power of the number of points.
    fn spread(&self, baseline: Vec<(Architecture, Vec<f64>)>) -> Result<Vec<(Architecture, Vec<f64>)>, GpError> {
        let others = self.objectives.len().saturating_sub(1);
        let most = CELLS.powf(1.0 / others as f64) as usize;
        if baseline.len() <= most {
            return Ok(baseline);
        }
        let all: Vec<_> = (0..baseline.len()).collect();
        let mut kept = by_room(&all, &self.outcomes(&baseline)?);
        kept.truncate(most);
        kept.sort_unstable();
        Ok(kept.into_iter().map(|at| baseline[at].clone()).collect())
    }

    /// Returns the known costs of the observed sequences and of some drawn from the space.
    fn costs_around(&self, observed: &[(Architecture, Vec<f64>)], rng: &mut Rng) -> Vec<Vec<f64>> {
        if self.costs.is_empty() {
            return Vec::new();
        }
        let drawn = (0..RANGE_DRAWS).map(|_| self.study.space().sample(rng));
        let drawn = drawn.filter(|sequence| self.study.admits(sequence)).filter_map(|sequence| self.known(&sequence));
        observed.iter().map(|(_, known)| known.clone()).chain(drawn).collect()
    }

    /// Returns the unit of each known objective: its range.
    fn units(&self, observed: &[(Architecture, Vec<f64>)], rng: &mut Rng) -> Vec<f64> {
        let around = self.costs_around(observed, rng);
        let range = |cost: usize| {
            let values = || around.iter().map(|known| known[cost]);
            let range = values().fold(f64::NEG_INFINITY, f64::max) - values().fold(f64::INFINITY, f64::min);
            if range > 0.0 && range.is_finite() { range } else { 1.0 }
        };
        (0..self.costs.len()).map(range).collect()
    }

    /// Returns a reference point that is worse than all observed outcomes, and worse in known costs than the drawn
    /// sequences too.
    fn reference(&self, observed: &[(Architecture, Vec<f64>)], rng: &mut Rng) -> Result<Vec<f64>, GpError> {
        let around = self.costs_around(observed, rng);
        let known = reference(&around);
        let seen = reference(&self.outcomes(observed)?);
        // If nothing observed satisfies the bounds: two standard deviations below the mean.
        let of = |(at, source): (usize, &Source)| match *source {
            Source::Model(_) => seen.as_ref().map_or(-2.0, |seen| seen[at]),
            Source::Cost(cost) => known.as_ref().map_or(0.0, |known| known[cost]),
        };
        Ok(self.objectives.iter().enumerate().map(of).collect())
    }
}
