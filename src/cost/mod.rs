//! The cost of a model in closed form: parameters, FLOPs per token, and memory per sequence in training and decoding.
//!
//! These numbers compare models. To know how fast a model runs, measure it: see [`LayerTimes`].
//!
//! # FLOPs
//! A [`FlopConvention`] of the [`Workload`] determines how floating-point operations are counted. A multiply-add counts
//! as two, and training as three times the forward pass. Megatron's convention is the default. The two conventions
//! differ by a factor of two in the attention term.
//!
//! # Activations
//! What training keeps for the backward pass is an estimate. It assumes fused operations that recompute scores and
//! activation functions: the kernels of this crate on a CPU, FlashAttention and fused norms elsewhere. Per token, a
//! layer keeps its input, one number of its norm, and
//! [`Primitive::activations`](crate::primitive::Primitive::activations). The ends of the model keep the input and
//! output of the final norm, and the logits with their gradient in 32 bits, 8 bytes each.
//!
//! For attention with as many KV heads as query heads and a GELU MLP four times as wide as the model, the estimate is
//! `32 S D` bytes in 16 bits. This equals the `34 S D` of Korthikanti et al. 2022 (arXiv 2205.05198, equation 2)
//! without dropout masks and scores. A layer that Burn composes of small operations, as on a GPU today, keeps more:
//! attention keeps every score, `S` more numbers per token and head. Weights, gradients, optimizer moments and
//! temporary buffers are not included.
//!
//! With recomputation, only the inputs of layers are kept, and one layer at a time is recomputed (Chen et al. 2016,
//! arXiv 1604.06174). Burn's gradient checkpointing, enabled by [`TrainConfig::recompute`](crate::train::TrainConfig),
//! decides for each operation separately; this number does not describe it.
//!
//! # Overflow
//! Counts are summed in 128 bits, and a model with a count above 64 bits is an error. The closed forms of single layers
//! saturate at the largest 64-bit number.

mod budget;
mod comparison;
mod flops;
mod layer_times;
#[cfg(feature = "model")]
mod measured;
mod model_cost;

pub use budget::{Budget, CostMetric};
pub use comparison::Comparison;
pub(crate) use comparison::ComparisonRow;
pub use flops::FlopConvention;
pub use layer_times::{LayerTimes, Seconds, Timing};
#[cfg(feature = "model")]
pub use measured::MeasureError;
pub(crate) use model_cost::body_without_norms;
pub use model_cost::{CostError, ModelCost, Workload};
