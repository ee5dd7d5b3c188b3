//! DeciLM and Nemotron-NAS (NVIDIA 2024, arXiv 2411.19146): blocks of attention and SwiGLU whose widths differ between
//! blocks. Either half can be replaced by a linear map or omitted.

use std::num::NonZeroUsize;

use serde_json::{Value, json};

use super::{
    Found,
    shared::{Rotary, blocks, check_swiglu, rotary, swiglu},
};
use crate::{
    dims::Dims,
    export::{Half, Packing, Pair, ff_of},
    import::{
        ImportError,
        json::{Fields, refuse},
        recipe::Recipe,
    },
    primitive::CustomAttention,
};

/// One half of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part<T> {
    Nothing,
    Linear,
    Layer(T),
}

pub(super) fn read(fields: Fields) -> Result<Found, ImportError> {
    check_swiglu(fields)?;
    let rotary = rotary(fields, 10_000.0)?;
    if rotary.share.is_some_and(|share| share != 1.0) {
        return Err(refuse(
            "partial_rotary_factor",
            &json!(rotary.share),
            "only rotary positions over all channels are supported",
        ));
    }
    let list = fields.list_if("block_configs")?.ok_or(ImportError::Incomplete("block_configs"))?;
    if fields.get("num_hidden_layers").is_some() && blocks(fields)? != list.len() {
        let count = blocks(fields)?;
        return Err(ImportError::Blocks(format!(
            "block_configs has {} blocks, but num_hidden_layers is {count}",
            list.len()
        )));
    }
    let parts = list.iter().map(part).collect::<Result<Vec<_>, _>>()?;
    let dims = widths(fields, &rotary, &parts)?;
    let mut recipes = Vec::new();
    let mut place = |recipe: Option<Recipe>| match recipe {
        None => Half::Absent,
        Some(recipe) => {
            recipes.push(recipe);
            Half::Layer(recipes.len() - 1)
        }
    };
    let mut pairs = Vec::new();
    for (group, ffn) in &parts {
        let attention = match *group {
            Part::Nothing => None,
            Part::Linear => Some(Recipe::Linear),
            Part::Layer(group) => Some(attention(group, &dims)?),
        };
        let mlp = match *ffn {
            Part::Nothing => None,
            Part::Linear => Some(Recipe::Linear),
            Part::Layer(width) => Some(swiglu(width.of(&dims), &dims)?),
        };
        pairs.push(Pair { attention: place(attention), mlp: place(mlp) });
    }
    let tied = fields.flag_or("tie_word_embeddings", false)?;
    let deviation = fields.number_or("initializer_range", 0.02)?;
    Ok(Found { packing: Packing::Paired(pairs), recipes, dims, tied, deviation })
}

/// How a block states the inner width of its SwiGLU.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Inner {
    Factor(f64),
    Width(usize),
}

impl Inner {
    fn of(self, dims: &Dims) -> usize {
        match self {
            Inner::Factor(factor) => ff_of(factor, dims),
            Inner::Width(width) => width,
        }
    }
}

/// Reads the halves of a block: query heads per key/value head, and the inner width.
fn part(block: &Value) -> Result<(Part<usize>, Part<Inner>), ImportError> {
    let half = |key: &'static str| match block.get(key).and_then(Value::as_object) {
        Some(half) => Ok(Fields(half)),
        None => Err(refuse("block_configs", block, "every block needs an attention entry and an ffn entry")),
    };
    let attention = half("attention")?;
    let ffn = half("ffn")?;
    let group = match (attention.flag_or("no_op", false)?, attention.flag_or("replace_with_linear", false)?) {
        (true, _) => Part::Nothing,
        (false, true) => Part::Linear,
        (false, false) => Part::Layer(attention.size("n_heads_in_group")?),
    };
    let inner = match (ffn.flag_or("no_op", false)?, ffn.flag_or("replace_with_linear", false)?) {
        (true, _) => Part::Nothing,
        (false, true) => Part::Linear,
        (false, false) => match (ffn.number_if("ffn_mult")?, ffn.size_if("intermediate_size")?) {
            (Some(factor), _) if factor.is_finite() && factor > 0.0 => Part::Layer(Inner::Factor(factor)),
            (Some(factor), _) => return Err(refuse("ffn_mult", &json!(factor), "it must be a positive number")),
            (None, Some(width)) => Part::Layer(Inner::Width(width)),
            (None, None) => return Err(ImportError::Incomplete("ffn_mult")),
        },
    };
    Ok((group, inner))
}

/// Returns the dimensions of most layers. If config.json does not state one, it is taken from the first layer that has
/// it.
fn widths(fields: Fields, rotary: &Rotary, parts: &[(Part<usize>, Part<Inner>)]) -> Result<Dims, ImportError> {
    let width = fields.size("hidden_size")?;
    let heads = fields.size("num_attention_heads")?;
    let first_group = parts.iter().find_map(|(group, _)| match group {
        Part::Layer(group) => Some(*group),
        Part::Nothing | Part::Linear => None,
    });
    let kv_heads = first_group.and_then(|group| heads.checked_div(group));
    let dims = Dims {
        d_model: width,
        d_ff: 1,
        heads,
        kv_heads: fields.size_if("num_key_value_heads")?.or(kv_heads).unwrap_or(heads),
        head_dim: fields.size_if("head_dim")?.or(width.checked_div(heads)).unwrap_or_default(),
        rope_theta: rotary.theta,
        rope_scaling: rotary.scaling,
        norm_eps: fields.number_or("rms_norm_eps", 1e-6)?,
        attention_bias: fields.flag_or("attention_bias", false)?,
    };
    let first_inner = parts.iter().find_map(|(_, inner)| match inner {
        Part::Layer(inner) => Some(inner.of(&dims)),
        Part::Nothing | Part::Linear => None,
    });
    let d_ff = fields.size_if("intermediate_size")?.or(first_inner).unwrap_or(width);
    Ok(Dims { d_ff, ..dims })
}

/// Returns attention with `group` query heads per key/value head.
fn attention(group: usize, dims: &Dims) -> Result<Recipe, ImportError> {
    if group == 0 || !dims.heads.is_multiple_of(group) {
        return Err(refuse("n_heads_in_group", &json!(group), "it must be a divisor of num_attention_heads"));
    }
    let kv_heads = dims.heads / group;
    let own = if kv_heads == dims.kv_heads { None } else { NonZeroUsize::new(kv_heads) };
    Ok(Recipe::Attention(CustomAttention { kv_heads: own, ..CustomAttention::default() }))
}
