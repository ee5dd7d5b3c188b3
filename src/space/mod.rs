//! Which sequences are allowed.
//!
//! A [`SearchSpace`] gives each layer its choices and restricts whole sequences by [`Constraint`]s. It knows its exact
//! [size](SearchSpace::size) and is ordered, so that sequences can be numbered, iterated and sampled uniformly however
//! tight the constraints are. [`baseline`] names the sequences that others use.

mod architecture;
pub mod baseline;
mod completions;
mod config;
mod constraint;
mod error;
pub mod notation;
mod search_space;

pub use architecture::{Architecture, ParseError};
pub use config::SpaceConfig;
pub use constraint::Constraint;
pub use error::SpaceError;
pub use search_space::SearchSpace;
