//! Model classes that a sequence of layers cannot express, with the reasons.

use crate::import::{
    ImportError,
    json::{Fields, refuse},
};

/// Returns an error for a class that is known to be unsupported, naming the entry that shows it. All other classes
/// pass.
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

const PARALLEL: &str = "each of its blocks runs attention and Mamba-2 in parallel, with multipliers; a ModelSpec is a \
    sequence of layers";
const SHARED: &str = "its attention blocks share their weights, but every layer of a ModelSpec has its own";
const MAMBA_1: &str = "its recurrent layers are Mamba-1; only Mamba-2 is supported";
const NO_TYPE: &str =
    "config.json has no model_type, and this entry belongs to Jamba, whose recurrent layers are Mamba-1";
