//! The computations of the layers, optimized for the device.
//!
//! Every function takes Burn tensors. On the backend `flex` in single precision, it runs one kernel with its own
//! backward pass. On all other backends, and if autodiff recomputes forward passes (gradient checkpointing), it
//! composes Burn's operations. Both agree up to rounding. As everywhere in Burn's autodiff, only first derivatives are
//! supported.
//!
//! The kernels run on the calling thread. Their results are reproducible bit for bit, regardless of other threads.

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
pub(crate) use swiglu::silu;
pub use swiglu::swiglu;
pub(crate) use update::{AdamWStep, adamw, scale, sum_of_squares, sum_of_squares_together};
