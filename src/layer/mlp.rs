//! The two-matrix multi-layer perceptron with GELU.

use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Tensor},
};

use super::{LayerCache, Mixer, WeightInit};
use crate::{
    dims::Dims,
    kernels::{gelu, project},
};

/// `down(gelu(up x))`.
#[derive(Module, Debug)]
pub struct MlpLayer {
    /// `[D, F]`.
    pub up: Linear,
    /// `[F, D]`.
    pub down: Linear,
}

impl MlpLayer {
    /// Draws the weights of up, then of down.
    pub(crate) fn new(dims: &Dims, init: &mut WeightInit, device: &Device) -> Self {
        Self { up: init.linear(dims.d_model, dims.d_ff, device), down: init.linear(dims.d_ff, dims.d_model, device) }
    }
}

impl Mixer for MlpLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        project(gelu(project(x, &self.up)), &self.down)
    }

    fn step(&self, x: Tensor<3>, _memory: &mut LayerCache) -> Tensor<3> {
        self.forward(x)
    }
}
