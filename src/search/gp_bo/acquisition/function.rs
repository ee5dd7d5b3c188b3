//! The choice of an acquisition function.

use std::{fmt, sync::Arc};

/// What a proposal maximises.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AcquisitionFunction {
    /// The logarithm of the noisy expected improvement over the sequences observed and pending (Ament et al. 2023,
    /// arXiv 2310.20708): by Monte Carlo, exact about noise and about what is pending.
    QLogNei,
    /// The logarithm of the expected improvement over the best posterior mean, in closed form. Pending trials are
    /// believed to come out as predicted (Ginsbourger et al. 2010, "Kriging is well-suited to parallelize
    /// optimization").
    LogEi,
    /// A function of your own of the posterior of one sequence. Pending trials are treated as for `LogEi`.
    Analytic(Arc<dyn AnalyticAcquisition>),
}

impl AcquisitionFunction {
    /// An acquisition function of your own.
    pub fn analytic(function: impl AnalyticAcquisition + 'static) -> Self {
        Self::Analytic(Arc::new(function))
    }

    /// Its name in fingerprints.
    pub(in crate::search::gp_bo) fn name(&self) -> String {
        match self {
            Self::QLogNei => "q_log_nei".into(),
            Self::LogEi => "log_ei".into(),
            Self::Analytic(function) => function.fingerprint(),
        }
    }
}

/// Functions of equal fingerprints are equal.
impl PartialEq for AcquisitionFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

/// How much the evaluation of one sequence is worth, given the posterior of its value: upper confidence bounds, the
/// probability of improvement and their like, for [`GpBo::with_acquisition`](crate::search::GpBo::with_acquisition).
///
/// Values are to be maximised and standardised: the observed ones have mean 0 and variance 1.
///
/// LAWS: a function of its arguments; never NaN, also for a variance of 0; it does not fall as the mean rises.
/// `testkit::acquisition` checks them.
///
/// ```
/// use composer_nas::{prelude::*, search::{AcquisitionFunction, AnalyticAcquisition}};
///
/// /// GP-UCB (Srinivas et al. 2010).
/// #[derive(Debug)]
/// struct UpperConfidenceBound {
///     beta: f64,
/// }
///
/// impl AnalyticAcquisition for UpperConfidenceBound {
///     fn fingerprint(&self) -> String {
///         format!("ucb {}", self.beta)
///     }
///
///     fn value(&self, mean: f64, variance: f64, _best: f64) -> f64 {
///         mean + (self.beta * variance).sqrt()
///     }
/// }
/// let ucb = AcquisitionFunction::analytic(UpperConfidenceBound { beta: 4.0 });
/// let searcher = GpBo::default().with_acquisition(ucb);
/// # assert!(searcher.fingerprint().contains("acquisition=ucb 4"));
/// ```
pub trait AnalyticAcquisition: fmt::Debug + Send + Sync {
    /// Name and settings: what a resumed search compares.
    fn fingerprint(&self) -> String;

    /// The value of a sequence with this posterior mean and variance, where `best` is the best posterior mean of an
    /// observed one.
    fn value(&self, mean: f64, variance: f64, best: f64) -> f64;
}
