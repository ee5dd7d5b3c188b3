//! Tables of measured scores as an evaluator, on which searchers, aggregators and their ablations run in seconds.
//!
//! A [`Table`] holds the scores of many architectures, each measured with several seeds. [`TabularEvaluator`] replays a
//! table, and [`TableFile`] adds rows to one on disk. `examples/calibrate/main.rs` measures tables, and
//! `benches/ablation.rs` searches them.

mod error;
mod evaluator;
mod file;
mod reliability;
mod table;
mod text;

pub use error::{RowError, TableError};
pub use evaluator::TabularEvaluator;
pub use file::TableFile;
pub use table::{Row, Table};
