//! What can go wrong around a training, and what to do about it.

use burn::tensor::TensorReadError;
use thiserror::Error;

use crate::limits::LimitError;

/// Why a source of data failed.
pub type DataError = Box<dyn std::error::Error + Send + Sync>;

/// A training that cannot run. A run whose loss diverges is no error but an [`Outcome`](super::Outcome).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A count is zero.
    #[error("{0} is 0: it must be at least 1")]
    Zero(&'static str),
    /// A real-valued setting is not a positive number.
    #[error("{name} is {value}: it must be a positive number")]
    NotPositive {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A real-valued setting is negative or no number.
    #[error("{name} is {value}: it must be zero or a positive number")]
    Negative {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// A decay rate of a running mean is none.
    #[error("{name} is {value}: it must lie in [0, 1), such as 0.9")]
    Beta {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// The final rate is above the peak, negative or no number.
    #[error("schedule.floor {floor} does not lie between 0 and schedule.peak {peak}")]
    Floor {
        /// The final rate.
        floor: f64,
        /// The highest rate.
        peak: f64,
    },
    /// The warm-up outlasts the schedule.
    #[error("schedule.warmup_steps {warmup_steps} exceeds schedule.total_steps {total_steps}: shorten the warm-up")]
    Warmup {
        /// Steps of warm-up.
        warmup_steps: usize,
        /// Steps of the whole schedule.
        total_steps: usize,
    },
    /// The decay at the end is longer than the schedule, or none.
    #[error(
        "schedule.decay takes {decay_steps} of schedule.total_steps {total_steps} with {warmup_steps} of warm-up: shorten it"
    )]
    Decay {
        /// Steps of decay.
        decay_steps: usize,
        /// Steps of warm-up.
        warmup_steps: usize,
        /// Steps of the whole schedule.
        total_steps: usize,
    },
    /// A size beyond any training, or beyond this machine.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The threshold of the early stop is no accuracy.
    #[error("stop_above is {0}: an accuracy lies between 0 and 1; leave it out to train all steps")]
    Threshold(f64),
    /// The model has no parameters.
    #[error("the model has no parameters to train")]
    NoParameters,
    /// A batch does not fit the model.
    #[error("the batch of step {step} does not fit")]
    Batch {
        /// The step, counted from 0.
        step: usize,
        /// What does not fit.
        source: BatchError,
    },
    /// A step was asked for without a batch.
    #[error("step {step} has no batch: at least one is needed")]
    NoBatch {
        /// The step, counted from 0.
        step: usize,
    },
    /// The source of data failed.
    #[error("no batch for step {step}")]
    Data {
        /// The step, counted from 0.
        step: usize,
        /// Why.
        source: DataError,
    },
    /// A batch for evaluation does not fit the model.
    #[error("a batch of the evaluation does not fit")]
    Evaluation(#[from] BatchError),
    /// The device failed. On an accelerator a smaller batch may help.
    #[error("the device did not return a result")]
    Device(#[from] TensorReadError),
}

/// A batch that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BatchError {
    /// No sequence or no position.
    #[error("it is empty ({batch} sequences of {seq} tokens)")]
    Empty {
        /// Number of sequences.
        batch: usize,
        /// Tokens per sequence.
        seq: usize,
    },
    /// The numbers of inputs and targets are not `batch * seq`.
    #[error("{batch} sequences of {seq} tokens need {} inputs and targets, not {inputs} and {targets}", batch * seq)]
    Length {
        /// Number of sequences.
        batch: usize,
        /// Tokens per sequence.
        seq: usize,
        /// Number of inputs.
        inputs: usize,
        /// Number of targets.
        targets: usize,
    },
    /// A token beyond the vocabulary.
    #[error("token {token} is outside the model's vocabulary of {vocab_size}")]
    Token {
        /// The offender.
        token: i32,
        /// Number of token ids.
        vocab_size: usize,
    },
    /// Every target is [`IGNORE`](super::IGNORE).
    #[error("no position is scored: at least one target must differ from -100")]
    NothingScored,
}
