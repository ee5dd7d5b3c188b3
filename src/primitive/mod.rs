//! Primitives: the kinds of layers.
//!
//! A [`Primitive`] is a recipe for one layer at any width. A search needs only its stable [`PrimitiveId`], its
//! one-letter [`Symbol`], its [`Role`] and its closed-form [`LayerCost`]. With the feature `model`, a primitive also
//! builds the layer, a `Block`. [`Primitives`] is the set of primitives that a search uses.

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
pub use hf_mapping::{CacheKind, HfMapping, StoredTensor, TensorLayout};
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
/// Laws, checked by `testkit::primitive`:
/// - the built layer keeps the shape `[batch, seq, d_model]` and is causal;
/// - its parameter count equals [`LayerCost::parameters`];
/// - [`activations`](Self::activations) includes the input and grows with the sequence length;
/// - a gradient reaches every parameter, and its record round-trips;
/// - its weights depend only on `dims` and the draws from `init`;
/// - step-by-step decoding gives the same outputs as the whole sequence, and keeps [`LayerCost::cache_elements`]
///   numbers if the layer implements its own decoding step;
/// - the [`HfMapping`], if there is one, names every parameter.
///
/// The example is a primitive whose layer is built by your own evaluator. See [`SwiGlu`] for one that also builds a
/// layer, and `FnPrimitive` for a primitive made of closures.
///
/// ```
/// use composer_nas::{prelude::*, primitive::{LayerCost, PrimitiveId, Role}};
///
/// /// A linear map of each token.
/// #[derive(Debug)]
/// struct Square {
///     id: PrimitiveId,
///     symbol: Symbol,
/// }
///
/// impl Primitive for Square {
///     fn id(&self) -> PrimitiveId {
///         self.id.clone()
///     }
///
///     fn symbol(&self) -> Symbol {
///         self.symbol
///     }
///
///     fn role(&self) -> Role {
///         Role::Channel
///     }
///
///     fn cost(&self, dims: &Dims, _seq_len: u64) -> LayerCost {
///         let parameters = dims.width().pow(2);
///         LayerCost { parameters, forward_flops_per_token: 2 * parameters, ..LayerCost::default() }
///     }
/// }
///
/// let square = Square { id: PrimitiveId::new("square")?, symbol: 'Q'.try_into()? };
/// let primitives = Primitives::standard().with(square)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Primitive: Debug + Send + Sync {
    /// Returns the stable name used in files.
    fn id(&self) -> PrimitiveId;
    /// Returns the letter used in sequences.
    fn symbol(&self) -> Symbol;
    /// Returns whether the layer mixes along the sequence or the channels.
    fn role(&self) -> Role;
    /// Returns the size and FLOPs of one layer, in closed form, for sequences of `seq_len` tokens.
    ///
    /// The primitives of this crate saturate on overflow.
    fn cost(&self, dims: &Dims, seq_len: u64) -> LayerCost;

    /// Builds the layer on `device`, with weights drawn from `init`.
    ///
    /// A primitive needs this only if networks of this crate are trained with it. By default it returns
    /// [`BuildError::NoLayer`].
    ///
    /// # Errors
    /// Returns [`BuildError`] if the layer cannot be built at these `dims`. The message says what to change.
    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        let _ = (dims, init, device);
        Err(BuildError::NoLayer { id: self.id() })
    }

    /// Returns an estimate of the numbers that training keeps for the backward pass, for one sequence of `seq_len`
    /// tokens, including the layer's input.
    ///
    /// The estimate holds for layers of fused operations with their own backward pass, such as those of this crate on a
    /// CPU. Layers composed of small operations keep more.
    ///
    /// The default is that of a multi-layer perceptron, `S (D + P / D)` for `P` active parameters: every weight
    /// connects the model's width `D` with an inner channel, and every inner channel is kept once.
    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        let LayerCost { parameters, inactive_parameters, .. } = self.cost(dims, seq_len);
        let inner = parameters.saturating_sub(inactive_parameters) / dims.width().max(1);
        seq_len.saturating_mul(dims.width().saturating_add(inner))
    }

    /// Returns the layer's names in Hugging Face transformers, for [`export`](crate::export) and
    /// [`import`](crate::import), or `None` if transformers has no such layer.
    ///
    /// A mapping names every parameter of the built layer.
    fn hf_mapping(&self, dims: &Dims) -> Option<HfMapping> {
        let _ = dims;
        None
    }

    /// Returns the same primitive with another letter, to use it together with a variant of itself.
    fn with_symbol(self, symbol: Symbol) -> WithSymbol<Self>
    where
        Self: Sized,
    {
        WithSymbol { primitive: self, symbol }
    }
}

/// The axis along which a layer mixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The layer mixes information between positions: attention, recurrences, convolutions.
    Sequence,
    /// The layer treats every position independently: multi-layer perceptrons.
    Channel,
}

/// The size and FLOPs of one layer, without the norm before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerCost {
    /// The number of trainable parameters.
    pub parameters: u64,
    /// The number of parameters that are inactive for a token: experts to which it is not routed. Zero for dense
    /// layers.
    pub inactive_parameters: u64,
    /// Forward floating-point operations per token, averaged over a causal sequence of the given length. A multiply-add
    /// counts as two. Training takes three times as many.
    pub forward_flops_per_token: u64,
    /// Numbers cached for decoding one sequence of the given length: the KV cache or the recurrent state.
    pub cache_elements: u64,
    /// Channels in which tokens are compared pairwise: `heads * head_dim` for attention, with or without a window, and
    /// 0 for layers without attention scores. TorchTitan counts `12` operations per channel and token of the sequence.
    pub attention_width: u64,
}

impl LayerCost {
    /// Returns the cost of weights by which every token is multiplied once.
    fn dense(weights: Count) -> Self {
        let work = Saturating(2) * weights;
        Self { parameters: weights.0, forward_flops_per_token: work.0, ..Self::default() }
    }
}

/// The error of a layer or model that cannot be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The widths are invalid or inconsistent.
    #[error(transparent)]
    Dims(#[from] DimsError),
    /// The architecture contains an unknown primitive.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The vocabulary is empty.
    #[error("vocab_size is 0: give the model at least one token")]
    EmptyVocabulary,
    /// A size exceeds a limit or the available memory.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The architecture has no layers.
    #[error("the architecture is empty: give it at least one layer, as in 2A+4M")]
    EmptyArchitecture,
    /// The standard deviation of the initial weights is invalid.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The primitive does not implement [`Primitive::build`].
    #[error("primitive {id} has a cost but cannot build a layer: implement `Primitive::build`")]
    NoLayer {
        /// The primitive.
        id: PrimitiveId,
    },
    /// The auto-encoder's position code needs at least two frequencies, each with a sine and a cosine.
    #[error("d_model {0} does not fit the auto-encoder's position code: use an even width of at least 4")]
    PositionCode(usize),
    /// An option of a primitive has an invalid value.
    #[error("primitive {id}: {option} is {value}: {remedy}")]
    Option {
        /// The primitive.
        id: PrimitiveId,
        /// The option.
        option: &'static str,
        /// The value.
        value: usize,
        /// What to change.
        remedy: String,
    },
    /// An error specific to a primitive.
    #[error("primitive {id} cannot be built: {reason}")]
    Primitive {
        /// The primitive.
        id: PrimitiveId,
        /// What is wrong, and what to change.
        reason: String,
    },
}
