//! A two-layer perceptron with GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415).

use std::num::Saturating;

#[cfg(feature = "model")]
use super::BuildError;
use super::{CacheKind, HfMapping, LayerCost, Primitive, PrimitiveId, Role, Symbol};
use crate::dims::Dims;
#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{Activation, Block, MlpLayer, WeightInit},
};

/// A two-layer perceptron, `down(gelu(up x))`, with the tanh approximation of GELU, without biases and with inner width
/// `d_ff`. Symbol `F`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mlp;

impl Primitive for Mlp {
    fn id(&self) -> PrimitiveId {
        PrimitiveId::known("mlp")
    }

    fn symbol(&self) -> Symbol {
        Symbol::MLP
    }

    fn role(&self) -> Role {
        Role::Channel
    }

    fn cost(&self, dims: &Dims, _seq_len: u64) -> LayerCost {
        let [width, inner, ..] = dims.counts();
        LayerCost::dense(width * inner * Saturating(2))
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        dims.validate()?;
        Ok(Block::new(MlpLayer::new(Activation::Gelu, dims, init, device)))
    }

    fn hf_mapping(&self, _dims: &Dims) -> Option<HfMapping> {
        let start = HfMapping::new("gelu_mlp", CacheKind::Nothing);
        Some(start.linear("up", "up_proj", false).linear("down", "down_proj", false))
    }
}
