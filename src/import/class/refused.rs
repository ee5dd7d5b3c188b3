//! Classes that no sequence of layers can be, and what stands in the way.

use crate::import::{
    ImportError,
    json::{Fields, refuse},
};

/// Refuses the classes that are known not to fit, by the entry that says so; any other passes.
pub(super) fn check(kind: &str, fields: Fields) -> Result<(), ImportError> {
    let rules: &[(&'static str, &'static str)] = match kind {
        "falcon_h1" => {
            &[("attention_in_multiplier", PARALLEL), ("mamba_d_ssm", PARALLEL), ("num_attention_heads", PARALLEL)]
        }
        "zamba" => &[("attn_layer_period", SHARED)],
        "zamba2" => &[("hybrid_layer_ids", SHARED), ("adapter_rank", SHARED)],
        "jamba" => &[("mamba_dt_rank", MAMBA_1), ("attn_layer_offset", MAMBA_1)],
        "mamba" | "samba" => &[("time_step_rank", MAMBA_1), ("state_size", MAMBA_1)],
        "" if fields.get("attn_layer_offset").is_some() => &[("attn_layer_offset", NO_TYPE)],
        _ => &[],
    };
    match rules.iter().find_map(|&(key, reason)| Some((key, fields.get(key)?, reason))) {
        Some((key, value, reason)) => Err(refuse(key, value, reason)),
        None => Ok(()),
    }
}

const PARALLEL: &str = "attention and Mamba-2 stand side by side in each of its blocks, with multipliers; layers here \
    follow each other";
const SHARED: &str = "its attention blocks share their weights, and layers here have weights of their own";
const MAMBA_1: &str = "its recurrent layers are Mamba-1, and the layer here is Mamba-2";
const NO_TYPE: &str = "config.json has no model_type, and this entry is Jamba's, whose recurrent layers are Mamba-1";
