//! Multi-layer perceptrons with two matrices.

use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Tensor},
};

use super::{LayerCache, Mixer, WeightInit};
use crate::{
    dims::Dims,
    kernels::{gelu, project, relu2},
};

/// The activation between the two matrices.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Activation {
    /// The tanh form of GELU.
    Gelu,
    /// `max(x, 0)^2`.
    Relu2,
}

/// Computes `down(activation(up x))`.
#[derive(Module, Debug)]
pub struct MlpLayer {
    /// The up-projection: `[D, F]`.
    pub up: Linear,
    /// The down-projection: `[F, D]`.
    pub down: Linear,
    #[module(skip)]
    activation: Activation,
}

impl MlpLayer {
    /// Draws the weights of `up`, then of `down`.
    pub(crate) fn new(activation: Activation, dims: &Dims, init: &mut WeightInit, device: &Device) -> Self {
        Self {
            up: init.linear(dims.d_model, dims.d_ff, device),
            down: init.linear(dims.d_ff, dims.d_model, device),
            activation,
        }
    }

    /// Applies the activation. `[B, S, F]` to `[B, S, F]`.
    pub(crate) fn activate(&self, inner: Tensor<3>) -> Tensor<3> {
        match self.activation {
            Activation::Gelu => gelu(inner),
            Activation::Relu2 => relu2(inner),
        }
    }
}

impl Mixer for MlpLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        project(self.activate(project(x, &self.up)), &self.down)
    }

    fn step(&self, x: Tensor<3>, _memory: &mut LayerCache) -> Tensor<3> {
        self.forward(x)
    }

    fn can_ensemble(&self) -> bool {
        true
    }
}
