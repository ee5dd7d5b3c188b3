//! The SwiGLU multi-layer perceptron.

use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Tensor},
};

use super::{LayerCache, Mixer, WeightInit};
use crate::kernels::swiglu;

/// Computes `down(silu(gate x) * up x)`. It is a layer, or an expert of a mixture.
#[derive(Module, Debug)]
pub struct SwiGluLayer {
    /// The gate projection, before the activation: `[D, F]`.
    pub gate: Linear,
    /// The up-projection, which is multiplied by the gate: `[D, F]`.
    pub up: Linear,
    /// The down-projection: `[F, D]`.
    pub down: Linear,
}

impl SwiGluLayer {
    /// Draws the weights of `gate`, `up` and `down`, in this order.
    pub(crate) fn new(width: usize, inner: usize, init: &mut WeightInit, device: &Device) -> Self {
        Self {
            gate: init.linear(width, inner, device),
            up: init.linear(width, inner, device),
            down: init.linear(inner, width, device),
        }
    }
}

impl Mixer for SwiGluLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        swiglu(x, self.gate.weight.val(), self.up.weight.val(), self.down.weight.val())
    }

    fn step(&self, x: Tensor<3>, _memory: &mut LayerCache) -> Tensor<3> {
        self.forward(x)
    }

    fn can_ensemble(&self) -> bool {
        true
    }
}
