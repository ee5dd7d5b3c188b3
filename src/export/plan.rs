//! Which tensor of a checkpoint holds which parameter: one table, read by the exporter and by the importer.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use super::class::Class;
use crate::{
    dims::Dims,
    model::ModelSpec,
    primitive::{HfMapping, Layout, PrimitiveId, Primitives, RegistryError, Symbol},
};

/// The kind of a layer that DeciLM and Llama call `self_attn`.
const ATTENTION: &str = "full_attention";
/// The kind of a layer that DeciLM and Llama call `mlp`.
const SWIGLU: &str = "swiglu";

/// What Nemotron-H adds to the scores by which experts are chosen: nothing here.
pub(crate) const CORRECTION: &str = "gate.e_score_correction_bias";
/// The kind of a linear map.
const LINEAR: &str = "linear";

/// How the layers of a model are packed into the blocks of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Packing {
    /// One layer, one block.
    Flat,
    /// A block has an attention half and a SwiGLU half, either of which may be missing.
    Paired(Vec<Pair>),
    /// As this class of transformers stores them.
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
    /// Not there.
    Absent,
    /// The layer of this number.
    Layer(usize),
    /// A layer that adds nothing, with this inner width where it is an MLP.
    Zero(usize),
}

/// Every tensor of a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What the symbols of the architecture are called.
    pub counterparts: BTreeMap<Symbol, HfMapping>,
    /// The tensors, first to last.
    pub entries: Vec<Entry>,
}

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub name: String,
    pub source: Source,
}

/// Where the numbers of a tensor come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// The parameters at these paths of the model, behind each other along the first axis.
    Parameters { paths: Vec<String>, layout: Layout, order: Option<Vec<usize>> },
    /// The same number everywhere.
    Constant { shape: Vec<usize>, value: f32 },
}

/// A layer that cannot be named in a checkpoint.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HfMappingError {
    /// The registry lacks a primitive of the architecture.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// transformers has no such layer.
    #[error(
        "primitive {id} ({symbol}) has no counterpart in transformers; those that have one are: {known}. Give it one with \
         Primitive::hf_mapping, or choose another architecture"
    )]
    Missing {
        /// The primitive.
        id: PrimitiveId,
        /// Its letter.
        symbol: Symbol,
        /// Who has one.
        known: String,
    },
    /// A class of transformers without such a layer.
    #[error("{class} cannot hold the model: {reason}")]
    Class {
        /// The class.
        class: &'static str,
        /// What it lacks.
        reason: String,
    },
    /// A name that cannot be part of a file name.
    #[error("the counterpart of {id} calls its kind {kind:?}: use lower-case letters, digits and _")]
    Kind {
        /// The primitive.
        id: PrimitiveId,
        /// The name.
        kind: String,
    },
    /// Two layers of one model want different values of one entry of config.json.
    #[error("two layers of the model want {key} to be {one} and {other}, and config.json has one entry for both")]
    Conflict {
        /// The entry.
        key: String,
        /// What one wants.
        one: Value,
        /// What the other wants.
        other: Value,
    },
}

/// The counterparts of all symbols of an architecture.
pub(crate) fn counterparts(
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
        let Some(counterpart) = primitive.hf_mapping(&spec.dims) else {
            let known = primitives.iter().filter(|p| p.hf_mapping(&spec.dims).is_some());
            let known = known.map(|p| format!("{} ({})", p.id(), p.symbol())).collect::<Vec<_>>().join(", ");
            return Err(HfMappingError::Missing { id, symbol, known });
        };
        if PrimitiveId::new(&counterpart.kind).is_err() {
            return Err(HfMappingError::Kind { id, kind: counterpart.kind });
        }
        found.insert(symbol, counterpart);
    }
    Ok(found)
}

/// The entries of config.json that the layers ask for.
pub(crate) fn settings(counterparts: &BTreeMap<Symbol, HfMapping>) -> Result<Map<String, Value>, HfMappingError> {
    let mut all = Map::new();
    for (key, value) in counterparts.values().flat_map(|counterpart| &counterpart.settings) {
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

/// Whether a kind has a place in a Llama-like block.
pub(crate) fn is_attention(kind: &str) -> Option<bool> {
    match kind {
        ATTENTION => Some(true),
        SWIGLU => Some(false),
        _ => None,
    }
}

/// Pairs an attention layer with the SwiGLU that follows it directly; every other layer has a block of its own. None
/// where a layer is neither. `kinds`: one per layer.
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
    /// The tensors of this model under this packing.
    pub fn new(spec: &ModelSpec, primitives: &Primitives, packing: &Packing) -> Result<Self, HfMappingError> {
        let counterparts = counterparts(spec, primitives)?;
        let mut plan = Self { counterparts, entries: Vec::new() };
        if let Packing::Native(class) = packing {
            plan.native(spec, *class)?;
            return Ok(plan);
        }
        plan.parameter("model.embed_tokens.weight", "trunk.embedding", Layout::Same);
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
        plan.parameter("model.norm.weight", "norm.gamma", Layout::Same);
        plan.head(spec);
        Ok(plan)
    }

    fn head(&mut self, spec: &ModelSpec) {
        if !spec.tied_embeddings {
            self.parameter("lm_head.weight", "head.weight", Layout::Transposed);
            if spec.head_bias {
                self.parameter("lm_head.bias", "head.bias", Layout::Same);
            }
        }
    }

    /// The tensors of a class that needs no code of ours.
    fn native(&mut self, spec: &ModelSpec, class: Class) -> Result<(), HfMappingError> {
        let [embedding, norm] = class.ends();
        self.parameter(embedding, "trunk.embedding", Layout::Same);
        for (layer, symbol) in spec.architecture.layers().iter().enumerate() {
            let paired = class.is_paired();
            let block = if paired { layer / 2 } else { layer };
            let norm = class.norms()[if paired { layer % 2 } else { 0 }];
            let prefix = format!("{}.{block}.", class.layers());
            let ours = format!("trunk.layers.{layer}");
            self.parameter(&format!("{prefix}{norm}.weight"), &format!("{ours}.norm.gamma"), class.norm_layout());
            let stored = class.layer(&self.counterparts[symbol], &spec.dims);
            let stored = stored.map_err(|reason| HfMappingError::Class { class: class.model_type(), reason })?;
            let module = stored.module;
            for tensor in stored.tensors {
                let name = format!("{prefix}{module}.{}", tensor.name);
                let paths = tensor.parameters.iter().map(|parameter| format!("{ours}.mixer.{parameter}")).collect();
                let source = Source::Parameters { paths, layout: tensor.layout, order: tensor.order };
                self.entries.push(Entry { name, source });
            }
            if class == Class::NemotronH && stored.kind == "moe" {
                let experts = self.counterparts[symbol].options.get("experts").and_then(|count| count.parse().ok());
                let name = format!("{prefix}{module}.{CORRECTION}");
                self.constant(name, vec![experts.unwrap_or_default()], 0.0);
            }
        }
        self.parameter(norm, "norm.gamma", class.norm_layout());
        match spec.tied_embeddings && !class.ties() {
            true => self.parameter("lm_head.weight", "trunk.embedding", Layout::Same),
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

    /// A layer with its norm; `names` are those of norm and layer.
    fn layer(&mut self, spec: &ModelSpec, layer: usize, prefix: &str, [norm, mixer]: [&str; 2]) {
        let ours = format!("trunk.layers.{layer}");
        self.parameter(&format!("{prefix}{norm}.weight"), &format!("{ours}.norm.gamma"), Layout::Same);
        let counterpart = &self.counterparts[&spec.architecture.layers()[layer]];
        let linear = counterpart.kind == LINEAR;
        for tensor in counterpart.tensors.clone() {
            // DeciLM names a linear map after the half in whose place it stands.
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

    /// A layer that adds nothing to the residual stream.
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

    fn parameter(&mut self, name: &str, path: &str, layout: Layout) {
        let source = Source::Parameters { paths: vec![path.into()], layout, order: None };
        self.entries.push(Entry { name: name.into(), source });
    }

    /// The stored shape of every tensor, when the parameters have the shapes that `shape` tells by their paths.
    pub fn shapes<'a>(&self, shape: impl Fn(&str) -> Option<&'a [usize]>) -> Result<Vec<Vec<usize>>, String> {
        self.entries.iter().map(|entry| entry.shape(&shape)).collect()
    }

    /// The paths of all parameters that are stored.
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
    /// The stored shape; what is wrong where there is none.
    fn shape<'a>(&self, shape: impl Fn(&str) -> Option<&'a [usize]>) -> Result<Vec<usize>, String> {
        let (paths, layout) = match &self.source {
            Source::Constant { shape, .. } => return Ok(shape.clone()),
            Source::Parameters { paths, layout, .. } => (paths, layout),
        };
        let mut joined: Option<Vec<usize>> = None;
        for path in paths {
            let own = shape(path).ok_or_else(|| format!("it lacks {path}, which is stored in {}", self.name))?;
            let stored = layout.stored(own).ok_or_else(|| format!("{path} of shape {own:?} cannot be {layout:?}"))?;
            joined = Some(match joined {
                None => stored,
                Some(mut all) if !all.is_empty() && all.get(1..) == stored.get(1..) => {
                    all[0] += stored[0];
                    all
                }
                Some(all) => return Err(format!("{path} as {stored:?} does not fit behind {all:?} in {}", self.name)),
            });
        }
        joined.ok_or_else(|| format!("{} is made of nothing", self.name))
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
        assert!(matches!(counterparts(&spec, &primitives), Err(HfMappingError::Registry(_))));
        spec.architecture = "M".parse().unwrap();
        let both = |one: i32, other: i32| {
            let counterpart =
                |value: i32| counterparts(&spec, &primitives).unwrap()[&Symbol::SWIGLU].clone().setting("w", value);
            settings(&BTreeMap::from([(Symbol::SWIGLU, counterpart(one)), (Symbol::MLP, counterpart(other))]))
        };
        assert_eq!(both(1, 1).unwrap()["w"], 1);
        let error = both(1, 2).unwrap_err().to_string();
        assert!(error.contains("w to be 2 and 1") || error.contains("w to be 1 and 2"), "{error}");
    }
}
