//! Token data on disk: readers, writers, windows in a shuffled order.
//!
//! [`TokenFile`] reads what Megatron-LM (`.bin` with `.idx`) and nanoGPT or llm.c (flat `.bin`) write; [`TokenWriter`]
//! writes the same. [`Windows`] cuts tokens into sequences of equal length, and [`Sampler`] shuffles them: the batch of
//! a step is a function of the seed and the step, so a training resumes at any step without having kept anything. With
//! the feature `tokenizers`, `Importer` makes token files of text. `docs/data.md` shows how corpora are prepared.

mod corpus;
mod error;
mod file;
#[cfg(feature = "tokenizers")]
mod import;
mod megatron;
mod sampler;
mod shuffle;
mod width;
mod windows;
mod writer;

pub use corpus::{Corpus, CorpusInfo};
pub use error::TokenError;
pub use file::TokenFile;
#[cfg(feature = "tokenizers")]
pub use import::{ImportError, Importer, TextReader};
pub use sampler::Sampler;
pub(crate) use shuffle::Permutation;
pub use width::TokenWidth;
pub use windows::Windows;
pub use writer::{TokenFormat, TokenWriter};
