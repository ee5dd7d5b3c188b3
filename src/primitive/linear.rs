//! A linear map, which Puzzle uses in place of attention or MLP layers that are not worth their cost (NVIDIA 2024,
//! arXiv 2411.19146, section 3.1).

#[cfg(feature = "model")]
use super::BuildError;
use super::{CacheKind, HfMapping, LayerCost, Primitive, PrimitiveId, Role, Symbol};
use crate::dims::Dims;
#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{Block, LinearLayer, WeightInit},
};

/// A linear map, `x w`, without bias. Symbol `I`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Linear;

impl Primitive for Linear {
    fn id(&self) -> PrimitiveId {
        PrimitiveId::known("linear")
    }

    fn symbol(&self) -> Symbol {
        Symbol::LINEAR
    }

    fn role(&self) -> Role {
        Role::Channel
    }

    fn cost(&self, dims: &Dims, _seq_len: u64) -> LayerCost {
        let [width, ..] = dims.counts();
        LayerCost::dense(width * width)
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        dims.validate()?;
        Ok(Block::new(LinearLayer::new(dims.d_model, init, device)))
    }

    fn hf_mapping(&self, _dims: &Dims) -> Option<HfMapping> {
        Some(HfMapping::new("linear", CacheKind::Nothing).linear("map", "linear", false).python(PYTHON))
    }
}

/// The PyTorch layer for the model class of [`Format::Flat`](crate::export::Format::Flat).
const PYTHON: &str = include_str!("python/linear.py");

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_laws() {
        assert_eq!(crate::testkit::primitive::check(&Linear, &Device::flex()), Ok(()));
    }
}
