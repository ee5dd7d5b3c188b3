//! A linear map as a layer.

use burn::{
    module::Module,
    nn,
    tensor::{Device, Tensor},
};

use super::{LayerCache, Mixer, WeightInit};
use crate::kernels::project;

/// Computes `x w`, without bias.
#[derive(Module, Debug)]
pub struct LinearLayer {
    /// The weight: `[D, D]`.
    pub map: nn::Linear,
}

impl LinearLayer {
    /// Draws the weights.
    pub(crate) fn new(width: usize, init: &mut WeightInit, device: &Device) -> Self {
        Self { map: init.linear(width, width, device) }
    }
}

impl Mixer for LinearLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        project(x, &self.map)
    }

    fn step(&self, x: Tensor<3>, _memory: &mut LayerCache) -> Tensor<3> {
        self.forward(x)
    }

    fn can_ensemble(&self) -> bool {
        true
    }
}
