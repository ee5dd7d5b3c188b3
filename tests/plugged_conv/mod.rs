//! A layer as another crate would write it: a gated causal convolution, built from the public items alone.

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, activation::sigmoid},
};
use composer_nas::prelude::*;

/// `sigmoid(gate * x_t) * sum_j kernel_j * x_{t-j}` per channel.
#[derive(Clone, Debug)]
pub struct PluggedConv;

const TAPS: usize = 3;

impl Primitive for PluggedConv {
    fn id(&self) -> PrimitiveId {
        PrimitiveId::new("plugged_conv").unwrap()
    }
    fn symbol(&self) -> Symbol {
        "K".parse().unwrap()
    }
    fn role(&self) -> Role {
        Role::Sequence
    }
    fn cost(&self, dims: &Dims, _seq_len: u64) -> LayerCost {
        LayerCost { parameters: (TAPS as u64 + 1) * dims.d_model as u64, ..LayerCost::default() }
    }
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        Ok(Block::new(PluggedConvLayer {
            kernel: init.normal([TAPS, dims.d_model], 0.5, device),
            gate: init.normal([dims.d_model], 0.5, device),
        }))
    }
}

#[derive(Module, Debug)]
struct PluggedConvLayer {
    kernel: Param<Tensor<2>>,
    gate: Param<Tensor<1>>,
}

impl Mixer for PluggedConvLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq, width] = x.dims();
        let past = Tensor::cat(vec![Tensor::zeros([batch, TAPS - 1, width], &x.device()), x.clone()], 1);
        let tap = |j: usize| {
            let weight: Tensor<3> = self.kernel.val().narrow(0, j, 1).unsqueeze();
            past.clone().narrow(1, TAPS - 1 - j, seq) * weight
        };
        let mixed = (1..TAPS).fold(tap(0), |sum, j| sum + tap(j));
        mixed * sigmoid(x * self.gate.val().unsqueeze())
    }
}
