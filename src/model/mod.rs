//! Neural networks.
//!
//! A [`ModelSpec`] describes a model as a plain value. [`HybridLm`] is the network built from it.

#[cfg(feature = "model")]
mod auto_encoder;
#[cfg(feature = "model")]
mod check_memory;
#[cfg(feature = "model")]
mod generate;
#[cfg(feature = "model")]
mod hybrid_lm;
#[cfg(feature = "model")]
mod network;
#[cfg(feature = "model")]
mod norm;
mod spec;
#[cfg(feature = "model")]
mod backbone;

#[cfg(feature = "model")]
pub(crate) use auto_encoder::AutoEncoder;
#[cfg(feature = "model")]
pub use backbone::Cache;
#[cfg(feature = "model")]
pub(crate) use backbone::{Backbone, ResidualBlock};
#[cfg(feature = "model")]
pub use generate::{Continuation, GenerateError, Sampling};
#[cfg(feature = "model")]
pub use hybrid_lm::HybridLm;
#[cfg(feature = "model")]
pub use network::Network;
#[cfg(feature = "model")]
pub(crate) use norm::RmsNorm;
pub use spec::ModelSpec;
