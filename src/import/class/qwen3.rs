//! Qwen3 (Qwen team 2025, arXiv 2505.09388): attention with norms of queries and keys, each followed by a SwiGLU.

use serde_json::json;

use super::{
    Found,
    shared::{Names, blocks, check_swiglu, dims, kinds, rotary},
};
use crate::{
    dims::QueryKeyNorm,
    export::Class,
    import::{
        ImportError,
        json::{Fields, refuse},
        recipe::Recipe,
    },
    primitive::CustomAttention,
};

pub(super) fn read(fields: Fields) -> Result<Found, ImportError> {
    check_swiglu(fields)?;
    fields.must_be("use_sliding_window", &json!(false), "sliding windows are not supported")?;
    let rotary = rotary(fields, 10_000.0)?;
    let mut dims = dims(
        fields,
        &rotary,
        &Names { epsilon: "rms_norm_eps", inner: "intermediate_size", kv_heads: Some(32) },
        1e-6,
    )?;
    // The default of the class is a constant, not derived from the width.
    dims.head_dim = fields.size_or("head_dim", 128)?;
    let positions = rotary.positions(1.0)?;
    let attention =
        Recipe::Attention(CustomAttention { norm: QueryKeyNorm::PerHead, positions, ..CustomAttention::default() });
    let count = blocks(fields)?;
    if let Some(kind) =
        kinds(fields, &["layer_types"])?.unwrap_or_default().iter().find(|kind| **kind != "full_attention")
    {
        return Err(refuse("layer_types", &json!(kind), "sliding windows are not supported"));
    }
    let recipes = [attention, Recipe::SwiGlu].repeat(count);
    Found::native(Class::Qwen3, recipes, dims, fields)
}
