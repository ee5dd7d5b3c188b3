//! Nemotron-H (NVIDIA 2025, arXiv 2504.03624) and Nemotron 3: one layer per block.

use serde_json::json;

use super::{
    Found,
    shared::{agreed, kinds, unknown_kind, with_positions},
};
use crate::{
    dims::{Dims, Positions, Routing, StepLimits},
    export::{Class, NO_BOUND},
    import::{
        ImportError,
        json::{Fields, refuse},
        recipe::Recipe,
    },
    primitive::{Expert, Mamba2, Moe, Symbol},
    space::notation::Alphabet,
};

pub(super) fn read(fields: Fields) -> Result<Found, ImportError> {
    let width = fields.size("hidden_size")?;
    let heads = fields.size_or("num_attention_heads", 32)?;
    let dims = Dims {
        d_model: width,
        d_ff: fields.size_or("intermediate_size", 21_504)?,
        heads,
        kv_heads: fields.kv_heads(heads, 8)?,
        head_dim: fields.size_or("head_dim", 128)?,
        rope_theta: fields.number_or("rope_theta", 10_000.0)?,
        rope_scaling: None,
        norm_eps: fields.number_or("layer_norm_epsilon", 1e-5)?,
        attention_bias: false,
    };
    for key in ["attention_bias", "mlp_bias"] {
        fields.must_be(key, &json!(false), "this bias is not supported")?;
    }
    for key in ["moe_latent_size", "sliding_window"] {
        if let Some(value) = fields.get(key) {
            return Err(refuse(key, value, "this option is not supported"));
        }
    }
    if fields.size_or("num_nextn_predict_layers", 0)? > 0 {
        let value = json!(fields.size_or("num_nextn_predict_layers", 0)?);
        return Err(refuse("num_nextn_predict_layers", &value, "layers for multi-token prediction are not supported"));
    }
    let list = layers(fields)?;
    let has = |kind: &str| list.contains(&kind);
    let mamba = if has("linear_attention") { Some(mamba(fields)?) } else { None };
    let mlp = match fields.text_or("mlp_hidden_act", "relu2")? {
        "relu2" => Recipe::Relu2,
        "gelu_pytorch_tanh" | "gelu_new" if !has("moe") => Recipe::Mlp,
        act => {
            return Err(refuse(
                "mlp_hidden_act",
                &json!(act),
                "only squared ReLU and the tanh form of GELU are supported",
            ));
        }
    };
    let moe = if has("moe") { Some(moe(fields)?) } else { None };
    let layer = |kind: &&str| match *kind {
        "linear_attention" => mamba.map(Recipe::Mamba2).ok_or(ImportError::Incomplete("mamba_num_heads")),
        "full_attention" => Ok(Recipe::Attention(with_positions(Positions::None))),
        "mlp" => Ok(mlp),
        "moe" => moe.map(Recipe::Moe).ok_or(ImportError::Incomplete("n_routed_experts")),
        other => Err(unknown_kind("layers_block_type", other)),
    };
    let recipes = list.iter().map(layer).collect::<Result<_, _>>()?;
    Found::native(Class::NemotronH, recipes, dims, fields)
}

/// Returns the kinds of all layers, from a list, a pattern, or both if they agree.
fn layers(fields: Fields<'_>) -> Result<Vec<&str>, ImportError> {
    let keys = ["layers_block_type", "layer_types"];
    let pattern = fields.text_or("hybrid_override_pattern", "")?;
    if pattern.is_empty() {
        return kinds(fields, &keys)?.ok_or(ImportError::Incomplete("hybrid_override_pattern"));
    }
    let pattern = Alphabet::nemotron_h().read(pattern)?;
    let spelled: Vec<&str> = pattern.layers().iter().map(|symbol| kind(*symbol)).collect();
    agreed(fields, &keys, Some(("hybrid_override_pattern", spelled.clone())))?;
    match fields.size_if("num_hidden_layers")? {
        Some(count) if count != spelled.len() => Err(ImportError::Blocks(format!(
            "hybrid_override_pattern has {} layers, but num_hidden_layers is {count}",
            spelled.len()
        ))),
        _ => Ok(spelled),
    }
}

/// Returns the kind of layer that a symbol of the pattern denotes.
fn kind(symbol: Symbol) -> &'static str {
    match symbol {
        Symbol::MAMBA2 => "linear_attention",
        Symbol::ATTENTION => "full_attention",
        Symbol::MOE => "moe",
        _ => "mlp",
    }
}

/// Reads an entry that has one name in published files and another as an argument of the class.
fn either(fields: Fields, one: &'static str, other: &'static str, default: usize) -> Result<usize, ImportError> {
    match (fields.size_if(one)?, fields.size_if(other)?) {
        (Some(one_value), Some(other_value)) if one_value != other_value => {
            Err(ImportError::Blocks(format!("{one} is {one_value}, but {other} is {other_value}")))
        }
        (one, other) => Ok(one.or(other).unwrap_or(default)),
    }
}

fn mamba(fields: Fields) -> Result<Mamba2, ImportError> {
    let least = match fields.number_if("time_step_min")? {
        Some(least) => least,
        None => fields.number_or("mamba_dt_min", 0.001)?,
    };
    let conv_bias = fields.flag_or("use_conv_bias", fields.flag_or("mamba_conv_bias", true)?)?;
    fields.must_be("mamba_hidden_act", &json!("silu"), "only silu is supported")?;
    Ok(Mamba2 {
        head_dim: fields.size_or("mamba_head_dim", 64)?,
        state: fields.size_or("ssm_state_size", 128)?,
        groups: either(fields, "n_groups", "mamba_n_groups", 8)?,
        conv: either(fields, "conv_kernel", "mamba_d_conv", 4)?,
        chunk: either(fields, "chunk_size", "mamba_chunk_size", 128)?,
        heads: Some(fields.size_or("mamba_num_heads", 128)?),
        conv_bias,
        projection_bias: fields.flag_or("use_bias", false)? || fields.flag_or("mamba_proj_bias", false)?,
        // The class limits `dt` by `time_step_min` and ignores `time_step_limit`.
        steps: (least > NO_BOUND).then_some(StepLimits { least, most: f64::INFINITY }),
        ..Mamba2::default()
    })
}

fn moe(fields: Fields) -> Result<Moe, ImportError> {
    for key in ["n_group", "topk_group"] {
        fields.must_be(key, &json!(1), "only one group of experts is supported")?;
    }
    fields.must_be("norm_topk_prob", &json!(true), "only gates that are normalized to sum to one are supported")?;
    let scale = fields.number_or("routed_scaling_factor", 1.0)?;
    let hundredths = (scale * 100.0).round();
    if (hundredths - scale * 100.0).abs() > 1e-6 || !(1.0..=1e6).contains(&hundredths) {
        return Err(refuse("routed_scaling_factor", &json!(scale), "it must be a positive multiple of 0.01"));
    }
    let shared = fields.size_or("n_shared_experts", 1)?;
    if shared == 0 {
        return Err(refuse("n_shared_experts", &json!(0), "the class always has a shared expert"));
    }
    Ok(Moe {
        experts: fields.size_or("n_routed_experts", 8)?,
        top_k: fields.size_or("num_experts_per_tok", 2)?,
        shared: 1,
        expert_width: Some(fields.size_or("moe_intermediate_size", 7688)?),
        routing: Routing::Sigmoid(hundredths as u32),
        expert: Expert::Relu2,
        shared_width: Some(fields.size_or("moe_shared_expert_intermediate_size", 7688)?),
        shared_gate: false,
    })
}
