//! Converts a config.json to a specification.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    ImportError,
    class::{self, Read},
    json,
};
use crate::{
    dims::{Dims, InitScheme, RopeScaling},
    export::{DECI, FLAT, Half, LLAMA, LLAMA3, OURS, Packing, Pair, ff_of, is_attention},
    limits,
    model::ModelSpec,
    primitive::{BuildError, Primitives, Symbol},
    space::Architecture,
};

/// A model and the blocks in which its layers are stored.
#[derive(Debug)]
pub(super) struct Described {
    pub spec: ModelSpec,
    pub packing: Packing,
    pub primitives: Primitives,
}

/// The entries of config.json. The defaults are those of transformers.
#[derive(Debug, Deserialize)]
struct Config {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Option<String>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_parameters: Option<Rotation>,
    rope_scaling: Option<Rotation>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    head_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    initializer_range: Option<f64>,
    num_hidden_layers: Option<usize>,
    layers_block_type: Option<Vec<String>>,
    block_configs: Option<Vec<BlockConfig>>,
    #[serde(rename = "composer_nas")]
    ours: Option<Ours>,
}

/// Rotary positions.
#[derive(Debug, Deserialize)]
struct Rotation {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

impl Rotation {
    /// Returns the scaling of [`LLAMA3`] if all its four numbers are present.
    fn scaling(&self) -> Option<RopeScaling> {
        Some(RopeScaling {
            factor: self.factor?,
            low_freq_factor: self.low_freq_factor?,
            high_freq_factor: self.high_freq_factor?,
            original_max_position_embeddings: self.original_max_position_embeddings?,
        })
    }
}

/// One block of DeciLM.
#[derive(Debug, Deserialize)]
struct BlockConfig {
    attention: AttentionConfig,
    ffn: FfnConfig,
}

#[derive(Debug, Deserialize)]
struct AttentionConfig {
    #[serde(default)]
    no_op: bool,
    #[serde(default)]
    replace_with_linear: bool,
    n_heads_in_group: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct FfnConfig {
    #[serde(default)]
    no_op: bool,
    #[serde(default)]
    replace_with_linear: bool,
    ffn_mult: Option<f64>,
    intermediate_size: Option<usize>,
}

/// The entries that the exporter of this crate adds.
#[derive(Debug, Deserialize)]
struct Ours {
    architecture: Option<Architecture>,
    init: Option<InitScheme>,
}

/// One half of a block in the file: whether it is attention, and the inner width if it is an MLP.
#[derive(Clone, Copy, Debug)]
struct Found {
    attention: bool,
    width: usize,
}

/// Reads the config.json of a folder.
pub(super) fn read(folder: &Path, primitives: &Primitives) -> Result<Described, ImportError> {
    let path = folder.join("config.json");
    let text = limits::read_text(&path, limits::MAX_DESCRIPTION);
    let text = text.map_err(|source| ImportError::File { path: path.clone(), source })?;
    let damaged = |error: serde_json::Error| ImportError::Damaged { path: path.clone(), reason: error.to_string() };
    let raw: Map<String, Value> = json::parse(&text).map_err(damaged)?;
    let kind = raw.get("model_type").and_then(Value::as_str).unwrap_or_default();
    if let Some(Read { spec, primitives, packing }) = class::read(kind, &raw, primitives)? {
        return Ok(Described { spec, packing, primitives });
    }
    if ![DECI, FLAT, LLAMA].contains(&kind) {
        return Err(ImportError::ModelType { found: kind.into() });
    }
    let config: Config = serde_json::from_value(Value::Object(raw.clone())).map_err(damaged)?;
    let dims = config.dims()?;
    dims.validate().map_err(BuildError::from)?;
    let (architecture, packing) = match config.model_type.as_str() {
        FLAT => (config.flat(&dims, &raw, primitives)?, Packing::Flat),
        _ => {
            let (architecture, pairs) = config.paired(&dims, primitives)?;
            (architecture, Packing::Paired(pairs))
        }
    };
    let stated = config.ours.as_ref().and_then(|ours| ours.init);
    let spec = ModelSpec {
        architecture,
        dims,
        vocab_size: config.vocab_size,
        tied_embeddings: config.tie_word_embeddings,
        head_bias: config.head_bias,
        init: stated.unwrap_or(InitScheme::Normal(config.initializer_range.unwrap_or(0.02))),
    };
    spec.validate()?;
    Ok(Described { spec, packing, primitives: primitives.clone() })
}

impl Config {
    /// Returns the dimensions, if the remaining entries are supported.
    fn dims(&self) -> Result<Dims, ImportError> {
        let refuse =
            |key, value: &dyn ToString, reason| Err(ImportError::Setting { key, value: value.to_string(), reason });
        if let Some(act) = self.hidden_act.as_ref().filter(|act| !["silu", "swish"].contains(&act.as_str())) {
            return refuse("hidden_act", act, "only silu is supported");
        }
        if self.mlp_bias {
            return refuse("mlp_bias", &true, "only SwiGLU without bias is supported");
        }
        let rotations = [("rope_scaling", &self.rope_scaling), ("rope_parameters", &self.rope_parameters)];
        let mut rope_scaling = None;
        for (key, rotation) in rotations {
            let Some(rotation) = rotation else { continue };
            match rotation.rope_type.as_deref() {
                None | Some("default") => {}
                Some(LLAMA3) => match rotation.scaling() {
                    Some(scaling) => rope_scaling = rope_scaling.or(Some(scaling)),
                    None => return refuse(key, &LLAMA3, "one of the four numbers of its scaling is missing"),
                },
                Some(kind) => {
                    return refuse(key, &kind, "the only supported scaling of rotary positions is that of Llama 3");
                }
            }
        }
        let heads = self.num_attention_heads;
        let width = self.hidden_size;
        let theta = self.rope_parameters.as_ref().and_then(|rotation| rotation.rope_theta).or(self.rope_theta);
        Ok(Dims {
            d_model: width,
            d_ff: self.intermediate_size,
            heads,
            kv_heads: self.num_key_value_heads.unwrap_or(heads),
            head_dim: self.head_dim.or(width.checked_div(heads)).unwrap_or_default(),
            rope_theta: theta.unwrap_or(10_000.0),
            rope_scaling,
            norm_eps: self.rms_norm_eps.unwrap_or(1e-6),
            attention_bias: self.attention_bias,
        })
    }

    /// Returns the architecture of the flat class.
    fn flat(
        &self,
        dims: &Dims,
        raw: &Map<String, Value>,
        primitives: &Primitives,
    ) -> Result<Architecture, ImportError> {
        let kinds = self.layers_block_type.as_ref().ok_or(ImportError::Incomplete("layers_block_type"))?;
        let layers = kinds.iter().map(|kind| symbol(kind, dims, primitives)).collect::<Result<Vec<_>, _>>()?;
        // Several primitives can have the same kind; the exporter states which ones they were.
        let layers = match self.ours.as_ref().and_then(|ours| ours.architecture.as_ref()) {
            Some(stated) => stated.layers().to_vec(),
            None => layers,
        };
        if layers.len() != kinds.len() {
            return Err(ImportError::Blocks(format!("{OURS}.architecture and layers_block_type differ in length")));
        }
        for (&layer, kind) in layers.iter().zip(kinds) {
            let mapping = primitives.get(layer).ok().and_then(|primitive| primitive.hf_mapping(dims));
            let Some(mapping) = mapping.filter(|mapping| mapping.kind == *kind) else {
                return Err(ImportError::Blocks(format!(
                    "{OURS}.architecture has {layer}, but layers_block_type has {kind}"
                )));
            };
            for (key, expected) in &mapping.settings {
                if raw.get(key) != Some(expected) {
                    let found = raw.get(key).cloned().unwrap_or_default();
                    let own = format!("the primitive {layer} of the registry has {expected}");
                    let text = format!("{key} is {found}, but {own}: add a primitive with this option to the registry");
                    return Err(ImportError::Blocks(text));
                }
            }
        }
        Ok(Architecture::new(layers))
    }

    /// Returns the architecture and the blocks of a Llama-like model.
    fn paired(&self, dims: &Dims, primitives: &Primitives) -> Result<(Architecture, Vec<Pair>), ImportError> {
        let blocks = match self.model_type.as_str() {
            LLAMA => {
                let count = self.num_hidden_layers.ok_or(ImportError::Incomplete("num_hidden_layers"))?;
                let found = |attention| Some(Found { attention, width: dims.d_ff });
                if count > Architecture::MAX_LAYERS / 2 {
                    return Err(ImportError::Blocks(format!("{count} blocks are too many")));
                }
                vec![[found(true), found(false)]; count]
            }
            _ => self.deci(dims)?,
        };
        let attention = symbol("full_attention", dims, primitives)?;
        let swiglu = symbol("swiglu", dims, primitives)?;
        let stated = self.ours.as_ref().and_then(|ours| ours.architecture.as_ref());
        let mut layers = Vec::new();
        let mut place = |found: Option<Found>| {
            let Some(Found { attention: is, width }) = found else { return Ok(Half::Absent) };
            let symbol = if is { attention } else { swiglu };
            // The exporter states the architecture. A half that is not the next layer in it is padding.
            let is_layer = stated.is_none_or(|stated| {
                let next = stated.layers().get(layers.len());
                next.is_some_and(|&next| is_attention(&kind(next, dims, primitives)) == Some(is)) && width == dims.d_ff
            });
            if is_layer {
                layers.push(symbol);
                return if width == dims.d_ff { Ok(Half::Layer(layers.len() - 1)) } else { Err(width) };
            }
            Ok(Half::Zero(width))
        };
        let mut pairs = Vec::new();
        for [attention, mlp] in blocks {
            let half = |half: Result<Half, usize>| {
                half.map_err(|width| ImportError::Setting {
                    key: "block_configs",
                    value: format!("an inner width of {width}"),
                    reason: "all SwiGLU layers must have the inner width intermediate_size",
                })
            };
            pairs.push(Pair { attention: half(place(attention))?, mlp: half(place(mlp))? });
        }
        match stated {
            Some(stated) if stated.len() != layers.len() => {
                Err(ImportError::Blocks(format!("{OURS}.architecture {stated} does not match the blocks")))
            }
            Some(stated) => Ok((stated.clone(), pairs)),
            None => Ok((Architecture::new(layers), pairs)),
        }
    }

    /// Returns the halves of DeciLM's blocks.
    fn deci(&self, dims: &Dims) -> Result<Vec<[Option<Found>; 2]>, ImportError> {
        let blocks = self.block_configs.as_ref().ok_or(ImportError::Incomplete("block_configs"))?;
        let group = dims.heads.checked_div(dims.kv_heads);
        let half = |BlockConfig { attention, ffn }: &BlockConfig| {
            if attention.replace_with_linear || ffn.replace_with_linear {
                return Err(ImportError::Setting {
                    key: "replace_with_linear",
                    value: "true".into(),
                    reason: "this kind of layer is not supported",
                });
            }
            if !attention.no_op && attention.n_heads_in_group != group {
                return Err(ImportError::Setting {
                    key: "n_heads_in_group",
                    value: format!("{:?}", attention.n_heads_in_group),
                    reason: "it must be num_attention_heads / num_key_value_heads in all attention layers",
                });
            }
            let width = ffn.ffn_mult.map(|mult| ff_of(mult, dims)).or(ffn.intermediate_size);
            let width =
                width.ok_or(ImportError::Incomplete("ffn_mult")).or_else(|e| if ffn.no_op { Ok(0) } else { Err(e) })?;
            Ok([
                (!attention.no_op).then_some(Found { attention: true, width: dims.d_ff }),
                (!ffn.no_op).then_some(Found { attention: false, width }),
            ])
        };
        blocks.iter().map(half).collect()
    }
}

/// Returns the kind of a primitive, or an empty string if it has none.
fn kind(symbol: Symbol, dims: &Dims, primitives: &Primitives) -> String {
    let mapping = primitives.get(symbol).ok().and_then(|primitive| primitive.hf_mapping(dims));
    mapping.map(|mapping| mapping.kind).unwrap_or_default()
}

/// Returns the first primitive with this kind.
fn symbol(wanted: &str, dims: &Dims, primitives: &Primitives) -> Result<Symbol, ImportError> {
    let mut all = primitives.iter().map(|primitive| (primitive.symbol(), kind(primitive.symbol(), dims, primitives)));
    let found = all.find(|(_, kind)| kind == wanted);
    found.map(|(symbol, _)| symbol).ok_or_else(|| {
        let known = primitives.iter().map(|primitive| kind(primitive.symbol(), dims, primitives));
        let known = known.filter(|kind| !kind.is_empty()).collect::<Vec<_>>().join(", ");
        ImportError::Kind { kind: wanted.into(), known }
    })
}
