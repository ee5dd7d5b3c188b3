//! Limits on the cost of a proposal.

/// The maximum cost of one proposal. With `N` observations, a fit takes time proportional to `fit_evaluations` × `N^3`,
/// and the search for the best candidate to `candidates` × `N^2`.
/// [`GpBo::with_observations`](super::GpBo::with_observations) limits `N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskBudget {
    /// The maximum number of evaluations of the likelihood from each starting point of a fit.
    pub fit_evaluations: usize,
    /// The maximum number of observations to which hyperparameters are fitted. They are spread evenly over all
    /// observations. Predictions use every observation that [`GpBo::with_observations`](super::GpBo::with_observations)
    /// keeps.
    pub fit_observations: usize,
    /// The maximum number of sequences that are scored in a space that is too large to enumerate.
    pub candidates: usize,
}

impl AskBudget {
    /// The default of the structured surrogate, which has few hyperparameters and few maxima.
    pub(super) const STRUCTURED: Self = Self { fit_evaluations: 60, fit_observations: 1000, candidates: 6_000 };
    /// The default of BoTorch's surrogates.
    pub(super) const BOTORCH: Self = Self { fit_evaluations: 200, fit_observations: 1000, candidates: 20_000 };
}
