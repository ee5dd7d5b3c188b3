//! The gated short causal convolution.

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{Device, Tensor},
};

use super::{LayerCache, Mixer, WeightInit};
use crate::kernels::{ConvWindow, gated_conv, project};

/// Computes `out(c * conv(b * x))`, without bias. Letters: `D` model width, `K` kernel size.
#[derive(Module, Debug)]
pub struct GatedConvLayer {
    /// The input projection: `[D, 3 D]`, columns `b | c | x`.
    pub input: Linear,
    /// The convolution kernel: `[K, D]`. The last entry applies to the current token.
    pub conv: Param<Tensor<2>>,
    /// The output projection: `[D, D]`.
    pub output: Linear,
}

impl GatedConvLayer {
    /// Draws the weights of the input projection, the convolution and the output projection, in this order.
    pub(crate) fn new(width: usize, kernel_size: usize, init: &mut WeightInit, device: &Device) -> Self {
        Self {
            input: init.linear(width, 3 * width, device),
            conv: init.conv(kernel_size, width, device),
            output: init.linear(width, width, device),
        }
    }
}

impl Mixer for GatedConvLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        project(gated_conv(project(x, &self.input), self.conv.val()), &self.output)
    }

    fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3> {
        let weight = self.conv.val();
        let start = || ConvWindow::empty(&x, weight.dims());
        let mixed = memory.advance(start, |window| window.gated(project(x.clone(), &self.input), weight.clone()));
        project(mixed, &self.output)
    }
}
