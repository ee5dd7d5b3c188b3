//! Measured scores as an evaluator: searchers, aggregators and their ablations run on them in seconds.
//!
//! A [`Table`] holds what an evaluator gave for many architectures, each with several seeds. [`TabularEvaluator`]
//! replays it; [`TableFile`] grows one, row by row. `examples/calibrate/main.rs` measures tables, `benches/ablation.rs`
//! searches them.

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
