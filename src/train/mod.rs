//! Training of networks, both proxies and full-size models.
//!
//! [`train`] trains any [`Network`](crate::model::Network) as configured by a [`TrainConfig`]: AdamW, a learning rate
//! schedule ([`LrSchedule`]), clipping by the global gradient norm, evaluation, early stopping and cancellation.
//! [`Trainer`] makes single steps. A diverged training is an [`Outcome`], not an error.
//! [`Pretrainer`](crate::pretrain::Pretrainer) adds checkpoints.
//!
//! On a CPU, the same model and the same batches give bit-identical weights, regardless of concurrent trainings: this
//! module draws no random numbers. Burn's `flex` backend splits large reductions over the threads of the current
//! `rayon` pool, so only compare runs in pools of the same size.

mod batch;
mod clip;
mod config;
mod ensemble;
mod error;
mod freeze;
mod gradients;
mod loss;
mod memory;
mod optimizer;
mod outcome;
mod predict;
mod room;
mod run;
mod schedule;
mod trainer;
mod window;

pub use batch::{IGNORE, TokenBatch};
pub use clip::clip_global_norm;
pub use config::{Precision, TrainConfig};
pub(crate) use ensemble::{joined, train_ensemble};
pub use error::{BatchError, DataError, TrainError};
pub use loss::cross_entropy;
pub(crate) use loss::divergence;
pub(crate) use memory::{check_device, least_bytes};
pub(crate) use optimizer::Moments;
pub use optimizer::{AdamW, AdamWConfig};
pub use outcome::{DivergedQuantity, Evaluation, Outcome, Point, StepReport};
pub use predict::{Predictions, ScoredToken, predict};
pub(crate) use room::Room;
pub use run::{Trained, train};
pub use schedule::{Decay, LrSchedule};
pub(crate) use trainer::TrainerProgress;
pub use trainer::{Step, Trainer};

#[cfg(all(test, feature = "flex"))]
mod tests;
