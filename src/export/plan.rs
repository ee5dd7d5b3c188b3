//! The mapping between tensors of a checkpoint and parameters of a model. Exporter and importer share it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use super::class::Class;
use crate::{
    dims::Dims,
    model::ModelSpec,
    primitive::{HfMapping, PrimitiveId, Primitives, RegistryError, Symbol, TensorLayout},
};

/// The kind of layer that DeciLM and Llama call `self_attn`.
const ATTENTION: &str = "full_attention";
/// The kind of layer that DeciLM and Llama call `mlp`.
const SWIGLU: &str = "swiglu";

/// The bias that Nemotron-H adds to the scores when it chooses experts. It is always zero here.
pub(crate) const CORRECTION: &str = "gate.e_score_correction_bias";
/// The kind of a linear map.
const LINEAR: &str = "linear";

/// How the layers of a model are packed into the blocks of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Packing {
    /// One layer per block.
    Flat,
    /// Each block has an attention half and a SwiGLU half. Either can be missing.
    Paired(Vec<Pair>),
    /// The packing of this class of transformers.
    Native(Class),
}

/// One block of a Llama-like checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub attention: Half,
    pub mlp: Half,
}

/// One half of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// The half is missing.
    Absent,
    /// The layer with this index.
    Layer(usize),
    /// A layer that adds nothing. If it is an MLP, this is its inner width.
    Zero(usize),
}

/// All tensors of a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The mapping of every symbol of the architecture.
    pub mappings: BTreeMap<Symbol, HfMapping>,
    /// The tensors, in order.
    pub entries: Vec<Entry>,
}

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub name: String,
    pub source: Source,
}

/// The source of a tensor's values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// The parameters at these paths of the model, concatenated along the first axis.
    Parameters { paths: Vec<String>, layout: TensorLayout, order: Option<Vec<usize>> },
    /// A constant.
    Constant { shape: Vec<usize>, value: f32 },
}

/// A layer that cannot be mapped to a checkpoint.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HfMappingError {
    /// The registry does not contain a primitive of the architecture.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// transformers has no such layer.
    #[error(
        "primitive {id} ({symbol}) has no mapping to transformers; those that have one are: {known}. Implement \
         Primitive::hf_mapping for it, or choose another architecture"
    )]
    Missing {
        /// The primitive.
        id: PrimitiveId,
        /// Its symbol.
        symbol: Symbol,
        /// The primitives that have a mapping.
        known: String,
    },
    /// The class of transformers does not support such a layer.
    #[error("{class} cannot express the model: {reason}")]
    Class {
        /// The class.
        class: &'static str,
        /// The reason.
        reason: String,
    },
    /// The kind of a layer cannot be part of a file name.
    #[error("the HfMapping of {id} has the kind {kind:?}: use only lower-case letters, digits and _")]
    Kind {
        /// The primitive.
        id: PrimitiveId,
        /// The kind.
        kind: String,
    },
    /// Two layers need different values of the same entry of config.json.
    #[error("two layers of the model need different values of {key} in config.json: {one} and {other}")]
    Conflict {
        /// The entry.
        key: String,
        /// The value that one layer needs.
        one: Value,
        /// The value that the other layer needs.
        other: Value,
    },
}

/// Returns the mappings of all symbols of an architecture.
pub(crate) fn mappings(
    spec: &ModelSpec,
    primitives: &Primitives,
) -> Result<BTreeMap<Symbol, HfMapping>, HfMappingError> {
    let mut found = BTreeMap::new();
    for &symbol in spec.architecture.layers() {
        if found.contains_key(&symbol) {
            continue;
        }
        let primitive = primitives.get(symbol)?;
        let id = primitive.id();
        let Some(mapping) = primitive.hf_mapping(&spec.dims) else {
            let known = primitives.iter().filter(|p| p.hf_mapping(&spec.dims).is_some());
            let known = known.map(|p| format!("{} ({})", p.id(), p.symbol())).collect::<Vec<_>>().join(", ");
            return Err(HfMappingError::Missing { id, symbol, known });
        };
        if PrimitiveId::new(&mapping.kind).is_err() {
            return Err(HfMappingError::Kind { id, kind: mapping.kind });
        }
        found.insert(symbol, mapping);
    }
    Ok(found)
}

/// Returns the entries of config.json that the layers need.
pub(crate) fn settings(mappings: &BTreeMap<Symbol, HfMapping>) -> Result<Map<String, Value>, HfMappingError> {
    let mut all = Map::new();
    for (key, value) in mappings.values().flat_map(|mapping| &mapping.settings) {
        match all.get(key) {
            Some(other) if other != value => {
                let key = key.clone();
                let one = other.clone();
                return Err(HfMappingError::Conflict { key, one, other: value.clone() });
            }
            Some(_) => {}
            None => drop(all.insert(key.clone(), value.clone())),
        }
    }
    Ok(all)
}

/// Whether a kind is the attention half or the MLP half of a Llama-like block. `None` if it is neither.
pub(crate) fn is_attention(kind: &str) -> Option<bool> {
    match kind {
        ATTENTION => Some(true),
        SWIGLU => Some(false),
        _ => None,
    }
}

/// Combines each attention layer with the SwiGLU that directly follows it; every other layer gets its own block.
/// Returns `None` if a layer is neither. `kinds` has one entry per layer.
pub(crate) fn pair(kinds: &[&str]) -> Option<Vec<Pair>> {
    let attention = kinds.iter().map(|kind| is_attention(kind)).collect::<Option<Vec<bool>>>()?;
    let mut pairs: Vec<Pair> = Vec::new();
    for (layer, is_attention) in attention.into_iter().enumerate() {
        match pairs.last_mut() {
            Some(last) if !is_attention && last.mlp == Half::Absent => last.mlp = Half::Layer(layer),
            _ if is_attention => pairs.push(Pair { attention: Half::Layer(layer), mlp: Half::Absent }),
            _ => pairs.push(Pair { attention: Half::Absent, mlp: Half::Layer(layer) }),
        }
    }
    Some(pairs)
}

impl Plan {
    /// Returns the tensors of this model in this packing.
    pub fn new(spec: &ModelSpec, primitives: &Primitives, packing: &Packing) -> Result<Self, HfMappingError> {
        let mappings = mappings(spec, primitives)?;
        let mut plan = Self { mappings, entries: Vec::new() };
        if let Packing::Native(class) = packing {
            plan.native(spec, *class)?;
            return Ok(plan);
        }
        plan.parameter("model.embed_tokens.weight", "backbone.embedding", TensorLayout::Same);
        match packing {
            Packing::Native(_) => {}
            Packing::Flat => {
                for layer in 0..spec.architecture.len() {
                    plan.layer(spec, layer, &format!("model.layers.{layer}."), ["norm", "mixer"]);
                }
            }
            Packing::Paired(pairs) => {
                for (block, pair) in pairs.iter().enumerate() {
                    let prefix = format!("model.layers.{block}.");
                    plan.half(spec, pair.attention, &prefix, true);
                    plan.half(spec, pair.mlp, &prefix, false);
                }
            }
        }
        plan.parameter("model.norm.weight", "norm.gamma", TensorLayout::Same);
        plan.head(spec);
        Ok(plan)
    }

    fn head(&mut self, spec: &ModelSpec) {
        if !spec.tied_embeddings {
            self.parameter("lm_head.weight", "head.weight", TensorLayout::Transposed);
            if spec.head_bias {
                self.parameter("lm_head.bias", "head.bias", TensorLayout::Same);
            }
        }
    }

    /// Adds the tensors of a built-in class.
    fn native(&mut self, spec: &ModelSpec, class: Class) -> Result<(), HfMappingError> {
        let [embedding, norm] = class.ends();
        self.parameter(embedding, "backbone.embedding", TensorLayout::Same);
        for (layer, symbol) in spec.architecture.layers().iter().enumerate() {
            let paired = class.is_paired();
            let block = if paired { layer / 2 } else { layer };
            let norm = class.norms()[if paired { layer % 2 } else { 0 }];
            let prefix = format!("{}.{block}.", class.layers());
            let ours = format!("backbone.layers.{layer}");
            self.parameter(&format!("{prefix}{norm}.weight"), &format!("{ours}.norm.gamma"), class.norm_layout());
            let stored = class.layer(&self.mappings[symbol], &spec.dims);
            let stored = stored.map_err(|reason| HfMappingError::Class { class: class.model_type(), reason })?;
            let module = stored.module;
            for tensor in stored.tensors {
                let name = format!("{prefix}{module}.{}", tensor.name);
                let paths = tensor.parameters.iter().map(|parameter| format!("{ours}.mixer.{parameter}")).collect();
                let source = Source::Parameters { paths, layout: tensor.layout, order: tensor.order };
                self.entries.push(Entry { name, source });
            }
            if class == Class::NemotronH && stored.kind == "moe" {
                let experts = self.mappings[symbol].options.get("experts").and_then(|count| count.parse().ok());
                let name = format!("{prefix}{module}.{CORRECTION}");
                self.constant(name, vec![experts.unwrap_or_default()], 0.0);
            }
        }
        self.parameter(norm, "norm.gamma", class.norm_layout());
        match spec.tied_embeddings && !class.ties() {
            true => self.parameter("lm_head.weight", "backbone.embedding", TensorLayout::Same),
            false => self.head(spec),
        }
        Ok(())
    }

    fn half(&mut self, spec: &ModelSpec, half: Half, prefix: &str, attention: bool) {
        let names = if attention { ["input_layernorm", "self_attn"] } else { ["post_attention_layernorm", "mlp"] };
        match half {
            Half::Absent => {}
            Half::Layer(layer) => self.layer(spec, layer, prefix, names),
            Half::Zero(width) => self.zero(&spec.dims, width, prefix, names, attention),
        }
    }

    /// Adds a layer and its norm. `names` are the names of the norm and the layer.
    fn layer(&mut self, spec: &ModelSpec, layer: usize, prefix: &str, [norm, mixer]: [&str; 2]) {
        let ours = format!("backbone.layers.{layer}");
        self.parameter(&format!("{prefix}{norm}.weight"), &format!("{ours}.norm.gamma"), TensorLayout::Same);
        let mapping = &self.mappings[&spec.architecture.layers()[layer]];
        let linear = mapping.kind == LINEAR;
        for tensor in mapping.tensors.clone() {
            // DeciLM names a linear map after the half that it replaces.
            let name = match mixer {
                "self_attn" if linear => format!("{prefix}{mixer}.linear_attn.weight"),
                "mlp" if linear => format!("{prefix}{mixer}.linear_mlp.weight"),
                _ => format!("{prefix}{mixer}.{}", tensor.name),
            };
            let paths = tensor.parameters.iter().map(|parameter| format!("{ours}.mixer.{parameter}")).collect();
            self.entries
                .push(Entry { name, source: Source::Parameters { paths, layout: tensor.layout, order: tensor.order } });
        }
    }

    /// Adds a layer that adds nothing to the residual stream.
    fn zero(&mut self, dims: &Dims, width: usize, prefix: &str, [norm, mixer]: [&str; 2], attention: bool) {
        let model = dims.d_model;
        let queries = dims.heads * dims.head_dim;
        let keys = dims.kv_heads * dims.head_dim;
        self.constant(format!("{prefix}{norm}.weight"), vec![model], 1.0);
        let maps = match attention {
            true => vec![("q", queries, model), ("k", keys, model), ("v", keys, model), ("o", model, queries)],
            false => vec![("gate", width, model), ("up", width, model), ("down", model, width)],
        };
        for (map, rows, columns) in maps {
            self.constant(format!("{prefix}{mixer}.{map}_proj.weight"), vec![rows, columns], 0.0);
            if attention && dims.attention_bias {
                self.constant(format!("{prefix}{mixer}.{map}_proj.bias"), vec![rows], 0.0);
            }
        }
    }

    fn parameter(&mut self, name: &str, path: &str, layout: TensorLayout) {
        let source = Source::Parameters { paths: vec![path.into()], layout, order: None };
        self.entries.push(Entry { name: name.into(), source });
    }

    /// Returns the stored shape of every tensor. `shape` returns the shape of the parameter at a path.
    pub fn shapes<'a>(&self, shape: impl Fn(&str) -> Option<&'a [usize]>) -> Result<Vec<Vec<usize>>, String> {
        self.entries.iter().map(|entry| entry.shape(&shape)).collect()
    }

    /// Returns the paths of all stored parameters.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let paths = self.entries.iter().flat_map(|entry| match &entry.source {
            Source::Parameters { paths, .. } => paths.as_slice(),
            Source::Constant { .. } => &[],
        });
        paths.map(String::as_str)
    }

    fn constant(&mut self, name: String, shape: Vec<usize>, value: f32) {
        self.entries.push(Entry { name, source: Source::Constant { shape, value } });
    }
}

impl Entry {
    /// Returns the stored shape, or the reason why there is none.
    fn shape<'a>(&self, shape: impl Fn(&str) -> Option<&'a [usize]>) -> Result<Vec<usize>, String> {
        let (paths, layout) = match &self.source {
            Source::Constant { shape, .. } => return Ok(shape.clone()),
            Source::Parameters { paths, layout, .. } => (paths, layout),
        };
        let mut joined: Option<Vec<usize>> = None;
        for path in paths {
            let own = shape(path).ok_or_else(|| format!("it has no {path}, which is stored in {}", self.name))?;
            let stored = layout.stored(own).ok_or_else(|| format!("{path} of shape {own:?} cannot be {layout:?}"))?;
            joined = Some(match joined {
                None => stored,
                Some(mut all) if !all.is_empty() && all.get(1..) == stored.get(1..) => {
                    all[0] += stored[0];
                    all
                }
                Some(all) => {
                    return Err(format!("{path} with shape {stored:?} cannot be appended to {all:?} in {}", self.name));
                }
            });
        }
        joined.ok_or_else(|| format!("{} has no parameters", self.name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{extrapolate::Target, primitive::SwiGlu};

    fn pairs(letters: &str) -> Option<Vec<Pair>> {
        let kind = |letter| if letter == 'A' { ATTENTION } else { SWIGLU };
        pair(&letters.chars().map(kind).collect::<Vec<_>>())
    }

    #[test]
    fn attention_takes_the_mlp_that_follows_it() {
        let text = |letters: &str| {
            let half = |half, letter| if half == Half::Absent { "" } else { letter };
            let pairs = pairs(letters).unwrap();
            pairs.iter().map(|p| format!("({}{})", half(p.attention, "A"), half(p.mlp, "M"))).collect::<String>()
        };
        assert_eq!(text("AAMMMM"), "(A)(AM)(M)(M)(M)");
        assert_eq!(text("MAMMAA"), "(M)(AM)(M)(A)(A)");
        assert_eq!(pair(&[ATTENTION, "gelu_mlp"]), None);
    }

    proptest! {
        #[test]
        fn every_layer_has_one_place_and_the_order_is_kept(letters in "[AM]{1,40}") {
            let halves = pairs(&letters).unwrap().into_iter().flat_map(|pair| [pair.attention, pair.mlp]);
            let layers: Vec<usize> = halves.filter_map(|half| match half {
                Half::Layer(layer) => Some(layer),
                Half::Absent | Half::Zero(_) => None,
            }).collect();
            prop_assert_eq!(layers, (0..letters.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_cannot_be_named_is_refused() {
        let mut spec = Target::llama_1b().model("2A+4Z".parse().unwrap());
        let primitives = Primitives::empty().with(SwiGlu).unwrap();
        assert!(matches!(mappings(&spec, &primitives), Err(HfMappingError::Registry(_))));
        spec.architecture = "M".parse().unwrap();
        let both = |one: i32, other: i32| {
            let mapping =
                |value: i32| mappings(&spec, &primitives).unwrap()[&Symbol::SWIGLU].clone().setting("w", value);
            settings(&BTreeMap::from([(Symbol::SWIGLU, mapping(one)), (Symbol::MLP, mapping(other))]))
        };
        assert_eq!(both(1, 1).unwrap()["w"], 1);
        let error = both(1, 2).unwrap_err().to_string();
        assert!(error.contains("w in config.json: 2 and 1") || error.contains("w in config.json: 1 and 2"), "{error}");
    }
}
