//! Mamba-2.

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{Device, Tensor},
};

use super::{
    LayerCache, Mixer, WeightInit,
    recurrent::{RecurrentState, step_bias},
};
use crate::{
    dims::{Dims, StateSpace},
    kernels::{ConvWindow, Gate, GatedNorm, StateSpaceInputs, conv_silu, project},
};

/// A Mamba-2 layer. Letters: `D` model width, `H` heads of width `P`, `G` groups, `N` state, `K` taps.
#[derive(Module, Debug)]
pub struct Mamba2Layer {
    /// `z`: `[D, H P]`.
    pub gate: Linear,
    /// `x | B | C`: `[D, H P + 2 G N]`.
    pub mixed: Linear,
    /// `dt`: `[D, H]`.
    pub step: Linear,
    /// `[K, H P + 2 G N]`; the last tap meets the present token.
    pub conv: Param<Tensor<2>>,
    /// `[H P + 2 G N]`.
    pub conv_bias: Param<Tensor<1>>,
    /// `[H]`, added to `dt` before the softplus.
    pub step_bias: Param<Tensor<1>>,
    /// `ln(-A)`: `[H]`.
    pub a_log: Param<Tensor<1>>,
    /// `D` of the paper: `[H]`.
    pub skip: Param<Tensor<1>>,
    /// `[H P]`.
    pub norm: Param<Tensor<1>>,
    /// `[H P, D]`.
    pub output: Linear,
    #[module(skip)]
    scan: StateSpace,
    #[module(skip)]
    gated: GatedNorm,
}

impl Mamba2Layer {
    /// Draws the weights, field by field. `taps` of the convolution.
    pub(crate) fn new(dims: &Dims, taps: usize, scan: StateSpace, init: &mut WeightInit, device: &Device) -> Self {
        let inner = scan.heads * scan.width;
        let mixed = inner + 2 * scan.groups * scan.state;
        Self {
            gate: init.linear(dims.d_model, inner, device),
            mixed: init.linear(dims.d_model, mixed, device),
            step: init.linear(dims.d_model, scan.heads, device),
            conv: init.conv(taps, mixed, device),
            conv_bias: init.constant([mixed], 0.0, device),
            step_bias: init.drawn([scan.heads], step_bias, device),
            a_log: init.drawn([scan.heads], |unit| (1.0 + 15.0 * unit).ln(), device),
            skip: init.constant([scan.heads], 1.0, device),
            norm: init.constant([inner], 1.0, device),
            output: init.linear(inner, dims.d_model, device),
            scan,
            gated: GatedNorm { gate: Gate::BeforeNorm, width: inner / scan.groups, epsilon: dims.norm_eps },
        }
    }

    /// What the recurrence mixes, from the tokens and their convolved projection.
    fn inputs(&self, x: &Tensor<3>, mixed: Tensor<3>) -> StateSpaceInputs {
        StateSpaceInputs {
            mixed,
            step: project(x.clone(), &self.step),
            step_bias: self.step_bias.val(),
            a_log: self.a_log.val(),
            skip: self.skip.val(),
        }
    }

    fn finish(&self, x: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
        let z = project(x, &self.gate);
        project(self.gated.forward(y, z, self.norm.val()), &self.output)
    }
}

impl Mixer for Mamba2Layer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let mixed = conv_silu(project(x.clone(), &self.mixed), self.conv.val(), Some(self.conv_bias.val()));
        let y = self.scan.forward(self.inputs(&x, mixed));
        self.finish(x, y)
    }

    fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3> {
        let weight = self.conv.val();
        let start = || RecurrentState { window: ConvWindow::empty(&x, weight.dims()), state: self.scan.start(&x) };
        let y = memory.advance(start, |memory| {
            let mixed = project(x.clone(), &self.mixed);
            let mixed = memory.window.silu(mixed, weight.clone(), Some(self.conv_bias.val()));
            let (y, state) = self.scan.extend(self.inputs(&x, mixed), memory.state.clone());
            memory.state = state;
            y
        });
        self.finish(x, y)
    }
}
