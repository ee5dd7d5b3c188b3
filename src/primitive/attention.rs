//! Causal self-attention with grouped queries (Ainslie et al. 2023, arXiv 2305.13245) and rotary position embeddings
//! (Su et al. 2021, arXiv 2104.09864) in the rotate-half convention of Llama.

use std::num::Saturating;

use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Tensor},
};

use super::{
    Block, BuildError, Counterpart, Dims, LayerCost, Memory, Mixer, Primitive, PrimitiveId, Remembers, Role, Symbol,
    WeightInit,
};
use crate::kernels::{CausalAttention, KeyValues, project};

/// Causal self-attention: `heads` query heads share `kv_heads` key and value heads. Symbol `A`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attention;

impl Primitive for Attention {
    fn id(&self) -> PrimitiveId {
        PrimitiveId::known("attention")
    }

    fn symbol(&self) -> Symbol {
        Symbol::ATTENTION
    }

    fn role(&self) -> Role {
        Role::Sequence
    }

    fn cost(&self, dims: &Dims, seq_len: u64) -> LayerCost {
        AttentionLayer::cost(dims, seq_len, seq_len)
    }

    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        AttentionLayer::activations(dims, seq_len)
    }

    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        dims.validate()?;
        Ok(Block::new(AttentionLayer::new(dims, init, device)))
    }

    fn counterpart(&self, dims: &Dims) -> Option<Counterpart> {
        Some(AttentionLayer::name(Counterpart::new("full_attention", Remembers::Everything), dims))
    }
}

/// A built [`Attention`] or [`SlidingWindow`](super::SlidingWindow). Letters: `D` model width, `H` query heads, `K` KV
/// heads, `C` head width.
#[derive(Module, Debug)]
pub struct AttentionLayer {
    /// `[D, H C]`.
    pub query: Linear,
    /// `[D, K C]`.
    pub key: Linear,
    /// `[D, K C]`.
    pub value: Linear,
    /// `[H C, D]`.
    pub output: Linear,
    #[module(skip)]
    pub(super) mix: CausalAttention,
}

impl AttentionLayer {
    /// Draws the weights of the query, the key, the value and the output, in this order.
    pub(super) fn new(dims: &Dims, init: &mut WeightInit, device: &Device) -> Self {
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

    /// Adds the names of the projections, which are those of Llama.
    pub(super) fn name(counterpart: Counterpart, dims: &Dims) -> Counterpart {
        let names = [("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("output", "o_proj")];
        names.into_iter().fold(counterpart, |all, (ours, theirs)| all.linear(ours, theirs, dims.attention_bias))
    }

    /// The cost where every query sees the last `window` keys. Projections count twice their weights; a token counts
    /// `4 H C` per key that it sees. A causal sequence of `S` tokens is the triangle under the diagonal, of which a
    /// window `W <= S` cuts off the corner: `W - W^2 / (2 S)` keys per token, which is `S / 2` without a window.
    /// Rounded down.
    pub(super) fn cost(dims: &Dims, seq_len: u64, window: u64) -> LayerCost {
        let [width, _, queries, keys] = dims.counts();
        let weights = Saturating(2) * width * (queries + keys);
        let biases = if dims.attention_bias { queries + Saturating(2) * keys + width } else { Saturating(0) };
        let seq = u128::from(seq_len.max(1));
        let seen = u128::from(window.min(seq_len));
        let mixing = (2 * u128::from(queries.0)).saturating_mul(seen * (2 * seq - seen)) / seq;
        let mixing = Saturating(u64::try_from(mixing).unwrap_or(u64::MAX));
        LayerCost {
            parameters: (weights + biases).0,
            forward_flops_per_token: (Saturating(2) * weights + mixing).0,
            cache_elements: (Saturating(2) * keys * Saturating(window.min(seq_len))).0,
            score_channels: queries.0,
            ..LayerCost::default()
        }
    }

    /// The input, queries, keys, values, what is mixed, and a normaliser per head; scores are computed again, as in
    /// FlashAttention (Dao et al. 2022, arXiv 2205.14135).
    pub(super) fn activations(dims: &Dims, seq_len: u64) -> u64 {
        let [width, _, queries, keys] = dims.counts();
        let per_token = width + Saturating(2) * (queries + keys) + Saturating(dims.heads as u64);
        (per_token * Saturating(seq_len)).0
    }

    /// Query, key and value of `x`, `[B, S, D]`.
    fn project(&self, x: Tensor<3>) -> [Tensor<3>; 3] {
        [project(x.clone(), &self.query), project(x.clone(), &self.key), project(x, &self.value)]
    }
}

impl Mixer for AttentionLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [query, key, value] = self.project(x);
        project(self.mix.forward(query, key, value), &self.output)
    }

    fn step(&self, x: Tensor<3>, memory: &mut Memory) -> Tensor<3> {
        let [query, key, value] = self.project(x);
        let mixed = memory.advance(KeyValues::default, |past| self.mix.extend(query, key, value, past));
        project(mixed, &self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::{InitScheme, SlidingWindow},
        seed::Seed,
    };

    /// `[rows][columns]` of a linear map, in 64 bits.
    fn project(linear: &Linear, x: &[f64]) -> Vec<f64> {
        let weight = linear.weight.val().into_data().try_into_vec::<f32>().unwrap();
        let bias = linear.bias.as_ref().map(|bias| bias.val().into_data().try_into_vec::<f32>().unwrap());
        let columns = weight.len() / x.len();
        let product = |j| (0..x.len()).map(|i| x[i] * f64::from(weight[i * columns + j])).sum::<f64>();
        (0..columns).map(|j| product(j) + bias.as_ref().map_or(0.0, |bias| f64::from(bias[j]))).collect()
    }

    /// Rotates one head's vector at `position`, the rotate-half convention.
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
