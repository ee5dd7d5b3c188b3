//! Bayesian optimisation with a Gaussian process.
//!
//! The surrogate model is BoTorch's `SingleTaskGP` (version 0.18.1) in closed form and in double precision:
//! standardised outcomes, a constant mean, an ARD kernel with dimension-scaled priors (Hvarfner et al. 2024, arXiv
//! 2402.02229), and hyperparameters that maximise their posterior density. Reference values from BoTorch are in
//! `tests/fixtures/bo/`.
//!
//! | file | contents |
//! |---|---|
//! | `searcher` | `GpBo`, its settings and its methods |
//! | `kind` | the kinds of surrogate models |
//! | `design` | the quasi-random initial trials |
//! | `best_and_latest` | the observations that are kept when there are too many |
//! | `fitted` | a fitted model of one objective: proposals, recommendation, inspection |
//! | `several` | the same for several objectives and for bounds |
//! | `inspection` | what the model has learnt, as plain values |
//! | `acquisition` | acquisition functions |
//! | `budget` | limits on the cost of a proposal |
//! | `maximise` | the architecture with the largest acquisition value |
//! | `encoding` | architectures → rows of a matrix |
//! | `features` | architectures → features of the structured kernel |
//! | `outcomes` | outcomes → mean 0 and standard deviation 1, and back |
//! | `outliers` | values far below all others |
//! | `kernel` | covariance functions: RBF, categorical, structured, user-defined |
//! | `prior` | the log-normal density |
//! | `factor` | the Cholesky factor and its inverse |
//! | `posterior` | exact inference, given covariance matrices |
//! | `hyper` | hyperparameters, their posterior density and its gradient |
//! | `minimise` | L-BFGS with a bounded number of evaluations |
//! | `fit` | the best hyperparameters from several starting points |
//! | `surrogate` | a fitted Gaussian process over encoded points |
//! | `error` | `GpError` |

mod acquisition;
mod best_and_latest;
mod budget;
mod design;
mod encoding;
mod error;
mod factor;
mod features;
mod fit;
mod hyper;
mod inspection;
mod kernel;
mod kind;
mod maximise;
mod minimise;
mod outcomes;
mod outliers;
mod posterior;
mod prior;
mod fitted;
mod searcher;
mod several;
mod surrogate;
#[cfg(test)]
mod golden;

pub use acquisition::{AcquisitionFunction, AnalyticAcquisition};
pub use budget::AskBudget;
pub(crate) use error::GpError;
pub use features::Term;
pub use inspection::{Candidate, Inspection, LeaveOneOut};
pub use kernel::SequenceKernel;
pub use searcher::GpBo;
