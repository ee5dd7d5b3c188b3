//! Reads and writes sequences in the notations of other tools.
//!
//! | notation | example | API |
//! |---|---|---|
//! | Megatron-LM, `--hybrid-layer-pattern` | `M-M*-\|M-E/MM/MM` | [`Pattern`], with stages and prediction |
//! | Nemotron-H, `hybrid_override_pattern` | `M-M*-` | [`Alphabet::nemotron_h`] |
//! | flash-linear-attention, `attn` | `{"layers": [1, 3]}`, or a list of such objects | [`fla`] |
//! | Fast-LLM, `hybrid_block_layout` | `["t", "m2d"]` | [`blocks`] |
//! | OLMo-core and transformers, block names | `["gdn", "gdn", "gdn", "attn"]` | [`blocks`] |
//!
//! A letter may mean different layers in different tools: `M` is Mamba-2 in Megatron-LM and Nemotron-H, but SwiGLU in
//! this crate.
//!
//! ```
//! use composer_nas::space::notation::{Alphabet, Pattern};
//! let pattern: Pattern = "M-M*-/MM".parse()?;
//! assert_eq!((pattern.architecture.letters().as_str(), pattern.predicted), ("BMBAM", 1));
//! assert_eq!(Alphabet::megatron().write(&pattern.architecture)?, "M-M*-");
//! # Ok::<(), composer_nas::space::notation::NotationError>(())
//! ```

mod alphabet;
mod blocks;
mod pattern;

pub use alphabet::Alphabet;
pub use blocks::{blocks, fla};
pub use pattern::Pattern;

use thiserror::Error;

use crate::{limits::MAX_LAYERS, primitive::Symbol};

/// The error of a text that is not valid in its notation, or of a sequence that the notation cannot express.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotationError {
    /// A letter without a meaning. Unknown letters are never skipped.
    #[error("{text:?}: {letter:?} at position {position} has no meaning; known letters: {known}")]
    Letter {
        /// The whole text.
        text: String,
        /// The letter.
        letter: char,
        /// Offset of the letter, in characters.
        position: usize,
        /// The known letters and their meanings.
        known: String,
    },
    /// A Megatron-LM letter for a layer that this crate does not have.
    #[error("{text:?}: {letter:?} is {what} in Megatron-LM, which this crate does not support")]
    Absent {
        /// The whole text.
        text: String,
        /// The letter.
        letter: char,
        /// What the letter means in Megatron-LM.
        what: &'static str,
    },
    /// A pattern that is malformed or contradicts itself.
    #[error("{text:?} is not a layer pattern: {reason}")]
    Pattern {
        /// The whole text.
        text: String,
        /// The reason.
        reason: String,
    },
    /// A layer without a letter in this notation.
    #[error("the notation has no letter for {symbol}; it has letters for {known}")]
    Layer {
        /// The layer.
        symbol: Symbol,
        /// The layers that have a letter.
        known: String,
    },
    /// An invalid list or configuration of blocks.
    #[error("{0}")]
    Blocks(String),
    /// An alphabet that cannot be parsed.
    #[error("{text:?} is not an alphabet: {reason}; use ours, megatron, nemotron-h, or pairs such as M=B,*=A,-=M")]
    Alphabet {
        /// The text.
        text: String,
        /// The reason.
        reason: &'static str,
    },
    /// The sequence has more than [`Architecture::MAX_LAYERS`](super::Architecture::MAX_LAYERS) layers.
    #[error("a sequence has at most {MAX_LAYERS} layers")]
    TooLong,
}
