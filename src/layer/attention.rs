//! Causal self-attention with grouped queries and rotary positions.

use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Tensor},
};

use super::{LayerCache, Mixer, WeightInit};
use crate::{
    dims::Dims,
    kernels::{CausalAttention, KeyValues, project},
};

/// Causal self-attention, either full or over a sliding window. Letters: `D` model width, `H` query heads, `K`
/// key/value heads, `C` channels per head.
#[derive(Module, Debug)]
pub struct AttentionLayer {
    /// The query projection: `[D, H C]`.
    pub query: Linear,
    /// The key projection: `[D, K C]`.
    pub key: Linear,
    /// The value projection: `[D, K C]`.
    pub value: Linear,
    /// The output projection: `[H C, D]`.
    pub output: Linear,
    #[module(skip)]
    pub(crate) mix: CausalAttention,
}

impl AttentionLayer {
    /// Draws the weights of query, key, value and output, in this order.
    pub(crate) fn new(dims: &Dims, init: &mut WeightInit, device: &Device) -> Self {
        let queries = dims.heads * dims.head_dim;
        let keys = dims.kv_heads * dims.head_dim;
        let mut linear = |d_input, d_output| {
            if dims.attention_bias {
                init.linear_with_bias(d_input, d_output, device)
            } else {
                init.linear(d_input, d_output, device)
            }
        };
        Self {
            query: linear(dims.d_model, queries),
            key: linear(dims.d_model, keys),
            value: linear(dims.d_model, keys),
            output: linear(queries, dims.d_model),
            mix: CausalAttention::new(dims.heads, dims.kv_heads, dims.head_dim, dims.rope_theta, dims.rope_scaling),
        }
    }

    /// Returns query, key and value. `x`: `[B, S, D]`.
    fn project(&self, x: Tensor<3>) -> [Tensor<3>; 3] {
        [project(x.clone(), &self.query), project(x.clone(), &self.key), project(x, &self.value)]
    }
}

impl Mixer for AttentionLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [query, key, value] = self.project(x);
        project(self.mix.forward(query, key, value), &self.output)
    }

    fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3> {
        let [query, key, value] = self.project(x);
        let mixed = memory.advance(KeyValues::default, |past| self.mix.extend(query, key, value, past));
        project(mixed, &self.output)
    }

    fn can_ensemble(&self) -> bool {
        true
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::{
        dims::InitScheme,
        primitive::{Attention, Primitive, SlidingWindow},
        seed::Seed,
    };

    /// Applies a linear map in double precision.
    fn project(linear: &Linear, x: &[f64]) -> Vec<f64> {
        let weight = linear.weight.val().into_data().try_into_vec::<f32>().unwrap();
        let bias = linear.bias.as_ref().map(|bias| bias.val().into_data().try_into_vec::<f32>().unwrap());
        let columns = weight.len() / x.len();
        let product = |j| (0..x.len()).map(|i| x[i] * f64::from(weight[i * columns + j])).sum::<f64>();
        (0..columns).map(|j| product(j) + bias.as_ref().map_or(0.0, |bias| f64::from(bias[j]))).collect()
    }

    /// Rotates one head's vector at `position` (rotate-half convention).
    fn rotate(x: &[f64], position: usize, theta: f64) -> Vec<f64> {
        let half = x.len() / 2;
        let turn = |c: usize| {
            let angle = position as f64 * theta.powf(-2.0 * (c % half) as f64 / x.len() as f64);
            let partner = if c < half { -x[c + half] } else { x[c - half] };
            x[c] * angle.cos() + partner * angle.sin()
        };
        (0..x.len()).map(turn).collect()
    }

    /// Attention over one sequence, one query and one head at a time.
    fn naive(layer: &AttentionLayer, dims: &Dims, window: usize, x: &[Vec<f64>]) -> Vec<f64> {
        let width = dims.head_dim;
        let group = dims.heads / dims.kv_heads;
        let rows = |linear| x.iter().map(|x| project(linear, x)).collect::<Vec<_>>();
        let queries = rows(&layer.query);
        let keys = rows(&layer.key);
        let values = rows(&layer.value);
        let head = |row: &[f64], head: usize| row[head * width..(head + 1) * width].to_vec();
        let mut out = Vec::new();
        for (at, queries) in queries.iter().enumerate() {
            let mut mixed = Vec::new();
            for h in 0..dims.heads {
                let query = rotate(&head(queries, h), at, dims.rope_theta);
                let score = |t: usize| {
                    let key = rotate(&head(&keys[t], h / group), t, dims.rope_theta);
                    query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() / (width as f64).sqrt()
                };
                let seen = (at + 1).saturating_sub(window)..=at;
                let weights: Vec<f64> = seen.clone().map(|t| score(t).exp()).collect();
                let total: f64 = weights.iter().sum();
                let value = |t: usize, c: usize| values[t][h / group * width + c];
                let mix = |c| weights.iter().zip(seen.clone()).map(|(w, t)| w / total * value(t, c)).sum::<f64>();
                mixed.extend((0..width).map(mix));
            }
            out.extend(project(&layer.output, &mixed));
        }
        out
    }

    #[test]
    fn agrees_with_a_naive_reference() {
        let all = None;
        let local = |window| Some(SlidingWindow::new(window).unwrap());
        for (heads, kv_heads, head_dim, bias, seq, primitive) in [
            (1, 1, 6, false, 1, all),
            (4, 4, 2, true, 7, all),
            (4, 2, 4, false, 5, all),
            (6, 1, 4, true, 13, all),
            (6, 1, 4, true, 13, local(2)),
            (4, 2, 4, false, 13, local(4)),
            (4, 4, 2, true, 7, local(7)),
            (4, 4, 2, true, 7, local(100)),
        ] {
            let dims =
                Dims { kv_heads, head_dim, attention_bias: bias, rope_theta: 100.0, ..Dims::new(12, 16, 1).unwrap() };
            let dims = Dims { heads, ..dims };
            for device in [Device::flex(), Device::flex().autodiff()] {
                let mut init = WeightInit::new(InitScheme::Normal(0.7), Seed(3).rng("test", 0));
                let block = match primitive {
                    None => Attention.build(&dims, &mut init, &device).unwrap(),
                    Some(local) => local.build(&dims, &mut init, &device).unwrap(),
                };
                let window = primitive.map_or(usize::MAX, SlidingWindow::window);
                let mut layer = block.downcast_ref::<AttentionLayer>().unwrap().clone();
                for linear in [&mut layer.query, &mut layer.key, &mut layer.value, &mut layer.output] {
                    let columns = linear.weight.dims()[1];
                    linear.bias = linear.bias.is_some().then(|| init.normal([columns], 0.5, &device));
                }
                let x = init.normal([2, seq, 12], 1.0, &device).val();
                let rows: Vec<Vec<f64>> = x.clone().into_data().try_into_vec::<f32>().unwrap()[..]
                    .chunks(12)
                    .map(|row| row.iter().map(|&v| f64::from(v)).collect())
                    .collect();
                let want: Vec<f64> =
                    rows.chunks(seq).flat_map(|sequence| naive(&layer, &dims, window, sequence)).collect();
                let got = layer.forward(x).into_data().try_into_vec::<f32>().unwrap();
                for (got, want) in got.iter().zip(want) {
                    assert!((f64::from(*got) - want).abs() < 2e-5, "{heads} {kv_heads}: {got} {want}");
                }
            }
        }
    }
}
