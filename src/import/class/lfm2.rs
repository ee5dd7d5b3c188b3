//! LFM2 (Liquid AI 2025, arXiv 2511.23404): short convolutions, and attention with norms, each followed by a SwiGLU.

use serde_json::json;

use super::{
    Found,
    shared::{Names, agreed, blocks, dims, places, rotary, unknown_kind},
};
use crate::{
    dims::QueryKeyNorm,
    export::Class,
    import::{ImportError, json::Fields, recipe::Recipe},
    primitive::{CustomAttention, GatedConv},
};

pub(super) fn read(fields: Fields) -> Result<Found, ImportError> {
    let rotary = rotary(fields, 1_000_000.0)?;
    let stated = if fields.get("block_ff_dim").is_some() { "block_ff_dim" } else { "intermediate_size" };
    let mut dims = dims(fields, &rotary, &Names { epsilon: "norm_eps", inner: stated, kv_heads: Some(8) }, 1e-5)?;
    dims.d_ff = effective(fields, dims.d_ff)?;
    fields.must_be("conv_bias", &json!(false), "only convolutions without bias are supported")?;
    fields.must_be("block_use_swiglu", &json!(true), "only SwiGLU is supported")?;
    fields.must_be("use_pos_enc", &json!(true), "only attention with rotary positions is supported")?;
    let conv = Recipe::GatedConv(GatedConv { kernel_size: fields.size_or("conv_L_cache", 3)? });
    let attention = Recipe::Attention(CustomAttention { norm: QueryKeyNorm::PerHead, ..CustomAttention::default() });
    let count = blocks(fields)?;
    let kind = |attends: bool| if attends { "full_attention" } else { "conv" };
    let places = places(fields, "full_attn_idxs", count)?;
    let spelled = places.map(|places| (0..count).map(|at| kind(places.contains(&at))).collect());
    let kinds = agreed(fields, &["layer_types"], spelled.map(|spelled| ("full_attn_idxs", spelled)))?;
    let kinds = kinds.unwrap_or(vec!["full_attention"; count]);
    let mut recipes = Vec::new();
    for kind in kinds {
        recipes.push(match kind {
            "conv" => conv,
            "full_attention" => attention,
            other => return Err(unknown_kind("layer_types", other)),
        });
        recipes.push(Recipe::SwiGlu);
    }
    // Old files use another name for tied embeddings, and omit it if it is true.
    let mut found = Found::native(Class::Lfm2, recipes, dims, fields)?;
    found.tied = fields.flag_or("tie_embedding", found.tied)?;
    Ok(found)
}

/// Returns the actual inner width, which the class computes from the stated one.
fn effective(fields: Fields, stated: usize) -> Result<usize, ImportError> {
    if !fields.flag_or("block_auto_adjust_ff_dim", true)? {
        return Ok(stated);
    }
    let factor = fields.number_or("block_ffn_dim_multiplier", 1.0)?;
    let multiple = fields.divisor_or("block_multiple_of", 256)?;
    let width = (factor * (2.0 * stated as f64 / 3.0).floor()).floor();
    Ok((width as usize).checked_next_multiple_of(multiple).unwrap_or(usize::MAX))
}
