//! s
mod spec;
pub use spec::ModelSpec;
