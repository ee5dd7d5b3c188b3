//! Scaling studies: which architecture is best at which amount of training compute?
//!
//! A study trains models of several sizes with the same amount of work. Near the optimal size, the loss is a parabola
//! in the logarithm of the size. The optimal sizes and losses at several budgets follow power laws (Hoffmann et al.
//! 2022, arXiv 2203.15556, approach 2; Composer, arXiv 2510.00379, compares its architectures in this way). [`Grid`]
//! plans the trainings, [`measure`] runs them and can be stopped and resumed, [`Scaling`] fits the power laws, and
//! [`Agreement`] states how well the ranking at a small scale predicts losses at a larger scale.
//!
//! Notation: `N` parameters of the layers, `C` training work in floating-point operations, `L` validation loss in nats.

mod agreement;
mod fit;
mod grid;
mod run;

pub use agreement::Agreement;
pub use fit::{FitError, Optimum, PowerLaw, Scaling};
pub use grid::{Cell, Family, Grid, GridError};
pub use run::{IsoflopError, Measurement, measure, read};
