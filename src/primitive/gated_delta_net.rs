//! Gated DeltaNet (Yang et al. 2024, arXiv 2412.06464): a linear recurrence with decay and the delta rule, after a
//! short convolution.
//!
//! `q | k | v = silu(conv(qkv(tokens)))`. Each value head runs the recurrence of
//! [`DeltaRule`](crate::dims::DeltaRule) with queries and keys of unit length, `beta = sigmoid(beta(tokens))` and
//! `ln alpha = -exp(a_log) softplus(decay(tokens) + dt_bias)`. The output is `out(norm(y) * silu(gate(tokens)))`,
//! with an RMS norm per head. Only `decay` has a bias.
//!
//! The conventions are those of `Qwen3NextGatedDeltaNet` in transformers. For each key head, its `in_proj_qkvz` holds
//! the columns of [`qkv`](crate::layer::GatedDeltaNetLayer::qkv) and
//! [`gate`](crate::layer::GatedDeltaNetLayer::gate) that belong to the head, and its `in_proj_ba` those of
//! [`beta`](crate::layer::GatedDeltaNetLayer::beta) and [`decay`](crate::layer::GatedDeltaNetLayer::decay). The
//! initial decays are those of the paper's code.

use super::{
    BuildError, CacheKind, HfMapping, LayerCost, Primitive, PrimitiveId, Role, Symbol, TensorLayout,
    recurrent::{MAX_INNER, check_kernel_size, check_option, chunk_states, head_width},
};
use crate::dims::{DeltaRule, Dims};
#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{Block, GatedDeltaNetLayer, WeightInit},
};

/// A gated DeltaNet layer. Symbol `G`.
///
/// Queries and keys are together as wide as the model, unless [`heads`](Self::heads) is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatedDeltaNet {
    /// Maximum head width. The actual width is the largest divisor of the model width that leaves at least four key
    /// heads.
    pub head_dim: usize,
    /// Number of value heads that share a key head.
    pub value_heads: usize,
    /// Kernel size of the convolution, at least 2.
    pub conv: usize,
    /// Tokens per chunk that is computed by matrix products. Results depend on it only by rounding.
    pub chunk: usize,
    /// Number of key heads, each exactly `head_dim` wide, as in the configurations of published models.
    pub heads: Option<usize>,
    /// Width of a value head. `None` means the width of a key head.
    pub value_dim: Option<usize>,
}

impl Default for GatedDeltaNet {
    /// `head_dim` 128, `value_heads` 2, `conv` 4, `chunk` 64, as in Qwen3-Next.
    fn default() -> Self {
        Self { head_dim: 128, value_heads: 2, conv: 4, chunk: 64, heads: None, value_dim: None }
    }
}

impl GatedDeltaNet {
    /// Checks that the layer can be built at these widths.
    pub(crate) fn check(&self, dims: &Dims) -> Result<(), BuildError> {
        self.sizes(dims).map(drop)
    }

    fn sizes(&self, dims: &Dims) -> Result<DeltaRule, BuildError> {
        dims.validate()?;
        let &Self { head_dim, value_heads, conv, chunk, heads, value_dim } = self;
        let best = Self::default();
        for (name, value, example) in [
            ("head_dim", head_dim, best.head_dim),
            ("value_heads", value_heads, best.value_heads),
            ("chunk", chunk, best.chunk),
            ("heads", heads.unwrap_or(1), 16),
            ("value_dim", value_dim.unwrap_or(1), best.head_dim),
        ] {
            check_option(self.id(), name, value, example)?;
        }
        check_kernel_size(self.id(), conv)?;
        let key_width = if heads.is_some() { head_dim } else { head_width(dims.d_model, head_dim) };
        let key_heads = heads.unwrap_or(dims.d_model / key_width);
        let value_width = value_dim.unwrap_or(key_width);
        let values = key_heads.saturating_mul(value_heads).saturating_mul(value_width);
        let inner = key_heads.saturating_mul(key_width).saturating_mul(2).saturating_add(values);
        if inner > MAX_INNER {
            let reason = format!("its inner width is {inner}, more than {MAX_INNER}: lower value_heads");
            return Err(BuildError::Primitive { id: self.id(), reason });
        }
        Ok(DeltaRule { key_heads, value_heads: key_heads * value_heads, key_width, value_width, chunk })
    }
}

impl Primitive for GatedDeltaNet {
    /// `gated_delta_net`, followed by the options that differ from the default, as in `gated_delta_net_v1`: `p` head
    /// width, `v` value heads per key head, `k` kernel size, `l` chunk, `h` key heads, `w` value head width.
    fn id(&self) -> PrimitiveId {
        let own = self;
        let usual = Self::default();
        let options = [
            ("p", own.head_dim, usual.head_dim),
            ("v", own.value_heads, usual.value_heads),
            ("k", own.conv, usual.conv),
            ("l", own.chunk, usual.chunk),
            ("h", own.heads.unwrap_or(0), 0),
            ("w", own.value_dim.unwrap_or(0), 0),
        ];
        PrimitiveId::with_options("gated_delta_net", &options)
    }

    fn symbol(&self) -> Symbol {
        Symbol::GATED_DELTA_NET
    }

    fn role(&self) -> Role {
        Role::Sequence
    }

    /// Projections and convolution count twice their weights, and the delta rule four multiply-adds per element of the
    /// state, as in Megatron-LM. A layer that cannot be built costs nothing.
    fn cost(&self, dims: &Dims, _seq_len: u64) -> LayerCost {
        let Ok(DeltaRule { key_heads, value_heads, key_width, value_width, .. }) = self.sizes(dims) else {
            return LayerCost::default();
        };
        let keys = (key_heads * key_width) as u64;
        let [heads, width, kernel_size] = [value_heads, value_width, self.conv].map(|size| size as u64);
        let values = heads * width;
        let qkv = 2 * keys + heads * width;
        let projections = dims.width() * (qkv + 2 * values + 2 * heads);
        let states = values * key_width as u64;
        LayerCost {
            parameters: projections + kernel_size * qkv + 2 * heads + width,
            forward_flops_per_token: 2 * (projections + kernel_size * qkv + 4 * states),
            cache_elements: states + qkv * (kernel_size - 1),
            ..LayerCost::default()
        }
    }

    /// The input, the gate, `q | k | v` before the convolution, the activation and the recurrence, `beta` and the
    /// decay, corrections, the outputs of the recurrence and the norm, a normalizer per head, and the state before
    /// every chunk except the first. A layer that cannot be built keeps nothing.
    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        let Ok(DeltaRule { key_heads, value_heads, key_width, value_width, chunk }) = self.sizes(dims) else {
            return 0;
        };
        let values = value_heads * value_width;
        let per_token = dims.d_model + 3 * (2 * key_heads * key_width + values) + 4 * values + 3 * value_heads;
        let states = (values as u64).saturating_mul(key_width as u64);
        chunk_states(seq_len, chunk, states).saturating_add((per_token as u64).saturating_mul(seq_len))
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        Ok(Block::new(GatedDeltaNetLayer::new(dims, self.conv, self.sizes(dims)?, init, device)))
    }

    /// The gated DeltaNet of Qwen3.5, which is that of Qwen3-Next with separate projection matrices.
    fn hf_mapping(&self, dims: &Dims) -> Option<HfMapping> {
        let rule = self.sizes(dims).ok()?;
        let start = HfMapping::new("gated_delta_net", CacheKind::State);
        let settings = [
            ("linear_num_key_heads", rule.key_heads),
            ("linear_num_value_heads", rule.value_heads),
            ("linear_key_head_dim", rule.key_width),
            ("linear_value_head_dim", rule.value_width),
            ("linear_conv_kernel_dim", self.conv),
        ];
        let start = settings.into_iter().fold(start, |all, (key, value)| all.setting(key, value));
        let maps = [
            ("qkv", "in_proj_qkv"),
            ("gate", "in_proj_z"),
            ("beta", "in_proj_b"),
            ("decay", "in_proj_a"),
            ("output", "out_proj"),
        ];
        let start = maps.into_iter().fold(start, |all, (ours, theirs)| all.linear(ours, theirs, false));
        let start = start.tensor("conv", "conv1d.weight", TensorLayout::Conv);
        let vectors = [("dt_bias", "dt_bias"), ("a_log", "A_log"), ("norm", "norm.weight")];
        Some(vectors.into_iter().fold(start, |all, (ours, theirs)| all.tensor(ours, theirs, TensorLayout::Same)))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::{module::Param, tensor::Tensor};

    use crate::{dims::InitScheme, seed::Seed};

    #[test]
    fn sizes_are_those_of_qwen3_next_where_the_model_is_wide() {
        let wide = GatedDeltaNet::default().sizes(&Dims::new(2048, 5632, 16).unwrap()).unwrap();
        let heads = DeltaRule { key_heads: 16, value_heads: 32, key_width: 128, value_width: 128, chunk: 64 };
        assert_eq!((wide, GatedDeltaNet::default().conv), (heads, 4));
        let narrow = GatedDeltaNet::default().sizes(&Dims::new(32, 96, 4).unwrap()).unwrap();
        assert_eq!(narrow, DeltaRule { key_heads: 4, value_heads: 8, key_width: 8, value_width: 8, chunk: 64 });
    }

    /// As counted by transformers 5.23 for `Qwen3NextGatedDeltaNet` with its default configuration.
    #[test]
    fn parameters_are_those_of_the_published_layer() {
        let cost = GatedDeltaNet::default().cost(&Dims::new(2048, 5632, 16).unwrap(), 4096);
        assert_eq!(cost.parameters, 33_718_464);
        let d = 2048;
        let keys = 2048;
        let values = 4096;
        let heads = 32;
        let weights = d * (2 * keys + 2 * values + 2 * heads) + 4 * (2 * keys + values) + d * values;
        assert_eq!(cost.forward_flops_per_token, 2 * (weights + heads * 128 * 128 * 4));
        assert_eq!(cost.cache_elements, heads * 128 * 128 + 3 * (2 * keys + values));
    }

    #[test]
    fn other_options_show_in_the_id() {
        assert_eq!(GatedDeltaNet::default().id().as_str(), "gated_delta_net");
        let other = GatedDeltaNet { value_heads: 1, chunk: 32, ..GatedDeltaNet::default() };
        assert_eq!(other.id().as_str(), "gated_delta_net_v1_l32");
    }

    #[test]
    fn exact_sizes_keep_the_laws() {
        let exact = GatedDeltaNet { heads: Some(3), head_dim: 5, value_heads: 2, chunk: 8, ..GatedDeltaNet::default() };
        for variant in [exact, GatedDeltaNet { value_dim: Some(7), value_heads: 1, ..exact }] {
            assert_eq!(crate::testkit::primitive::check(&variant, &Device::flex()), Ok(()), "{variant:?}");
        }
        assert_eq!(exact.id().as_str(), "gated_delta_net_p5_l8_h3");
    }

    /// A public task description: width 768; 12 blocks with SwiGLU 3072; query and key norms over the whole width; tied
    /// vocabulary of 100,352. One model uses only attention, the other three gated DeltaNet layers (keys 1536, values
    /// 3072, kernel size 4) to one attention layer.
    #[test]
    fn parameters_are_those_of_a_public_task() {
        use crate::{
            dims::QueryKeyNorm,
            primitive::{CustomAttention, SwiGlu},
        };

        let dims = Dims::new(768, 3072, 12).unwrap();
        let size = |layer: &dyn Primitive| layer.cost(&dims, 1).parameters + 768;
        let attention = size(&CustomAttention { norm: QueryKeyNorm::Whole, ..CustomAttention::default() });
        let net = GatedDeltaNet { heads: Some(12), value_heads: 1, value_dim: Some(256), ..GatedDeltaNet::default() };
        let ends = 100_352 * 768 + 768;
        assert_eq!(12 * (attention + size(&SwiGlu)) + ends, 190_354_176);
        assert_eq!(3 * attention + 9 * size(&net) + 12 * size(&SwiGlu) + ends, 254_430_936);
    }

    #[test]
    fn options_that_cannot_be_built_are_refused_with_a_remedy() {
        let dims = Dims::new(8, 12, 2).unwrap();
        let usual = GatedDeltaNet::default();
        for (bad, part) in [
            (GatedDeltaNet { head_dim: 0, ..usual }, "head_dim is 0"),
            (GatedDeltaNet { value_heads: 0, ..usual }, "value_heads is 0"),
            (GatedDeltaNet { chunk: 0, ..usual }, "chunk is 0"),
            (GatedDeltaNet { conv: 0, ..usual }, "kernel size of 0"),
            (GatedDeltaNet { value_heads: usize::MAX, ..usual }, "value_heads is"),
            (GatedDeltaNet { value_heads: 1 << 23, ..usual }, "inner width"),
        ] {
            let mut init = WeightInit::new(InitScheme::FanIn, Seed(1).rng("test", 0));
            let error = bad.build(&dims, &mut init, &Device::flex()).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("gated_delta_net"), "{error}");
            assert_eq!(bad.cost(&dims, 16), LayerCost::default());
        }
    }

    #[test]
    fn decays_start_as_in_the_papers_code() {
        let mut init = WeightInit::new(InitScheme::FanIn, Seed(1).rng("test", 0));
        let net = GatedDeltaNet { head_dim: 1, ..GatedDeltaNet::default() };
        let block = net.build(&Dims::new(256, 512, 4).unwrap(), &mut init, &Device::flex()).unwrap();
        let layer = block.downcast_ref::<GatedDeltaNetLayer>().unwrap();
        let host = |x: &Param<Tensor<1>>| x.val().into_data().try_into_vec::<f32>().unwrap();
        let a: Vec<f32> = host(&layer.a_log).iter().map(|a| a.exp()).collect();
        let mean = a.iter().sum::<f32>() / 512.0;
        assert!(a.iter().all(|a| (0.0..=16.001).contains(a)) && (7.0..9.0).contains(&mean), "{mean}");
        assert!(host(&layer.dt_bias).iter().all(|bias| (0.999e-3..0.1001).contains(&bias.exp().ln_1p())));
    }
}
