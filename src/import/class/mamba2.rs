//! Mamba-2 (Dao and Gu 2024, arXiv 2405.21060): a model of Mamba-2 layers only.

use serde_json::json;

use super::{
    Found,
    shared::{blocks, steps},
};
use crate::{
    dims::Dims,
    export::Class,
    import::{
        ImportError,
        json::{Fields, refuse},
        recipe::Recipe,
    },
    primitive::Mamba2,
};

pub(super) fn read(fields: Fields) -> Result<Found, ImportError> {
    let width = fields.size("hidden_size")?;
    let heads = fields.size_or("num_heads", 128)?;
    let head_dim = fields.size_or("head_dim", 64)?;
    let expand = fields.number_or("expand", 2.0)?;
    if (width as f64 * expand - heads as f64 * head_dim as f64).abs() > 0.5 {
        let text = format!(
            "num_heads times head_dim is {}, but expand times hidden_size is {}",
            heads.saturating_mul(head_dim),
            width as f64 * expand
        );
        return Err(ImportError::Blocks(text));
    }
    if !["silu", "swish"].contains(&fields.text_or("hidden_act", "silu")?) {
        return Err(refuse("hidden_act", &json!(fields.text_or("hidden_act", "silu")?), "only silu is supported"));
    }
    fields.must_be("rms_norm", &json!(true), "only layers with the gated norm are supported")?;
    let mamba = Mamba2 {
        head_dim,
        state: fields.size_or("state_size", 128)?,
        groups: fields.size_or("n_groups", 8)?,
        conv: fields.size_or("conv_kernel", 4)?,
        chunk: fields.size_or("chunk_size", 256)?,
        heads: Some(heads),
        conv_bias: fields.flag_or("use_conv_bias", true)?,
        projection_bias: fields.flag_or("use_bias", false)?,
        steps: steps(fields, "time_step_limit", 0.0)?,
        ..Mamba2::default()
    };
    // The model has no attention; these are the dimensions that attention layers would have. Files written by this
    // crate state them.
    let attention_heads = fields.size_or("num_attention_heads", 1)?;
    let dims = Dims {
        d_model: width,
        d_ff: fields.size_or("intermediate_size", width.saturating_mul(2).max(1))?,
        heads: attention_heads,
        kv_heads: fields.size_or("num_key_value_heads", attention_heads)?,
        head_dim: width.checked_div(attention_heads).and_then(|width| width.checked_next_multiple_of(2)).unwrap_or(0),
        rope_theta: fields.number_or("rope_theta", 10_000.0)?,
        rope_scaling: None,
        norm_eps: fields.number_or("layer_norm_epsilon", 1e-5)?,
        attention_bias: false,
    };
    let recipes = vec![Recipe::Mamba2(mamba); blocks(fields)?];
    Found::native(Class::Mamba2, recipes, dims, fields)
}
