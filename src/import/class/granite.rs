//! Granite 4 (IBM 2025) without multipliers or experts: Mamba-2 and attention, each followed by a SwiGLU.

use serde_json::json;

use super::{
    Found,
    shared::{Names, blocks, check_swiglu, dims, kinds, mamba_or, prefixed_mamba, rotary, with_positions},
};
use crate::{
    dims::Positions,
    export::Class,
    import::{
        ImportError,
        json::{Fields, refuse},
        recipe::Recipe,
    },
};

pub(super) fn read(fields: Fields) -> Result<Found, ImportError> {
    check_swiglu(fields)?;
    for key in ["embedding_multiplier", "residual_multiplier", "logits_scaling"] {
        fields.must_be(key, &json!(1), "multipliers are not supported")?;
    }
    let experts = fields.size_or("num_local_experts", 8)?;
    if experts > 0 {
        return Err(refuse(
            "num_local_experts",
            &json!(experts),
            "blocks with experts and a shared MLP are not supported",
        ));
    }
    let rotary = rotary(fields, 10_000.0)?;
    let names = Names { epsilon: "rms_norm_eps", inner: "shared_intermediate_size", kv_heads: None };
    let dims = dims(fields, &rotary, &names, 1e-6)?;
    let scale = fields.number_or("attention_multiplier", 1.0)?;
    if (scale * (dims.head_dim as f64).sqrt() - 1.0).abs() > 1e-6 {
        return Err(refuse("attention_multiplier", &json!(scale), "it must be 1 / sqrt(head_dim)"));
    }
    let positions = match fields.text_or("position_embedding_type", "none")? {
        "none" | "nope" => Positions::None,
        "rope" => Positions::Rotary,
        other => return Err(refuse("position_embedding_type", &json!(other), "it must be rope or none")),
    };
    let count = blocks(fields)?;
    let kinds = kinds(fields, &["layer_types", "layers_block_type"])?.unwrap_or(vec!["linear_attention"; count]);
    let mamba = Recipe::Mamba2(prefixed_mamba(fields, dims.d_model)?);
    let recipes = mamba_or(Recipe::Attention(with_positions(positions)), mamba, &kinds)?;
    Found::native(Class::GraniteMoeHybrid, recipes, dims, fields)
}
