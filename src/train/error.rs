//! Errors of a training.

use burn::tensor::TensorReadError;
use thiserror::Error;

use crate::limits::LimitError;

/// The error of a data source.
pub type DataError = Box<dyn std::error::Error + Send + Sync>;

/// A training that cannot run. A diverged training is not an error but an [`Outcome`](super::Outcome).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A count is zero.
    #[error("{0} is 0: it must be at least 1")]
    Zero(&'static str),
    /// A setting is not a positive number.
    #[error("{name} is {value}: it must be a positive number")]
    NotPositive {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A setting is negative or not a number.
    #[error("{name} is {value}: it must be zero or a positive number")]
    Negative {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A decay rate of a running mean is not in [0, 1).
    #[error("{name} is {value}: it must lie in [0, 1), such as 0.9")]
    Beta {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// The final learning rate is above the peak, negative, or not a number.
    #[error("schedule.floor is {floor}: it must lie between 0 and schedule.peak, which is {peak}")]
    Floor {
        /// The final learning rate.
        floor: f64,
        /// The peak learning rate.
        peak: f64,
    },
    /// The warm-up is longer than the schedule.
    #[error("schedule.warmup_steps {warmup_steps} exceeds schedule.total_steps {total_steps}: shorten the warm-up")]
    Warmup {
        /// Steps of the warm-up.
        warmup_steps: usize,
        /// Steps of the schedule.
        total_steps: usize,
    },
    /// The final decay does not fit into the schedule, or has no steps.
    #[error(
        "schedule.decay has {decay_steps} steps, but schedule.total_steps is {total_steps} and the \
         warm-up takes {warmup_steps}: use between 1 and the remaining steps"
    )]
    Decay {
        /// Steps of the decay.
        decay_steps: usize,
        /// Steps of the warm-up.
        warmup_steps: usize,
        /// Steps of the schedule.
        total_steps: usize,
    },
    /// A size exceeds a limit, or the memory of this machine.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The threshold of early stopping is not a valid accuracy.
    #[error("stop_above is {0}: it must lie between 0 and 1; leave it out to train all steps")]
    Threshold(f64),
    /// The model has no parameters.
    #[error("the model has no parameters to train")]
    NoParameters,
    /// A batch does not fit the model.
    #[error("the batch of step {step} does not fit the model")]
    Batch {
        /// The step, from 0.
        step: usize,
        /// What is wrong with the batch.
        source: BatchError,
    },
    /// A step was called without a batch.
    #[error("step {step} has no batch: pass at least one")]
    NoBatch {
        /// The step, from 0.
        step: usize,
    },
    /// The data source failed.
    #[error("the data source has no batch for step {step}")]
    Data {
        /// The step, from 0.
        step: usize,
        /// The error of the data source.
        source: DataError,
    },
    /// An evaluation batch does not fit the model.
    #[error("an evaluation batch does not fit the model")]
    Evaluation(#[from] BatchError),
    /// The device failed. On an accelerator, a smaller batch may help.
    #[error("the device did not return a result")]
    Device(#[from] TensorReadError),
}

/// A batch that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The batch has no sequences or no positions.
    #[error("it is empty ({batch} sequences of {seq} tokens)")]
    Empty {
        /// The number of sequences.
        batch: usize,
        /// The number of tokens per sequence.
        seq: usize,
    },
    /// The number of inputs or targets is not `batch * seq`.
    #[error("{batch} sequences of {seq} tokens need {} inputs and targets, not {inputs} and {targets}", batch * seq)]
    Length {
        /// The number of sequences.
        batch: usize,
        /// The number of tokens per sequence.
        seq: usize,
        /// The number of inputs.
        inputs: usize,
        /// The number of targets.
        targets: usize,
    },
    /// A token is outside the vocabulary.
    #[error("token {token} is outside the model's vocabulary of {vocab_size}")]
    Token {
        /// The token.
        token: i32,
        /// The size of the vocabulary.
        vocab_size: usize,
    },
    /// Every target is [`IGNORE`](super::IGNORE).
    #[error("no position is scored: at least one target must differ from -100")]
    NothingScored,
}
