//! What the configurations of several classes have in common.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    dims::{Dims, Positions, RopeScaling, StepLimits},
    export::{LLAMA3, NO_UPPER_BOUND},
    import::{
        ImportError,
        json::{Fields, number, refuse},
        recipe::Recipe,
    },
    primitive::{CustomAttention, Mamba2, SizedSwiGlu},
    space::Architecture,
};

/// Rotary positions.
pub(super) struct Rotary {
    pub theta: f64,
    pub scaling: Option<RopeScaling>,
    pub share: Option<f64>,
}

/// Reads `rope_theta`, `rope_scaling`, `rope_parameters` and `partial_rotary_factor`.
pub(super) fn rotary(fields: Fields, default_theta: f64) -> Result<Rotary, ImportError> {
    let mut theta = fields.number_if("rope_theta")?;
    let mut share = fields.number_if("partial_rotary_factor")?;
    let mut scaling = None;
    for key in ["rope_parameters", "rope_scaling"] {
        let Some(value) = fields.get(key) else { continue };
        let Some(inner) = value.as_object().map(Fields) else {
            return Err(refuse(key, value, "it must be an object"));
        };
        theta = inner.number_if("rope_theta")?.or(theta);
        share = inner.number_if("partial_rotary_factor")?.or(share);
        match inner.text_or("rope_type", inner.text_or("type", "default")?)? {
            "default" => {}
            LLAMA3 => scaling = scaling.or(Some(llama3(inner)?)),
            _ => return Err(refuse(key, value, "the only supported scaling of rotary positions is that of Llama 3")),
        }
    }
    Ok(Rotary { theta: theta.unwrap_or(default_theta), scaling, share })
}

fn llama3(fields: Fields) -> Result<RopeScaling, ImportError> {
    let number = |key| fields.number_if(key)?.ok_or(ImportError::Incomplete(key));
    Ok(RopeScaling {
        factor: number("factor")?,
        low_freq_factor: number("low_freq_factor")?,
        high_freq_factor: number("high_freq_factor")?,
        original_max_position_embeddings: fields.size("original_max_position_embeddings")?,
    })
}

impl Rotary {
    /// Returns the positions of the attention layers. `default` is the rotary share if none is stated.
    pub fn positions(&self, default: f64) -> Result<Positions, ImportError> {
        let share = self.share.unwrap_or(default);
        let percent = (share * 100.0).round();
        if (percent - share * 100.0).abs() > 1e-9 || !(1.0..=100.0).contains(&percent) {
            return Err(refuse(
                "partial_rotary_factor",
                &json!(share),
                "it must be a whole number of percent between 0.01 and 1",
            ));
        }
        Ok(if percent == 100.0 { Positions::Rotary } else { Positions::Partial(percent as u8) })
    }
}

/// The names that a class uses for common entries.
pub(super) struct Names {
    pub epsilon: &'static str,
    pub inner: &'static str,
    /// The default number of key/value heads. `None` means as many as query heads.
    pub kv_heads: Option<usize>,
}

/// Reads the dimensions of a class with attention.
pub(super) fn dims(fields: Fields, rotary: &Rotary, names: &Names, epsilon: f64) -> Result<Dims, ImportError> {
    let width = fields.size("hidden_size")?;
    let heads = fields.size("num_attention_heads")?;
    let head_dim = fields.size_if("head_dim")?.or(width.checked_div(heads)).unwrap_or_default();
    Ok(Dims {
        d_model: width,
        d_ff: fields.size(names.inner)?,
        heads,
        kv_heads: fields.kv_heads(heads, names.kv_heads.unwrap_or(heads))?,
        head_dim,
        rope_theta: rotary.theta,
        rope_scaling: rotary.scaling,
        norm_eps: fields.number_or(names.epsilon, epsilon)?,
        attention_bias: fields.flag_or("attention_bias", false)?,
    })
}

/// Returns an error if the activation is not that of SwiGLU, or if the MLP has biases.
pub(super) fn check_swiglu(fields: Fields) -> Result<(), ImportError> {
    let act = fields.text_or("hidden_act", "silu")?;
    if !["silu", "swish"].contains(&act) {
        return Err(refuse("hidden_act", &json!(act), "only silu is supported"));
    }
    fields.must_be("mlp_bias", &json!(false), "only SwiGLU without bias is supported")
}

/// Returns a SwiGLU with inner width `width` in a model with dimensions `dims`.
pub(super) fn swiglu(width: usize, dims: &Dims) -> Result<Recipe, ImportError> {
    match std::num::NonZeroUsize::new(width) {
        _ if width == dims.d_ff => Ok(Recipe::SwiGlu),
        Some(width) => Ok(Recipe::SizedSwiGlu(SizedSwiGlu { width })),
        None => Err(ImportError::Blocks("a SwiGLU has the inner width 0".into())),
    }
}

/// Reads the number of blocks and checks it against the limit.
pub(super) fn blocks(fields: Fields) -> Result<usize, ImportError> {
    let count = fields.size("num_hidden_layers")?;
    if count > Architecture::MAX_LAYERS / 2 {
        return Err(ImportError::Blocks(format!("{count} blocks are too many")));
    }
    Ok(count)
}

/// Reads the list of block kinds. If `num_hidden_layers` is stated, it must equal the length of the list.
pub(super) fn kinds<'a>(fields: Fields<'a>, keys: &[&'static str]) -> Result<Option<Vec<&'a str>>, ImportError> {
    let mut found: Option<(&'static str, Vec<&str>)> = None;
    for &key in keys {
        let Some(names) = fields.names_if(key)? else { continue };
        let plain = names.iter().map(|name| modern(name)).collect::<Vec<_>>();
        match &found {
            Some((other, first)) if *first != plain => {
                return Err(ImportError::Blocks(format!("{other} and {key} name different layers")));
            }
            Some(_) => {}
            None => found = Some((key, plain)),
        }
    }
    let Some((key, names)) = found else { return Ok(None) };
    match fields.size_if("num_hidden_layers")? {
        Some(count) if count != names.len() => {
            Err(ImportError::Blocks(format!("{key} names {} layers, but num_hidden_layers is {count}", names.len())))
        }
        _ => Ok(Some(names)),
    }
}

/// Returns the name that transformers 5 uses for a kind of layer.
fn modern(name: &str) -> &str {
    match name {
        "mamba" => "linear_attention",
        "attention" => "full_attention",
        other => other,
    }
}

/// Returns the error for a kind of layer that the class does not have.
pub(super) fn unknown_kind(key: &'static str, kind: &str) -> ImportError {
    refuse(key, &json!(kind), "the class does not have this kind of layer")
}

/// Reads the block kinds from a list, from another entry, or from both if they agree.
pub(super) fn agreed<'a>(
    fields: Fields<'a>,
    keys: &[&'static str],
    other: Option<(&'static str, Vec<&'a str>)>,
) -> Result<Option<Vec<&'a str>>, ImportError> {
    match (kinds(fields, keys)?, other) {
        (Some(listed), Some((key, spelled))) if listed != spelled => {
            Err(ImportError::Blocks(format!("{key} and {} name different layers", keys.join(" or "))))
        }
        (listed, other) => Ok(listed.or(other.map(|(_, spelled)| spelled))),
    }
}

/// Reads a list of block indices. All must be below `count`.
pub(super) fn places(fields: Fields, key: &'static str, count: usize) -> Result<Option<BTreeSet<usize>>, ImportError> {
    let Some(places) = fields.sizes_if(key)? else { return Ok(None) };
    match places.iter().find(|&&place| place >= count) {
        Some(place) => Err(ImportError::Blocks(format!("{key} has the index {place}, but there are {count} layers"))),
        None => Ok(Some(places.into_iter().collect())),
    }
}

/// Reads `time_step_limit`, and `time_step_min` if the class uses it as a limit of `dt`.
pub(super) fn steps(fields: Fields, key: &'static str, least: f64) -> Result<Option<StepLimits>, ImportError> {
    let mut limits = StepLimits { least, most: f64::INFINITY };
    if let Some(items) = fields.list_if(key)? {
        let pair: Vec<f64> = items.iter().filter_map(number).collect();
        let &[low, high] = pair.as_slice() else {
            return Err(refuse(key, &Value::Array(items.to_vec()), "it must be a list of two numbers"));
        };
        let most = if high >= NO_UPPER_BOUND { f64::INFINITY } else { high };
        limits = StepLimits { least: low.max(least), most };
    }
    Ok((limits.least > 0.0 || limits.most.is_finite()).then_some(limits))
}

/// Reads Mamba-2 from the entries `mamba_*` of Bamba and Granite.
pub(super) fn prefixed_mamba(fields: Fields, width: usize) -> Result<Mamba2, ImportError> {
    let inner = width.saturating_mul(fields.size_or("mamba_expand", 2)?);
    let heads = fields.size_or("mamba_n_heads", 128)?;
    let head_dim = match fields.get("mamba_d_head") {
        Some(Value::String(auto)) if auto == "auto" => inner.checked_div(heads).unwrap_or_default(),
        None => inner.checked_div(heads).unwrap_or_default(),
        Some(_) => fields.size("mamba_d_head")?,
    };
    if heads.saturating_mul(head_dim) != inner {
        let text =
            format!("mamba_n_heads times mamba_d_head must equal mamba_expand times hidden_size, which is {inner}");
        return Err(ImportError::Blocks(text));
    }
    Ok(Mamba2 {
        head_dim,
        state: fields.size_or("mamba_d_state", 256)?,
        groups: fields.size_or("mamba_n_groups", 1)?,
        conv: fields.size_or("mamba_d_conv", 4)?,
        chunk: fields.size_or("mamba_chunk_size", 256)?,
        heads: Some(heads),
        conv_bias: fields.flag_or("mamba_conv_bias", true)?,
        projection_bias: fields.flag_or("mamba_proj_bias", false)?,
        steps: steps(fields, "time_step_limit", 0.0)?,
        ..Mamba2::default()
    })
}

/// Returns the layers of blocks of Mamba-2 or attention, each followed by a SwiGLU.
pub(super) fn mamba_or(attention: Recipe, mamba: Recipe, kinds: &[&str]) -> Result<Vec<Recipe>, ImportError> {
    let mut recipes = Vec::new();
    for kind in kinds {
        recipes.push(match *kind {
            "linear_attention" => mamba,
            "full_attention" => attention,
            other => return Err(unknown_kind("layers_block_type", other)),
        });
        recipes.push(Recipe::SwiGlu);
    }
    Ok(recipes)
}

/// Returns plain attention with these positions.
pub(super) fn with_positions(positions: Positions) -> CustomAttention {
    CustomAttention { positions, ..CustomAttention::default() }
}
