//! Candidates trained on text: the evaluators with which Composer (arXiv 2510.00379, section on evaluators) compares
//! MAD.
//!
//! [`CorpusEvaluator`] trains candidates according to a [`CorpusProtocol`] and reports their validation loss and
//! next-token accuracy.

mod error;
mod evaluator;
mod protocol;

pub use error::CorpusError;
pub use evaluator::CorpusEvaluator;
pub use protocol::{CorpusProtocol, TrainBudget};
