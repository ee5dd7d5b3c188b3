//! The kinds of surrogate models, and how each is fitted to a study.

use std::{rc::Rc, sync::Arc};

use super::{
    GpError,
    encoding::Encoder,
    features::{FeatureMap, Term},
    fitted::{Cost, Encode, FittedGp, FittedModel, Plan},
    hyper::Hyper,
    kernel::{Categorical, Given, Kernel, Priors, Rbf, SequenceKernel, Sequences, Structured},
    maximise::MaximiseOptions,
    minimise::Limits,
    several::Several,
};
use crate::{space::Architecture, study::Study};

/// The kind of surrogate model of a searcher.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SurrogateKind {
    SingleTask,
    Categorical,
    /// The terms, in the order of [`Term::ALL`].
    Structured(Vec<Term>),
    Given(GivenKernel),
}

/// A user-defined kernel. Two are equal if their fingerprints are.
#[derive(Clone, Debug)]
pub(super) struct GivenKernel(Arc<dyn SequenceKernel>);

impl PartialEq for GivenKernel {
    fn eq(&self, other: &Self) -> bool {
        self.0.fingerprint() == other.0.fingerprint()
    }
}

impl GivenKernel {
    pub(super) fn new(kernel: impl SequenceKernel + 'static) -> Self {
        Self(Arc::new(kernel))
    }

    pub(super) fn fingerprint(&self) -> String {
        self.0.fingerprint()
    }
}

impl SurrogateKind {
    /// Returns the name of the searcher with this surrogate, as its fingerprint starts.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::SingleTask => "gp_bo_composer",
            Self::Categorical => "gp_bo_categorical",
            Self::Structured(_) => "gp_bo",
            Self::Given(_) => "gp_bo_kernel",
        }
    }

    /// Fits the model to a study.
    ///
    /// # Errors
    /// [`GpError`] if nothing is observed, or if the model cannot be fitted.
    pub(super) fn fit<'a>(&self, study: &'a Study, cost: Cost) -> Result<Box<dyn FittedModel + 'a>, GpError> {
        match self {
            Self::SingleTask => single_task(study, cost),
            Self::Categorical => categorical(study, cost),
            Self::Structured(terms) => structured(study, terms, cost),
            Self::Given(GivenKernel(kernel)) => given(study, kernel.clone(), cost),
        }
    }
}

/// How the acquisition function of the structured surrogate is maximised. It has fewer maxima, so fewer starting points
/// suffice.
const STRUCTURED_SEARCH: MaximiseOptions =
    MaximiseOptions { enumerate: 2_000, pool: 128, starts: 6, steps: 32, budget: usize::MAX };

fn single_task(study: &Study, cost: Cost) -> Result<Box<dyn FittedModel + '_>, GpError> {
    let encoder = Encoder::new(study.space());
    let starts = Hyper::<Rbf>::starts(encoder.columns());
    let plan = Plan::new(cost, Limits::default(), MaximiseOptions::default());
    let encode = move || -> Encode<'_, Rbf> {
        let encoder = encoder.clone();
        Box::new(move |architectures: &[Architecture]| encoder.rows(architectures))
    };
    fit(study, encode, &starts, plan)
}

fn categorical(study: &Study, cost: Cost) -> Result<Box<dyn FittedModel + '_>, GpError> {
    let encoder = Encoder::new(study.space());
    let starts = Hyper::<Categorical>::starts(encoder.layers(), Some(Priors::dimension_scaled(encoder.symbols())));
    let plan = Plan::new(cost, Limits::default(), MaximiseOptions::default());
    let encode = move || -> Encode<'_, Categorical> {
        let encoder = encoder.clone();
        Box::new(move |architectures: &[Architecture]| encoder.rows(architectures))
    };
    fit(study, encode, &starts, plan)
}

fn given(study: &Study, kernel: Arc<dyn SequenceKernel>, cost: Cost) -> Result<Box<dyn FittedModel + '_>, GpError> {
    let plan = Plan::new(cost, Limits::default(), STRUCTURED_SEARCH);
    let encode = || -> Encode<'_, Given> { Box::new(|architectures: &[Architecture]| Ok(architectures.to_vec())) };
    fit(study, encode, &Hyper::<Given>::starts(&Given::start(kernel)), plan)
}

fn structured<'a>(study: &'a Study, terms: &[Term], cost: Cost) -> Result<Box<dyn FittedModel + 'a>, GpError> {
    let feature_map = Rc::new(FeatureMap::new(study.space(), terms)?);
    let symbols = study.space().symbols().len();
    let limits = Limits { gradient: 1e-4, change: 1e-6, ..Limits::default() };
    let plan = Plan::new(cost, limits, STRUCTURED_SEARCH);
    let encode = move || -> Encode<'_, Structured> {
        let feature_map = feature_map.clone();
        Box::new(move |architectures: &[Architecture]| {
            Ok(Sequences::new(feature_map.features(architectures)?, symbols))
        })
    };
    fit(study, encode, &Hyper::<Structured>::starts(terms), plan)
}

/// Fits one model for a single objective, or several models for several objectives or bounds.
fn fit<'a, K: Kernel + Clone + 'a>(
    study: &'a Study,
    encode: impl Fn() -> Encode<'a, K>,
    starts: &[Hyper<K>],
    plan: Plan,
) -> Result<Box<dyn FittedModel + 'a>, GpError> {
    Ok(match study.goal().is_simple() {
        true => Box::new(FittedGp::new(study, encode(), starts, plan)?),
        false => Box::new(Several::new(study, encode, starts, plan)?),
    })
}
