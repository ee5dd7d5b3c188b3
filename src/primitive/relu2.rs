//! A two-layer perceptron with squared ReLU, found by search in Primer (So et al. 2021, arXiv 2109.08668, section 4)
//! and used in the Nemotron models (arXiv 2402.16819).

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

/// A two-layer perceptron, `down(max(up x, 0)^2)`, without biases and with inner width `d_ff`. Symbol `R`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Relu2;

impl Primitive for Relu2 {
    fn id(&self) -> PrimitiveId {
        PrimitiveId::known("relu2")
    }

    fn symbol(&self) -> Symbol {
        Symbol::RELU2
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
        Ok(Block::new(MlpLayer::new(Activation::Relu2, dims, init, device)))
    }

    fn hf_mapping(&self, _dims: &Dims) -> Option<HfMapping> {
        let start = HfMapping::new("relu2_mlp", CacheKind::Nothing);
        Some(start.linear("up", "up_proj", false).linear("down", "down_proj", false))
    }
}
