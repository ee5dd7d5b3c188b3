//! SwiGLU: a gated multi-layer perceptron (Shazeer 2020, arXiv 2002.05202, equation 6).

use std::num::Saturating;

#[cfg(feature = "model")]
use super::BuildError;
use super::{CacheKind, HfMapping, LayerCost, Primitive, PrimitiveId, Role, Symbol};
use crate::dims::Dims;
#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{Block, SwiGluLayer, WeightInit},
};

/// SwiGLU, `down(silu(gate x) * up x)`, without biases and with inner width `d_ff`. Symbol `M`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SwiGlu;

impl Primitive for SwiGlu {
    fn id(&self) -> PrimitiveId {
        PrimitiveId::known("swiglu")
    }

    fn symbol(&self) -> Symbol {
        Symbol::SWIGLU
    }

    fn role(&self) -> Role {
        Role::Channel
    }

    fn cost(&self, dims: &Dims, _seq_len: u64) -> LayerCost {
        let [width, inner, ..] = dims.counts();
        LayerCost::dense(width * inner * Saturating(3))
    }

    /// The input, and both branches before the activation. Their product is recomputed.
    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        kept_per_token(dims.width(), dims.d_ff as u64).saturating_mul(seq_len)
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        dims.validate()?;
        Ok(Block::new(SwiGluLayer::new(dims.d_model, dims.d_ff, init, device)))
    }

    fn hf_mapping(&self, _dims: &Dims) -> Option<HfMapping> {
        let start = HfMapping::new("swiglu", CacheKind::Nothing);
        Some(start.linear("gate", "gate_proj", false).linear("up", "up_proj", false).linear("down", "down_proj", false))
    }
}

/// Numbers kept per token.
pub(super) fn kept_per_token(width: u64, inner: u64) -> u64 {
    width.saturating_add(inner.saturating_mul(2))
}
