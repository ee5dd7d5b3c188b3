//! Causal self-attention with the options found in published models.

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{Device, Tensor, activation::sigmoid},
};

use super::{LayerCache, Mixer, WeightInit};
use crate::{
    dims::{AttentionForm, Dims, Positions, QueryKeyNorm},
    kernels::{CausalAttention, KeyValues, project, rms_norm},
};

/// Causal self-attention with optional norms, gate and sinks, as configured by its recipe. Letters: `D` model width,
/// `H` query heads, `K` key/value heads, `C` channels per head.
#[derive(Module, Debug)]
pub struct CustomAttentionLayer {
    /// The query projection: `[D, H C]`.
    pub query: Linear,
    /// The key projection: `[D, K C]`.
    pub key: Linear,
    /// The value projection: `[D, K C]`.
    pub value: Linear,
    /// The output projection: `[H C, D]`.
    pub output: Linear,
    /// The projection of the gate that multiplies the attention output: `[D, H C]`.
    pub gate: Option<Linear>,
    /// The scale of the query norm: `[C]` if the norm is per head, `[H C]` if it is over all heads.
    pub query_norm: Option<Param<Tensor<1>>>,
    /// The scale of the key norm: `[C]` if the norm is per head, `[K C]` if it is over all heads.
    pub key_norm: Option<Param<Tensor<1>>>,
    /// The logits of the attention sinks, one per head: `[H]`.
    pub sinks: Option<Param<Tensor<1>>>,
    #[module(skip)]
    mix: CausalAttention,
    #[module(skip)]
    epsilon: f64,
}

impl CustomAttentionLayer {
    /// Draws the weights of query, key, value and output, then of the gate. `dims` are the dimensions of this layer.
    pub(crate) fn new(form: AttentionForm, dims: &Dims, init: &mut WeightInit, device: &Device) -> Self {
        let width = dims.d_model;
        let queries = dims.heads * dims.head_dim;
        let keys = dims.kv_heads * dims.head_dim;
        let bias = form.bias;
        let mut linear = |d_input, d_output, bias| match bias {
            true => init.linear_with_bias(d_input, d_output, device),
            false => init.linear(d_input, d_output, device),
        };
        let query = linear(width, queries, bias.input);
        let key = linear(width, keys, bias.input);
        let value = linear(width, keys, bias.input);
        let output = linear(queries, width, bias.output);
        let gate = form.gate.then(|| linear(width, queries, bias.input));
        let mut norm = |channels| match form.norm {
            QueryKeyNorm::None => None,
            QueryKeyNorm::PerHead => Some(init.constant([dims.head_dim], 1.0, device)),
            QueryKeyNorm::Whole => Some(init.constant([channels], 1.0, device)),
        };
        let query_norm = norm(queries);
        let key_norm = norm(keys);
        let sinks = form.sinks.then(|| init.constant([dims.heads], 0.0, device));
        let mix = CausalAttention::new(dims.heads, dims.kv_heads, dims.head_dim, dims.rope_theta, dims.rope_scaling);
        let mix = match form.positions {
            Positions::Rotary => mix,
            positions => mix.positions(dims, positions),
        };
        let mix = form.window.map_or(mix.clone(), |window| mix.window(window));
        Self { query, key, value, output, gate, query_norm, key_norm, sinks, mix, epsilon: dims.norm_eps }
    }

    /// Returns query, key and value. `x`: `[B, S, D]`.
    fn project(&self, x: &Tensor<3>) -> [Tensor<3>; 3] {
        let query = self.normalize(project(x.clone(), &self.query), self.query_norm.as_ref());
        let key = self.normalize(project(x.clone(), &self.key), self.key_norm.as_ref());
        [query, key, project(x.clone(), &self.value)]
    }

    /// Normalizes `x`, `[B, S, N C]`: per head if `gamma` has `C` elements, over all channels if it has `N C`.
    fn normalize(&self, x: Tensor<3>, gamma: Option<&Param<Tensor<1>>>) -> Tensor<3> {
        let Some(gamma) = gamma else { return x };
        let shape = x.dims();
        let [batch, seq, channels] = shape;
        let [width] = gamma.shape().dims::<1>();
        let heads = x.reshape([batch, seq * (channels / width), width]);
        rms_norm(heads, gamma.val(), self.epsilon).reshape(shape)
    }

    /// Gates and projects the attention output.
    fn finish(&self, x: Tensor<3>, mixed: Tensor<3>) -> Tensor<3> {
        let mixed = match &self.gate {
            Some(gate) => mixed * sigmoid(project(x, gate)),
            None => mixed,
        };
        project(mixed, &self.output)
    }
}

impl Mixer for CustomAttentionLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [query, key, value] = self.project(&x);
        let mixed = match &self.sinks {
            Some(sinks) => self.mix.forward_with_sinks(query, key, value, &sinks.val()),
            None => self.mix.forward(query, key, value),
        };
        self.finish(x, mixed)
    }

    fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3> {
        let inputs = self.project(&x);
        let sinks = self.sinks.as_ref().map(|sinks| sinks.val());
        let mixed = memory.advance(KeyValues::default, |past| self.mix.extend_with_sinks(inputs, past, sinks.as_ref()));
        self.finish(x, mixed)
    }
}
