//! What a model costs, in closed form: parameters, work per token, memory per sequence in training and when decoding.
//!
//! # Work
//! Counted by a [`FlopConvention`] of the [`Workload`]: a multiply-add is two operations, and training takes three
//! times the forward pass. Megatron's is the default. The two differ twofold in the attention term.
//!
//! # Activations
//! What training keeps for the backward pass is an estimate, for layers that are computed by fused operations, which
//! compute scores and activation functions again: the kernels of this crate on a CPU, FlashAttention and fused norms
//! elsewhere. Per token a layer keeps its input, one number of its norm, and
//! [`Primitive::activations`](crate::primitive::Primitive::activations); the ends keep the input and output of the last
//! norm, and logits with their gradient in 32 bits, 8 bytes each. For attention with as many KV heads as query heads
//! and a GELU MLP four times as wide as the model that is `32 S D` bytes in 16 bits, which is `34 S D` of Korthikanti
//! et al. 2022 (arXiv 2205.05198, equation 2) without masks of dropout and scores. A layer that Burn composes of small
//! operations, as on a GPU today, keeps more: attention every score, `S` more numbers per token and head. Weights,
//! gradients, the optimizer's moments and buffers in use are not counted.
//!
//! With recomputation only the inputs of layers are kept and one layer at a time is computed again (Chen et al. 2016,
//! arXiv 1604.06174). Burn's gradient checkpointing, which [`TrainConfig::recompute`](crate::train::TrainConfig) turns
//! on, decides operation by operation and is not described by that number.
//!
//! # Absurd sizes
//! Counts are sums in 128 bits: a model of which one exceeds 64 bits is refused. The closed forms of single layers stay
//! at the largest number of 64 bits where they would overflow.
//!
//! These numbers compare models; how fast one runs has to be measured: [`LayerTimes`].

mod budget;
mod comparison;
mod flops;
mod layer_times;
#[cfg(feature = "model")]
mod measured;
mod model_cost;

pub use budget::{Budget, Metric};
pub use comparison::{Comparison, ComparisonRow};
pub use flops::FlopConvention;
pub use layer_times::{LayerTimes, Seconds, Timing};
#[cfg(feature = "model")]
pub use measured::MeasureError;
pub(crate) use model_cost::body_without_norms;
pub use model_cost::{CostError, ModelCost, Workload};
