//! The models of a study with several objectives or bounds: one Gaussian process per noisy measure; known costs are
//! used exactly.

mod ground;

use std::collections::HashSet;

use ground::{Ground, scaled};

use super::{
    AcquisitionFunction, GpError,
    acquisition::{
        Baseline, Batch, NoisyBaseline, NoisySingles, OneNoisy, QLogNehvi, SAMPLES, Singles, base_samples, ln_normal,
    },
    fitted::{Encode, FittedGp, FittedModel, Plan, Proposed, fitted},
    hyper::Hyper,
    inspection::{Candidate, Inspection},
    kernel::Kernel,
    maximise::{Found, Maximiser},
    outcomes::Outcomes,
    outliers::raised_to_a_bound,
    surrogate::{Marginals, Surrogate},
};
use crate::{
    search::unknown::Unknown,
    seed::Rng,
    space::Architecture,
    study::{Bound, Direction, Measure, Observation, Study, non_dominated},
};

/// Number of base samples if two or more objectives are noisy, or two or more are known: as in BoTorch.
const FEW_SAMPLES: usize = 128;
/// Number of incumbents from which the acquisition function is maximised.
const INCUMBENTS: usize = 12;

/// Models fitted to a study with several objectives or bounds.
pub(super) struct Several<'a, K: Kernel> {
    study: &'a Study,
    encode: Encode<'a, K>,
    /// The model of the goal's score.
    primary: FittedGp<'a, K>,
    /// The models of the other scores.
    others: Vec<Model<K>>,
    objectives: Vec<Source>,
    limits: Vec<ScoreLimit>,
    /// The costs that are objectives: their positions among the costs of the goal, and their directions.
    costs: Vec<(usize, Direction)>,
    plan: Plan,
}

/// The model of one score.
struct Model<K: Kernel> {
    score: String,
    /// The direction by which its outcomes were oriented.
    direction: Direction,
    surrogate: Surrogate<K>,
    notice: Option<String>,
}

/// The source of an objective.
#[derive(Clone, Copy)]
enum Source {
    /// The model with this index.
    Model(usize),
    /// The cost with this index among those that are objectives.
    Cost(usize),
}

/// A bound on a score, on the standardised scale of its model: at least `least`, times `sign`.
struct ScoreLimit {
    model: usize,
    least: f64,
    sign: f64,
}

/// An acquisition function of several objectives, ready to score sequences.
struct Acquisition<K: Kernel> {
    function: Function,
    ground: Ground<K>,
}

enum Function {
    One(OneNoisy),
    General(QLogNehvi),
}

impl<'a, K: Kernel + Clone> Several<'a, K> {
    /// Fits a model to each score that the goal names.
    ///
    /// # Errors
    /// [`GpError`] if nothing is observed, a model cannot be fitted, or a known cost is missing.
    pub(super) fn new(
        study: &'a Study,
        encode: impl Fn() -> Encode<'a, K>,
        starts: &[Hyper<K>],
        plan: Plan,
    ) -> Result<Self, GpError> {
        let goal = study.goal();
        let primary = FittedGp::of_values(study, encode(), starts, plan, raised_to_a_bound)?;
        let names = goal.costs();
        let mut several = Self {
            study,
            encode: encode(),
            primary,
            others: Vec::new(),
            objectives: Vec::new(),
            limits: Vec::new(),
            costs: Vec::new(),
            plan,
        };
        for objective in goal.objectives() {
            let source = match &objective.of {
                Measure::Score(score) => Source::Model(several.model(score, objective.direction, starts)?),
                Measure::Cost(name) => {
                    let at = names.iter().position(|known| known == name).unwrap_or_default();
                    several.costs.push((at, objective.direction));
                    Source::Cost(several.costs.len() - 1)
                }
            };
            several.objectives.push(source);
        }
        for limit in goal.limits() {
            let Measure::Score(score) = &limit.of else { continue };
            let model = several.model(score, Direction::Maximize, starts)?;
            let direction = several.direction(model);
            let value = several.surrogate(model).outcomes().apply(direction.orient(limit.bound.value()));
            let upper = matches!(limit.bound, Bound::AtMost(_)) == (direction == Direction::Maximize);
            let sign = if upper { -1.0 } else { 1.0 };
            several.limits.push(ScoreLimit { model, least: sign * value, sign });
        }
        Ok(several)
    }

    /// Returns the index of the model of this score, which is fitted if it does not exist yet.
    fn model(&mut self, score: &str, direction: Direction, starts: &[Hyper<K>]) -> Result<usize, GpError> {
        if score == self.study.goal().score {
            return Ok(0);
        }
        if let Some(at) = self.others.iter().position(|model| model.score == score) {
            return Ok(at + 1);
        }
        let value = |score: Option<&f64>| direction.orient(score.copied().unwrap_or(f64::NAN));
        let seen = self.primary.observations();
        let values: Vec<_> = seen.iter().map(|seen| value(seen.report.scores.get(score))).collect();
        let sequences: Vec<_> = seen.iter().map(|seen| seen.trial.architecture.clone()).collect();
        let goal = self.study.goal();
        let error = |seen: &Observation<'_>| seen.report.noise_of(score, goal).filter(|_| self.plan.standard_errors);
        let outcomes = Outcomes { values: raised_to_a_bound(values), errors: seen.iter().map(error).collect() };
        let (surrogate, notice) = fitted(&self.encode, &sequences, &outcomes, starts, self.plan)?;
        self.others.push(Model { score: score.into(), direction, surrogate, notice });
        Ok(self.others.len())
    }

    fn surrogate(&self, model: usize) -> &Surrogate<K> {
        match model.checked_sub(1) {
            Some(other) => &self.others[other].surrogate,
            None => self.primary.surrogate(),
        }
    }

    fn direction(&self, model: usize) -> Direction {
        model.checked_sub(1).map_or(self.study.goal().direction, |other| self.others[other].direction)
    }

    fn models(&self) -> usize {
        self.others.len() + 1
    }

    /// Returns the known objectives of a sequence, oriented so that larger is better, or `None` if it has no costs.
    fn known(&self, sequence: &Architecture) -> Option<Vec<f64>> {
        let costs = self.study.cost_values(sequence).ok()?;
        Some(self.costs.iter().map(|&(at, direction)| direction.orient(costs[at])).collect())
    }

    /// Returns the logarithm of the probability that a sequence satisfies the bounds on scores. `moments` are the mean
    /// and variance of each model at the sequence.
    fn ln_feasible(&self, moments: &[(f64, f64)]) -> f64 {
        let within = |limit: &ScoreLimit| {
            let (mean, variance) = moments[limit.model];
            ln_normal((limit.sign * mean - limit.least) / variance.sqrt().max(1e-9))
        };
        self.limits.iter().map(within).sum()
    }

    fn acquisition(&self, rng: &mut Rng) -> Result<Acquisition<K>, GpError> {
        let ground = self.ground(rng)?;
        let noisy = self.objectives.iter().filter(|source| matches!(source, Source::Model(_))).count();
        let function = if noisy == 1 {
            let samples = if self.costs.len() < 2 { SAMPLES } else { FEW_SAMPLES };
            let (mean, covariance) = &ground.posteriors[0];
            let z = base_samples(samples, ground.known.len() + 1, rng);
            let baseline = NoisyBaseline { mean, covariance, z, known: &ground.known };
            Function::One(OneNoisy::new(baseline, &ground.reference)?)
        } else {
            Function::General(self.general(&ground, 1, rng)?)
        };
        Ok(Acquisition { function, ground })
    }

    /// Returns qLogNEHVI for batches of `q`.
    fn general(&self, ground: &Ground<K>, q: usize, rng: &mut Rng) -> Result<QLogNehvi, GpError> {
        let width = ground.known.len() + q;
        let objective = |source: &Source| match *source {
            Source::Model(model) => {
                let (mean, covariance) = ground.posteriors[model].clone();
                Baseline::Noisy { mean, covariance, z: base_samples(FEW_SAMPLES, width, rng) }
            }
            Source::Cost(cost) => Baseline::Known(ground.known.iter().map(|known| known[cost]).collect()),
        };
        Ok(QLogNehvi::new(self.objectives.iter().map(objective).collect(), &ground.reference)?)
    }

    /// Returns the observed sequences whose expected outcomes are on the front, those with the most room around them
    /// first.
    fn incumbents(&self) -> Result<Vec<Architecture>, GpError> {
        let observed = self.likely(self.primary.distinct().to_vec())?;
        let outcomes = self.outcomes(&observed)?;
        let mut front = non_dominated(&outcomes);
        let step = front.len().div_ceil(INCUMBENTS).max(1);
        front.sort_by(|&a, &b| outcomes[b][0].total_cmp(&outcomes[a][0]));
        let front: Vec<_> = front.into_iter().step_by(step).map(|at| observed[at].0.clone()).collect();
        Ok(if front.is_empty() { self.primary.distinct().iter().take(INCUMBENTS).cloned().collect() } else { front })
    }

    fn score(&self, acquisition: &Acquisition<K>, batch: &[Architecture]) -> Result<Vec<f64>, GpError> {
        let points = (self.encode)(batch)?;
        let bounded = self.study.goal().limits_costs();
        let allowed = |sequence: &Architecture| !bounded || self.study.admits(sequence);
        let known: Vec<_> = batch.iter().map(|sequence| self.known(sequence).filter(|_| allowed(sequence))).collect();
        let marginals: Vec<Marginals> =
            (0..self.models()).map(|model| self.surrogate(model).predict_white(&points)).collect::<Result<_, _>>()?;
        let ground = &acquisition.ground;
        let in_units = |known: &Option<Vec<f64>>| match known {
            Some(known) => scaled(known, &ground.units),
            None => vec![f64::NEG_INFINITY; self.costs.len()],
        };
        let in_units: Vec<Vec<f64>> = known.iter().map(in_units).collect();
        let cross = |model: usize| {
            let prior = self.surrogate(model).hyper().kernel.cross(&ground.points, &points);
            prior - &ground.white[model] * marginals[model].white.transpose()
        };
        let mut values = match &acquisition.function {
            Function::One(function) => {
                let Marginals { mean, variance, .. } = &marginals[0];
                let mean = mean.as_slice();
                let variance = variance.as_slice();
                function.values(NoisySingles { mean, variance, cross: cross(0), known: &in_units })?
            }
            Function::General(function) => {
                let singles = |source: &Source| match *source {
                    Source::Model(model) => Singles::Noisy {
                        mean: marginals[model].mean.as_slice().to_vec(),
                        variance: marginals[model].variance.as_slice().to_vec(),
                        cross: cross(model),
                    },
                    Source::Cost(cost) => Singles::Known(in_units.iter().map(|known| known[cost]).collect()),
                };
                function.values_of_singles(&self.objectives.iter().map(singles).collect::<Vec<_>>())?
            }
        };
        for (at, value) in values.iter_mut().enumerate() {
            let moments: Vec<_> = marginals.iter().map(|m| (m.mean[at], m.variance[at])).collect();
            *value = if known[at].is_some() { *value + self.ln_feasible(&moments) } else { f64::NAN };
        }
        Ok(values)
    }

    /// Returns the sequence with the largest acquisition value that is not in `avoid`.
    fn maximise(
        &self,
        acquisition: &Acquisition<K>,
        avoid: &HashSet<Architecture>,
        rng: &mut Rng,
    ) -> Result<Option<Architecture>, GpError> {
        let incumbents = self.incumbents()?;
        let options = self.plan.options;
        let maximiser = Maximiser { space: self.study.space(), avoid, incumbents: &incumbents, options };
        Ok(match maximiser.try_run(rng, |batch| self.score(acquisition, batch))? {
            // If no sequence can improve the front, draw among those left within the bounds.
            Some(found) if found.found == Found::Random => Unknown::new(self.study).draw(rng),
            found => found.map(|found| found.architecture),
        })
    }

    fn candidates(&self, count: usize, rng: &mut Rng) -> Result<Vec<Candidate>, GpError> {
        let acquisition = self.acquisition(rng)?;
        let mut avoid = self.avoid();
        let mut best = Vec::new();
        while best.len() < count
            && let Some(next) = self.maximise(&acquisition, &avoid, rng)?
            && avoid.insert(next.clone())
        {
            best.push(next);
        }
        self.primary.described(best)
    }

    fn avoid(&self) -> HashSet<Architecture> {
        self.study.full_length_trials().map(|trial| trial.architecture.clone()).collect()
    }
}

impl<K: Kernel + Clone> FittedModel for Several<'_, K> {
    fn propose(&self, _: &AcquisitionFunction, rng: &mut Rng) -> Result<Proposed, GpError> {
        let proposal = self.maximise(&self.acquisition(rng)?, &self.avoid(), rng)?;
        let notices = self.others.iter().filter_map(|model| model.notice.clone());
        let notice = self.primary.notice().into_iter().chain(notices).next();
        Ok((proposal, notice))
    }

    fn recommend(&self) -> Result<Architecture, GpError> {
        let ranked = self.primary.ranked()?;
        let within: HashSet<_> = self.likely(ranked.clone())?.into_iter().map(|(sequence, _)| sequence).collect();
        let best = ranked.iter().find(|sequence| within.contains(*sequence)).or(ranked.first());
        best.cloned().ok_or(GpError::NoObservations)
    }

    fn inspect(&self, function: &AcquisitionFunction, rng: &mut Rng) -> Result<Inspection, GpError> {
        let inspection = self.primary.inspect(function, rng)?;
        Ok(Inspection { candidates: self.candidates(inspection.candidates.len(), rng)?, ..inspection })
    }

    fn acquisition_value(&self, batch: &[Architecture], rng: &mut Rng) -> Result<f64, GpError> {
        let ground = self.ground(rng)?;
        let function = self.general(&ground, batch.len(), rng)?;
        let points = (self.encode)(batch)?;
        let unknown = |sequence: &Architecture| GpError::OutsideSpace { architecture: sequence.to_string() };
        let known = |sequence| self.known(sequence).map(|known| scaled(&known, &ground.units)).ok_or(unknown(sequence));
        let known: Vec<_> = batch.iter().map(known).collect::<Result<_, _>>()?;
        let objective = |source: &Source| match *source {
            Source::Model(model) => {
                let surrogate = self.surrogate(model);
                let (mean, covariance) = surrogate.predict(&points)?;
                let prior = surrogate.hyper().kernel.cross(&points, &ground.points);
                let cross = prior - surrogate.whiten(&points) * ground.white[model].transpose();
                Ok(Batch::Noisy { mean, covariance, cross })
            }
            Source::Cost(cost) => Ok(Batch::Known(known.iter().map(|known| known[cost]).collect())),
        };
        let objectives: Vec<_> = self.objectives.iter().map(objective).collect::<Result<_, GpError>>()?;
        Ok(function.value(&objectives)?)
    }
}
