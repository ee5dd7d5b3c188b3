//! Candidates trained on text: the evaluators that Composer (arXiv 2510.00379, section on evaluators) compares with
//! MAD.
//!
//! [`CorpusEvaluator`] trains a candidate as a [`CorpusProtocol`] says and reports validation loss and next-token
//! accuracy.

mod error;
mod evaluator;
mod protocol;

pub use error::CorpusError;
pub use evaluator::CorpusEvaluator;
pub use protocol::{Budget, CorpusProtocol};
