//! The MAD proxy: small models trained on synthetic tasks, each of which tests one ability (Poli et al. 2024, arXiv
//! 2403.17844).
//!
//! A [`Protocol`] defines which [tasks](task) are trained, for how long, and how they are scored. [`Mad`] is the
//! evaluator. [`Protocol::quick`] is fast on a CPU, [`Protocol::reference`] follows the published benchmark at its
//! baseline settings, and [`Protocol::full`] adds its difficulty settings.

mod check;
mod data;
mod evaluator;
mod completed_runs;
mod progress_tracker;
pub(crate) mod metric;
mod preset;
mod protocol;
mod training_metrics;
mod repetitions;
mod run;
pub mod task;

pub use check::ProtocolError;
pub use evaluator::{Mad, MadError};
pub use metric::Metric;
pub use protocol::{Hyperparameters, Protocol, Scoring, Selection, TrainData, Training};
use task::{Task, TaskError};
pub use training_metrics::TrainingMetrics;
