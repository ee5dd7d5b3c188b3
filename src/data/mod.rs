//! Token files, windows and shuffling.
//!
//! [`TokenFile`] reads the formats of Megatron-LM (`.bin` with `.idx`), nanoGPT and llm.c (flat `.bin`);
//! [`TokenWriter`] writes them. [`Windows`] divides the tokens into sequences of equal length. Trainings shuffle
//! these: the batch of a step depends only on the seed and the step, so a training can resume at any step without
//! stored state. With the feature `tokenizers`, `Importer` tokenizes text. See `docs/data.md` for how to prepare a
//! corpus.

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
pub use import::{Importer, TextError, TextReader};
pub(crate) use sampler::Sampler;
pub(crate) use shuffle::Permutation;
pub use width::TokenWidth;
pub use windows::Windows;
pub use writer::{TokenFormat, TokenWriter};
