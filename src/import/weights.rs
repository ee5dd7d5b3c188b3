//! Loads the parameters of a model from safetensors files.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Tensor, TensorData},
};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Deserialize;

use super::{ImportError, Rope};
use crate::{
    export::{CORRECTION, Entry, Parameters, Plan, Source},
    limits,
    model::{HybridLm, ModelSpec},
    primitive::{BuildError, Primitives, StoredTensor, TensorLayout},
    weights::{Header, elements, replaced},
};

/// The name of a single weights file.
const SINGLE: &str = "model.safetensors";
/// The index that states which of several files contains a tensor.
const INDEX: &str = "model.safetensors.index.json";
/// A buffer in older checkpoints. It can be derived from the configuration.
const BUFFER: &str = "rotary_emb.inv_freq";

/// The ratio of needed to available numbers above which a model is rejected early, because naming its tensors takes
/// memory. Below it, missing tensors are reported by name.
const SLACK: u128 = 2;

/// The weights of a folder. Only the headers of the files have been read.
pub(super) struct Headers {
    pub files: Vec<PathBuf>,
    /// Names and shapes.
    tensors: Vec<(String, Vec<usize>)>,
}

impl Headers {
    pub fn read(folder: &Path) -> Result<Self, ImportError> {
        let files = files(folder)?;
        let mut tensors = Vec::new();
        for path in &files {
            tensors.extend(Header::read(path)?.tensors().map(|(name, tensor)| (name, tensor.shape.clone())));
        }
        Ok(Self { files, tensors })
    }

    /// Returns an error if the model is far larger than its weights, before memory is allocated for it.
    pub fn check_total(&self, spec: &ModelSpec, primitives: &Primitives) -> Result<(), ImportError> {
        let numbers = self.tensors.iter().fold(0u128, |all, (_, shape)| all.saturating_add(elements(shape)));
        let mut before = 0u128;
        for (layer, &symbol) in spec.architecture.layers().iter().enumerate() {
            let primitive = primitives.get(symbol).map_err(BuildError::from)?;
            let needed = u128::from(primitive.cost(&spec.dims, 1).parameters);
            if before.saturating_add(needed) > numbers.saturating_mul(SLACK) {
                let found = numbers.saturating_sub(before);
                return Err(ImportError::TooFew { layer, id: primitive.id(), found, needed });
            }
            before += needed;
        }
        Ok(())
    }

    /// Checks that the tensors have the names that the model needs and enough numbers. The memory allocated for the
    /// model is then bounded by the size of the files.
    pub fn check(&self, plan: &Plan, spec: &ModelSpec, primitives: &Primitives) -> Result<(), ImportError> {
        let mut found: HashMap<&str, &[usize]> = HashMap::new();
        let mut extra: Vec<&str> = Vec::new();
        let wanted: BTreeSet<&str> = plan.entries.iter().map(|entry| entry.name.as_str()).collect();
        for (name, shape) in &self.tensors {
            // A tensor that occurs in two files is reported like an unknown one.
            if wanted.contains(name.as_str()) && !found.contains_key(name.as_str()) {
                found.insert(name, shape);
            } else if !is_needless(name, spec) {
                extra.push(name);
            }
        }
        let missing: Vec<_> = wanted.into_iter().filter(|&name| !found.contains_key(name)).collect();
        if let Some(&first) = missing.first() {
            return Err(ImportError::Missing { count: missing.len(), first: first.into() });
        }
        if let Some(&first) = extra.first() {
            return Err(ImportError::Extra { count: extra.len(), first: first.into() });
        }
        check_sizes(plan, &found, spec, primitives)
    }

    /// Renames the tensors of a plan to match the files. Published files use the prefix `backbone`, transformers 5
    /// another one.
    pub fn rename(&self, plan: &mut Plan) {
        const PREFIXES: [&str; 2] = ["backbone.", "model."];
        let [published, newer] = PREFIXES;
        if !self.tensors.iter().any(|(name, _)| name.starts_with(newer)) {
            return;
        }
        for entry in &mut plan.entries {
            if let Some(rest) = entry.name.strip_prefix(published) {
                entry.name = format!("{newer}{rest}");
            }
        }
    }
}

/// Checks the sizes of the tensors against the parameter counts of the layers, and the shapes that are known without
/// building the model.
fn check_sizes(
    plan: &Plan,
    found: &HashMap<&str, &[usize]>,
    spec: &ModelSpec,
    primitives: &Primitives,
) -> Result<(), ImportError> {
    let mut numbers = vec![0u128; spec.architecture.len()];
    for Entry { name, source } in &plan.entries {
        let Some(&shape) = found.get(name.as_str()) else { continue };
        let path = match source {
            Source::Constant { shape: expected, .. } => {
                check_shape(name, shape, expected)?;
                continue;
            }
            Source::Parameters { paths, .. } => paths.first().map(String::as_str).unwrap_or_default(),
        };
        let vocabulary = spec.vocab_size;
        let width = spec.dims.d_model;
        match path.strip_prefix("backbone.layers.").and_then(|path| path.split_once('.')) {
            Some((_, "norm.gamma")) => check_shape(name, shape, &[width])?,
            Some((layer, _)) => {
                let sum = layer.parse().ok().and_then(|layer: usize| numbers.get_mut(layer));
                sum.into_iter().for_each(|sum| *sum = sum.saturating_add(elements(shape)));
            }
            None if path == "head.bias" => check_shape(name, shape, &[vocabulary])?,
            None if path == "norm.gamma" => check_shape(name, shape, &[width])?,
            None => check_shape(name, shape, &[vocabulary, width])?,
        }
    }
    for (layer, (&symbol, found)) in spec.architecture.layers().iter().zip(numbers).enumerate() {
        let primitive = primitives.get(symbol).map_err(BuildError::from)?;
        let needed = u128::from(primitive.cost(&spec.dims, 1).parameters);
        if found < needed {
            return Err(ImportError::TooFew { layer, id: primitive.id(), found, needed });
        }
    }
    Ok(())
}

/// Replaces every parameter of `model`. Only one file at a time is in memory, in addition to the model.
pub(super) fn load(
    mut model: HybridLm,
    files: &[PathBuf],
    plan: &Plan,
    spec: &ModelSpec,
    rope: Rope,
) -> Result<HybridLm, ImportError> {
    let slots = slots(&model, plan)?;
    let constants: Vec<_> = plan.entries.iter().filter_map(constant).collect();
    for path in files {
        let bytes = limits::read(path, limits::MAX_WEIGHTS)
            .map_err(|source| ImportError::File { path: path.clone(), source })?;
        let tensors =
            SafeTensors::deserialize(&bytes).map_err(|source| ImportError::Weights { path: path.clone(), source })?;
        for &(name, shape, value) in &constants {
            if let Ok(tensor) = tensors.tensor(name) {
                check_shape(name, tensor.shape(), shape)?;
                if values(name, &tensor)?.iter().any(|&found| found != value) {
                    let tensor = name.to_owned();
                    return Err(match name.ends_with(CORRECTION) {
                        true => ImportError::Correction { tensor },
                        false => ImportError::Padding { tensor, expected: value },
                    });
                }
            }
        }
        let mut assign = Assign { path: Vec::new(), tensors: &tensors, slots: &slots, spec, rope, failed: None };
        model = model.map(&mut assign);
        if let Some(error) = assign.failed {
            return Err(error);
        }
    }
    Ok(model)
}

/// The location of a parameter.
struct Slot {
    /// The name of the tensor.
    name: String,
    /// The shape of the tensor.
    shape: Vec<usize>,
    /// The offset of the parameter in the tensor, in numbers.
    start: usize,
    layout: TensorLayout,
    /// The order of the tensor's rows.
    order: Option<Vec<usize>>,
}

/// Returns the location of every parameter, by its path.
fn slots(model: &HybridLm, plan: &Plan) -> Result<HashMap<String, Slot>, ImportError> {
    let parameters = Parameters::of(model);
    let shapes = plan.shapes(|path| parameters.shape(path)).map_err(ImportError::Model)?;
    let mut slots = HashMap::new();
    for (entry, shape) in plan.entries.iter().zip(shapes) {
        let Source::Parameters { paths, layout, order } = &entry.source else { continue };
        let mut start = 0;
        for path in paths {
            let slot =
                Slot { name: entry.name.clone(), shape: shape.clone(), start, layout: *layout, order: order.clone() };
            slots.insert(path.clone(), slot);
            start += parameters.shape(path).unwrap_or_default().iter().product::<usize>();
        }
    }
    match parameters.paths().find(|path| !slots.contains_key(*path)) {
        Some(path) => Err(ImportError::Model(format!("the HfMapping of its layer does not name {path}"))),
        None => Ok(slots),
    }
}

/// Returns the name, the shape and the value of a padding tensor.
fn constant(entry: &Entry) -> Option<(&str, &[usize], f32)> {
    match &entry.source {
        Source::Constant { shape, value } => Some((&entry.name, shape, *value)),
        Source::Parameters { .. } => None,
    }
}

/// Whether a tensor can be derived from others: a tied head, or rotary frequencies.
fn is_needless(name: &str, spec: &ModelSpec) -> bool {
    name.ends_with(BUFFER) || (spec.tied_embeddings && name == "lm_head.weight")
}

/// Returns the safetensors files of a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let single = folder.join(SINGLE);
    if single.is_file() {
        return Ok(vec![single]);
    }
    let path = folder.join(INDEX);
    if !path.is_file() {
        return Err(ImportError::NoWeights { folder: folder.into() });
    }
    let text = limits::read_text(&path, limits::MAX_LISTING);
    let text = text.map_err(|source| ImportError::File { path: path.clone(), source })?;
    let damaged = |reason: String| ImportError::Damaged { path: path.clone(), reason };
    let index: Index = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    let file = |name: &String| {
        let plain = Path::new(name).file_name().is_some_and(|plain| plain == name.as_str());
        if plain { Ok(folder.join(name)) } else { Err(damaged(format!("{name:?} is not a file in the folder"))) }
    };
    names.into_iter().map(file).collect()
}

/// Assigns the tensors of one file to a model.
struct Assign<'a> {
    path: Vec<String>,
    tensors: &'a SafeTensors<'a>,
    slots: &'a HashMap<String, Slot>,
    spec: &'a ModelSpec,
    rope: Rope,
    failed: Option<ImportError>,
}

impl Assign<'_> {
    /// Returns the values of the parameter at the current path, if they are in this file.
    fn find(&self, shape: &[usize]) -> Result<Option<Vec<f32>>, ImportError> {
        let Some(slot) = self.slots.get(&self.path.join(".")) else { return Ok(None) };
        let Ok(tensor) = self.tensors.tensor(&slot.name) else { return Ok(None) };
        check_shape(&slot.name, tensor.shape(), &slot.shape)?;
        let mut numbers = values(&slot.name, &tensor)?;
        let turned = [".q_proj.", ".k_proj."].iter().any(|part| slot.name.contains(part));
        if turned && self.rope == Rope::Pairs {
            let row = slot.shape.get(1).copied().unwrap_or(1);
            numbers = halves(&numbers, self.spec.dims.head_dim, row);
        }
        let numbers = StoredTensor::unsort(slot.order.as_deref(), numbers);
        let own = numbers.into_iter().skip(slot.start).take(shape.iter().product()).collect();
        Ok(Some(slot.layout.restore(own, shape)))
    }
}

impl ModuleMapper for Assign<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.failed.is_some() {
            return param;
        }
        let shape = param.lazy_shape().dims::<D>();
        match self.find(&shape) {
            Ok(Some(values)) => replaced(param, TensorData::new(values, shape)),
            Ok(None) => param,
            Err(error) => {
                self.failed = Some(error);
                param
            }
        }
    }

    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
}

fn check_shape(tensor: &str, found: &[usize], expected: &[usize]) -> Result<(), ImportError> {
    if found == expected {
        return Ok(());
    }
    Err(ImportError::Shape { tensor: tensor.into(), found: found.into(), expected: expected.into() })
}

/// Returns the numbers of a tensor in single precision.
fn values(name: &str, tensor: &TensorView) -> Result<Vec<f32>, ImportError> {
    fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| number(*chunk)).collect()
    }
    let bytes = tensor.data();
    match tensor.dtype() {
        Dtype::F32 => Ok(each(bytes, f32::from_le_bytes)),
        Dtype::F16 => Ok(each(bytes, |bytes| f16::from_le_bytes(bytes).to_f32())),
        Dtype::BF16 => Ok(each(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32())),
        other => Err(ImportError::Dtype { tensor: name.into(), found: other.to_string() }),
    }
}

/// Reorders the rows of every head from adjacent pairs to halves: row `2i` becomes `i`, and row `2i + 1` becomes
/// `i + C/2`. `row` is the number of values per row.
pub(super) fn halves(numbers: &[f32], head_dim: usize, row: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = numbers.chunks(row.max(1)).collect();
    let mut ordered = Vec::with_capacity(numbers.len());
    for head in rows.chunks(head_dim.max(1)) {
        for start in [0, 1] {
            head.iter().skip(start).step_by(2).for_each(|row| ordered.extend_from_slice(row));
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_halves_in_every_head() {
        let rows: Vec<f32> = (0..16).map(|at| at as f32).collect();
        let expected = [0., 1., 4., 5., 2., 3., 6., 7., 8., 9., 12., 13., 10., 11., 14., 15.];
        assert_eq!(halves(&rows, 4, 2), expected);
    }
}
