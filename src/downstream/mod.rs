//! Downstream accuracy on multiple-choice benchmarks.
//!
//! [`Benchmark`] reads local JSONL files of ARC, HellaSwag, WinoGrande, SciQ and PIQA in the format of their
//! repositories, one object per line. [`score`] measures zero-shot `acc` and `acc_norm`. Prompts, the split between
//! prompt and answer, and both metrics are those of lm-evaluation-harness (`output_type: multiple_choice`), so the
//! results are comparable with published ones.

mod error;
mod layout;
mod score;

pub use error::DownstreamError;
pub use layout::{Answer, Benchmark, Question};
pub use score::{Accuracy, Share, score};
