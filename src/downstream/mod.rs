//! Downstream accuracy: which of several answers does a language model find most likely?
//!
//! [`Layout`] reads local JSONL files of ARC, HellaSwag, WinoGrande, SciQ and PIQA as their hubs have them, one object
//! per line; [`score`] measures `acc` and `acc_norm` without examples in the prompt. Prompts, the split between prompt
//! and answer, and both metrics are those of lm-evaluation-harness (`output_type: multiple_choice`), so that the
//! numbers compare with published ones.

mod error;
mod layout;
mod score;

pub use error::DownstreamError;
pub use layout::{Choice, Layout, Question};
pub use score::{Accuracy, Share, score};
