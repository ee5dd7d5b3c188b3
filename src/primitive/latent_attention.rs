//! Multi-head latent attention (DeepSeek-AI 2024, arXiv 2405.04434, section 2.1). Keys and values are computed from a
//! latent vector per token, and decoding caches only that vector.
//!
//! Notation: `H` heads; `N` query and key channels without and `R` with rotary position; `V` value channels; `L` width
//! of the latent vector; `Q` width of the low-rank queries, if used. `c | k' = down(x)`, `k | v = up(norm(c))` for each
//! head. Every head scores `q . k + q' . rotated(k')` over `sqrt(N + R)`; all heads share one `k'`.

use std::num::NonZeroUsize;

use super::{BuildError, CacheKind, HfMapping, LayerCost, Primitive, PrimitiveId, Role, Symbol, TensorLayout};
#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{Block, LatentAttentionLayer, WeightInit},
};
use crate::{
    dims::{Dims, LatentSizes},
    limits::MAX_WIDTH,
};

/// Multi-head latent attention. Symbol `L`.
///
/// Unset sizes are derived from the model's widths in the proportions of DeepSeek-V3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatentAttention {
    /// `L`, the width of the latent vector. Default: four times the head width.
    pub rank: Option<NonZeroUsize>,
    /// `Q`, the width of low-rank queries. By default, queries are projected directly.
    pub query_rank: Option<NonZeroUsize>,
    /// `N`, query and key channels without position (`qk_nope_head_dim`). Even. Default: the head width.
    pub nope: Option<NonZeroUsize>,
    /// `R`, query and key channels with rotary position (`qk_rope_head_dim`). Even. Default: half the head width.
    pub rope: Option<NonZeroUsize>,
    /// `V`, value channels, at most `N + R`. Default: the head width.
    pub value: Option<NonZeroUsize>,
}

impl LatentAttention {
    fn sizes(&self, dims: &Dims) -> Result<LatentSizes, BuildError> {
        dims.validate()?;
        let or = |size: Option<NonZeroUsize>, usual: usize| size.map_or(usual, NonZeroUsize::get);
        let head = dims.head_dim;
        let nope = or(self.nope, head);
        let rope = or(self.rope, (head / 4 * 2).max(2));
        let value = or(self.value, head);
        let rank = or(self.rank, head.saturating_mul(4));
        let query_rank = self.query_rank.map(NonZeroUsize::get);
        let refuse = |option, value, remedy: &str| {
            Err(BuildError::Option { id: self.id(), option, value, remedy: remedy.into() })
        };
        for (option, size) in [("nope", nope), ("rope", rope)] {
            if !size.is_multiple_of(2) {
                return refuse(option, size, "use an even number: channels rotate in pairs");
            }
        }
        let sizes = [("nope", nope), ("rope", rope), ("rank", rank), ("query_rank", query_rank.unwrap_or(1))];
        for (option, size) in sizes {
            if dims.heads.saturating_mul(size) > MAX_WIDTH {
                return refuse(option, size, "use a smaller number");
            }
        }
        if value > nope + rope {
            return refuse("value", value, "use at most nope + rope channels");
        }
        Ok(LatentSizes { heads: dims.heads, nope, rope, value, rank, query_rank })
    }
}

/// Returns the number of weights of all projections.
fn weights(sizes: LatentSizes, width: u64) -> u64 {
    let LatentSizes { heads, nope, rope, value, rank, query_rank } = sizes;
    let [heads, nope, rope, value, rank] = [heads, nope, rope, value, rank].map(|size| size as u64);
    let queries = heads * (nope + rope);
    let query = match query_rank {
        Some(rank) => rank as u64 * (width + queries),
        None => width * queries,
    };
    query + width * (rank + rope) + rank * heads * (nope + value) + heads * value * width
}

impl Primitive for LatentAttention {
    /// `latent_attention`, followed by the options that are set: `l` rank, `q` query rank, `n` channels without
    /// position, `r` channels with position, `v` value channels.
    fn id(&self) -> PrimitiveId {
        let options = [("l", self.rank), ("q", self.query_rank), ("n", self.nope), ("r", self.rope), ("v", self.value)];
        let options = options.map(|(tag, size)| (tag, size.map_or(0, NonZeroUsize::get), 0));
        PrimitiveId::with_options("latent_attention", &options)
    }

    fn symbol(&self) -> Symbol {
        Symbol::LATENT_ATTENTION
    }

    fn role(&self) -> Role {
        Role::Sequence
    }

    /// Projections count twice their weights. A token counts `2 H (N + R + V)` for each key that it sees. Decoding
    /// keeps `L + R` numbers per token. A layer that cannot be built costs nothing.
    fn cost(&self, dims: &Dims, seq_len: u64) -> LayerCost {
        let Ok(sizes) = self.sizes(dims) else { return LayerCost::default() };
        let LatentSizes { heads, nope, rope, value, rank, query_rank } = sizes;
        let weights = weights(sizes, dims.width());
        let mixed = (heads * (nope + rope + value)) as u64;
        LayerCost {
            parameters: weights + (rank + query_rank.unwrap_or(0)) as u64,
            forward_flops_per_token: (2 * weights).saturating_add(mixed.saturating_mul(seq_len)),
            cache_elements: ((rank + rope) as u64).saturating_mul(seq_len),
            attention_width: mixed / 2,
            ..LayerCost::default()
        }
    }

    /// The input, the low-rank vectors before and after their norms, queries, keys and values, the attention output,
    /// and a normalizer per head.
    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        let Ok(LatentSizes { heads, nope, rope, rank, query_rank, .. }) = self.sizes(dims) else { return 0 };
        let low = 2 * (rank + query_rank.unwrap_or(0)) + rope;
        let per_token = dims.d_model + low + 4 * heads * (nope + rope) + heads;
        (per_token as u64).saturating_mul(seq_len)
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        Ok(Block::new(LatentAttentionLayer::new(self.sizes(dims)?, dims, init, device)))
    }

    /// Names as in DeepSeek-V3, whose rotary channels are interleaved unless `rope_interleave` is false.
    fn hf_mapping(&self, dims: &Dims) -> Option<HfMapping> {
        let LatentSizes { nope, rope, value, rank, query_rank, .. } = self.sizes(dims).ok()?;
        let mut mapping = HfMapping::new(self.id().as_str(), CacheKind::Everything).family("latent_attention");
        let query = query_rank.unwrap_or(0);
        for (name, size) in [("nope", nope), ("rope", rope), ("value", value), ("rank", rank), ("query_rank", query)] {
            mapping = mapping.option(name, size.to_string());
        }
        mapping = match query_rank {
            None => mapping.linear("query", "q_proj", false),
            Some(_) => mapping
                .linear("query_down", "q_a_proj", false)
                .tensor("query_norm", "q_a_layernorm.weight", TensorLayout::Same)
                .linear("query", "q_b_proj", false),
        };
        mapping = mapping.linear("down", "kv_a_proj_with_mqa", false);
        mapping = mapping.tensor("norm", "kv_a_layernorm.weight", TensorLayout::Same);
        Some(mapping.linear("up", "kv_b_proj", false).linear("output", "o_proj", false).python(PYTHON))
    }
}

/// The PyTorch layer for the model class of [`Format::Flat`](crate::export::Format::Flat).
const PYTHON: &str = include_str!("python/latent_attention.py");

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    fn size(size: usize) -> Option<NonZeroUsize> {
        NonZeroUsize::new(size)
    }

    #[test]
    fn variants_keep_the_laws() {
        let usual = LatentAttention::default();
        for variant in [
            usual,
            LatentAttention { query_rank: size(5), rank: size(6), ..usual },
            LatentAttention { nope: size(6), rope: size(4), value: size(3), ..usual },
        ] {
            assert_eq!(crate::testkit::primitive::check(&variant, &Device::flex()), Ok(()), "{variant:?}");
        }
    }

    /// DeepSeek-V3 (arXiv 2412.19437, section 4.2), as counted by transformers 5.23 for `DeepseekV3Attention` with its
    /// default configuration.
    #[test]
    fn sizes_are_those_of_deepseek_v3() {
        let dims = Dims { head_dim: 128, kv_heads: 128, heads: 128, ..Dims::new(7168, 18_432, 56).unwrap() };
        let latent = LatentAttention { query_rank: size(1536), ..LatentAttention::default() };
        let cost = latent.cost(&dims, 4096);
        let [d, h] = [7168, 128];
        let weights = 1536 * (d + h * 192) + d * 576 + 512 * h * 256 + h * 128 * d;
        assert_eq!(cost.parameters, weights + 1536 + 512);
        assert_eq!(cost.cache_elements, 576 * 4096);
        assert_eq!(latent.id().as_str(), "latent_attention_q1536");
    }

    #[test]
    fn sizes_that_cannot_be_are_refused_with_a_remedy() {
        let dims = Dims::new(8, 12, 2).unwrap();
        let usual = LatentAttention::default();
        for (bad, part) in [
            (LatentAttention { nope: size(3), ..usual }, "nope is 3: use an even number"),
            (LatentAttention { rope: size(5), ..usual }, "rope is 5"),
            (LatentAttention { value: size(7), ..usual }, "value is 7: use at most"),
            (LatentAttention { rank: size(usize::MAX), ..usual }, "rank is"),
        ] {
            let error = bad.sizes(&dims).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            assert_eq!(bad.cost(&dims, 16), LayerCost::default());
        }
    }
}
