//! The Mamba-2 layer.

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{Device, Tensor},
};

use super::{
    LayerCache, Mixer, WeightInit,
    recurrent::{RecurrentState, dt_bias},
};
use crate::{
    dims::{Dims, Mamba2Norm, MambaForm, StateSpace, StepLimits},
    kernels::{ConvWindow, Gate, GatedNorm, StateSpaceInputs, conv_silu, project},
};

/// A Mamba-2 layer. Letters: `D` model width, `H` heads with `P` channels each, `G` groups, `N` state size, `K` kernel
/// size.
#[derive(Module, Debug)]
pub struct Mamba2Layer {
    /// The projection to the output gate `z`: `[D, H P]`.
    pub gate: Linear,
    /// The projection to `x | B | C`: `[D, H P + 2 G N]`.
    pub xbc: Linear,
    /// The projection to `dt`: `[D, H]`.
    pub dt: Linear,
    /// The convolution kernel: `[K, H P + 2 G N]`. The last entry applies to the current token.
    pub conv: Param<Tensor<2>>,
    /// The bias of the convolution, if it has one: `[H P + 2 G N]`.
    pub conv_bias: Option<Param<Tensor<1>>>,
    /// The bias that is added to `dt` before the softplus: `[H]`.
    pub dt_bias: Param<Tensor<1>>,
    /// `ln(-A)`: `[H]`.
    pub a_log: Param<Tensor<1>>,
    /// The skip connection, `D` in the paper: `[H]`.
    pub d: Param<Tensor<1>>,
    /// The scale of the gated norm: `[H P]`.
    pub norm: Param<Tensor<1>>,
    /// The output projection: `[H P, D]`.
    pub output: Linear,
    #[module(skip)]
    scan: StateSpace,
    #[module(skip)]
    gated: GatedNorm,
    /// Bounds of the argument of the softplus that gives `dt`.
    #[module(skip)]
    bounds: Option<[f64; 2]>,
}

impl Mamba2Layer {
    /// Draws the weights, in the order of the fields.
    pub(crate) fn new(form: MambaForm, dims: &Dims, scan: StateSpace, init: &mut WeightInit, device: &Device) -> Self {
        let inner = scan.heads * scan.width;
        let xbc = inner + 2 * scan.groups * scan.state;
        let group = inner / scan.groups;
        let (gate, width) = match form.norm {
            Mamba2Norm::Groups => (Gate::BeforeNorm, group),
            Mamba2Norm::Whole => (Gate::BeforeNorm, inner),
            Mamba2Norm::BeforeGate => (Gate::AfterNorm, group),
        };
        let linear = |init: &mut WeightInit, inputs, outputs| match form.projection_bias {
            true => init.linear_with_bias(inputs, outputs, device),
            false => init.linear(inputs, outputs, device),
        };
        Self {
            gate: linear(init, dims.d_model, inner),
            xbc: linear(init, dims.d_model, xbc),
            dt: linear(init, dims.d_model, scan.heads),
            conv: init.conv(form.kernel_size, xbc, device),
            conv_bias: form.conv_bias.then(|| init.constant([xbc], 0.0, device)),
            dt_bias: init.drawn([scan.heads], dt_bias, device),
            a_log: init.drawn([scan.heads], |unit| (1.0 + 15.0 * unit).ln(), device),
            d: init.constant([scan.heads], 1.0, device),
            norm: init.constant([inner], 1.0, device),
            output: linear(init, inner, dims.d_model),
            scan,
            gated: GatedNorm { gate, width, epsilon: dims.norm_eps },
            bounds: form.steps.map(|StepLimits { least, most }| [least, most].map(before_softplus)),
        }
    }

    /// Returns the sizes of the recurrence.
    pub(crate) fn sizes(&self) -> StateSpace {
        self.scan
    }

    /// Returns the inputs of the recurrence, from the tokens and the convolved projection.
    fn inputs(&self, x: &Tensor<3>, xbc: Tensor<3>) -> StateSpaceInputs {
        let dt_bias = self.dt_bias.val();
        let mut dt = project(x.clone(), &self.dt);
        if let Some([least, most]) = self.bounds {
            // The softplus is increasing, so bounding its argument bounds its value.
            let bias: Tensor<3> = dt_bias.clone().unsqueeze();
            dt = (dt + bias.clone()).clamp(least, most) - bias;
        }
        StateSpaceInputs { xbc, dt, dt_bias, a_log: self.a_log.val(), d: self.d.val() }
    }

    fn conv_bias(&self) -> Option<Tensor<1>> {
        self.conv_bias.as_ref().map(|bias| bias.val())
    }

    fn finish(&self, x: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
        let z = project(x, &self.gate);
        project(self.gated.forward(y, z, self.norm.val()), &self.output)
    }
}

/// Returns the inverse of the softplus at `value`, clamped to the range of single precision.
fn before_softplus(value: f64) -> f64 {
    let inverse = if value > 30.0 { value } else { value.exp_m1().ln() };
    inverse.clamp(f64::from(f32::MIN), f64::from(f32::MAX))
}

impl Mixer for Mamba2Layer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let xbc = conv_silu(project(x.clone(), &self.xbc), self.conv.val(), self.conv_bias());
        let y = self.scan.forward(self.inputs(&x, xbc));
        self.finish(x, y)
    }

    fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3> {
        let weight = self.conv.val();
        let start = || RecurrentState { window: ConvWindow::empty(&x, weight.dims()), state: self.scan.start(&x) };
        let y = memory.advance(start, |memory| {
            let xbc = project(x.clone(), &self.xbc);
            let xbc = memory.window.silu(xbc, weight.clone(), self.conv_bias());
            let (y, state) = self.scan.extend(self.inputs(&x, xbc), memory.state.clone());
            memory.state = state;
            y
        });
        self.finish(x, y)
    }
}
