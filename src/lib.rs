//! Work in progress.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod model;
pub mod primitive;
pub mod seed;
pub mod space;
pub mod study;

pub use seed::{Rng, Seed};
pub use space::Architecture;

/// The names most programs import.
pub mod prelude {
    pub use crate::{primitive::*, seed::Seed, space::*};
}
