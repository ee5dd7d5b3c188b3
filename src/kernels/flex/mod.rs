//! The kernels for Burn's CPU backend `flex` in single precision.
//!
//! [`op`] turns a [`Kernel`] into an operation of Burn. Matrix products are computed by `faer` on one thread;
//! everything else uses the widest SIMD vectors of the processor, chosen at run time. Sums have a fixed order, so
//! results are reproducible bit for bit, regardless of other threads. [`pool`] keeps buffers from one step to the next.

mod attention;
mod cross_entropy;
mod decay;
mod delta_rule;
mod gated_norm;
mod gelu;
mod linear;
mod matmul;
mod norm;
mod op;
mod pool;
mod rows;
mod short_conv;
mod relu2;
mod simd;
mod state_space;
mod swiglu;
mod update;

pub use attention::{Angles, Attention};
pub use cross_entropy::CrossEntropy;
pub use delta_rule::DeltaScan;
pub use gated_norm::GatedNormKernel;
pub use gelu::Gelu;
pub use linear::Linear;
pub use norm::RmsNorm;
pub use op::{Kernel, Values, apply, input, plain};
pub use relu2::Relu2;
pub use short_conv::{ConvSilu, GatedConv};
pub use state_space::StateSpaceScan;
pub use swiglu::SwiGlu;
pub use update::{adamw, sum_of_squares};
