//! The two-matrix multi-layer perceptron with squared ReLU.

use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Tensor},
};

use super::{LayerCache, Mixer, WeightInit};
use crate::{
    dims::Dims,
    kernels::{project, relu2},
};

/// `down(max(up x, 0)^2)`.
#[derive(Module, Debug)]
pub struct Relu2Layer {
    /// `[D, F]`.
    pub up: Linear,
    /// `[F, D]`.
    pub down: Linear,
}

impl Relu2Layer {
    /// Draws the weights of up, then of down.
    pub(crate) fn new(dims: &Dims, init: &mut WeightInit, device: &Device) -> Self {
        Self { up: init.linear(dims.d_model, dims.d_ff, device), down: init.linear(dims.d_ff, dims.d_model, device) }
    }
}

impl Mixer for Relu2Layer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        project(relu2(project(x, &self.up)), &self.down)
    }

    fn step(&self, x: Tensor<3>, _memory: &mut LayerCache) -> Tensor<3> {
        self.forward(x)
    }
}
