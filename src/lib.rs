//! Work in progress.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod seed;
pub mod device;
pub mod primitive;
pub mod space;
pub mod study;
pub mod search;
pub mod model;
pub mod evaluate;
pub mod aggregate;
pub mod extrapolate;
pub mod execute;
pub mod journal;
pub mod pipeline;
pub mod report;

pub use seed::{Rng, Seed};
pub use space::Architecture;

/// The names most programs import.
pub mod prelude {
    pub use crate::{
        aggregate::*, evaluate::*, execute::*, extrapolate::*, journal::*, pipeline::*, primitive::*, search::*,
        seed::Seed, space::*, study::*,
    };
}
