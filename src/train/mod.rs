//! One trainer for proxies and for pre-training.
//!
//! A [`Trainer`] makes one step after the other and can be put aside; [`train`] drives any
//! [`Network`](crate::model::Network) through a [`TrainConfig`]: AdamW, a [`LrSchedule`], clipping by the global
//! gradient norm, evaluation, early stop and cancellation. A run that diverges is an [`Outcome`], not an error.
//!
//! The same model and the same batches give bit-identical weights on a CPU, whatever other trainings run beside it: no
//! random number is drawn here. Burn's `flex` splits large reductions over the threads of the current `rayon` pool, so
//! compare runs inside pools of one size.

mod batch;
mod clip;
mod config;
mod error;
mod freeze;
mod gradients;
mod loss;
mod memory;
mod optimizer;
mod outcome;
mod predict;
mod run;
mod schedule;
mod trainer;

pub use batch::{IGNORE, TokenBatch};
pub use clip::clip_global_norm;
pub use config::{Precision, TrainConfig};
pub use error::{BatchError, DataError, TrainError};
pub use loss::{cross_entropy, divergence};
pub(crate) use memory::least_bytes;
pub use optimizer::{AdamW, AdamWConfig, Moments};
pub use outcome::{DivergedQuantity, Evaluation, Outcome, Point, Progress};
pub use predict::{Predictions, ScoredToken, predict};
pub use run::{Trained, train};
pub use schedule::{Decay, LrSchedule};
pub use trainer::{Step, Trainer, TrainerProgress};
