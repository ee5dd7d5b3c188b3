//! Gaussian-process Bayesian optimisation as a [`Searcher`].

use super::{
    GpError,
    design::design,
    encoding::Encoder,
    features::Describer,
    hyper::Hyper,
    inspection::Inspection,
    kernel::{Rbf, Sequences, Structured},
    maximise::MaximiseOptions,
    minimise::Limits,
    proposer::{Process, Proposer},
};
use crate::{
    search::{Proposal, SearchError, Searcher, unknown::Unknown},
    seed::Rng,
    space::Architecture,
    study::Study,
};

/// Bayesian optimisation with a Gaussian process: after a quasi-random start, each proposal maximises qLogNEI, the
/// expected improvement over what is observed, under noise and with trials pending.
///
/// | | [`GpBo::composer`] | [`GpBo::default`] |
/// |---|---|---|
/// | surrogate | BoTorch's `SingleTaskGP`: RBF kernel with a lengthscale per column | additive in what layers may do: each by itself, in pairs, as ratios, places and runs; and a Hamming kernel for the rest |
/// | knows about sequences | nothing | that neighbours, places and ratios may matter |
/// | use it | to repeat the paper, to compare with BoTorch and Ax | otherwise: it was better or equal on every function tried |
///
/// The answer is a function of the study alone: hyperparameters are fitted anew for every proposal. Where a fit fails,
/// the process keeps the hyperparameters at which fits start, with much noise, and says so through
/// [`Searcher::notice`]; it never falls back to a random draw.
#[derive(Clone, Debug, PartialEq)]
pub struct GpBo {
    surrogate: SurrogateKind,
    initial: usize,
    notice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SurrogateKind {
    SingleTask,
    Structured,
}

impl Default for GpBo {
    /// The structured surrogate, after 8 quasi-random trials.
    fn default() -> Self {
        Self { surrogate: SurrogateKind::Structured, initial: 8, notice: None }
    }
}

impl GpBo {
    /// The searcher of the Composer paper as BoTorch would run it (arXiv 2510.00379, HNAS Searcher), after 8 quasi-random
    /// trials.
    pub fn composer() -> Self {
        Self { surrogate: SurrogateKind::SingleTask, ..Self::default() }
    }

    /// Starts with this many quasi-random trials, at least 1.
    ///
    /// # Errors
    /// [`SearchError::Zero`] for none: a Gaussian process needs something to learn from.
    pub fn with_initial(self, initial: usize) -> Result<Self, SearchError> {
        match initial {
            0 => Err(SearchError::Zero { searcher: "gp_bo", setting: "initial" }),
            initial => Ok(Self { initial, ..self }),
        }
    }

    /// The observed architecture with the best posterior mean: under noise a better answer than the best observation.
    ///
    /// # Errors
    /// [`SearchError`] when nothing is observed.
    pub fn recommend(&self, study: &Study) -> Result<Architecture, SearchError> {
        self.process(study).and_then(|process| process.recommend()).map_err(failed)
    }

    /// What the process has learnt, and what it would propose.
    ///
    /// # Errors
    /// [`SearchError`] when nothing is observed.
    pub fn inspect(&self, study: &Study, rng: &mut Rng) -> Result<Inspection, SearchError> {
        self.process(study).and_then(|process| process.inspect(rng)).map_err(failed)
    }

    /// The process fitted to a study.
    fn process<'a>(&self, study: &'a Study) -> Result<Box<dyn Process + 'a>, GpError> {
        Ok(match self.surrogate {
            SurrogateKind::SingleTask => Box::new(single_task(study)?),
            SurrogateKind::Structured => Box::new(structured(study)?),
        })
    }
}

fn failed(error: GpError) -> SearchError {
    SearchError::Other(error.into())
}

impl Searcher for GpBo {
    fn fingerprint(&self) -> String {
        let name = match self.surrogate {
            SurrogateKind::SingleTask => "gp_bo_composer",
            SurrogateKind::Structured => "gp_bo",
        };
        format!("{name}(initial={})", self.initial)
    }

    fn ask(&mut self, study: &Study, rng: &mut Rng) -> Result<Proposal, SearchError> {
        self.notice = None;
        if Unknown::new(study).count() == 0 {
            return Ok(Proposal::Finished);
        }
        let starting = study.candidates().count() < self.initial;
        if starting || study.observations().next().is_none() {
            return Ok(design(study, rng).map_or(Proposal::Finished, Proposal::Evaluate));
        }
        let proposed = self.process(study).and_then(|process| process.propose(rng));
        let (proposal, notice) = proposed.map_err(failed)?;
        self.notice = notice;
        Ok(proposal.map_or(Proposal::Finished, Proposal::Evaluate))
    }

    fn notice(&mut self) -> Option<String> {
        self.notice.take()
    }
}

/// Candidates that the structured surrogate scores: its fewer maxima need fewer starts.
const STRUCTURED_SEARCH: MaximiseOptions =
    MaximiseOptions { enumerate: 2_000, pool: 128, starts: 6, steps: 32, budget: 6_000 };

fn single_task(study: &Study) -> Result<Proposer<'_, Rbf>, GpError> {
    let encoder = Encoder::new(study.space());
    let starts = Hyper::<Rbf>::starts(encoder.columns());
    let encode = move |architectures: &[Architecture]| encoder.rows(architectures);
    Proposer::new(study, Box::new(encode), &starts, Limits::default(), MaximiseOptions::default())
}

fn structured(study: &Study) -> Result<Proposer<'_, Structured>, GpError> {
    let (describer, symbols) = (Describer::new(study.space())?, study.space().symbols().len());
    let encode = move |architectures: &[Architecture]| {
        let (features, codes) = describer.describe(architectures)?;
        Ok(Sequences::new(features, &codes, symbols))
    };
    let limits = Limits { evaluations: 60, gradient: 1e-4, change: 1e-6 };
    Proposer::new(study, Box::new(encode), &Hyper::<Structured>::starts(), limits, STRUCTURED_SEARCH)
}
