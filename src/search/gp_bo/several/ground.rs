//! What acquisition functions of several objectives stand on: baseline, reference point, units.

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

/// Samples behind the choice of the baseline, fewer for many points.
const PRUNE_DRAWS: usize = 512;
/// Sequences from which the range of known costs is learnt, beside the observed ones.
const RANGE_DRAWS: usize = 128;

/// Cells of the space of outcomes that a baseline makes at most.
const CELLS: f64 = 262_144.0;

/// Mean and covariance of a process at some points.
type Moments = (DVector<f64>, DMatrix<f64>);

/// What acquisition functions stand on: the baseline, which may be on the front or is pending.
pub(super) struct Ground<K: Kernel> {
    pub(super) reference: Vec<f64>,
    /// Known objectives of every point of the baseline, in units.
    pub(super) known: Vec<Vec<f64>>,
    /// Mean and covariance of every process at the baseline.
    pub(super) posteriors: Vec<Moments>,
    pub(super) points: K::Points,
    /// The whitened covariance of the baseline with the observations for every process.
    pub(super) white: Vec<DMatrix<f64>>,
    /// What known costs are divided by.
    pub(super) units: Vec<f64>,
}

/// Known costs in units.
pub(super) fn scaled(known: &[f64], units: &[f64]) -> Vec<f64> {
    known.iter().zip(units).map(|(value, unit)| value / unit).collect()
}

impl<K: Kernel + Clone> Several<'_, K> {
    /// The sequences that are likely to be within all bounds, of those that have costs.
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

    /// Posterior means and known values of these, objective by objective.
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

    /// Mean, covariance and whitened covariance of every process at the same points.
    pub(super) fn posteriors(&self, points: &K::Points) -> Result<Vec<Moments>, GpError> {
        (0..self.models()).map(|model| self.surrogate(model).predict(points)).collect()
    }

    /// What an acquisition function is made of.
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

    /// Those of the observed sequences that are on the front in some joint sample.
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

    /// As many of the baseline as its cells allow, whose number is a power of it: those with the most room around them.
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

    /// Known costs of some sequences of the space, observed ones among them.
    fn costs_around(&self, observed: &[(Architecture, Vec<f64>)], rng: &mut Rng) -> Vec<Vec<f64>> {
        if self.costs.is_empty() {
            return Vec::new();
        }
        let drawn = (0..RANGE_DRAWS).map(|_| self.study.space().sample(rng));
        let drawn = drawn.filter(|sequence| self.study.admits(sequence)).filter_map(|sequence| self.known(&sequence));
        observed.iter().map(|(_, known)| known.clone()).chain(drawn).collect()
    }

    /// The range of every known objective, by which it is divided.
    fn units(&self, observed: &[(Architecture, Vec<f64>)], rng: &mut Rng) -> Vec<f64> {
        let around = self.costs_around(observed, rng);
        let range = |cost: usize| {
            let values = || around.iter().map(|known| known[cost]);
            let range = values().fold(f64::NEG_INFINITY, f64::max) - values().fold(f64::INFINITY, f64::min);
            if range > 0.0 && range.is_finite() { range } else { 1.0 }
        };
        (0..self.costs.len()).map(range).collect()
    }

    /// A point that is worse than all that was seen, also in known costs of what was not observed.
    fn reference(&self, observed: &[(Architecture, Vec<f64>)], rng: &mut Rng) -> Result<Vec<f64>, GpError> {
        let around = self.costs_around(observed, rng);
        let known = reference(&around);
        let seen = reference(&self.outcomes(observed)?);
        // Of nothing within the bounds: two standard deviations below the mean.
        let of = |(at, source): (usize, &Source)| match *source {
            Source::Model(_) => seen.as_ref().map_or(-2.0, |seen| seen[at]),
            Source::Cost(cost) => known.as_ref().map_or(0.0, |known| known[cost]),
        };
        Ok(self.objectives.iter().enumerate().map(of).collect())
    }
}
