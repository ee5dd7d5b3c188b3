//! The config.json of model classes built into transformers.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    class::{Class, merged},
    plan,
};
use crate::{
    dims::Dims,
    export::HfMappingError,
    model::ModelSpec,
    primitive::{HfMapping, Symbol},
};

/// A model that fits a class: the kind of every layer, or of every mixer and every feed-forward part.
pub(super) struct Fit {
    pub kinds: Vec<&'static str>,
}

/// Checks whether the class can express the model.
///
/// # Errors
/// Returns what would have to be different.
pub(super) fn fit(class: Class, spec: &ModelSpec, mappings: &BTreeMap<Symbol, HfMapping>) -> Result<Fit, String> {
    let dims = &spec.dims;
    if spec.head_bias && !spec.tied_embeddings {
        return Err("its head has no bias".into());
    }
    let mut kinds = Vec::new();
    let mut known = BTreeMap::new();
    for symbol in spec.architecture.layers() {
        let kind = match known.get(symbol) {
            Some(&kind) => kind,
            None => {
                let mapping = mappings.get(symbol).ok_or_else(|| format!("it has no layer {symbol}"))?;
                class.layer(mapping, dims)?.kind
            }
        };
        known.insert(*symbol, kind);
        kinds.push(kind);
    }
    plan::settings(mappings).map_err(|error: HfMappingError| error.to_string())?;
    if class.is_paired() {
        let is_mixer = |kind: &str| kind != "mlp" && kind != "moe";
        let turns = kinds.iter().enumerate().all(|(at, kind)| is_mixer(kind) == at.is_multiple_of(2));
        if !turns || !kinds.len().is_multiple_of(2) {
            return Err("its layers must alternate between a mixer and a feed-forward part".into());
        }
    }
    one_each(spec, mappings, &["full_attention", "moe", "mamba2", "short_conv", "gated_delta_net"])?;
    match class {
        Class::NemotronH => nemotron_mlps(mappings)?,
        Class::Mamba2 | Class::Bamba | Class::GraniteMoeHybrid => check_inner(class, dims, mappings)?,
        Class::Lfm2 | Class::Qwen3 | Class::Qwen3Next => {}
    }
    if dims.rope_scaling.is_some() && matches!(class, Class::NemotronH | Class::Mamba2) {
        return Err("it does not support scaled rotary positions".into());
    }
    Ok(Fit { kinds })
}

/// Returns an error if the model has two variants of one kind of layer.
fn one_each(spec: &ModelSpec, mappings: &BTreeMap<Symbol, HfMapping>, families: &[&str]) -> Result<(), String> {
    for family in families {
        let of = |symbol: &&Symbol| mappings.get(*symbol).is_some_and(|mapping| mapping.family == *family);
        let mut symbols = spec.architecture.layers().iter().filter(of);
        let first = symbols.next();
        if let Some(other) = symbols.find(|symbol| Some(*symbol) != first) {
            let first = first.map(Symbol::to_string).unwrap_or_default();
            return Err(format!("all its {family} layers must be the same, but {first} and {other} differ"));
        }
    }
    Ok(())
}

fn nemotron_mlps(mappings: &BTreeMap<Symbol, HfMapping>) -> Result<(), String> {
    let has = |family: &str| of(mappings, family).is_some();
    match has("gelu_mlp") && (has("relu2_mlp") || has("moe")) {
        true => Err("all its MLPs must have the same activation".into()),
        false => Ok(()),
    }
}

/// Checks that the heads of Mamba-2 are a whole multiple of the width, for classes that state it as an expansion
/// factor.
fn check_inner(class: Class, dims: &Dims, mappings: &BTreeMap<Symbol, HfMapping>) -> Result<(), String> {
    let Some(mamba) = of(mappings, "mamba2") else {
        return if class == Class::Mamba2 { Err("it needs Mamba-2".into()) } else { Ok(()) };
    };
    let inner = whole(mamba, "mamba_num_heads") * whole(mamba, "mamba_head_dim");
    match inner.is_multiple_of(dims.d_model as u64) {
        true => Ok(()),
        false => Err(format!("the inner width of its Mamba-2 must be a multiple of d_model, but it is {inner}")),
    }
}

/// Returns the layer of this family.
fn of<'a>(mappings: &'a BTreeMap<Symbol, HfMapping>, family: &str) -> Option<&'a HfMapping> {
    mappings.values().find(|mapping| mapping.family == family)
}

/// Returns a numeric option of a layer.
fn option(mapping: &HfMapping, key: &str) -> u64 {
    mapping.options.get(key).and_then(|value| value.parse().ok()).unwrap_or_default()
}

fn whole(mapping: &HfMapping, key: &str) -> u64 {
    mapping.settings.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// Returns the entries of the class, in addition to those of every format.
pub(super) fn config(class: Class, spec: &ModelSpec, mappings: &BTreeMap<Symbol, HfMapping>) -> Result<Value, String> {
    let Fit { kinds } = fit(class, spec, mappings)?;
    let of = |family: &str| of(mappings, family);
    let attention = of("full_attention");
    let mamba = of("mamba2");
    let dims = &spec.dims;
    let blocks = if class.is_paired() { kinds.len() / 2 } else { kinds.len() };
    let mixers: Vec<&str> = kinds.iter().step_by(if class.is_paired() { 2 } else { 1 }).copied().collect();
    let common = json!({
        "architectures": [class.architecture()],
        "num_hidden_layers": blocks,
        "tie_word_embeddings": spec.tied_embeddings && class.ties(),
    });
    let own = match class {
        Class::NemotronH => nemotron_h(&kinds, dims, mappings)?,
        Class::Mamba2 => mamba2(dims, mamba),
        Class::Lfm2 => lfm2(dims, &mixers, of("short_conv")),
        Class::Qwen3 => json!({ "use_sliding_window": false }),
        Class::Bamba => {
            let places = (0..blocks).filter(|&at| mixers.get(at) == Some(&"full_attention"));
            let own = json!({
                "attn_layer_indices": places.collect::<Vec<_>>(),
                "attn_rotary_emb": dims.head_dim / 2,
                "partial_rotary_factor": 0.5,
            });
            merged(own, prefixed(dims, mamba))
        }
        Class::GraniteMoeHybrid => {
            let turns = attention.is_some_and(|mapping| !mapping.options.contains_key("positions"));
            let own = json!({
                "layer_types": mixers.iter().map(|kind| old(kind)).collect::<Vec<_>>(),
                "position_embedding_type": if turns { Value::from("rope") } else { Value::Null },
                "attention_multiplier": (dims.head_dim as f64).powf(-0.5),
                "embedding_multiplier": 1.0, "residual_multiplier": 1.0, "logits_scaling": 1.0,
                "shared_intermediate_size": dims.d_ff, "num_local_experts": 0, "num_experts_per_tok": 0,
            });
            merged(own, prefixed(dims, mamba))
        }
        Class::Qwen3Next => qwen3_next(&kinds, &mixers, attention, mappings),
    };
    Ok(merged(common, own))
}

/// An upper limit of `dt` that has no effect.
pub(crate) const NO_UPPER_BOUND: f64 = 1e30;
/// A lower limit of `dt` that has no effect in single precision.
pub(crate) const NO_BOUND: f64 = 1e-30;

/// Returns the name in transformers 4, which transformers 5 also reads.
fn old(kind: &str) -> &str {
    match kind {
        "linear_attention" => "mamba",
        "full_attention" => "attention",
        other => other,
    }
}

fn settings(mapping: &HfMapping) -> Value {
    Value::Object(mapping.settings.clone())
}

fn nemotron_h(kinds: &[&str], dims: &Dims, mappings: &BTreeMap<Symbol, HfMapping>) -> Result<Value, String> {
    let letter = |kind: &&str| match *kind {
        "linear_attention" => 'M',
        "full_attention" => '*',
        "moe" => 'E',
        _ => '-',
    };
    let of = |family: &str| of(mappings, family);
    let mut all = json!({
        "hybrid_override_pattern": kinds.iter().map(letter).collect::<String>(),
        "layer_norm_epsilon": dims.norm_eps,
        "mlp_hidden_act": if of("gelu_mlp").is_some() { "gelu_pytorch_tanh" } else { "relu2" },
        "mamba_hidden_act": "silu",
        "mamba_proj_bias": false,
        "residual_in_fp32": false,
        "rescale_prenorm_residual": false,
        "num_logits_to_keep": 1,
    });
    if let Some(mamba) = of("mamba2") {
        all = merged(all, settings(mamba));
        let least = mamba.settings.get("time_step_min").and_then(Value::as_f64).unwrap_or_default();
        if least == 0.0 {
            // The class takes the logarithm of the limit when it draws weights; the floor applies there.
            all = merged(all, json!({ "time_step_min": NO_BOUND, "time_step_floor": 0.01 }));
        }
        let inner = whole(mamba, "mamba_num_heads") * whole(mamba, "mamba_head_dim");
        all = merged(all, json!({ "expand": inner.div_ceil(dims.d_model as u64) }));
    }
    if let Some(moe) = of("moe") {
        let option = |key: &str| option(moe, key);
        let routing = moe.options.get("routing").and_then(|routing| routing.strip_prefix("sigmoid "));
        let hundredths: f64 = routing.and_then(|text| text.parse().ok()).ok_or("its routing is not by sigmoids")?;
        all = merged(
            all,
            json!({
                "n_routed_experts": option("experts"),
                "num_experts_per_tok": option("top_k"),
                "moe_intermediate_size": option("width"),
                "moe_shared_expert_intermediate_size": option("shared_width"),
                "n_shared_experts": 1,
                "routed_scaling_factor": hundredths / 100.0,
                "norm_topk_prob": true,
                "n_group": 1,
                "topk_group": 1,
            }),
        );
    }
    Ok(all)
}

/// Returns `time_step_limit` if the layer has limits.
fn limit(mamba: &HfMapping) -> Map<String, Value> {
    let least = mamba.settings.get("time_step_min").and_then(Value::as_f64).unwrap_or_default();
    // JSON has no infinity, and transformers 4 and 5 encode it differently. No `dt` is as large as this value.
    let limit = (least > 0.0).then(|| ("time_step_limit".to_owned(), json!([least, NO_UPPER_BOUND])));
    limit.into_iter().collect()
}

/// Returns the entries of Mamba-2 under these names: heads, head width, state size, groups, kernel size, chunk size,
/// expansion, bias of the projections, bias of the convolution.
fn mamba_by(names: [&str; 9], dims: &Dims, mamba: &HfMapping) -> Value {
    let flag = |key: &str, default: bool| mamba.settings.get(key).and_then(Value::as_bool).unwrap_or(default);
    let size = |key: &str| whole(mamba, key).into();
    let inner = whole(mamba, "mamba_num_heads") * whole(mamba, "mamba_head_dim");
    let values: [Value; 9] = [
        size("mamba_num_heads"),
        size("mamba_head_dim"),
        size("ssm_state_size"),
        size("n_groups"),
        size("conv_kernel"),
        size("chunk_size"),
        (inner / dims.d_model as u64).into(),
        flag("use_bias", false).into(),
        flag("use_conv_bias", true).into(),
    ];
    let own: Map<String, Value> = names.into_iter().map(str::to_owned).zip(values).collect();
    merged(Value::Object(own), Value::Object(limit(mamba)))
}

fn mamba2(dims: &Dims, mamba: Option<&HfMapping>) -> Value {
    const NAMES: [&str; 9] = [
        "num_heads",
        "head_dim",
        "state_size",
        "n_groups",
        "conv_kernel",
        "chunk_size",
        "expand",
        "use_bias",
        "use_conv_bias",
    ];
    let Some(mamba) = mamba else { return json!({}) };
    let own = json!({ "layer_norm_epsilon": dims.norm_eps, "rms_norm": true, "residual_in_fp32": false });
    merged(own, mamba_by(NAMES, dims, mamba))
}

/// Returns the entries `mamba_*` of Bamba and Granite.
fn prefixed(dims: &Dims, mamba: Option<&HfMapping>) -> Value {
    const NAMES: [&str; 9] = [
        "mamba_n_heads",
        "mamba_d_head",
        "mamba_d_state",
        "mamba_n_groups",
        "mamba_d_conv",
        "mamba_chunk_size",
        "mamba_expand",
        "mamba_proj_bias",
        "mamba_conv_bias",
    ];
    match mamba {
        Some(mamba) => mamba_by(NAMES, dims, mamba),
        // The class also checks the sizes of layers that the model does not have.
        None => json!({ "mamba_n_heads": 1, "mamba_d_head": dims.d_model, "mamba_expand": 1 }),
    }
}

fn lfm2(dims: &Dims, mixers: &[&str], conv: Option<&HfMapping>) -> Value {
    json!({
        "layer_types": mixers,
        "norm_eps": dims.norm_eps,
        "block_ff_dim": dims.d_ff,
        "block_auto_adjust_ff_dim": false,
        "conv_bias": false,
        "conv_L_cache": conv.map_or(3, |conv| whole(conv, "conv_L_cache")),
    })
}

fn qwen3_next(
    kinds: &[&str],
    mixers: &[&str],
    attention: Option<&HfMapping>,
    mappings: &BTreeMap<Symbol, HfMapping>,
) -> Value {
    let of = |family: &str| of(mappings, family);
    let percent = attention.and_then(|mapping| mapping.options.get("positions"));
    let share = percent.and_then(|percent| percent.parse::<f64>().ok()).map_or(1.0, |percent| percent / 100.0);
    let dense = kinds.iter().skip(1).step_by(2).enumerate().filter(|(_, kind)| **kind == "mlp").map(|(at, _)| at);
    let mut all = json!({
        "layer_types": mixers,
        "partial_rotary_factor": share,
        "decoder_sparse_step": 1,
        "mlp_only_layers": dense.collect::<Vec<_>>(),
    });
    match of("moe") {
        None => all = merged(all, json!({ "num_experts": 0, "num_experts_per_tok": 0 })),
        Some(moe) => {
            let option = |key: &str| option(moe, key);
            let chosen = moe.options.get("routing").is_some_and(|routing| routing == "chosen");
            all = merged(
                all,
                json!({
                    "num_experts": option("experts"),
                    "num_experts_per_tok": option("top_k"),
                    "moe_intermediate_size": option("width"),
                    "shared_expert_intermediate_size": option("shared_width"),
                    "norm_topk_prob": chosen,
                }),
            );
        }
    }
    match of("gated_delta_net") {
        Some(net) => merged(all, settings(net)),
        None => all,
    }
}
