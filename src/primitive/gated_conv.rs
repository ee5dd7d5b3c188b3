//! A short gated causal convolution, the sequence mixer of most LFM2 layers (Liquid AI 2025, arXiv 2511.23404).
//!
//! `b | c | x = in(tokens)`, `y = out(c * conv(b * x))`, where `conv` is causal and depthwise with a small kernel. The
//! gates are linear, and there are no biases. Computation and memory per token do not depend on the sequence length.

use std::num::Saturating;

use super::{
    BuildError, CacheKind, HfMapping, LayerCost, Layout, Primitive, PrimitiveId, Role, Symbol, recurrent::check_taps,
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
    pub taps: usize,
}

impl Default for GatedConv {
    /// Kernel size 3, as in LFM2.
    fn default() -> Self {
        Self { taps: 3 }
    }
}

impl GatedConv {
    /// Checks that the layer can be built at these widths.
    pub(crate) fn check(&self, dims: &Dims) -> Result<(), BuildError> {
        dims.validate()?;
        check_taps(self.id(), self.taps)
    }
}

impl Primitive for GatedConv {
    /// `gated_conv`, followed by the kernel size if it differs from the default, as in `gated_conv_k4`.
    fn id(&self) -> PrimitiveId {
        PrimitiveId::with_options("gated_conv", &[("k", self.taps, Self::default().taps)])
    }

    fn symbol(&self) -> Symbol {
        Symbol::GATED_CONV
    }

    fn role(&self) -> Role {
        Role::Sequence
    }

    /// Projections and convolution count twice their weights. Gates cost nothing, like activations.
    fn cost(&self, dims: &Dims, _seq_len: u64) -> LayerCost {
        let ([width, ..], taps) = (dims.counts(), self.taps as u64);
        LayerCost {
            cache_elements: (width * Saturating(taps.saturating_sub(1))).0,
            ..LayerCost::dense(width * (Saturating(4) * width + Saturating(taps)))
        }
    }

    /// The input, `b | c | x`, and the input of the output projection.
    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        dims.width().saturating_mul(5).saturating_mul(seq_len)
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        self.check(dims)?;
        Ok(Block::new(GatedConvLayer::new(dims.d_model, self.taps, init, device)))
    }

    fn hf_mapping(&self, _dims: &Dims) -> Option<HfMapping> {
        let start = HfMapping::new("short_conv", CacheKind::Taps).setting("conv_L_cache", self.taps);
        let start = start.setting("conv_bias", false).linear("input", "in_proj", false);
        Some(start.tensor("conv", "conv.weight", Layout::Taps).linear("output", "out_proj", false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "flex")]
    use crate::{dims::InitScheme, seed::Seed};

    #[test]
    fn the_default_is_that_of_lfm2_and_others_show_in_the_id() {
        assert_eq!((GatedConv::default().taps, GatedConv::default().id().as_str()), (3, "gated_conv"));
        assert_eq!(GatedConv { taps: 4 }.id().as_str(), "gated_conv_k4");
    }

    #[cfg(feature = "flex")]
    #[test]
    fn convolutions_without_a_past_are_refused() {
        let mut init = WeightInit::new(InitScheme::FanIn, Seed(1).rng("test", 0));
        for taps in [0, 1, usize::MAX] {
            let conv = GatedConv { taps };
            let dims = Dims::new(8, 12, 2).unwrap();
            let error = conv.build(&dims, &mut init, &Device::flex()).unwrap_err().to_string();
            assert!(error.contains("gated_conv") && error.contains("2 to"), "{error}");
            conv.cost(&dims, 16);
        }
    }
}
