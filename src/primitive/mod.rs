//! What a layer can be.
//!
//! A [`Primitive`] is a recipe for one layer at any width. It has a stable [`PrimitiveId`], a one-letter [`Symbol`], a
//! [`Role`] and a closed-form [`LayerCost`]: all that a search needs to know of it. With the feature `model` it also
//! builds the layer, a `Block`. [`Primitives`] is the explicit set that a search uses.

mod attention;
mod custom_attention;
#[cfg(feature = "model")]
mod from_fn;
mod gated_conv;
mod gated_delta_net;
#[cfg(all(test, feature = "flex"))]
mod golden_tests;
mod hf_mapping;
mod latent_attention;
mod linear;
mod mamba2;
mod mlp;
mod moe;
mod recurrent;
mod registry;
mod relu2;
mod sliding_window;
mod sized_swiglu;
mod swiglu;
mod symbol;
mod with_symbol;

pub use attention::Attention;
pub use custom_attention::CustomAttention;
#[cfg(feature = "model")]
pub use from_fn::FnPrimitive;
pub use gated_conv::GatedConv;
pub use gated_delta_net::GatedDeltaNet;
pub use hf_mapping::{CacheKind, HfMapping, Layout, StoredTensor};
pub use latent_attention::LatentAttention;
pub use linear::Linear;
pub use mamba2::Mamba2;
pub use mlp::Mlp;
pub use moe::{Expert, Moe};
pub use registry::{Primitives, RegistryError};
pub use relu2::Relu2;
pub use sized_swiglu::SizedSwiGlu;
pub use sliding_window::SlidingWindow;
pub use swiglu::SwiGlu;
pub use symbol::{NameError, PrimitiveId, Symbol};
pub use with_symbol::WithSymbol;

pub use crate::dims::{Mamba2Norm, ProjectionBias, QueryKeyNorm, Routing, StepLimits};

use std::{fmt::Debug, num::Saturating};

use serde::{Deserialize, Serialize};
use thiserror::Error;

#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{Block, WeightInit},
};
use crate::{
    dims::{Count, Dims, DimsError, InitError},
    limits::LimitError,
};

/// A recipe for a layer at any width.
///
/// Laws, checked by `testkit::primitive`: the built layer keeps the shape `[batch, seq, d_model]`; it is causal; its
/// parameter count equals [`LayerCost::parameters`]; activations hold the input and grow with the length; a gradient
/// reaches every parameter; its record round-trips; the weights depend on nothing but `dims` and the draws from `init`;
/// decoding step by step gives the outputs of the whole sequence, and keeps [`LayerCost::cache_elements`] numbers where
/// the layer has a step of its own; a counterpart names every parameter.
///
/// See [`SwiGlu`] for an implementation.
pub trait Primitive: Debug + Send + Sync {
    /// The stable name used in files.
    fn id(&self) -> PrimitiveId;
    /// The letter used in sequences.
    fn symbol(&self) -> Symbol;
    /// Whether the layer mixes along the sequence or the channels.
    fn role(&self) -> Role;
    /// Size and work of one layer, in closed form. `seq_len` is the length of the sequence in tokens. Ours stay at the
    /// largest number where they would overflow.
    fn cost(&self, dims: &Dims, seq_len: u64) -> LayerCost;

    /// Builds the layer with weights drawn from `init`, on `device`. A primitive that is only searched, by an evaluator
    /// that does not train networks of this crate, needs none of it.
    ///
    /// # Errors
    /// [`BuildError`] when `dims` cannot be built; the message names the remedy. [`BuildError::NoLayer`] by default.
    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        let _ = (dims, init, device);
        Err(BuildError::NoLayer { id: self.id() })
    }

    /// Numbers that training keeps of one sequence of `seq_len` tokens for the backward pass, the layer's input among
    /// them. An estimate for layers that are computed by fused operations with a backward pass of their own, as those
    /// of this crate on a CPU; layers composed of small operations keep more.
    ///
    /// By default every weight is taken to join the model's width with an inner channel, and every inner channel is
    /// kept once: `S (D + P / D)` for `P` active parameters. That is what a multi-layer perceptron keeps.
    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        let LayerCost { parameters, inactive_parameters, .. } = self.cost(dims, seq_len);
        let inner = parameters.saturating_sub(inactive_parameters) / dims.width().max(1);
        seq_len.saturating_mul(dims.width().saturating_add(inner))
    }

    /// What the layer is called in Hugging Face's transformers, for [`export`](crate::export) and
    /// [`import`](crate::import); none where it has no counterpart there. It names every parameter of the built layer.
    fn hf_mapping(&self, dims: &Dims) -> Option<HfMapping> {
        let _ = dims;
        None
    }

    /// The same primitive under another letter, to stand beside a variant of itself.
    fn with_symbol(self, symbol: Symbol) -> WithSymbol<Self>
    where
        Self: Sized,
    {
        WithSymbol { primitive: self, symbol }
    }
}

/// What a layer mixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Information moves between positions: attention, recurrences, convolutions.
    Sequence,
    /// Every position is treated alone: multi-layer perceptrons.
    Channel,
}

/// Size and work of one layer, without the norm in front of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerCost {
    /// Trainable parameters.
    pub parameters: u64,
    /// Of these parameters those that a token does not meet: the experts that it is not sent to. None in dense layers.
    pub inactive_parameters: u64,
    /// Forward floating-point operations per token, averaged over a causal sequence of the given length (a
    /// multiply-add counts as two). Training takes three times as many.
    pub forward_flops_per_token: u64,
    /// Numbers that one sequence of the given length keeps for decoding: the KV cache or the recurrent state.
    pub cache_elements: u64,
    /// Channels in which tokens are compared pairwise: `heads head_dim` of attention, with a window or without, and 0
    /// of layers without scores. TorchTitan counts `12` operations per channel and token of the sequence.
    pub attention_width: u64,
}

impl LayerCost {
    /// Weights that every token is multiplied with once, and nothing else.
    fn dense(weights: Count) -> Self {
        let work = Saturating(2) * weights;
        Self { parameters: weights.0, forward_flops_per_token: work.0, ..Self::default() }
    }
}

/// A layer that cannot be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The widths contradict each other.
    #[error(transparent)]
    Dims(#[from] DimsError),
    /// The registry lacks a primitive of the architecture.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A model without tokens.
    #[error("vocab_size is 0: give the model at least one token")]
    EmptyVocabulary,
    /// A size beyond any model, or beyond this machine.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A model without layers.
    #[error("the architecture is empty: give it at least one layer, as in 2A+4M")]
    EmptyArchitecture,
    /// The standard deviation of the initial weights is no standard deviation.
    #[error(transparent)]
    Init(#[from] InitError),
    /// A primitive without a layer of its own.
    #[error("primitive {id} says what it costs but builds no layer: implement `Primitive::build`")]
    NoLayer {
        /// Which primitive.
        id: PrimitiveId,
    },
    /// The auto-encoder's position code needs at least two frequencies, each with a sine and a cosine.
    #[error("d_model {0} does not fit the auto-encoder's position code: use an even width of at least 4")]
    PositionCode(usize),
    /// An option of a primitive has a value that it cannot have.
    #[error("primitive {id}: {option} is {value}: {remedy}")]
    Option {
        /// Which primitive.
        id: PrimitiveId,
        /// Which of its options.
        option: &'static str,
        /// The value.
        value: usize,
        /// What to change.
        remedy: String,
    },
    /// A reason of the primitive's own.
    #[error("primitive {id} cannot be built: {reason}")]
    Primitive {
        /// Which primitive.
        id: PrimitiveId,
        /// What is wrong and what to change.
        reason: String,
    },
}
