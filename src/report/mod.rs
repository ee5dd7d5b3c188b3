//! Pictures of a search.

mod trials;

pub use trials::{PlotError, trials_svg};
