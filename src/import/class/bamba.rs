//! Bamba (IBM, Princeton, CMU and UIUC 2024): Mamba-2 and half-rotary attention, each followed by a SwiGLU.

use serde_json::json;

use super::{
    Found,
    shared::{Names, agreed, blocks, check_swiglu, dims, mamba_or, places, prefixed_mamba, rotary, with_positions},
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
    let rotary = rotary(fields, 10_000.0)?;
    if let Some(share) = rotary.share.filter(|share| *share != 0.5) {
        return Err(refuse(
            "partial_rotary_factor",
            &json!(share),
            "the class always uses rotary positions for half of each head",
        ));
    }
    let dims =
        dims(fields, &rotary, &Names { epsilon: "rms_norm_eps", inner: "intermediate_size", kv_heads: Some(8) }, 1e-5)?;
    if let Some(rotated) =
        fields.size_if("attn_rotary_emb")?.filter(|rotated| rotated.checked_mul(2) != Some(dims.head_dim))
    {
        return Err(refuse(
            "attn_rotary_emb",
            &json!(rotated),
            "the class always uses rotary positions for half of each head",
        ));
    }
    let count = blocks(fields)?;
    let kind = |attends: bool| if attends { "full_attention" } else { "linear_attention" };
    let places = places(fields, "attn_layer_indices", count)?;
    let spelled = places.map(|places| (0..count).map(|at| kind(places.contains(&at))).collect());
    let spelled = spelled.map(|spelled| ("attn_layer_indices", spelled));
    let kinds = agreed(fields, &["layers_block_type", "layer_types"], spelled)?;
    let mamba = Recipe::Mamba2(prefixed_mamba(fields, dims.d_model)?);
    let attention = Recipe::Attention(with_positions(Positions::Partial(50)));
    let recipes = mamba_or(attention, mamba, &kinds.unwrap_or(vec!["linear_attention"; count]))?;
    Found::native(Class::Bamba, recipes, dims, fields)
}
