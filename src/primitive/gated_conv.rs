//! A short gated causal convolution, the sequence mixer of most LFM2 layers (Liquid AI 2025, arXiv 2511.23404).
//!
//! `b | c | x = in(tokens)`, `y = out(c * conv(b * x))`, where `conv` is causal and depthwise with a small kernel. The
//! gates are linear, and there are no biases. Computation and memory per token do not depend on the sequence length.

use std::num::Saturating;

use super::{
    BuildError, CacheKind, HfMapping, LayerCost, Primitive, PrimitiveId, Role, Symbol, TensorLayout,
    recurrent::check_kernel_size,
};
use crate::dims::Dims;
#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{Block, GatedConvLayer, WeightInit},
};

/// A short gated causal convolution, `out(c * conv(b * x))`. Symbol `C`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatedConv {
    /// Kernel size of the convolution, at least 2.
    pub kernel_size: usize,
}

impl Default for GatedConv {
    /// Kernel size 3, as in LFM2.
    fn default() -> Self {
        Self { kernel_size: 3 }
    }
}

impl GatedConv {
    /// Checks that the layer can be built at these widths.
    pub(crate) fn check(&self, dims: &Dims) -> Result<(), BuildError> {
        dims.validate()?;
        check_kernel_size(self.id(), self.kernel_size)
    }
}

impl Primitive for GatedConv {
    /// `gated_conv`, followed by the kernel size if it differs from the default, as in `gated_conv_k4`.
    fn id(&self) -> PrimitiveId {
        PrimitiveId::with_options("gated_conv", &[("k", self.kernel_size, Self::default().kernel_size)])
    }

    fn symbol(&self) -> Symbol {
        Symbol::GATED_CONV
    }

    fn role(&self) -> Role {
        Role::Sequence
    }

    /// Projections and convolution count twice their weights. Gates cost nothing, like activations.
    fn cost(&self, dims: &Dims, _seq_len: u64) -> LayerCost {
        let [width, ..] = dims.counts();
        let kernel_size = self.kernel_size as u64;
        LayerCost {
            cache_elements: (width * Saturating(kernel_size.saturating_sub(1))).0,
            ..LayerCost::dense(width * (Saturating(4) * width + Saturating(kernel_size)))
        }
    }

    /// The input, `b | c | x`, and the input of the output projection.
    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        dims.width().saturating_mul(5).saturating_mul(seq_len)
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        self.check(dims)?;
        Ok(Block::new(GatedConvLayer::new(dims.d_model, self.kernel_size, init, device)))
    }

    fn hf_mapping(&self, _dims: &Dims) -> Option<HfMapping> {
        let start = HfMapping::new("short_conv", CacheKind::Conv).setting("conv_L_cache", self.kernel_size);
        let start = start.setting("conv_bias", false).linear("input", "in_proj", false);
        Some(start.tensor("conv", "conv.weight", TensorLayout::Conv).linear("output", "out_proj", false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "flex")]
    use crate::{dims::InitScheme, seed::Seed};

    #[test]
    fn the_default_is_that_of_lfm2_and_others_show_in_the_id() {
        assert_eq!((GatedConv::default().kernel_size, GatedConv::default().id().as_str()), (3, "gated_conv"));
        assert_eq!(GatedConv { kernel_size: 4 }.id().as_str(), "gated_conv_k4");
    }

    #[cfg(feature = "flex")]
    #[test]
    fn convolutions_without_a_past_are_refused() {
        let mut init = WeightInit::new(InitScheme::FanIn, Seed(1).rng("test", 0));
        for kernel_size in [0, 1, usize::MAX] {
            let conv = GatedConv { kernel_size };
            let dims = Dims::new(8, 12, 2).unwrap();
            let error = conv.build(&dims, &mut init, &Device::flex()).unwrap_err().to_string();
            assert!(error.contains("gated_conv") && error.contains("2 to"), "{error}");
            conv.cost(&dims, 16);
        }
    }
}
