//! Pre-training: a specification and a corpus to a language model, over hours or weeks.
//!
//! [`Pretrainer`] drives the [`Trainer`](crate::train::Trainer) over shuffled windows of a
//! [`Corpus`](crate::data::Corpus), with gradient accumulation, several local devices, periodic validation, metrics as
//! JSON lines and checkpoints that are whole or absent. A run that is killed at any moment and started again ends with
//! the same losses and weights, bit for bit on one kind of CPU with equally many threads.
//!
//! The folder of a run:
//!
//! | file | what it is |
//! |---|---|
//! | `run.json` | model, corpus and settings; a run goes on only with the same |
//! | `metrics.jsonl` | one [`Record`] per line |
//! | `checkpoints/step-…/` | `model.safetensors`, `optimizer.safetensors`, `state.json` |

mod checkpoint;
mod config;
mod error;
mod metrics;
mod run;
mod validation;

pub use checkpoint::CHECKPOINTS;
pub use config::PretrainConfig;
pub use error::PretrainError;
pub use metrics::{Measured, Record};
pub use run::{Distil, Pretrained, Pretrainer};
pub use validation::{Validation, validate};
