//! Gated DeltaNet.

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
    dims::{DeltaRule, Dims},
    kernels::{ConvWindow, DeltaRuleInputs, Gate, GatedNorm, conv_silu, project},
};

/// A gated DeltaNet layer. Letters: `D` model width, `K` key heads with `C` channels each, `V` value heads with `P`
/// channels each, `T` kernel size.
#[derive(Module, Debug)]
pub struct GatedDeltaNetLayer {
    /// The projection to `q | k | v`: `[D, 2 K C + V P]`.
    pub qkv: Linear,
    /// The projection to the output gate `z`: `[D, V P]`.
    pub gate: Linear,
    /// The projection to `b`, whose sigmoid is beta: `[D, V]`.
    pub beta: Linear,
    /// The projection to `a`, which sets the decay: `[D, V]`.
    pub decay: Linear,
    /// The convolution kernel: `[T, 2 K C + V P]`. The last entry applies to the current token.
    pub conv: Param<Tensor<2>>,
    /// The bias that is added to `a` before the softplus: `[V]`.
    pub dt_bias: Param<Tensor<1>>,
    /// The logarithm of the decay rate of each head: `[V]`.
    pub a_log: Param<Tensor<1>>,
    /// The scale of the gated norm, shared by all heads: `[P]`.
    pub norm: Param<Tensor<1>>,
    /// The output projection: `[V P, D]`.
    pub output: Linear,
    #[module(skip)]
    rule: DeltaRule,
    #[module(skip)]
    gated: GatedNorm,
}

impl GatedDeltaNetLayer {
    /// Draws the weights, in the order of the fields. `kernel_size` is the kernel size of the convolution.
    pub(crate) fn new(
        dims: &Dims,
        kernel_size: usize,
        rule: DeltaRule,
        init: &mut WeightInit,
        device: &Device,
    ) -> Self {
        let heads = rule.value_heads;
        let values = rule.value_heads * rule.value_width;
        let qkv = 2 * rule.key_heads * rule.key_width + values;
        Self {
            qkv: init.linear(dims.d_model, qkv, device),
            gate: init.linear(dims.d_model, values, device),
            beta: init.linear(dims.d_model, heads, device),
            decay: init.linear(dims.d_model, heads, device),
            conv: init.conv(kernel_size, qkv, device),
            dt_bias: init.drawn([heads], dt_bias, device),
            a_log: init.drawn([heads], |unit| (16.0 * (1.0 - unit)).ln(), device),
            norm: init.constant([rule.value_width], 1.0, device),
            output: init.linear(values, dims.d_model, device),
            rule,
            gated: GatedNorm { gate: Gate::AfterNorm, width: rule.value_width, epsilon: dims.norm_eps },
        }
    }

    /// Returns the sizes of the recurrence.
    pub(crate) fn sizes(&self) -> DeltaRule {
        self.rule
    }

    /// Returns the inputs of the recurrence, from the tokens and the convolved projection.
    fn inputs(&self, x: &Tensor<3>, qkv: Tensor<3>) -> DeltaRuleInputs {
        DeltaRuleInputs {
            qkv,
            beta_logits: project(x.clone(), &self.beta),
            decay: project(x.clone(), &self.decay),
            dt_bias: self.dt_bias.val(),
            a_log: self.a_log.val(),
        }
    }

    fn finish(&self, x: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
        let z = project(x, &self.gate);
        project(self.gated.forward(y, z, self.norm.val()), &self.output)
    }
}

impl Mixer for GatedDeltaNetLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let qkv = conv_silu(project(x.clone(), &self.qkv), self.conv.val(), None);
        let y = self.rule.forward(self.inputs(&x, qkv));
        self.finish(x, y)
    }

    fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3> {
        let weight = self.conv.val();
        let start = || RecurrentState { window: ConvWindow::empty(&x, weight.dims()), state: self.rule.start(&x) };
        let y = memory.advance(start, |memory| {
            let qkv = memory.window.silu(project(x.clone(), &self.qkv), weight.clone(), None);
            let (y, state) = self.rule.extend(self.inputs(&x, qkv), memory.state.clone());
            memory.state = state;
            y
        });
        self.finish(x, y)
    }
}
