//! Scaling studies: which sequence is best at which amount of training work?
//!
//! Models of several sizes train with equal work; the loss over the logarithm of the size is a parabola near its best
//! size, and best sizes and losses of several budgets follow power laws (Hoffmann et al. 2022, arXiv 2203.15556,
//! approach 2; Composer, arXiv 2510.00379, compares its architectures so). [`Grid`] plans the trainings, [`measure`]
//! carries them out and can be stopped and resumed, [`Scaling`] fits, and [`Agreement`] says how well ranks at a small
//! scale foretell losses at a larger one.
//!
//! Notation: `N` parameters of the layers, `C` training work in floating-point operations, `L` validation loss in nats.

mod agreement;
mod fit;
mod grid;
mod run;

pub use agreement::Agreement;
pub use fit::{FitError, Optimum, PowerLaw, Scaling};
pub use grid::{Cell, Family, Grid, GridError, Grow};
pub use run::{Measurement, StudyError, measure, read};
