//! Sequences as other tools write them, both ways where a sequence can say it.
//!
//! | notation | example | here |
//! |---|---|---|
//! | Megatron-LM, `--hybrid-layer-pattern` | `M-M*-\|M-E/MM/MM` | [`Pattern`]: sequence, stages, prediction |
//! | Nemotron-H, `hybrid_override_pattern` | `M-M*-` | [`Alphabet::nemotron_h`] |
//! | flash-linear-attention, `attn` | `{"layers": [1, 3]}`, or a list of such | [`fla`] |
//! | Fast-LLM, `hybrid_block_layout` | `["t", "m2d"]` | [`blocks`] |
//! | OLMo-core and transformers, names of blocks | `["gdn", "gdn", "gdn", "attn"]` | [`blocks`] |
//!
//! Letters have no meaning that all tools share: `M` is Mamba-2 in Megatron-LM and Nemotron-H, and the SwiGLU here.
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

/// A text that is no sequence in its notation, or a sequence that the notation cannot say.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotationError {
    /// A letter without a meaning. Letters are never passed over.
    #[error("{text:?}: {letter:?} at position {position} has no meaning; known are {known}")]
    Letter {
        /// The whole text.
        text: String,
        /// The letter.
        letter: char,
        /// Character offset of the letter.
        position: usize,
        /// The letters that have one, and what they mean.
        known: String,
    },
    /// A letter of Megatron-LM whose layer does not exist here.
    #[error("{text:?}: {letter:?} is {what} in Megatron-LM, and there is no such layer here")]
    Absent {
        /// The whole text.
        text: String,
        /// The letter.
        letter: char,
        /// What it means there.
        what: &'static str,
    },
    /// A pattern whose parts do not go together.
    #[error("{text:?} is no layer pattern: {reason}")]
    Pattern {
        /// The whole text.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer that the notation has no letter for.
    #[error("the notation has no letter for {symbol}; it has letters for {known}")]
    Layer {
        /// The layer.
        symbol: Symbol,
        /// The layers that have one.
        known: String,
    },
    /// A description of blocks that names none.
    #[error("{0}")]
    Blocks(String),
    /// An alphabet that cannot be read.
    #[error("{text:?} is no alphabet: {reason}; use ours, megatron, nemotron-h, or pairs such as M=B,*=A,-=M")]
    Alphabet {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Beyond the bound on layers.
    #[error("a sequence has at most {MAX_LAYERS} layers")]
    TooLong,
}
