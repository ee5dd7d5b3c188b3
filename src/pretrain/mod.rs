//! Pre-training of language models, for runs of hours or weeks.
//!
//! [`Pretrainer`] trains a model on shuffled windows of a
//! [`Corpus`](crate::data::Corpus). It supports gradient accumulation, several local devices, periodic validation,
//! metrics as JSON lines, and checkpoints that are written atomically. A run can be killed at any moment. If you start
//! it again, it ends with the same losses and weights, bit for bit on the same type of CPU with the same number of
//! threads.
//!
//! The folder of a run:
//!
//! | file | content |
//! |---|---|
//! | `run.json` | model, corpus and settings; a run continues only if they are unchanged |
//! | `metrics.jsonl` | one [`Record`] per line |
//! | `checkpoints/step-…/` | `model.safetensors`, `optimizer.safetensors`, `state.json` |

mod checkpoint;
mod config;
mod error;
mod metrics;
mod run;
mod validation;

pub use config::PretrainConfig;
pub use error::PretrainError;
pub use metrics::{Measured, Record};
pub(crate) use run::Distil;
pub use run::{Pretrained, Pretrainer};
pub use validation::Validation;
pub(crate) use validation::validate;
