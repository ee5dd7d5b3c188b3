//! Errors in the configuration of a task.

/// The maximum of any size in the configuration of a task. It is far above the settings of the benchmark, but instances
/// still fit in memory and token ids in 32 bits.
pub const MAX_SIZE: usize = 1 << 20;

/// The error of an invalid task. Retrying cannot help; each message says which setting to change, and how.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The sequence is too short for the shortest instance.
    #[error("{task}: seq_len is {seq_len} but these settings need at least {minimum}; raise seq_len")]
    SequenceTooShort {
        /// The name of the task.
        task: &'static str,
        /// The configured length.
        seq_len: usize,
        /// The smallest length that works with the other settings.
        minimum: usize,
    },
    /// The length is odd, but the sequence consists of slots of two tokens.
    #[error("{task}: seq_len is {seq_len} but must be even, as keys and values come in pairs; add or subtract 1")]
    OddLength {
        /// The name of the task.
        task: &'static str,
        /// The configured length.
        seq_len: usize,
    },
    /// The vocabulary is too small for special tokens, noise, keys and values.
    #[error(
        "{task}: vocab_size is {vocab_size} but special, noise and content tokens need {minimum}; raise vocab_size"
    )]
    VocabularyTooSmall {
        /// The name of the task.
        task: &'static str,
        /// The configured size.
        vocab_size: usize,
        /// The smallest size that works with the other settings.
        minimum: usize,
    },
    /// The fraction of noise is not a probability.
    #[error("frac_noise is {frac_noise}; choose a number from 0 to 1")]
    NoiseFraction {
        /// The configured fraction.
        frac_noise: f64,
    },
    /// There is noise, but no token for it.
    #[error("frac_noise is {frac_noise} but noise_vocab_size is 0; raise noise_vocab_size or set frac_noise to 0")]
    NoNoiseTokens {
        /// The configured fraction.
        frac_noise: f64,
    },
    /// Keys or values have no tokens.
    #[error("{field} is 0; set it to at least 1")]
    EmptyMotif {
        /// The name of the field.
        field: &'static str,
    },
    /// A motif needs more distinct tokens than there are.
    #[error(
        "{field} is {size} but only {tokens} distinct tokens are left to build it from; lower it or raise vocab_size"
    )]
    MotifTooLong {
        /// The name of the field.
        field: &'static str,
        /// The configured size.
        size: usize,
        /// The number of available distinct tokens.
        tokens: usize,
    },
    /// There is nothing to copy.
    #[error("num_tokens_to_copy is 0; set it to at least 1")]
    NothingToCopy,
    /// A size is above [`MAX_SIZE`].
    #[error("{field} is {value}; the largest size is {MAX_SIZE}")]
    TooLarge {
        /// The name of the field.
        field: &'static str,
        /// The configured value.
        value: usize,
    },
}

/// Returns an error for sizes above [`MAX_SIZE`], so that sums and products of a few of them cannot overflow.
pub(super) fn check_sizes<const N: usize>(sizes: [(&'static str, usize); N]) -> Result<(), TaskError> {
    match sizes.into_iter().find(|&(_, value)| value > MAX_SIZE) {
        Some((field, value)) => Err(TaskError::TooLarge { field, value }),
        None => Ok(()),
    }
}

/// Returns an error for lengths below `minimum`.
pub(super) fn check_length(task: &'static str, seq_len: usize, minimum: usize) -> Result<(), TaskError> {
    if seq_len < minimum { Err(TaskError::SequenceTooShort { task, seq_len, minimum }) } else { Ok(()) }
}

/// Returns an error for odd lengths.
pub(super) fn check_even(task: &'static str, seq_len: usize) -> Result<(), TaskError> {
    if seq_len.is_multiple_of(2) { Ok(()) } else { Err(TaskError::OddLength { task, seq_len }) }
}

/// Returns an error for vocabularies below `minimum`.
pub(super) fn check_vocabulary(task: &'static str, vocab_size: usize, minimum: usize) -> Result<(), TaskError> {
    if vocab_size < minimum { Err(TaskError::VocabularyTooSmall { task, vocab_size, minimum }) } else { Ok(()) }
}
