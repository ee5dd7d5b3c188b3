//! Networks: a [`ModelSpec`] is a plain value, [`HybridLm`] and [`AutoEncoder`] are what it builds.

mod auto_encoder;
mod generate;
mod hybrid_lm;
mod network;
mod norm;
mod spec;
mod trunk;

pub use auto_encoder::{AutoEncoder, DecoderStage};
pub use generate::{Continuation, GenerateError, Sampling};
pub use hybrid_lm::HybridLm;
pub use network::Network;
pub use norm::RmsNorm;
pub use spec::ModelSpec;
pub use trunk::{Cache, ResidualBlock, Trunk};
