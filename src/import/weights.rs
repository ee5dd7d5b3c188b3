//! From safetensors files to the parameters of a model.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
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
    export::{Entry, Parameters, Plan, Source},
    model::{HybridLm, ModelSpec},
    primitive::Layout,
    weights::replaced,
};

/// One file.
const SINGLE: &str = "model.safetensors";
/// Which of several files holds a tensor.
const INDEX: &str = "model.safetensors.index.json";
/// A buffer that older checkpoints carry along; it follows from the configuration.
const BUFFER: &str = "rotary_emb.inv_freq";

/// Replaces every parameter of `model`. One file at a time is in memory beside it.
pub(super) fn load(
    mut model: HybridLm,
    files: &[PathBuf],
    plan: &Plan,
    spec: &ModelSpec,
    rope: Rope,
) -> Result<HybridLm, ImportError> {
    let slots = slots(&model, plan)?;
    let constants: Vec<_> = plan.entries.iter().filter_map(constant).collect();
    let (mut missing, mut extra): (BTreeSet<&str>, Vec<String>) =
        (plan.entries.iter().map(|entry| entry.name.as_str()).collect(), Vec::new());
    for path in files {
        let bytes = fs::read(path).map_err(|source| ImportError::File { path: path.clone(), source })?;
        let tensors =
            SafeTensors::deserialize(&bytes).map_err(|source| ImportError::Weights { path: path.clone(), source })?;
        for name in tensors.names() {
            if !missing.remove(name) && !is_needless(name, spec) {
                extra.push(name.into());
            }
        }
        for &(name, shape, value) in &constants {
            if let Ok(tensor) = tensors.tensor(name) {
                check_shape(name, tensor.shape(), shape)?;
                if values(name, &tensor)?.iter().any(|&found| found != value) {
                    return Err(ImportError::Padding { tensor: name.into(), expected: value });
                }
            }
        }
        let mut assign = Assign { path: Vec::new(), tensors: &tensors, slots: &slots, spec, rope, failed: None };
        model = model.map(&mut assign);
        if let Some(error) = assign.failed {
            return Err(error);
        }
    }
    if let Some(&first) = missing.first() {
        return Err(ImportError::Missing { count: missing.len(), first: first.into() });
    }
    match extra.first().cloned() {
        Some(first) => Err(ImportError::Extra { count: extra.len(), first }),
        None => Ok(model),
    }
}

/// Where a parameter lies.
struct Slot {
    /// The tensor.
    name: String,
    /// Its shape.
    shape: Vec<usize>,
    /// How many of its numbers come before those of the parameter.
    start: usize,
    layout: Layout,
}

/// Where every parameter lies, by its path.
fn slots(model: &HybridLm, plan: &Plan) -> Result<HashMap<String, Slot>, ImportError> {
    let parameters = Parameters::of(model);
    let shapes = plan.shapes(|path| parameters.shape(path)).map_err(ImportError::Model)?;
    let mut slots = HashMap::new();
    for (entry, shape) in plan.entries.iter().zip(shapes) {
        let Source::Parameters { paths, layout } = &entry.source else { continue };
        let mut start = 0;
        for path in paths {
            let slot = Slot { name: entry.name.clone(), shape: shape.clone(), start, layout: *layout };
            slots.insert(path.clone(), slot);
            start += parameters.shape(path).unwrap_or_default().iter().product::<usize>();
        }
    }
    match parameters.paths().find(|path| !slots.contains_key(*path)) {
        Some(path) => Err(ImportError::Model(format!("{path} has no name in the counterpart of its layer"))),
        None => Ok(slots),
    }
}

/// Name, shape and number of a padding.
fn constant(entry: &Entry) -> Option<(&str, &[usize], f32)> {
    match &entry.source {
        Source::Constant { shape, value } => Some((&entry.name, shape, *value)),
        Source::Parameters { .. } => None,
    }
}

/// Tensors that follow from others: a head that is tied, and rotary frequencies.
fn is_needless(name: &str, spec: &ModelSpec) -> bool {
    name.ends_with(BUFFER) || (spec.tied_embeddings && name == "lm_head.weight")
}

/// The safetensors files of a folder.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
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
    let text = fs::read_to_string(&path).map_err(|source| ImportError::File { path: path.clone(), source })?;
    let damaged = |reason: String| ImportError::Damaged { path: path.clone(), reason };
    let index: Index = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    let file = |name: &String| {
        let plain = Path::new(name).file_name().is_some_and(|plain| plain == name.as_str());
        if plain { Ok(folder.join(name)) } else { Err(damaged(format!("{name:?} is no file of the folder"))) }
    };
    names.into_iter().map(file).collect()
}

/// Puts the tensors of one file into a model.
struct Assign<'a> {
    path: Vec<String>,
    tensors: &'a SafeTensors<'a>,
    slots: &'a HashMap<String, Slot>,
    spec: &'a ModelSpec,
    rope: Rope,
    failed: Option<ImportError>,
}

impl Assign<'_> {
    /// The numbers for the parameter at the current path, if they are in this file.
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

/// The numbers of a tensor in single precision.
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

/// Reorders the rows of every head from pairs of neighbours to pairs of halves: row `2i` becomes `i`, and `2i + 1` becomes
/// `i + C/2`. `row`: numbers per row.
fn halves(numbers: &[f32], head_dim: usize, row: usize) -> Vec<f32> {
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
