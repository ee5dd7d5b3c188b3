//! What layers compute, as fast as the device allows.
//!
//! Every function takes Burn tensors and chooses by them. On the backend `flex` in single precision it runs one kernel
//! that has its own backward pass; elsewhere, and where autodiff recomputes forward passes (gradient checkpointing), it
//! composes Burn's operations, which every backend has. Both agree up to rounding. Only first derivatives exist, as
//! everywhere in Burn's autodiff.
//!
//! The kernels compute on the calling thread alone, and repeat bit for bit whatever runs beside them.

mod attention;
mod cross_entropy;
mod decay;
mod delta_rule;
#[cfg(feature = "flex")]
mod flex;
mod gate;
mod gated_norm;
mod gelu;
mod key_values;
mod linear;
mod norm;
mod position;
mod short_conv;
mod state_space;
mod relu2;
mod rotary;
mod swiglu;
#[cfg(test)]
mod testing;
mod update;

pub use attention::CausalAttention;
pub use cross_entropy::cross_entropy;
pub use delta_rule::DeltaRuleInputs;
#[cfg(feature = "flex")]
pub(crate) use delta_rule::LENGTH_EPSILON;
pub use gate::{Gate, GatedNorm};
pub use gelu::gelu;
pub use key_values::KeyValues;
pub use linear::{linear, linear_transposed, project};
pub use norm::rms_norm;
pub(crate) use position::PositionTables;
pub use relu2::relu2;
pub use short_conv::{ConvWindow, conv_silu, gated_conv};
pub use state_space::StateSpaceInputs;
pub use swiglu::swiglu;
pub(crate) use update::{AdamWStep, adamw, scale, sum_of_squares};
