//! An empty layer, for leaving a layer out.

use burn::{module::Module, tensor::Tensor};

use crate::{
    device::Device,
    dims::Dims,
    layer::{Block, LayerCache, Mixer, WeightInit},
    model::{HybridLm, ModelSpec},
    primitive::{BuildError, LayerCost, Primitive, PrimitiveId, Primitives, RegistryError, Role, Symbol},
    space::Architecture,
};

/// A layer that adds nothing, so that leaving out a layer is one of the choices. Its symbol is `N`.
///
/// It has no parameters, no FLOPs and no cache. [`without_empty_layers`] removes it from a finished model.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLayer;

impl NoLayer {
    /// `N`.
    pub const SYMBOL: Symbol = Symbol::NO_LAYER;
}

impl Primitive for NoLayer {
    fn id(&self) -> PrimitiveId {
        PrimitiveId::known("no_layer")
    }

    fn symbol(&self) -> Symbol {
        Self::SYMBOL
    }

    fn role(&self) -> Role {
        Role::Channel
    }

    fn cost(&self, _: &Dims, _: u64) -> LayerCost {
        LayerCost::default()
    }

    /// The input, as every layer is assumed to keep it.
    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        seq_len * dims.width()
    }

    fn build(&self, dims: &Dims, _: &mut WeightInit, _: &Device) -> Result<Block, BuildError> {
        dims.validate()?;
        Ok(Block::new(Nothing))
    }
}

/// Returns zeros.
#[derive(Module, Debug)]
struct Nothing;

impl Mixer for Nothing {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        x * 0.0
    }

    fn step(&self, x: Tensor<3>, _: &mut LayerCache) -> Tensor<3> {
        x * 0.0
    }
}

/// Removes all empty layers from a model. The result computes the same function with fewer layers.
///
/// # Errors
/// [`RegistryError`] if a symbol of `spec` has no primitive.
pub fn without_empty_layers(
    spec: &ModelSpec,
    model: &HybridLm,
    primitives: &Primitives,
) -> Result<(ModelSpec, HybridLm), RegistryError> {
    let mut symbols = Vec::new();
    let mut layers = Vec::new();
    for (&symbol, layer) in spec.architecture.layers().iter().zip(&model.backbone.layers) {
        if primitives.get(symbol)?.id() != NoLayer.id() {
            symbols.push(symbol);
            layers.push(layer.clone());
        }
    }
    let mut model = model.clone();
    model.backbone.layers = layers;
    Ok((ModelSpec { architecture: Architecture::new(symbols), ..spec.clone() }, model))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn no_layer_keeps_the_laws_of_a_layer() {
        crate::testkit::primitive::check(&NoLayer, &Device::flex()).unwrap();
    }
}
