//! Names of layers and tensors in Hugging Face transformers.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The layer of Hugging Face transformers that computes the same as a layer of this crate, and the mapping of its
/// weights.
///
/// Both export and import use this value, so a primitive states its names only once. See
/// [`Primitive::hf_mapping`](super::Primitive::hf_mapping).
///
/// ```
/// use composer_nas::primitive::{CacheKind, HfMapping};
///
/// // A layer with one linear map `linear`, which Python calls `proj`.
/// let mapping = HfMapping::new("square", CacheKind::Nothing).linear("linear", "proj", false);
/// assert_eq!(mapping.tensors[0].name, "proj.weight");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct HfMapping {
    /// The name of the layer in `layers_block_type` of config.json, such as `full_attention`.
    pub kind: String,
    /// The kind of which the layer is a variant. Equal to `kind` unless the layer differs from it by
    /// [`options`](Self::options).
    pub family: String,
    /// What the layer computes differently from its family. Some transformers classes support some of these options.
    pub options: BTreeMap<String, String>,
    /// What the layer caches for decoding.
    pub cache: CacheKind,
    /// Entries of config.json that the layer needs in addition to the model's widths.
    pub settings: Map<String, Value>,
    /// The tensors, which contain every parameter of the layer.
    pub tensors: Vec<StoredTensor>,
    /// Python source of a module with a class `Layer`, for layers that the exported model class does not contain.
    ///
    /// `Layer(config, index)` is a `torch.nn.Module`. Its `forward(x, context)` maps `[B, S, D]` to `[B, S, D]`.
    pub python: Option<String>,
}

/// What a layer keeps of past tokens, by the cache types of transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheKind {
    /// Nothing: the layer treats every position independently or has no cached decoding.
    Nothing,
    /// All keys and values.
    Everything,
    /// The keys and values of the last `sliding_window` tokens.
    Window,
    /// A recurrent state and the last inputs of a convolution.
    State,
    /// The last inputs of a convolution.
    Conv,
}

impl CacheKind {
    /// Returns the entry of `layers_cache_type` in config.json, a layer type of transformers' caches.
    pub(crate) fn layer_type(self) -> &'static str {
        match self {
            CacheKind::Nothing => "mlp",
            CacheKind::Everything => "full_attention",
            CacheKind::Window => "sliding_attention",
            CacheKind::State => "linear_attention",
            CacheKind::Conv => "conv",
        }
    }
}

/// A tensor of a checkpoint and the parameters stored in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// The name after the layer's prefix, such as `q_proj.weight`.
    pub name: String,
    /// Paths of the parameters in the layer's Burn module, such as `query.weight`. Several parameters are concatenated
    /// along the first axis of the tensor.
    pub parameters: Vec<String>,
    /// How the values of each parameter are arranged.
    pub layout: TensorLayout,
    /// The order of the tensor's rows (first axis): row `r` of the tensor is row `order[r]` of the parameters. With
    /// `None`, the order is the same.
    pub order: Option<Vec<usize>>,
}

/// How a stored tensor arranges the values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorLayout {
    /// The same shape and order.
    Same,
    /// A transposed matrix: linear layers have the shape `[in, out]` in Burn and `[out, in]` in PyTorch.
    Transposed,
    /// The kernel `[K, C]` of a depthwise convolution, stored in PyTorch's order `[C, 1, K]`.
    Conv,
    /// The same shape, with every value reduced by one: norms whose weights are stored relative to one.
    Centred,
}

impl HfMapping {
    /// Creates a mapping of this kind without parameters.
    pub fn new(kind: impl Into<String>, cache: CacheKind) -> Self {
        let kind = kind.into();
        Self {
            family: kind.clone(),
            kind,
            options: BTreeMap::new(),
            cache,
            settings: Map::new(),
            tensors: Vec::new(),
            python: None,
        }
    }

    /// Sets the kind of which the layer is a variant. See [`HfMapping::family`].
    #[must_use]
    pub fn family(mut self, family: impl Into<String>) -> Self {
        self.family = family.into();
        self
    }

    /// Adds something that the layer computes differently from its family. See [`HfMapping::options`].
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    /// Sets the row order of the last `count` tensors. See [`StoredTensor::order`].
    #[must_use]
    pub fn ordered(mut self, count: usize, order: &[usize]) -> Self {
        self.tensors.iter_mut().rev().take(count).for_each(|tensor| tensor.order = Some(order.to_vec()));
        self
    }

    /// Adds a parameter.
    #[must_use]
    pub fn tensor(self, parameter: &str, name: &str, layout: TensorLayout) -> Self {
        self.joined(&[parameter], name, layout)
    }

    /// Adds a tensor that contains several concatenated parameters.
    #[must_use]
    pub fn joined(mut self, parameters: &[&str], name: &str, layout: TensorLayout) -> Self {
        let parameters = parameters.iter().map(|&parameter| parameter.into()).collect();
        self.tensors.push(StoredTensor { name: name.into(), parameters, layout, order: None });
        self
    }

    /// Adds the transposed weight of a linear layer, and its bias if `bias` is true.
    #[must_use]
    pub fn linear(self, parameter: &str, name: &str, bias: bool) -> Self {
        let with_weight =
            self.tensor(&format!("{parameter}.weight"), &format!("{name}.weight"), TensorLayout::Transposed);
        match bias {
            true => with_weight.tensor(&format!("{parameter}.bias"), &format!("{name}.bias"), TensorLayout::Same),
            false => with_weight,
        }
    }

    /// Adds an entry of config.json.
    #[must_use]
    pub fn setting(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(key.into(), value.into());
        self
    }

    /// Adds this Python module to exported checkpoints. See [`HfMapping::python`].
    #[must_use]
    pub fn python(mut self, source: impl Into<String>) -> Self {
        self.python = Some(source.into());
        self
    }
}

impl TensorLayout {
    /// Returns the stored shape of a parameter, or `None` if its shape does not fit the layout.
    pub(crate) fn stored(self, shape: &[usize]) -> Option<Vec<usize>> {
        match (self, shape) {
            (TensorLayout::Same | TensorLayout::Centred, _) => Some(shape.to_vec()),
            (TensorLayout::Transposed, &[rows, columns]) => Some(vec![columns, rows]),
            (TensorLayout::Conv, &[kernel_size, channels]) => Some(vec![channels, 1, kernel_size]),
            (TensorLayout::Transposed | TensorLayout::Conv, _) => None,
        }
    }

    /// Converts the values of a parameter of this shape to the stored layout.
    pub(crate) fn store(self, values: Vec<f32>, shape: &[usize]) -> Vec<f32> {
        match (self, shape) {
            (TensorLayout::Transposed | TensorLayout::Conv, &[rows, columns]) => transposed(&values, rows, columns),
            (TensorLayout::Centred, _) => values.into_iter().map(|value| value - 1.0).collect(),
            (TensorLayout::Same | TensorLayout::Transposed | TensorLayout::Conv, _) => values,
        }
    }

    /// Converts stored values to the layout of a parameter of this shape; the inverse of [`TensorLayout::store`].
    pub(crate) fn restore(self, values: Vec<f32>, shape: &[usize]) -> Vec<f32> {
        match (self, shape) {
            (TensorLayout::Transposed | TensorLayout::Conv, &[rows, columns]) => transposed(&values, columns, rows),
            (TensorLayout::Centred, _) => values.into_iter().map(|value| value + 1.0).collect(),
            (TensorLayout::Same | TensorLayout::Transposed | TensorLayout::Conv, _) => values,
        }
    }
}

impl StoredTensor {
    /// Reorders the rows of a tensor into the order of the file.
    pub(crate) fn sort(order: Option<&[usize]>, values: Vec<f32>) -> Vec<f32> {
        let Some(order) = order.filter(|order| !order.is_empty()) else { return values };
        let width = values.len() / order.len();
        order.iter().flat_map(|&row| values.get(row * width..(row + 1) * width).unwrap_or_default()).copied().collect()
    }

    /// The inverse of [`sort`](Self::sort).
    pub(crate) fn unsort(order: Option<&[usize]>, values: Vec<f32>) -> Vec<f32> {
        let Some(order) = order.filter(|order| !order.is_empty()) else { return values };
        let mut back = vec![0; order.len()];
        for (place, &row) in order.iter().enumerate() {
            if let Some(back) = back.get_mut(row) {
                *back = place;
            }
        }
        Self::sort(Some(&back), values)
    }
}

/// Transposes `[rows, columns]`, in tiles that fit into the cache.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut turned = vec![0.0; values.len()];
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for row in top..rows.min(top + TILE) {
                for column in left..columns.min(left + TILE) {
                    turned[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_linear_map_is_its_transposed_weight_and_its_bias() {
        let mapping = HfMapping::new("square", CacheKind::Nothing).linear("map", "proj", true);
        let names: Vec<_> = mapping.tensors.iter().map(|t| (t.parameters[0].as_str(), t.name.as_str())).collect();
        assert_eq!(names, [("map.weight", "proj.weight"), ("map.bias", "proj.bias")]);
        assert_eq!(
            TensorLayout::Transposed.store((0..6).map(|x| x as f32).collect(), &[2, 3]),
            [0., 3., 1., 4., 2., 5.]
        );
    }

    proptest! {
        #[test]
        fn restoring_undoes_storing(rows in 1usize..70, columns in 1usize..70) {
            let values: Vec<f32> = (0..rows * columns).map(|at| at as f32).collect();
            for layout in [TensorLayout::Same, TensorLayout::Transposed, TensorLayout::Conv] {
                let shape = [rows, columns];
                prop_assert_eq!(layout.stored(&shape).unwrap().iter().product::<usize>(), values.len());
                prop_assert_eq!(&layout.restore(layout.store(values.clone(), &shape), &shape), &values);
            }
            prop_assert_eq!(TensorLayout::Conv.stored(&[rows, columns]), Some(vec![columns, 1, rows]));
            prop_assert_eq!(TensorLayout::Transposed.stored(&[rows]), None);
        }
    }
}
