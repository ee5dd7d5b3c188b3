//! The layers of a model, as Burn modules.
//!
//! [`Mixer`] is the trait of a layer's computation. [`Block`] erases the type of a mixer, so that a model can combine
//! the layers of this crate with those of others. Every layer here has a recipe in [`primitive`](crate::primitive),
//! which builds it and states its cost.

mod attention;
mod block;
mod cache;
mod custom_attention;
mod erase;
mod expert;
mod gated_conv;
mod gated_delta_net;
mod latent_attention;
mod linear;
mod mamba2;
mod mlp;
mod moe;
mod recurrent;
mod swiglu;
mod weight_init;

pub(crate) use attention::AttentionLayer;
pub use block::{Block, Mixer};
pub use cache::{LayerCache, LayerState};
pub(crate) use custom_attention::CustomAttentionLayer;
pub(crate) use expert::ExpertLayer;
pub(crate) use gated_conv::GatedConvLayer;
pub(crate) use gated_delta_net::GatedDeltaNetLayer;
pub(crate) use latent_attention::LatentAttentionLayer;
pub(crate) use linear::LinearLayer;
pub(crate) use mamba2::Mamba2Layer;
pub(crate) use mlp::{Activation, MlpLayer};
pub(crate) use moe::MoeLayer;
pub(crate) use swiglu::SwiGluLayer;
pub use weight_init::WeightInit;
