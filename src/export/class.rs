//! Model classes built into transformers: the layers they support and the names of their tensors.

use serde_json::Value;

use crate::{
    dims::Dims,
    primitive::{HfMapping, StoredTensor, TensorLayout},
};

/// A model class of transformers. Its folders load without `trust_remote_code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// One layer per block: attention without positions, Mamba-2, MLPs, mixtures of experts.
    NemotronH,
    /// Mamba-2 only.
    Mamba2,
    /// Short convolutions and attention with norms, each followed by a SwiGLU.
    Lfm2,
    /// Attention with norms, each followed by a SwiGLU.
    Qwen3,
    /// Mamba-2 and half-rotary attention, each followed by a SwiGLU.
    Bamba,
    /// Mamba-2 and attention, each followed by a SwiGLU.
    GraniteMoeHybrid,
    /// Gated DeltaNet and gated attention, each followed by a SwiGLU or a mixture of experts.
    Qwen3Next,
}

/// Merges two objects. Entries of the second override those of the first.
pub(super) fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

/// How a class stores a layer: its place in a block, and the names of its tensors.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// The name of the layer in lists of kinds.
    pub kind: &'static str,
    /// The name of the module.
    pub module: &'static str,
    pub tensors: Vec<StoredTensor>,
}

impl Class {
    pub(crate) const ALL: [Self; 7] =
        [Self::Qwen3, Self::Lfm2, Self::Mamba2, Self::NemotronH, Self::Bamba, Self::GraniteMoeHybrid, Self::Qwen3Next];

    /// Returns the `model_type` in config.json.
    pub(crate) fn model_type(self) -> &'static str {
        match self {
            Self::NemotronH => "nemotron_h",
            Self::Mamba2 => "mamba2",
            Self::Lfm2 => "lfm2",
            Self::Qwen3 => "qwen3",
            Self::Bamba => "bamba",
            Self::GraniteMoeHybrid => "granitemoehybrid",
            Self::Qwen3Next => "qwen3_next",
        }
    }

    /// Returns the name of its language model class.
    pub(super) fn architecture(self) -> &'static str {
        match self {
            Self::NemotronH => "NemotronHForCausalLM",
            Self::Mamba2 => "Mamba2ForCausalLM",
            Self::Lfm2 => "Lfm2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Bamba => "BambaForCausalLM",
            Self::GraniteMoeHybrid => "GraniteMoeHybridForCausalLM",
            Self::Qwen3Next => "Qwen3NextForCausalLM",
        }
    }

    /// Whether the embeddings are tied if a file does not state it.
    pub(crate) fn tied_by_default(self) -> bool {
        self == Self::Lfm2
    }

    /// Whether the class supports tied embeddings. If not, the head is written as a copy of them.
    pub(super) fn ties(self) -> bool {
        self != Self::NemotronH
    }

    /// Returns the standard deviation of initial weights if a file does not state it.
    pub(crate) fn deviation_by_default(self) -> f64 {
        if self == Self::Mamba2 { 0.1 } else { 0.02 }
    }

    /// Whether a block consists of a mixer and a feed-forward part, each with a norm.
    pub(super) fn is_paired(self) -> bool {
        !matches!(self, Self::NemotronH | Self::Mamba2)
    }

    /// Returns the names of the embedding and of the final norm.
    pub(super) fn ends(self) -> [&'static str; 2] {
        match self {
            Self::NemotronH | Self::Mamba2 => ["backbone.embeddings.weight", "backbone.norm_f.weight"],
            Self::Lfm2 => ["model.embed_tokens.weight", "model.embedding_norm.weight"],
            Self::Bamba => ["model.embed_tokens.weight", "model.final_layernorm.weight"],
            Self::Qwen3 | Self::GraniteMoeHybrid | Self::Qwen3Next => {
                ["model.embed_tokens.weight", "model.norm.weight"]
            }
        }
    }

    /// Returns the prefix of all layers.
    pub(super) fn layers(self) -> &'static str {
        if self.is_paired() { "model.layers" } else { "backbone.layers" }
    }

    /// Returns the names of the norms of a block: before the mixer, and before the feed-forward part.
    pub(super) fn norms(self) -> [&'static str; 2] {
        match self {
            Self::NemotronH | Self::Mamba2 => ["norm", "norm"],
            Self::Lfm2 => ["operator_norm", "ffn_norm"],
            Self::Bamba => ["input_layernorm", "pre_ff_layernorm"],
            Self::Qwen3 | Self::GraniteMoeHybrid | Self::Qwen3Next => ["input_layernorm", "post_attention_layernorm"],
        }
    }

    /// Returns how the norms before layers are stored.
    pub(super) fn norm_layout(self) -> TensorLayout {
        if self == Self::Qwen3Next { TensorLayout::Centred } else { TensorLayout::Same }
    }

    /// Returns the layer as stored by this class.
    ///
    /// # Errors
    /// Returns what would have to be different.
    pub(super) fn layer(self, mapping: &HfMapping, dims: &Dims) -> Result<Stored, String> {
        let stored = |kind, module, tensors| Ok(Stored { kind, module, tensors });
        let tensors = mapping.tensors.clone();
        match (self, mapping.family.as_str()) {
            (_, "full_attention") => self.attention(mapping, dims),
            (Self::NemotronH, "mamba2") => stored("linear_attention", "mixer", tensors),
            (Self::NemotronH, "relu2_mlp" | "gelu_mlp") => stored("mlp", "mixer", tensors),
            (Self::NemotronH, "moe") => {
                options(mapping, &[("expert", "relu2"), ("shared_gate", "no")], &["shared_width"])?;
                match mapping.options.get("routing").is_some_and(|routing| routing.starts_with("sigmoid")) {
                    true => stored("moe", "mixer", tensors),
                    false => Err("a mixture that routes by sigmoids would fit".into()),
                }
            }
            (Self::Mamba2, "mamba2") => stored("linear_attention", "mixer", tensors),
            (Self::Bamba | Self::GraniteMoeHybrid, "mamba2") => stored("linear_attention", "mamba", tensors),
            (Self::Lfm2, "short_conv") => stored("conv", "conv", tensors),
            (Self::Qwen3Next, "gated_delta_net") => stored("linear_attention", "linear_attn", delta_net(mapping)?),
            (Self::Qwen3Next, "moe") => {
                options(mapping, &[("expert", "swiglu"), ("shared_gate", "yes")], &["shared_width"])?;
                if mapping.options.get("routing").is_some_and(|routing| routing.starts_with("sigmoid")) {
                    return Err("a mixture that routes by the softmax would fit".into());
                }
                let rename = |name: &str| name.replace("shared_experts.", "shared_expert.");
                stored("moe", "mlp", renamed(tensors, rename))
            }
            (Self::Lfm2, "swiglu") => {
                let rename =
                    |name: &str| name.replace("gate_proj", "w1").replace("up_proj", "w3").replace("down_proj", "w2");
                stored("mlp", "feed_forward", renamed(own_width(mapping, tensors)?, rename))
            }
            (Self::Bamba, "swiglu") => stored("mlp", "feed_forward", own_width(mapping, tensors)?),
            (Self::GraniteMoeHybrid, "swiglu") => {
                own_width(mapping, tensors)?;
                stored("mlp", "shared_mlp", joined_swiglu())
            }
            (Self::Qwen3 | Self::Qwen3Next, "swiglu") => stored("mlp", "mlp", own_width(mapping, tensors)?),
            (_, other) => Err(format!("it has no layer {other}")),
        }
    }

    fn attention(self, mapping: &HfMapping, dims: &Dims) -> Result<Stored, String> {
        let even = dims.d_model == dims.heads * dims.head_dim;
        let fixed = |wanted: &[(&str, &str)]| options(mapping, wanted, &[]);
        let stored = |tensors| Ok(Stored { kind: "full_attention", module: "self_attn", tensors });
        let tensors = mapping.tensors.clone();
        let no_bias = if dims.attention_bias { Err("attention without biases would fit".to_owned()) } else { Ok(()) };
        match self {
            Self::NemotronH => {
                fixed(&[("positions", "none")])?;
                no_bias?;
                Ok(Stored { kind: "full_attention", module: "mixer", tensors })
            }
            Self::Mamba2 => Err("it has no attention".into()),
            Self::Lfm2 => {
                fixed(&[("norm", "per head")])?;
                no_bias?;
                if !even {
                    return Err(format!("its heads have d_model / heads channels, but head_dim is {}", dims.head_dim));
                }
                stored(renamed(tensors, |name| {
                    let name = name.replace("o_proj", "out_proj");
                    name.replace("q_norm", "q_layernorm").replace("k_norm", "k_layernorm")
                }))
            }
            Self::Qwen3 => {
                let partial = mapping.options.get("positions").is_some_and(|positions| positions != "none");
                let wanted: &[_] = &[("norm", "per head")];
                options(mapping, wanted, if partial { &["positions"] } else { &[] })?;
                if partial {
                    Err("attention with rotary positions over all channels would fit".into())
                } else {
                    stored(tensors)
                }
            }
            Self::Bamba => {
                fixed(&[("positions", "50")])?;
                if even { stored(tensors) } else { Err("heads of d_model / heads channels would fit".into()) }
            }
            Self::GraniteMoeHybrid => {
                let turns = !mapping.options.contains_key("positions");
                fixed(if turns { &[] } else { &[("positions", "none")] })?;
                if even { stored(tensors) } else { Err("heads of d_model / heads channels would fit".into()) }
            }
            Self::Qwen3Next => {
                options(mapping, &[("norm", "per head"), ("gate", "yes")], &["positions"])?;
                if mapping.options.get("positions").is_some_and(|positions| positions == "none") {
                    return Err("attention with rotary positions would fit".into());
                }
                stored(gated(mapping, dims))
            }
        }
    }
}

/// Returns an error for options other than `wanted`. Options in `any` can have any value.
fn options(mapping: &HfMapping, wanted: &[(&str, &str)], any: &[&str]) -> Result<(), String> {
    let known = ["experts", "top_k", "width", "routing"];
    let is_moe = mapping.family == "moe";
    for (name, value) in &mapping.options {
        let name = name.as_str();
        let fits = wanted.iter().any(|(key, only)| *key == name && only == value);
        let free = any.contains(&name) || is_moe && known.contains(&name);
        if !fits && !free {
            return Err(change(mapping, wanted, &format!("its {name} is {value}")));
        }
    }
    match wanted.iter().find(|(key, _)| !mapping.options.contains_key(*key)) {
        Some(_) => Err(change(mapping, wanted, "it is plain")),
        None => Ok(()),
    }
}

/// Returns a message about the options that would fit.
fn change(mapping: &HfMapping, wanted: &[(&str, &str)], found: &str) -> String {
    let layer = if mapping.family == "moe" { "a mixture of experts" } else { "attention" };
    let words = wanted.iter().map(|(key, value)| match (*key, *value) {
        ("positions", "none") => "without positions".to_owned(),
        ("positions", percent) => format!("with rotary positions over {percent} percent of its channels"),
        ("norm", "per head") => "with query and key norms per head".to_owned(),
        ("gate", _) => "with a gate".to_owned(),
        (key, value) => format!("with {key} {value}"),
    });
    let words = words.collect::<Vec<_>>().join(" and ");
    let words = if words.is_empty() { "without options".to_owned() } else { words };
    format!("{layer} {words} would fit ({found})")
}

fn renamed(mut tensors: Vec<StoredTensor>, rename: impl Fn(&str) -> String) -> Vec<StoredTensor> {
    tensors.iter_mut().for_each(|tensor| tensor.name = rename(&tensor.name));
    tensors
}

/// Returns an error if a SwiGLU has an inner width other than `d_ff`.
fn own_width(mapping: &HfMapping, tensors: Vec<StoredTensor>) -> Result<Vec<StoredTensor>, String> {
    match mapping.options.get("width") {
        Some(width) => Err(format!("its SwiGLU layers have the inner width d_ff, but one has {width}")),
        None => Ok(tensors),
    }
}

fn tensor(name: &str, parameters: &[&str], layout: TensorLayout) -> StoredTensor {
    let parameters = parameters.iter().map(|&parameter| parameter.to_owned()).collect();
    StoredTensor { name: name.into(), parameters, layout, order: None }
}

fn joined_swiglu() -> Vec<StoredTensor> {
    vec![
        tensor("input_linear.weight", &["gate.weight", "up.weight"], TensorLayout::Transposed),
        tensor("output_linear.weight", &["down.weight"], TensorLayout::Transposed),
    ]
}

/// Stores gated attention: query and gate are interleaved by head, and norms are stored as their difference from one.
fn gated(mapping: &HfMapping, dims: &Dims) -> Vec<StoredTensor> {
    let width = dims.head_dim;
    let queries = dims.heads * width;
    let mut out = Vec::new();
    for stored in &mapping.tensors {
        let joined = |part: &str, layout| {
            let mut joined = tensor(&stored.name, &[&format!("query.{part}"), &format!("gate.{part}")], layout);
            let own = stored.order.clone().unwrap_or_else(|| (0..queries).collect());
            let row = |row: usize| match (row / width / 2, row / width % 2, row % width) {
                (head, 0, channel) => own.get(head * width + channel).copied().unwrap_or_default(),
                (head, _, channel) => queries + head * width + channel,
            };
            joined.order = Some((0..2 * queries).map(row).collect());
            joined
        };
        match stored.name.as_str() {
            "q_proj.weight" => out.push(joined("weight", TensorLayout::Transposed)),
            "q_proj.bias" => out.push(joined("bias", TensorLayout::Same)),
            name if name.starts_with("gate_proj.") => {}
            "q_norm.weight" | "k_norm.weight" => {
                out.push(StoredTensor { layout: TensorLayout::Centred, ..stored.clone() })
            }
            _ => out.push(stored.clone()),
        }
    }
    out
}

/// Stores gated DeltaNet in two projections, in which the rows that belong to one key head are contiguous.
fn delta_net(mapping: &HfMapping) -> Result<Vec<StoredTensor>, String> {
    let size = |key: &str| {
        let found = mapping.settings.get(key).and_then(Value::as_u64);
        found.map(|size| size as usize).ok_or_else(|| format!("its gated DeltaNet has no {key}"))
    };
    let keys = size("linear_num_key_heads")?;
    let values = size("linear_num_value_heads")?;
    let key = size("linear_key_head_dim")?;
    let value = size("linear_value_head_dim")?;
    let shared = values / keys.max(1);
    let own = shared * value;
    // The first rows of `q`, `k` and `v` in `q | k | v | z`. The rows of `b | a` follow the same scheme.
    let [q, k, v] = [0, keys * key, 2 * keys * key];
    let z = v + values * value;
    let per_head = |head: usize| {
        let query = (q + head * key..q + (head + 1) * key).chain(k + head * key..k + (head + 1) * key);
        query.chain(v + head * own..v + (head + 1) * own).chain(z + head * own..z + (head + 1) * own)
    };
    let mut projections = tensor("in_proj_qkvz.weight", &["qkv.weight", "gate.weight"], TensorLayout::Transposed);
    projections.order = Some((0..keys).flat_map(per_head).collect());
    let mut steps = tensor("in_proj_ba.weight", &["beta.weight", "decay.weight"], TensorLayout::Transposed);
    let pair = |head: usize| {
        let own = head * shared..(head + 1) * shared;
        own.clone().chain(own.start + values..own.end + values)
    };
    steps.order = Some((0..keys).flat_map(pair).collect());
    let rest = mapping.tensors.iter().filter(|stored| !stored.name.starts_with("in_proj_")).cloned();
    Ok([projections, steps].into_iter().chain(rest).collect())
}
