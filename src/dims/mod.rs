//! Layer dimensions and options, as plain values shared by [primitives](crate::primitive), layers and models.

mod delta_rule;
mod forms;
mod init_scheme;
mod positions;
mod rope_scaling;
mod state_space;
mod widths;

pub(crate) use delta_rule::DeltaRule;
pub(crate) use forms::LatentSizes;
#[cfg(feature = "model")]
pub(crate) use forms::{AttentionForm, MambaForm};
pub use forms::{Mamba2Norm, ProjectionBias, QueryKeyNorm, Routing, StepLimits};
pub use init_scheme::{InitError, InitScheme};
pub use positions::Positions;
pub use rope_scaling::RopeScaling;
pub(crate) use state_space::StateSpace;
pub(crate) use widths::Count;
pub use widths::{Dims, DimsError};
