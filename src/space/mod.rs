//! Search spaces: which sequences are allowed.
//!
//! A [`SearchSpace`] lists the choices of each layer and restricts complete sequences by [`Constraint`]s. It knows its
//! exact [size](SearchSpace::size). Its sequences are ordered, so they can be numbered, iterated and sampled uniformly,
//! however tight the constraints are. The module [`baseline`] provides the layer sequences of published models.

mod architecture;
mod automaton;
pub mod baseline;
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
