//! SwiGLU with its own width.

use std::num::NonZeroUsize;

use super::{BuildError, HfMapping, LayerCost, Primitive, PrimitiveId, Role, SwiGlu, Symbol};
use crate::dims::Dims;
#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{Block, WeightInit},
};

/// [`SwiGlu`] with this inner width instead of `d_ff`. Symbol `M`.
///
/// Models can then have layers of several widths, as in Nemotron-NAS. To use several variants in one search, give each
/// its own letter with [`with_symbol`](Primitive::with_symbol).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizedSwiGlu {
    /// The inner width.
    pub width: NonZeroUsize,
}

impl SizedSwiGlu {
    /// Checks that the layer can be built at these widths.
    pub(crate) fn check(self, dims: &Dims) -> Result<(), BuildError> {
        Ok(self.own(dims).validate()?)
    }

    fn own(self, dims: &Dims) -> Dims {
        Dims { d_ff: self.width.get(), ..dims.clone() }
    }
}

impl Primitive for SizedSwiGlu {
    /// `swiglu_` and the width.
    fn id(&self) -> PrimitiveId {
        PrimitiveId::with_options("swiglu", &[("", self.width.get(), 0)])
    }

    fn symbol(&self) -> Symbol {
        Symbol::SWIGLU
    }

    fn role(&self) -> Role {
        Role::Channel
    }

    fn cost(&self, dims: &Dims, seq_len: u64) -> LayerCost {
        SwiGlu.cost(&self.own(dims), seq_len)
    }

    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        SwiGlu.activations(&self.own(dims), seq_len)
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        SwiGlu.build(&self.own(dims), init, device)
    }

    fn hf_mapping(&self, dims: &Dims) -> Option<HfMapping> {
        let plain = SwiGlu.hf_mapping(dims)?;
        let width = self.width.to_string();
        Some(HfMapping { kind: self.id().into(), ..plain }.option("width", width).python(PYTHON))
    }
}

/// The PyTorch layer for the model class of [`Format::Flat`](crate::export::Format::Flat).
const PYTHON: &str = include_str!("python/sized_swiglu.py");

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_laws_and_has_its_own_width() {
        let sized = SizedSwiGlu { width: NonZeroUsize::new(9).unwrap() };
        assert_eq!(crate::testkit::primitive::check(&sized, &Device::flex()), Ok(()));
        assert_eq!(sized.cost(&Dims::new(8, 12, 2).unwrap(), 1).parameters, 3 * 8 * 9);
        assert_eq!(sized.id().as_str(), "swiglu_9");
    }
}
