//! Causal self-attention with grouped queries (Ainslie et al. 2023, arXiv 2305.13245) and rotary position embeddings
//! (Su et al. 2021, arXiv 2104.09864) in the rotate-half convention of Llama.

use std::num::Saturating;

#[cfg(feature = "model")]
use super::BuildError;
use super::{CacheKind, HfMapping, LayerCost, Primitive, PrimitiveId, Role, Symbol};
use crate::dims::Dims;
#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{AttentionLayer, Block, WeightInit},
};

/// Causal self-attention, in which `heads` query heads share `kv_heads` key and value heads. Symbol `A`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attention;

impl Primitive for Attention {
    fn id(&self) -> PrimitiveId {
        PrimitiveId::known("attention")
    }

    fn symbol(&self) -> Symbol {
        Symbol::ATTENTION
    }

    fn role(&self) -> Role {
        Role::Sequence
    }

    fn cost(&self, dims: &Dims, seq_len: u64) -> LayerCost {
        windowed_cost(dims, seq_len, seq_len)
    }

    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        kept(dims, seq_len)
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        dims.validate()?;
        Ok(Block::new(AttentionLayer::new(dims, init, device)))
    }

    fn hf_mapping(&self, dims: &Dims) -> Option<HfMapping> {
        Some(named(HfMapping::new("full_attention", CacheKind::Everything), dims))
    }
}

/// Adds the projections, with the names of Llama.
pub(super) fn named(mapping: HfMapping, dims: &Dims) -> HfMapping {
    let names = [("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("output", "o_proj")];
    names.into_iter().fold(mapping, |all, (ours, theirs)| all.linear(ours, theirs, dims.attention_bias))
}

/// Returns the cost of attention in which every query sees the last `window` keys.
///
/// Projections count twice their weights. A token counts `4 H C` for each key that it sees. A causal sequence of `S`
/// tokens covers a triangle, from which a window `W <= S` removes a corner: `W - W^2 / (2 S)` keys per token, or `S /
/// 2` without a window. The result is rounded down.
pub(super) fn windowed_cost(dims: &Dims, seq_len: u64, window: u64) -> LayerCost {
    let [width, _, queries, keys] = dims.counts();
    let weights = Saturating(2) * width * (queries + keys);
    let biases = if dims.attention_bias { queries + Saturating(2) * keys + width } else { Saturating(0) };
    let seq = u128::from(seq_len.max(1));
    let seen = u128::from(window.min(seq_len));
    let mixing = (2 * u128::from(queries.0)).saturating_mul(seen * (2 * seq - seen)) / seq;
    let mixing = Saturating(u64::try_from(mixing).unwrap_or(u64::MAX));
    LayerCost {
        parameters: (weights + biases).0,
        forward_flops_per_token: (Saturating(2) * weights + mixing).0,
        cache_elements: (Saturating(2) * keys * Saturating(window.min(seq_len))).0,
        attention_width: queries.0,
        ..LayerCost::default()
    }
}

/// The input, queries, keys, values, the attention output, and a normalizer per head. Scores are recomputed, as in
/// FlashAttention (Dao et al. 2022, arXiv 2205.14135).
pub(super) fn kept(dims: &Dims, seq_len: u64) -> u64 {
    let [width, _, queries, keys] = dims.counts();
    let per_token = width + Saturating(2) * (queries + keys) + Saturating(dims.heads as u64);
    (per_token * Saturating(seq_len)).0
}
