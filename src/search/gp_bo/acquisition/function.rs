//! The choice of an acquisition function.

use std::{fmt, sync::Arc};

/// The function of the posterior that a proposal maximises.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AcquisitionFunction {
    /// The logarithm of the noisy expected improvement over the observed and pending sequences (Ament et al. 2023,
    /// arXiv 2310.20708), by Monte Carlo. It integrates over noise and over the results of pending trials.
    QLogNei,
    /// The logarithm of the expected improvement over the best posterior mean, in closed form. Pending trials are
    /// assumed to return their posterior means (the kriging believer of Ginsbourger et al. 2010, "Kriging is
    /// well-suited to parallelize optimization").
    LogEi,
    /// A user-defined function of the posterior of one sequence. Pending trials are handled as for `LogEi`.
    Analytic(Arc<dyn AnalyticAcquisition>),
}

impl AcquisitionFunction {
    /// Creates an acquisition function from a user-defined one.
    pub fn analytic(function: impl AnalyticAcquisition + 'static) -> Self {
        Self::Analytic(Arc::new(function))
    }

    /// Returns the name used in fingerprints.
    pub(in crate::search::gp_bo) fn name(&self) -> String {
        match self {
            Self::QLogNei => "q_log_nei".into(),
            Self::LogEi => "log_ei".into(),
            Self::Analytic(function) => function.fingerprint(),
        }
    }
}

/// Acquisition functions are equal if their names are.
impl PartialEq for AcquisitionFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

/// A user-defined acquisition function: the value of evaluating one sequence, given the posterior of its outcome.
/// Examples are upper confidence bounds and the probability of improvement. Use it with
/// [`GpBo::with_acquisition`](crate::search::GpBo::with_acquisition).
///
/// Outcomes are oriented so that larger is better, and standardised: the observed ones have mean 0 and variance 1.
///
/// Laws, checked by `testkit::acquisition`:
/// - the value depends on the arguments alone;
/// - it is never NaN, not even for a variance of 0;
/// - it does not decrease when the mean increases.
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
    /// Returns the name and settings. A journal can be continued only with the same fingerprint.
    fn fingerprint(&self) -> String;

    /// Returns the value of a sequence with this posterior `mean` and `variance`. `best` is the largest posterior mean
    /// of the observed sequences.
    fn value(&self, mean: f64, variance: f64, best: f64) -> f64;
}
