//! Saves and loads the parameters of a module as a safetensors file.
//!
//! Each parameter is named by its path in the module, such as `backbone.layers.0.mixer.query.weight`. Files are written
//! atomically. Saving and loading need the memory for one copy of the file.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Path, PathBuf},
};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::{DType, Tensor, TensorData, TensorReadError},
};
use safetensors::{
    Dtype, SafeTensorError, SafeTensors,
    tensor::{Metadata, TensorInfo, TensorView},
};
use thiserror::Error;

use crate::{durable, limits};

/// An error in saving or loading weights.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file cannot be read or written.
    #[error("cannot read or write {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The file is not a safetensors file, or it is damaged.
    #[error("{} is not a valid safetensors file", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The error of the safetensors library.
        source: SafeTensorError,
    },
    /// The file holds the weights of another model.
    #[error("{} belongs to another model: {reason}", .path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The first difference.
        reason: String,
    },
    /// A tensor has a type that cannot be saved.
    #[error("{name} has type {dtype:?}, which cannot be saved")]
    Type {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
    },
    /// A tensor cannot be read from the device.
    #[error("the device did not return a tensor")]
    Device(#[from] TensorReadError),
}

/// Saves the floating-point parameters of `module` to `path`.
///
/// # Errors
/// Returns a [`WeightsError`] if a tensor cannot be read from its device or the file cannot be written.
pub fn save<M: Module>(module: &M, path: &Path) -> Result<(), WeightsError> {
    let tensors = parameters(module).into_iter().map(|Parameter { name, read, .. }| Ok((name, read()?)));
    write(path, tensors.collect::<Result<_, TensorReadError>>()?)
}

/// Loads the parameters of `module` from `path`. Each parameter keeps its precision and its device.
///
/// # Errors
/// Returns a [`WeightsError`] if the file cannot be read, or if its names and shapes differ from those of the module.
pub fn load<M: Module>(module: M, path: &Path) -> Result<M, WeightsError> {
    let other = |reason| WeightsError::OtherModel { path: path.into(), reason };
    // Compare the header first: reading the values can take long.
    if let Some(reason) = Header::read(path)?.difference(&parameters(&module)) {
        return Err(other(reason));
    }
    let mut load = Load { path: ModulePath::default(), tensors: read(path)?, changed: false };
    let module = module.map(&mut load);
    if load.changed { Err(other("it changed while it was read".into())) } else { Ok(module) }
}

/// Returns the number of elements of a tensor with this shape.
pub(crate) fn elements(shape: &[usize]) -> u128 {
    shape.iter().fold(1, |product: u128, &size| product.saturating_mul(size as u128))
}

/// A floating-point parameter that has not been read from its device yet.
pub(crate) struct Parameter {
    pub name: String,
    /// The name that it had in version 0.2. Fingerprints use it, so that stored ones stay valid.
    pub earlier_name: String,
    pub id: ParamId,
    pub shape: Vec<usize>,
    pub read: Box<dyn Fn() -> Result<TensorData, TensorReadError>>,
}

/// Returns the floating-point parameters of a module, in the module's order.
pub(crate) fn parameters<M: Module>(module: &M) -> Vec<Parameter> {
    let mut collect = Collect { path: ModulePath::default(), found: Vec::new() };
    module.visit(&mut collect);
    collect.found
}

/// Writes named tensors.
pub(crate) fn write(path: &Path, tensors: Vec<(String, TensorData)>) -> Result<(), WeightsError> {
    let format = |source| WeightsError::Format { path: path.into(), source };
    let mut views = Vec::with_capacity(tensors.len());
    for (name, data) in &tensors {
        let known = TYPES.into_iter().find(|&(_, dtype)| dtype == data.dtype());
        let (kind, _) = known.ok_or_else(|| WeightsError::Type { name: name.clone(), dtype: data.dtype() })?;
        views.push((name, TensorView::new(kind, data.shape().to_vec(), data.as_bytes()).map_err(format)?));
    }
    let bytes = safetensors::serialize(views, None).map_err(format)?;
    durable::write(path, &bytes).map_err(|source| WeightsError::Io { path: path.into(), source })
}

/// Removes the value of a parameter, which may be stored under the name that the parameter had in version 0.2.
pub(crate) fn take<V>(stored: &mut BTreeMap<String, V>, name: &str, earlier_name: &str) -> Option<V> {
    stored.remove(name).or_else(|| stored.remove(earlier_name))
}

/// The path from a module to one of its parameters, with the names of today and of version 0.2.
#[derive(Default)]
struct ModulePath {
    names: Vec<String>,
    earlier: Vec<String>,
}

impl ModulePath {
    fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.into());
        self.earlier.push(earlier_name(name, container).into());
    }
    fn exit(&mut self) {
        self.names.pop();
        self.earlier.pop();
    }
    fn name(&self) -> String {
        self.names.join(".")
    }
    fn earlier_name(&self) -> String {
        self.earlier.join(".")
    }
}

/// Returns the name that a field of a module had in version 0.2. `container` is the module's type as Burn writes it.
/// Fields of other modules with the same name, such as the `beta` of a layer norm, keep theirs.
fn earlier_name<'a>(name: &'a str, container: &str) -> &'a str {
    match (container, name) {
        ("Struct:HybridLm" | "Struct:AutoEncoder", "backbone") => "trunk",
        ("Struct:Mamba2Layer", "xbc") | ("Struct:GatedDeltaNetLayer", "qkv") => "mixed",
        ("Struct:Mamba2Layer", "dt") => "step",
        ("Struct:Mamba2Layer" | "Struct:GatedDeltaNetLayer", "dt_bias") => "step_bias",
        ("Struct:Mamba2Layer", "d") => "skip",
        ("Struct:GatedDeltaNetLayer", "beta") => "strength",
        _ => name,
    }
}

/// The names, types and shapes of the tensors in a file, without their values.
#[derive(Debug)]
pub(crate) struct Header(Metadata);

impl Header {
    /// Reads the header of a file and checks the length of the file against it.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let io = |source| WeightsError::Io { path: path.into(), source };
        let format = |source| WeightsError::Format { path: path.into(), source };
        let mut file = limits::open(path, u64::MAX).map_err(io)?;
        let whole = file.metadata().map_err(io)?.len();
        let mut length = [0; 8];
        match file.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(format(SafeTensorError::HeaderTooSmall));
            }
            other => other.map_err(io)?,
        }
        let length = u64::from_le_bytes(length);
        let Some(rest) = whole.checked_sub(8).and_then(|rest| rest.checked_sub(length)) else {
            return Err(format(SafeTensorError::InvalidHeaderLength));
        };
        if length > MAX_HEADER {
            return Err(format(SafeTensorError::HeaderTooLarge));
        }
        let mut text = Vec::new();
        file.take(length).read_to_end(&mut text).map_err(io)?;
        let header = serde_json::from_slice::<Metadata>(&text);
        let header = header.map_err(|error| format(SafeTensorError::InvalidHeaderDeserialization(error)))?;
        if header.data_len() as u64 != rest {
            return Err(format(SafeTensorError::MetadataIncompleteBuffer));
        }
        Ok(Self(header))
    }

    /// Describes the first difference between the tensors and the parameters of a module.
    fn difference(&self, parameters: &[Parameter]) -> Option<String> {
        let mut left: BTreeMap<_, _> = self.tensors().collect();
        for Parameter { name, earlier_name, shape, .. } in parameters {
            match take(&mut left, name, earlier_name) {
                None => return Some(format!("it has no tensor {name}")),
                Some(TensorInfo { shape: found, .. }) if found != shape => {
                    return Some(format!("its {name} has shape {found:?}, the model's {shape:?}"));
                }
                Some(_) => {}
            }
        }
        left.keys().next().map(|name| format!("it has a tensor {name}, which the model does not have"))
    }

    /// Returns all tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &TensorInfo)> {
        self.0.tensors().into_iter()
    }
}

/// The largest header in bytes that the safetensors library accepts.
const MAX_HEADER: u64 = 100_000_000;

/// Reads named tensors.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, TensorData>, WeightsError> {
    let bytes =
        limits::read(path, limits::MAX_WEIGHTS).map_err(|source| WeightsError::Io { path: path.into(), source })?;
    let file = SafeTensors::deserialize(&bytes).map_err(|source| WeightsError::Format { path: path.into(), source })?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let Some((_, dtype)) = TYPES.into_iter().find(|&(kind, _)| kind == view.dtype()) else {
            let reason = format!("its tensor {name} is of type {:?}, which cannot be loaded", view.dtype());
            return Err(WeightsError::OtherModel { path: path.into(), reason });
        };
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
        tensors.insert(name.into(), data);
    }
    Ok(tensors)
}

/// The element types that both safetensors and Burn support.
const TYPES: [(Dtype, DType); 6] = [
    (Dtype::F64, DType::F64),
    (Dtype::F32, DType::F32),
    (Dtype::F16, DType::F16),
    (Dtype::BF16, DType::BF16),
    (Dtype::I64, DType::I64),
    (Dtype::I32, DType::I32),
];

struct Collect {
    path: ModulePath,
    found: Vec<Parameter>,
}

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        self.found.push(Parameter {
            name: self.path.name(),
            earlier_name: self.path.earlier_name(),
            id: param.id,
            shape: value.dims().to_vec(),
            read: Box::new(move || Ok(value.clone().try_into_data()?)),
        });
    }
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
}

struct Load {
    path: ModulePath,
    tensors: BTreeMap<String, TensorData>,
    /// Whether a tensor turned out to have another shape than the header stated.
    changed: bool,
}

impl ModuleMapper for Load {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let data = take(&mut self.tensors, &self.path.name(), &self.path.earlier_name());
        let Some(data) = data.filter(|data| data.shape().to_vec() == param.dims()) else {
            self.changed = true;
            return param;
        };
        replaced(param, data)
    }
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
}

/// Replaces the values of a parameter. The parameter keeps its precision and its device.
pub(crate) fn replaced<const D: usize>(param: Param<Tensor<D>>, data: TensorData) -> Param<Tensor<D>> {
    param.map(|old| {
        let device = old.device().without_autodiff();
        let new = Tensor::<D>::from_data(data, (&device, old.dtype()));
        if old.is_autodiff() { Tensor::from_inner(new).set_require_grad(old.is_require_grad()) } else { new }
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::{
        nn::{LayerNorm, LayerNormConfig},
        tensor::{Device, Int},
    };

    use super::*;
    use crate::{
        dims::{Dims, InitScheme},
        model::{HybridLm, ModelSpec},
        primitive::Primitives,
        seed::Seed,
    };

    fn model(architecture: &str, seed: u64) -> HybridLm {
        let spec = ModelSpec {
            architecture: architecture.parse().unwrap(),
            dims: Dims::new(16, 32, 2).unwrap(),
            vocab_size: 11,
            tied_embeddings: false,
            head_bias: true,
            init: InitScheme::FanIn,
        };
        HybridLm::new(&spec, &Primitives::standard(), Seed(seed), &Device::flex()).unwrap()
    }

    #[test]
    fn weights_come_back_exactly_and_only_into_their_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let one = model("AM", 1);
        let other = model("AM", 2);
        save(&one, &path).unwrap();
        let tokens = || Tensor::<2, Int>::from_data([[1, 5, 7, 0]], &Device::flex());
        let logits = |model: &HybridLm| model.forward(tokens()).into_data();
        assert_ne!(logits(&other), logits(&one));
        assert_eq!(logits(&load(other, &path).unwrap()), logits(&one));
        // A model in training mode stays in training mode.
        let trained = load(model("AM", 2).train(), &path).unwrap();
        assert!(trained.norm.gamma.is_require_grad());

        let names: Vec<_> = parameters(&one).into_iter().map(|parameter| parameter.name).collect();
        assert!(names.contains(&"backbone.layers.1.norm.gamma".into()), "{names:?}");
        let refused = |architecture| load(model(architecture, 1), &path).unwrap_err().to_string();
        assert!(refused("AMA").contains("no tensor backbone.layers.2"), "{}", refused("AMA"));
        assert!(refused("A").contains("which the model does not have"));
        assert!(refused("MA").contains("another model"));
    }

    #[test]
    fn weights_with_the_names_of_version_0_2_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let one = model("BG", 1);
        save(&one, &path).unwrap();
        let stored: Vec<_> =
            parameters(&one).into_iter().map(|found| (found.earlier_name, (found.read)().unwrap())).collect();
        let names: Vec<&str> = stored.iter().map(|(name, _)| name.as_str()).collect();
        for name in [
            "trunk.embedding",
            "trunk.layers.0.mixer.mixed.weight",
            "trunk.layers.0.mixer.step.weight",
            "trunk.layers.0.mixer.step_bias",
            "trunk.layers.0.mixer.skip",
            "trunk.layers.1.mixer.mixed.weight",
            "trunk.layers.1.mixer.strength.weight",
            "trunk.layers.1.mixer.step_bias",
        ] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        write(&path, stored).unwrap();
        let tokens = || Tensor::<2, Int>::from_data([[1, 5, 7, 0]], &Device::flex());
        let logits = |model: &HybridLm| model.forward(tokens()).into_data();
        assert_eq!(logits(&load(model("BG", 2), &path).unwrap()), logits(&one));
    }

    /// A layer of another crate, with names that mean something else in ours.
    #[derive(Module, Debug)]
    struct Foreign {
        d: Param<Tensor<1>>,
        qkv: Param<Tensor<1>>,
        backbone: Param<Tensor<1>>,
        norm: LayerNorm,
    }

    #[test]
    fn fields_of_other_modules_have_no_earlier_names() {
        let device = Device::flex();
        let vector = || Param::from_data([1.0_f32, 2.0], &device);
        let norm = LayerNormConfig::new(2).init(&device);
        let found = parameters(&Foreign { d: vector(), qkv: vector(), backbone: vector(), norm });
        let names: Vec<_> = found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["d", "qkv", "backbone", "norm.gamma", "norm.beta"]);
        // The fingerprint of a converted model is made of them and stays as it was in version 0.2.
        assert!(found.iter().all(|found| found.earlier_name == found.name));
    }

    #[test]
    fn damaged_files_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let message = || load(model("A", 1), &path).unwrap_err().to_string();
        assert!(message().contains("weights.safetensors"));
        save(&model("A", 1), &path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 5, 100, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(message().contains("is not a valid safetensors file"), "{}", message());
        }
        assert!(save(&model("A", 1), folder.path()).is_err());
    }
}
