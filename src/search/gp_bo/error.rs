//! The error of a Gaussian process.

use thiserror::Error;

use super::acquisition::AcquisitionError;
use crate::text::causes;

/// The error of a Gaussian process that cannot be fitted. Its message says what to do. The same data always give the
/// same error.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub(crate) enum GpError {
    /// Nothing has been observed.
    #[error("a Gaussian process needs at least one observation: evaluate an initial design first")]
    NoObservations,
    /// An outcome is NaN or infinite.
    #[error("outcome {index} is {value}: leave out trials that failed, or give them a finite value")]
    NotFinite {
        /// The index of the outcome, from zero.
        index: usize,
        /// Its value.
        value: f64,
    },
    /// Two arguments that must agree in size do not.
    #[error("{what}: expected {expected}, found {found}: pass one row for every outcome, in the same encoding")]
    Shape {
        /// What was counted.
        what: &'static str,
        /// The required number.
        expected: usize,
        /// The number found.
        found: usize,
    },
    /// An architecture does not lie in the space of the encoding.
    #[error("{architecture} cannot be encoded: use sequences of the search space's length and symbols only")]
    OutsideSpace {
        /// The architecture, as text.
        architecture: String,
    },
    /// A covariance matrix has no Cholesky factor.
    #[error(
        "the covariance of {points} points is not positive definite, even with {jitter:e} on its diagonal: raise the \
         noise, or merge points that are nearly equal"
    )]
    NotPositiveDefinite {
        /// The number of points.
        points: usize,
        /// The largest jitter that was tried.
        jitter: f64,
    },
    /// The posterior density of the hyperparameters is not finite at any point that was tried.
    #[error("none of the {starts} starts of the fit has a finite posterior density: start from other hyperparameters")]
    Fit {
        /// The number of starting points that were tried.
        starts: usize,
    },
    /// The acquisition function has no value.
    #[error("the acquisition function failed: {0}")]
    Acquisition(String),
}

impl From<AcquisitionError> for GpError {
    fn from(error: AcquisitionError) -> Self {
        GpError::Acquisition(causes(&error))
    }
}
