//! Qwen3-Next (Qwen team 2025): gated DeltaNet and gated attention, each followed by a mixture of experts or a SwiGLU.

use serde_json::json;

use super::{
    Found,
    shared::{Names, agreed, blocks, check_swiglu, dims, places, rotary, swiglu, unknown_kind},
};
use crate::{
    dims::{QueryKeyNorm, Routing},
    export::Class,
    import::{
        ImportError,
        json::{Fields, refuse},
        recipe::Recipe,
    },
    primitive::{CustomAttention, Expert, GatedDeltaNet, Moe},
};

pub(super) fn read(fields: Fields) -> Result<Found, ImportError> {
    check_swiglu(fields)?;
    let rotary = rotary(fields, 10_000.0)?;
    let mut dims =
        dims(fields, &rotary, &Names { epsilon: "rms_norm_eps", inner: "intermediate_size", kv_heads: Some(2) }, 1e-6)?;
    dims.head_dim = fields.size_or("head_dim", 256)?;
    let positions = rotary.positions(0.25)?;
    let norm = QueryKeyNorm::PerHead;
    let attention = Recipe::Attention(CustomAttention { positions, norm, gate: true, ..CustomAttention::default() });
    let net = Recipe::GatedDeltaNet(net(fields)?);
    let count = blocks(fields)?;
    let every = |interval: usize| -> Vec<&str> {
        let kind = |at: usize| if (at + 1).is_multiple_of(interval) { "full_attention" } else { "linear_attention" };
        (0..count).map(kind).collect()
    };
    let interval = fields.divisor_or("full_attention_interval", 4)?;
    let stated = fields.get("full_attention_interval").map(|_| ("full_attention_interval", every(interval)));
    let kinds = agreed(fields, &["layer_types"], stated)?.unwrap_or_else(|| every(interval));
    let dense = places(fields, "mlp_only_layers", count)?.unwrap_or_default();
    let step = fields.divisor_or("decoder_sparse_step", 1)?;
    let experts = fields.size_or("num_experts", 512)?;
    let mut recipes = Vec::new();
    for (at, kind) in kinds.into_iter().enumerate() {
        recipes.push(match kind {
            "linear_attention" => net,
            "full_attention" => attention,
            other => return Err(unknown_kind("layer_types", other)),
        });
        let sparse = experts > 0 && !dense.contains(&at) && (at + 1).is_multiple_of(step);
        recipes.push(if sparse { Recipe::Moe(moe(fields, experts)?) } else { swiglu(dims.d_ff, &dims)? });
    }
    Found::native(Class::Qwen3Next, recipes, dims, fields)
}

fn net(fields: Fields) -> Result<GatedDeltaNet, ImportError> {
    let keys = fields.size_or("linear_num_key_heads", 16)?;
    let values = fields.size_or("linear_num_value_heads", 32)?;
    if keys == 0 || values == 0 || !values.is_multiple_of(keys) {
        return Err(refuse(
            "linear_num_value_heads",
            &json!(values),
            "it must be a positive multiple of linear_num_key_heads",
        ));
    }
    let key_width = fields.size_or("linear_key_head_dim", 128)?;
    let value_width = fields.size_or("linear_value_head_dim", 128)?;
    Ok(GatedDeltaNet {
        head_dim: key_width,
        value_heads: values / keys,
        conv: fields.size_or("linear_conv_kernel_dim", 4)?,
        heads: Some(keys),
        value_dim: (value_width != key_width).then_some(value_width),
        ..GatedDeltaNet::default()
    })
}

fn moe(fields: Fields, experts: usize) -> Result<Moe, ImportError> {
    let routing = if fields.flag_or("norm_topk_prob", true)? { Routing::Chosen } else { Routing::Softmax };
    Ok(Moe {
        experts,
        top_k: fields.size_or("num_experts_per_tok", 10)?,
        shared: 1,
        expert_width: Some(fields.size_or("moe_intermediate_size", 512)?),
        routing,
        expert: Expert::SwiGlu,
        shared_width: Some(fields.size_or("shared_expert_intermediate_size", 512)?),
        shared_gate: true,
    })
}
