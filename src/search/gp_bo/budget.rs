//! What a proposal may cost.

/// The most that one proposal may cost. With `N` observations a fit costs `fit_evaluations` times `N^3`, the search for
/// the best candidate `candidates` times `N^2`; [`GpBo::with_observations`](super::GpBo::with_observations) bounds `N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskBudget {
    /// Evaluations of the likelihood from each start of a fit.
    pub fit_evaluations: usize,
    /// Observations to which hyperparameters are fitted, spread evenly over all of them; predictions use all that
    /// the searcher looks at.
    pub fit_observations: usize,
    /// Sequences that are scored.
    pub candidates: usize,
}

impl AskBudget {
    /// Of the structured surrogate: its few hyperparameters and few maxima need little.
    pub(super) const STRUCTURED: Self = Self { fit_evaluations: 60, fit_observations: 1000, candidates: 6_000 };
    /// Of the surrogates of BoTorch.
    pub(super) const BOTORCH: Self = Self { fit_evaluations: 200, fit_observations: 1000, candidates: 20_000 };
}
