//! Bayesian optimisation with a Gaussian process.
//!
//! The surrogate is BoTorch's `SingleTaskGP` (version 0.18.1) in closed form and in double precision: standardised
//! outcomes, a constant mean, an ARD kernel with dimension-scaled priors (Hvarfner et al. 2024, arXiv 2402.02229), and
//! hyperparameters that maximise the posterior density. Golden values of BoTorch are in `tests/fixtures/bo/`.
//!
//! | file | holds |
//! |---|---|
//! | `searcher` | `GpBo`: what is configured and asked |
//! | `design` | the quasi-random start |
//! | `proposer` | one fitted process and what follows from it |
//! | `several` | the same for several objectives and bounds |
//! | `inspection` | what has been learnt, as a value |
//! | `features` | what a sequence is described by in the structured kernel |
//! | `acquisition` | how much an architecture promises |
//! | `budget` | what a proposal may cost |
//! | `maximise` | the architecture that promises most |
//! | `encoding` | architectures → rows of a matrix |
//! | `outcomes` | outcomes → mean 0, standard deviation 1, and back |
//! | `kernel` | what a covariance function is; RBF, categorical, structured |
//! | `prior` | the log-normal density |
//! | `factor` | Cholesky factor and its inverse |
//! | `posterior` | the exact process, whatever kernel its matrices come from |
//! | `hyper` | hyperparameters, their posterior density and its gradient |
//! | `minimise` | L-BFGS with a bounded number of evaluations |
//! | `fit` | the best hyperparameters of several starts |
//! | `surrogate` | all of the above as one model of a study |

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
mod posterior;
mod prior;
mod proposer;
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
