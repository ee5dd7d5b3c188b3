//! s
mod architecture;
pub use architecture::{Architecture, ParseError};
