//! Parameters of a model, and safetensors files of them.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    path::Path,
};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Bool, Int, Tensor},
};
use safetensors::{Dtype, View, serialize_to_file};
use serde_json::json;

use super::{
    ExportError, Precision,
    folder::Staging,
    plan::{Entry, Plan, Source},
};
use crate::model::HybridLm;

/// A parameter where it lies, as one row.
struct Parameter {
    shape: Vec<usize>,
    values: Tensor<1>,
}

/// Parameters by their path in a module, such as `trunk.layers.3.mixer.query.weight`.
#[derive(Default)]
pub(crate) struct Parameters {
    path: Vec<String>,
    floats: BTreeMap<String, Parameter>,
    others: Vec<String>,
}

impl Parameters {
    /// The parameters of `model`; their numbers stay on their device until they are written.
    pub fn of(model: &HybridLm) -> Self {
        let mut all = Self::default();
        model.visit(&mut all);
        all
    }

    /// The shape of a parameter.
    pub fn shape(&self, path: &str) -> Option<&[usize]> {
        self.floats.get(path).map(|parameter| parameter.shape.as_slice())
    }

    /// All paths, those of parameters that are no real numbers included.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.floats.keys().chain(&self.others).map(String::as_str)
    }
}

impl ModuleVisitor for Parameters {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().inner();
        let shape = value.dims().to_vec();
        let values = value.reshape([shape.iter().product::<usize>()]);
        self.floats.insert(self.path.join("."), Parameter { shape, values });
    }

    fn visit_int<const D: usize>(&mut self, _param: &Param<Tensor<D, Int>>) {
        self.others.push(self.path.join("."));
    }

    fn visit_bool<const D: usize>(&mut self, _param: &Param<Tensor<D, Bool>>) {
        self.others.push(self.path.join("."));
    }

    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }
}

/// One tensor of a file. Its bytes are made when they are written, so that one tensor at a time is in memory.
struct Stored<'a> {
    entry: &'a Entry,
    parameters: &'a Parameters,
    precision: Precision,
    shape: Vec<usize>,
    /// The first tensor with a number beyond the precision.
    overflow: &'a RefCell<Option<String>>,
}

impl Stored<'_> {
    fn values(&self) -> Vec<f32> {
        match &self.entry.source {
            Source::Constant { shape, value } => vec![*value; shape.iter().product()],
            Source::Parameters { paths, layout } => {
                let parameters = paths.iter().filter_map(|path| self.parameters.floats.get(path));
                let stored = parameters.map(|Parameter { shape, values }| {
                    layout.store(values.clone().into_data().iter::<f32>().collect(), shape)
                });
                stored.reduce(|all, next| [all, next].concat()).unwrap_or_default()
            }
        }
    }
}

impl View for &Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.precision.dtype()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.values();
        let bytes = self.precision.bytes(&values).unwrap_or_else(|| {
            self.overflow.borrow_mut().get_or_insert_with(|| self.entry.name.clone());
            vec![0; self.data_len()]
        });
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.precision.width()
    }
}

/// Writes `model.safetensors`, or several files of at most `shard_bytes` (a larger tensor has a file of its own) and their
/// index.
pub(super) fn write(
    staging: &mut Staging,
    plan: &Plan,
    parameters: &Parameters,
    precision: Precision,
    shard_bytes: u64,
) -> Result<(), ExportError> {
    let overflow = RefCell::new(None);
    let shapes = plan.shapes(|path| parameters.shape(path)).map_err(|reason| ExportError::Model { reason })?;
    let stored = plan.entries.iter().zip(shapes);
    let stored: Vec<_> =
        stored.map(|(entry, shape)| Stored { entry, parameters, precision, shape, overflow: &overflow }).collect();

    let mut shards: Vec<Vec<&Stored>> = vec![Vec::new()];
    let (mut filled, mut total) = (0, 0);
    for tensor in &stored {
        let bytes = tensor.data_len() as u64;
        match shards.last_mut() {
            Some(shard) if shard.is_empty() || filled + bytes <= shard_bytes => {
                shard.push(tensor);
                filled += bytes;
            }
            _ => {
                shards.push(vec![tensor]);
                filled = bytes;
            }
        }
        total += bytes;
    }
    let count = shards.len();
    let file = |at: usize| match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", at + 1),
    };
    let mut index = BTreeMap::new();
    for (at, shard) in shards.iter().enumerate() {
        index.extend(shard.iter().map(|tensor| (tensor.entry.name.as_str(), file(at))));
        staging.file(&file(at), |path| write_file(path, shard))?;
        if let Some(tensor) = overflow.take() {
            return Err(ExportError::Overflow { tensor, precision });
        }
    }
    if count > 1 {
        let index = json!({ "metadata": { "total_size": total }, "weight_map": index });
        staging.json("model.safetensors.index.json", &index)?;
    }
    Ok(())
}

fn write_file(path: &Path, tensors: &[&Stored]) -> std::io::Result<()> {
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let named = tensors.iter().map(|&tensor| (tensor.entry.name.as_str(), tensor));
    serialize_to_file(named, Some(metadata), path).map_err(std::io::Error::other)
}
