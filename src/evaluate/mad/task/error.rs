//! What can be wrong with a task's configuration.

/// Largest value of any size in a task's configuration: far above every benchmark setting, and small enough that an
/// instance always fits in memory and every token id in 32 bits.
pub const MAX_SIZE: usize = 1 << 20;

/// Why a task cannot be sampled. No retry can help: each message says which setting to change, and how.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The sequence has no room for the shortest instance.
    #[error("{task}: seq_len is {seq_len} but these settings need at least {minimum}; raise seq_len")]
    SequenceTooShort {
        /// Name of the task.
        task: &'static str,
        /// The length configured.
        seq_len: usize,
        /// The least length that works with the other settings.
        minimum: usize,
    },
    /// The sequence consists of slots of two tokens.
    #[error("{task}: seq_len is {seq_len} but must be even, as keys and values come in pairs; add or take away one")]
    OddLength {
        /// Name of the task.
        task: &'static str,
        /// The length configured.
        seq_len: usize,
    },
    /// Special tokens, noise, keys and values do not fit.
    #[error(
        "{task}: vocab_size is {vocab_size} but special, noise and content tokens need {minimum}; raise vocab_size"
    )]
    VocabularyTooSmall {
        /// Name of the task.
        task: &'static str,
        /// The size configured.
        vocab_size: usize,
        /// The least size that works with the other settings.
        minimum: usize,
    },
    /// The noise share is no probability.
    #[error("frac_noise is {frac_noise}; choose a number from 0 to 1")]
    NoiseFraction {
        /// The share configured.
        frac_noise: f64,
    },
    /// Noise is wanted, but there is no token to write it with.
    #[error("frac_noise is {frac_noise} but noise_vocab_size is 0; raise noise_vocab_size or set frac_noise to 0")]
    NoNoiseTokens {
        /// The share configured.
        frac_noise: f64,
    },
    /// Keys or values of no tokens.
    #[error("{field} is 0; set it to at least 1")]
    EmptyMotif {
        /// The offending field.
        field: &'static str,
    },
    /// The tokens of a motif are distinct, and there are not that many.
    #[error(
        "{field} is {size} but only {tokens} distinct tokens are left to build it from; lower it or raise vocab_size"
    )]
    MotifTooLong {
        /// The offending field.
        field: &'static str,
        /// The size configured.
        size: usize,
        /// Distinct tokens available.
        tokens: usize,
    },
    /// A copying task without anything to copy.
    #[error("num_tokens_to_copy is 0; set it to at least 1")]
    NothingToCopy,
    /// A size beyond [`MAX_SIZE`].
    #[error("{field} is {value}; the largest size is {MAX_SIZE}")]
    TooLarge {
        /// The offending field.
        field: &'static str,
        /// The value configured.
        value: usize,
    },
}

/// Refuses sizes beyond [`MAX_SIZE`], so that no later sum or product of a few of them can overflow.
pub(super) fn check_sizes<const N: usize>(sizes: [(&'static str, usize); N]) -> Result<(), TaskError> {
    match sizes.into_iter().find(|&(_, value)| value > MAX_SIZE) {
        Some((field, value)) => Err(TaskError::TooLarge { field, value }),
        None => Ok(()),
    }
}

/// Refuses lengths below `minimum`.
pub(super) fn check_length(task: &'static str, seq_len: usize, minimum: usize) -> Result<(), TaskError> {
    if seq_len < minimum { Err(TaskError::SequenceTooShort { task, seq_len, minimum }) } else { Ok(()) }
}

/// Refuses odd lengths.
pub(super) fn check_even(task: &'static str, seq_len: usize) -> Result<(), TaskError> {
    if seq_len.is_multiple_of(2) { Ok(()) } else { Err(TaskError::OddLength { task, seq_len }) }
}

/// Refuses vocabularies below `minimum`.
pub(super) fn check_vocabulary(task: &'static str, vocab_size: usize, minimum: usize) -> Result<(), TaskError> {
    if vocab_size < minimum { Err(TaskError::VocabularyTooSmall { task, vocab_size, minimum }) } else { Ok(()) }
}
