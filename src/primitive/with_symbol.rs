//! Primitives with another letter.

#[cfg(feature = "model")]
use super::BuildError;
use super::{HfMapping, LayerCost, Primitive, PrimitiveId, Role, Symbol};
use crate::dims::Dims;
#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{Block, WeightInit},
};

/// A primitive with another letter than its own, so that a search can use several variants of a layer. See
/// [`Primitive::with_symbol`].
#[derive(Clone, Copy, Debug)]
pub struct WithSymbol<P> {
    pub(super) primitive: P,
    pub(super) symbol: Symbol,
}

impl<P: Primitive> Primitive for WithSymbol<P> {
    fn id(&self) -> PrimitiveId {
        self.primitive.id()
    }

    fn symbol(&self) -> Symbol {
        self.symbol
    }

    fn role(&self) -> Role {
        self.primitive.role()
    }

    fn cost(&self, dims: &Dims, seq_len: u64) -> LayerCost {
        self.primitive.cost(dims, seq_len)
    }

    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        self.primitive.activations(dims, seq_len)
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        self.primitive.build(dims, init, device)
    }

    fn hf_mapping(&self, dims: &Dims) -> Option<HfMapping> {
        self.primitive.hf_mapping(dims)
    }
}
