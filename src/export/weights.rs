//! Writes the parameters of a model as safetensors files.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    path::Path,
};

use safetensors::{Dtype, View, serialize_to_file};
use serde_json::json;

use super::{
    ExportError, StoredPrecision,
    folder::Staging,
    plan::{Entry, Plan, Source},
};
use crate::{
    model::HybridLm,
    primitive::StoredTensor,
    text::causes,
    weights::{self, Parameter},
};

/// Parameters by their path in a module, such as `backbone.layers.3.mixer.query.weight`.
pub(crate) struct Parameters(BTreeMap<String, Parameter>);

impl Parameters {
    /// Collects the parameters of `model`. Their values stay on their device until they are written.
    pub fn of(model: &HybridLm) -> Self {
        Self(weights::parameters(model).into_iter().map(|parameter| (parameter.name.clone(), parameter)).collect())
    }

    /// Returns the shape of a parameter.
    pub fn shape(&self, path: &str) -> Option<&[usize]> {
        self.0.get(path).map(|parameter| parameter.shape.as_slice())
    }

    /// Returns all paths.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// One tensor of a file. Its bytes are produced when it is written, so only one tensor at a time is in memory.
struct Stored<'a> {
    entry: &'a Entry,
    parameters: &'a Parameters,
    precision: StoredPrecision,
    shape: Vec<usize>,
    /// The first error. The trait of the safetensors library cannot return it.
    failed: &'a RefCell<Option<ExportError>>,
}

impl Stored<'_> {
    fn bytes(&self) -> Result<Vec<u8>, ExportError> {
        let values = match &self.entry.source {
            Source::Constant { shape, value } => vec![*value; shape.iter().product()],
            Source::Parameters { paths, layout, order } => {
                let mut all = Vec::new();
                for Parameter { shape, read, .. } in paths.iter().filter_map(|path| self.parameters.0.get(path)) {
                    let values = read().map_err(|error| ExportError::Model { reason: causes(&error) })?;
                    all.extend(layout.store(values.iter::<f32>().collect(), shape));
                }
                StoredTensor::sort(order.as_deref(), all)
            }
        };
        let tensor = &self.entry.name;
        let precision = self.precision;
        precision.bytes(&values).ok_or_else(|| ExportError::Overflow { tensor: tensor.clone(), precision })
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
        let bytes = self.bytes().unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            vec![0; self.data_len()]
        });
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.precision.width()
    }
}

/// Writes `model.safetensors`, or several files of at most `shard_bytes` and their index. A tensor that is larger gets
/// its own file.
pub(super) fn write(
    staging: &mut Staging,
    plan: &Plan,
    parameters: &Parameters,
    precision: StoredPrecision,
    shard_bytes: u64,
) -> Result<(), ExportError> {
    let failed = RefCell::new(None);
    let shapes = plan.shapes(|path| parameters.shape(path)).map_err(|reason| ExportError::Model { reason })?;
    let stored = plan.entries.iter().zip(shapes);
    let stored: Vec<_> =
        stored.map(|(entry, shape)| Stored { entry, parameters, precision, shape, failed: &failed }).collect();

    let mut shards: Vec<Vec<&Stored>> = vec![Vec::new()];
    let mut filled = 0;
    let mut total = 0;
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
        if let Some(error) = failed.take() {
            return Err(error);
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
