//! Acquisition functions: the value of evaluating an architecture, given the posterior of a Gaussian process.
//!
//! All functions work on means and covariances of the latent function `f`, which is maximised. Pass them on the scale
//! of standardised outcomes, because the smoothing temperatures and the jitter are absolute numbers chosen for that
//! scale.
//!
//! | item | applies to | source |
//! |---|---|---|
//! | [`log_ei`](log_ei::log_ei) | one point, a noise-free incumbent | LogEI, Ament et al. 2023, arXiv 2310.20708 |
//! | [`QLogNei`] | a batch of points, noisy and pending evaluations | qLogNEI, ibid.; qNEI, Balandat et al. 2020 |
//! | [`QLogNehvi`] | the same for several objectives | qLogNEHVI, ibid.; qNEHVI, Daulton et al. 2021 |
//! | [`OneNoisy`] | the same if all objectives but one are known exactly | |
//! | [`prune_inferior`] | the evaluated points that can be the best | BoTorch's `prune_inferior_points` |

mod base_samples;
mod cells;
mod cholesky;
mod function;
pub(crate) mod log_ei;
mod one_noisy;
mod prune;
mod q_log_nehvi;
mod q_log_nei;
mod smooth;
#[cfg(test)]
mod golden;

pub(crate) use self::{
    base_samples::base_samples,
    one_noisy::{NoisyBaseline, NoisySingles, OneNoisy},
    prune::{PRUNE_SAMPLES, prune_inferior, surviving},
    q_log_nehvi::{Baseline, Batch, QLogNehvi, Singles},
    q_log_nei::{QLogNei, SAMPLES},
    smooth::ln_normal,
};
pub use function::{AcquisitionFunction, AnalyticAcquisition};

use thiserror::Error;

/// Why an acquisition function has no value.
#[derive(Clone, Debug, PartialEq, Error)]
pub(crate) enum AcquisitionError {
    /// A baseline of no points, or samples of no rows.
    #[error("{what} is empty: give at least one")]
    Empty {
        /// What is empty.
        what: &'static str,
    },
    /// Sizes that do not belong together.
    #[error("{what} is {} x {}, but {} x {} is needed: take all parts from one posterior", .found.0, .found.1, .needed.0, .needed.1)]
    Shape {
        /// What has the wrong size.
        what: &'static str,
        /// Its rows and columns.
        found: (usize, usize),
        /// The rows and columns it must have.
        needed: (usize, usize),
    },
    /// More points than base samples have columns.
    #[error("the base samples have {found} columns, but {needed} points are asked for: draw wider base samples")]
    TooFewColumns {
        /// Columns of the base samples.
        found: usize,
        /// Baseline points and candidates together.
        needed: usize,
    },
    /// A mean or covariance that is infinite or not a number.
    #[error("{what} is not finite: check the outcomes and the hyper-parameters of the surrogate")]
    NotFinite {
        /// What is not finite.
        what: &'static str,
    },
    /// A covariance without a Cholesky factor.
    #[error(
        "{what} is not positive definite, even with {jitter:e} added to its diagonal: raise the noise floor of the \
         surrogate, or pass each point once and outcomes standardised"
    )]
    NotPositiveDefinite {
        /// Which covariance.
        what: &'static str,
        /// The most that was added.
        jitter: f64,
    },
}
