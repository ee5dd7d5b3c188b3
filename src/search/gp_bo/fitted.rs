//! The model of a study with one objective: the next proposal, a recommendation, an inspection.

use std::{collections::HashSet, sync::Arc};

use nalgebra::{DMatrix, DVector};

use super::{
    AcquisitionFunction, GpError,
    acquisition::{AnalyticAcquisition, PRUNE_SAMPLES, QLogNei, SAMPLES, base_samples, log_ei::LogEi, prune_inferior},
    best_and_latest::best_and_latest,
    budget::AskBudget,
    hyper::Hyper,
    inspection::{Candidate, Inspection, LeaveOneOut},
    kernel::Kernel,
    maximise::{MaximiseOptions, Maximiser},
    minimise::Limits,
    outcomes::{Outcomes, Standardised},
    outliers::raised_to_the_others,
    surrogate::{Marginals, Surrogate},
};
use crate::{
    seed::Rng,
    space::Architecture,
    study::{Observation, Study},
    text::causes,
};

/// The methods of a fitted model, whatever its kernel.
pub(super) trait FittedModel {
    /// Returns the sequence with the largest acquisition value, or `None` if every sequence is known. If the fit
    /// failed, a notice says so.
    ///
    /// # Errors
    /// [`GpError`] if the covariance of the posterior cannot be factored.
    fn propose(&self, function: &AcquisitionFunction, rng: &mut Rng) -> Result<Proposed, GpError>;

    /// Returns the observed sequence with the best posterior mean, the first observed on ties.
    ///
    /// # Errors
    /// [`GpError`] if nothing is observed.
    fn recommend(&self) -> Result<Architecture, GpError>;

    /// Returns what the model has learnt.
    ///
    /// # Errors
    /// [`GpError`] if the covariance of the posterior cannot be factored.
    fn inspect(&self, function: &AcquisitionFunction, rng: &mut Rng) -> Result<Inspection, GpError>;

    /// Returns the joint qLogNEI of a batch, or its joint qLogNEHVI for several objectives or bounds.
    ///
    /// # Errors
    /// [`GpError`] if the batch is empty or a sequence lies outside the space.
    fn acquisition_value(&self, batch: &[Architecture], rng: &mut Rng) -> Result<f64, GpError>;
}

/// A proposal, with a notice if the fit failed.
pub(super) type Proposed = (Option<Architecture>, Option<String>);

/// A function that encodes sequences as the points of a kernel.
pub(super) type Encode<'a, K> = Box<dyn Fn(&[Architecture]) -> Result<<K as Kernel>::Points, GpError> + 'a>;

/// A model fitted to a study.
pub(super) struct FittedGp<'a, K: Kernel> {
    study: &'a Study,
    encode: Encode<'a, K>,
    observations: Vec<Observation<'a>>,
    /// The distinct observed sequences, in order of first observation.
    distinct: Vec<Architecture>,
    surrogate: Surrogate<K>,
    options: MaximiseOptions,
    notice: Option<String>,
}

/// Settings of the fit and of the search for a proposal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    limits: Limits,
    fit_observations: usize,
    pub(super) observations: usize,
    pub(super) standard_errors: bool,
    winsorised: bool,
    pub(super) options: MaximiseOptions,
}

/// Limits on the data behind a proposal and on its cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Limits on the fit and on the search for the best candidate.
    pub(super) budget: AskBudget,
    /// The maximum number of observations that the model is conditioned on.
    pub(super) observations: usize,
    /// Whether the standard errors of reports are used as known noise.
    pub(super) standard_errors: bool,
    /// Whether values far below the others are raised.
    pub(super) winsorised: bool,
}

impl Plan {
    /// Restricts `limits` and `options` to the cost.
    pub(super) fn new(
        Cost { budget, observations, standard_errors, winsorised }: Cost,
        limits: Limits,
        options: MaximiseOptions,
    ) -> Self {
        let enumerate = options.enumerate.min(budget.candidates as u128);
        Self {
            limits: Limits { evaluations: budget.fit_evaluations, ..limits },
            fit_observations: budget.fit_observations,
            observations,
            standard_errors,
            winsorised,
            options: MaximiseOptions { enumerate, budget: budget.candidates, ..options },
        }
    }
}

/// Variance of the noise, on the standardised scale, of the model that is used if the fit fails: large enough to
/// explain any data.
const FALLBACK_NOISE: f64 = 0.3;
/// Number of incumbents from which the acquisition function is maximised.
const INCUMBENTS: usize = 5;
/// Number of candidates of an inspection.
const CANDIDATES: usize = 5;

/// Returns the model fitted to these outcomes. If the fit fails, it returns a model with the starting values of the fit
/// and a large noise, and a notice.
///
/// # Errors
/// [`GpError`] if nothing is observed, or if neither model has a positive definite covariance.
pub(super) fn fitted<K: Kernel + Clone>(
    encode: &Encode<'_, K>,
    sequences: &[Architecture],
    outcomes: &Outcomes,
    starts: &[Hyper<K>],
    plan: Plan,
) -> Result<(Surrogate<K>, Option<String>), GpError> {
    let all = outcomes.standardised()?;
    let count = sequences.len();
    let fitted = if count <= plan.fit_observations {
        Surrogate::fit(encode(sequences)?, all.clone(), starts, plan.limits).map(|(surrogate, _)| surrogate)
    } else {
        let spread: Vec<_> = (0..plan.fit_observations).map(|at| at * count / plan.fit_observations).collect();
        let some: Vec<_> = spread.iter().map(|&at| sequences[at].clone()).collect();
        Surrogate::fit(encode(&some)?, outcomes.at(&spread).standardised()?, starts, plan.limits)
            .and_then(|(fitted, _)| Surrogate::new(encode(sequences)?, all.clone(), fitted.hyper().clone()))
    };
    match fitted {
        Ok(surrogate) => Ok((surrogate, None)),
        Err(error) => {
            let start = starts.first().ok_or(GpError::Fit { starts: 0 })?;
            let fixed = Hyper { noise: FALLBACK_NOISE, ..start.clone() };
            let why = causes(&error);
            let notice = format!("the fit of the Gaussian process failed ({why}): using its starting values");
            let unknown = Standardised { noise: None, ..all };
            Ok((Surrogate::new(encode(sequences)?, unknown, fixed)?, Some(notice)))
        }
    }
}

impl<'a, K: Kernel + Clone> FittedGp<'a, K> {
    /// Fits the model to the observations of the study.
    ///
    /// # Errors
    /// [`GpError`] if nothing is observed, or if neither the fit nor the model with fixed hyperparameters succeeds.
    pub(super) fn new(
        study: &'a Study,
        encode: Encode<'a, K>,
        starts: &[Hyper<K>],
        plan: Plan,
    ) -> Result<Self, GpError> {
        let prepare = |values| if plan.winsorised { raised_to_the_others(values) } else { values };
        Self::of_values(study, encode, starts, plan, prepare)
    }

    /// Fits the model to the values that `prepare` returns for the observed ones.
    ///
    /// # Errors
    /// Under the conditions of [`new`](Self::new).
    pub(super) fn of_values(
        study: &'a Study,
        encode: Encode<'a, K>,
        starts: &[Hyper<K>],
        plan: Plan,
        prepare: impl Fn(Vec<f64>) -> Vec<f64>,
    ) -> Result<Self, GpError> {
        let observations = best_and_latest(study, study.observations().collect(), plan.observations);
        let values = prepare(observations.iter().map(|seen| seen.value).collect());
        let goal = study.goal();
        let error = |seen: &Observation<'_>| seen.report.noise_of(&goal.score, goal).filter(|_| plan.standard_errors);
        let outcomes = Outcomes { values, errors: observations.iter().map(error).collect() };
        let sequences: Vec<_> = observations.iter().map(|seen| seen.trial.architecture.clone()).collect();
        let mut met = HashSet::new();
        let distinct = sequences.iter().filter(|sequence| met.insert(*sequence)).cloned().collect();
        let (surrogate, notice) = fitted(&encode, &sequences, &outcomes, starts, plan)?;
        Ok(Self { study, encode, observations, distinct, surrogate, options: plan.options, notice })
    }

    /// Returns the observations that the model is conditioned on.
    pub(super) fn observations(&self) -> &[Observation<'a>] {
        &self.observations
    }

    /// Returns the distinct observed sequences, in order of first observation.
    pub(super) fn distinct(&self) -> &[Architecture] {
        &self.distinct
    }

    /// Returns the Gaussian process.
    pub(super) fn surrogate(&self) -> &Surrogate<K> {
        &self.surrogate
    }

    /// Returns the notice about a failed fit, if there is one.
    pub(super) fn notice(&self) -> Option<String> {
        self.notice.clone()
    }

    /// Returns the distinct sequences, sorted by posterior mean, best first.
    pub(super) fn ranked(&self) -> Result<Vec<Architecture>, GpError> {
        let (means, _) = self.surrogate.predict_diagonal(&(self.encode)(&self.distinct)?)?;
        let mut order: Vec<_> = (0..self.distinct.len()).collect();
        order.sort_by(|&a, &b| means[b].total_cmp(&means[a]));
        Ok(order.into_iter().map(|at| self.distinct[at].clone()).collect())
    }

    fn acquisition(&self, function: &AcquisitionFunction, rng: &mut Rng) -> Result<Acquisition<K>, GpError> {
        match function {
            AcquisitionFunction::QLogNei => Ok(Acquisition::Noisy(self.noisy(1, rng)?)),
            AcquisitionFunction::LogEi => Ok(Acquisition::Analytic(self.analytic(Arc::new(LogEi))?)),
            AcquisitionFunction::Analytic(function) => Ok(Acquisition::Analytic(self.analytic(function.clone())?)),
        }
    }

    /// Returns qLogNEI for batches of `q`. Its baseline is the observed sequences that may be the best, and the pending
    /// ones.
    fn noisy(&self, q: usize, rng: &mut Rng) -> Result<Noisy<K>, GpError> {
        let (means, covariance) = self.surrogate.predict(&(self.encode)(&self.distinct)?)?;
        let samples = base_samples(PRUNE_SAMPLES, self.distinct.len(), rng);
        let kept = prune_inferior(&means, &covariance, &samples)?;
        let mut baseline: Vec<_> = kept.into_iter().map(|at| self.distinct[at].clone()).collect();
        let mut met: HashSet<_> = baseline.iter().cloned().collect();
        baseline.extend(self.pending().filter(|sequence| met.insert((*sequence).clone())).cloned());
        let points = (self.encode)(&baseline)?;
        let (means, covariance) = self.surrogate.predict(&points)?;
        let q_log_nei = QLogNei::new(&means, &covariance, base_samples(SAMPLES, baseline.len() + q, rng))?;
        let white = self.surrogate.whiten(&points);
        Ok(Noisy { q_log_nei, points, white })
    }

    /// Returns a user-defined acquisition function. Pending sequences are assumed to have returned their posterior
    /// means.
    fn analytic(&self, function: Arc<dyn AnalyticAcquisition>) -> Result<Analytic<K>, GpError> {
        let (means, _) = self.surrogate.predict_diagonal(&(self.encode)(&self.distinct)?)?;
        let best = means.max();
        let pending: Vec<_> = self.pending().cloned().collect();
        let believer = if pending.is_empty() {
            None
        } else {
            let (believed, _) = self.surrogate.predict_diagonal(&(self.encode)(&pending)?)?;
            let observed = self.observations.iter().map(|seen| seen.trial.architecture.clone());
            let points = (self.encode)(&observed.chain(pending).collect::<Vec<_>>())?;
            Some(self.surrogate.believer(points, &believed)?)
        };
        Ok(Analytic { function, believer, best })
    }

    /// Returns the pending sequences that lie in the space.
    pub(super) fn pending(&self) -> impl Iterator<Item = &Architecture> {
        let space = self.study.space();
        self.study.pending().map(|trial| &trial.architecture).filter(|sequence| space.contains(sequence))
    }

    fn maximise(
        &self,
        acquisition: &Acquisition<K>,
        avoid: &HashSet<Architecture>,
        rng: &mut Rng,
    ) -> Result<Option<Architecture>, GpError> {
        let mut incumbents = self.ranked()?;
        incumbents.truncate(INCUMBENTS);
        let maximiser = Maximiser { space: self.study.space(), avoid, incumbents: &incumbents, options: self.options };
        let found = maximiser.try_run(rng, |batch| self.score(acquisition, batch))?;
        Ok(found.map(|found| found.architecture))
    }

    fn score(&self, acquisition: &Acquisition<K>, batch: &[Architecture]) -> Result<Vec<f64>, GpError> {
        let points = (self.encode)(batch)?;
        match acquisition {
            Acquisition::Noisy(Noisy { q_log_nei, points: baseline, white }) => {
                let Marginals { mean, variance, white: own } = self.surrogate.predict_white(&points)?;
                let prior = self.surrogate.hyper().kernel.cross(baseline, &points);
                let covariance = prior - white * own.transpose();
                Ok(q_log_nei.values_of_singles(mean.as_slice(), variance.as_slice(), covariance)?)
            }
            Acquisition::Analytic(Analytic { function, believer, best }) => {
                let surrogate = believer.as_ref().unwrap_or(&self.surrogate);
                let (mean, variance) = surrogate.predict_diagonal(&points)?;
                Ok(mean.iter().zip(&variance).map(|(&mean, &variance)| function.value(mean, variance, *best)).collect())
            }
        }
    }

    /// Returns the importance of each layer: the mean change of the posterior mean when this layer alone is changed.
    fn importance(&self) -> Result<Vec<f64>, GpError> {
        let space = self.study.space();
        let means = |sequences: &[Architecture]| -> Result<_, GpError> {
            Ok(self.surrogate.predict_diagonal(&(self.encode)(sequences)?)?.0)
        };
        let own = means(&self.distinct)?;
        let of_layer = |layer: usize| {
            let mut changed = Vec::new();
            let mut from = Vec::new();
            for (at, sequence) in self.distinct.iter().enumerate() {
                for &symbol in space.choices(layer).iter().filter(|&&symbol| symbol != sequence.layers()[layer]) {
                    let mut layers = sequence.layers().to_vec();
                    layers[layer] = symbol;
                    changed.push(Architecture::new(layers));
                    from.push(own[at]);
                }
            }
            if changed.is_empty() {
                return Ok(0.0);
            }
            let moved: f64 = means(&changed)?.iter().zip(&from).map(|(to, from)| (to - from).abs()).sum();
            Ok(self.surrogate.outcomes().restore_distance(moved) / changed.len() as f64)
        };
        (0..space.layers()).map(of_layer).collect()
    }

    fn candidates(&self, function: &AcquisitionFunction, rng: &mut Rng) -> Result<Vec<Candidate>, GpError> {
        let acquisition = self.acquisition(function, rng)?;
        let mut avoid: HashSet<_> = self.study.full_length_trials().map(|trial| trial.architecture.clone()).collect();
        let mut best = Vec::new();
        while best.len() < CANDIDATES
            && let Some(next) = self.maximise(&acquisition, &avoid, rng)?
        {
            avoid.insert(next.clone());
            best.push(next);
        }
        self.described(best)
    }

    /// Returns sequences with the mean and standard deviation of their predicted values.
    pub(super) fn described(&self, sequences: Vec<Architecture>) -> Result<Vec<Candidate>, GpError> {
        if sequences.is_empty() {
            return Ok(Vec::new());
        }
        let (means, variances) = self.surrogate.predict_diagonal(&(self.encode)(&sequences)?)?;
        let outcomes = self.surrogate.outcomes();
        let candidate = |(at, architecture)| Candidate {
            architecture,
            mean: outcomes.restore(means[at]),
            sd: outcomes.restore_distance(f64::sqrt(variances[at])),
        };
        Ok(sequences.into_iter().enumerate().map(candidate).collect())
    }
}

impl<K: Kernel + Clone> FittedModel for FittedGp<'_, K> {
    fn propose(&self, function: &AcquisitionFunction, rng: &mut Rng) -> Result<Proposed, GpError> {
        let avoid: HashSet<_> = self.study.full_length_trials().map(|trial| trial.architecture.clone()).collect();
        let proposal = self.maximise(&self.acquisition(function, rng)?, &avoid, rng)?;
        Ok((proposal, self.notice.clone()))
    }

    fn acquisition_value(&self, batch: &[Architecture], rng: &mut Rng) -> Result<f64, GpError> {
        let Noisy { q_log_nei, points, white } = self.noisy(batch.len(), rng)?;
        let own = (self.encode)(batch)?;
        let (mean, covariance) = self.surrogate.predict(&own)?;
        let prior = self.surrogate.hyper().kernel.cross(&own, &points);
        let shared = prior - self.surrogate.whiten(&own) * white.transpose();
        Ok(q_log_nei.value(&mean, &covariance, &shared)?)
    }

    fn recommend(&self) -> Result<Architecture, GpError> {
        self.ranked()?.into_iter().next().ok_or(GpError::NoObservations)
    }

    fn inspect(&self, function: &AcquisitionFunction, rng: &mut Rng) -> Result<Inspection, GpError> {
        let outcomes = self.surrogate.outcomes();
        let hyper = self.surrogate.hyper();
        let (means, variances) = self.surrogate.posterior().leave_one_out();
        let prediction = |(at, seen): (usize, &Observation<'_>)| LeaveOneOut {
            trial: seen.trial.id,
            observed: seen.value,
            mean: outcomes.restore(means[at]),
            sd: outcomes.restore_distance(variances[at].max(0.0).sqrt()),
        };
        Ok(Inspection {
            predictions: self.observations.iter().enumerate().map(prediction).collect(),
            layers: self.importance()?,
            noise: outcomes.restore_distance(outcomes.noise.as_ref().map_or(hyper.noise, DVector::mean).sqrt()),
            hyperparameters: hyper.kernel.describe(),
            candidates: self.candidates(function, rng)?,
        })
    }
}

/// An acquisition function, ready to score sequences.
enum Acquisition<K: Kernel> {
    Noisy(Noisy<K>),
    Analytic(Analytic<K>),
}

/// qLogNEI, with the baseline's points and their covariance with the observations in whitened coordinates (b x N).
struct Noisy<K: Kernel> {
    q_log_nei: QLogNei,
    points: K::Points,
    white: DMatrix<f64>,
}

/// A user-defined acquisition function, on the standardised scale.
struct Analytic<K: Kernel> {
    function: Arc<dyn AnalyticAcquisition>,
    /// The model that is also conditioned on the pending sequences, if there are any.
    believer: Option<Surrogate<K>>,
    /// The best posterior mean of an observed sequence.
    best: f64,
}
