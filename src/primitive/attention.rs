//! Causal self-attention with grouped queries (Ainslie et al. 2023, arXiv 2305.13245) and rotary position embeddings
//! (Su et al. 2021, arXiv 2104.09864) in the rotate-half convention of Llama.

use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Tensor, TensorData, module::linear},
};

use super::{
    Block, BuildError, Dims, LayerCost, Mixer, PositionTables, Primitive, PrimitiveId, Role, Symbol, WeightInit,
    tangent::attend,
};

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

    /// Projections count twice their weights; scores and mixing count `2 S H C` per token, the causal half of `4 S H C`.
    fn cost(&self, dims: &Dims, seq_len: u64) -> LayerCost {
        let queries = (dims.heads * dims.head_dim) as u64;
        let keys = (dims.kv_heads * dims.head_dim) as u64;
        let weights = 2 * dims.width() * (queries + keys);
        let biases = if dims.attention_bias { queries + 2 * keys + dims.width() } else { 0 };
        LayerCost {
            parameters: weights + biases,
            forward_flops_per_token: 2 * weights + 2 * seq_len * queries,
            cache_elements: 2 * keys * seq_len,
        }
    }

    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        dims.validate()?;
        let (queries, keys) = (dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim);
        let mut linear = |d_input, d_output| {
            if dims.attention_bias {
                init.linear_with_bias(d_input, d_output, device)
            } else {
                init.linear(d_input, d_output, device)
            }
        };
        Ok(Block::new(AttentionLayer {
            query: linear(dims.d_model, queries),
            key: linear(dims.d_model, keys),
            value: linear(dims.d_model, keys),
            output: linear(queries, dims.d_model),
            heads: dims.heads,
            kv_heads: dims.kv_heads,
            head_dim: dims.head_dim,
            rope_theta: dims.rope_theta,
            tables: PositionTables::default(),
        }))
    }
}

/// A built [`Attention`]. Letters: `D` model width, `H` query heads, `K` KV heads, `C` head width.
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
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    rope_theta: f64,
    #[module(skip)]
    tables: PositionTables<Tables>,
}

impl Mixer for AttentionLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq, _] = x.dims();
        let (heads, kv_heads, width) = (self.heads, self.kv_heads, self.head_dim);
        let tables = self.tables.get(seq, &x.device(), |device| Tables::new(self, seq, device));
        let query = tables.query.apply(self.query.forward(x.clone()));
        let key = tables.key.apply(self.key.forward(x.clone()));
        // [B, S, K C] -> [B, K, S, C]
        let split = |x: Tensor<3>| x.reshape([batch, seq, kv_heads, width]).swap_dims(1, 2);
        // Query heads that share a KV head line up as rows of one product: [B, S, H C] -> [B, K, (H/K) S, C].
        let group = heads / kv_heads;
        let query = match group {
            1 => split(query),
            _ => {
                let query: Tensor<5> = query.reshape([batch, seq, kv_heads, group, width]).permute([0, 2, 3, 1, 4]);
                query.reshape([batch, kv_heads, group * seq, width])
            }
        };
        let mixed = attend(query.matmul(split(key).transpose()), tables.causal, split(self.value.forward(x)));
        let mixed: Tensor<5> = mixed.reshape([batch, kv_heads, group, seq, width]);
        self.output.forward(mixed.permute([0, 3, 1, 2, 4]).reshape([batch, seq, heads * width]))
    }
}

/// Constants of one sequence length.
#[derive(Clone, Debug)]
struct Tables {
    /// Scaled by `1 / sqrt(C)`.
    query: Rotation,
    key: Rotation,
    /// `[1, 1, (H/K) S, S]`: zero where query `i` may see key `j <= i`, minus infinity elsewhere.
    causal: Tensor<4>,
}

impl Tables {
    fn new(layer: &AttentionLayer, seq: usize, device: &Device) -> Self {
        let (heads, kv_heads, width) = (layer.heads, layer.kv_heads, layer.head_dim);
        let group = heads / kv_heads;
        let bias = |at: usize| if at % seq <= at / seq % seq { 0.0 } else { f32::NEG_INFINITY };
        let values: Vec<f32> = (0..group * seq * seq).map(bias).collect();
        let rotation = |heads, scale| Rotation::new([seq, heads, width], layer.rope_theta, scale, device);
        Self {
            query: rotation(heads, (width as f64).powf(-0.5)),
            key: rotation(kv_heads, 1.0),
            causal: Tensor::from_data(TensorData::new(values, [1, 1, group * seq, seq]), device),
        }
    }
}

/// Rotary embedding of positions `0..S` for `N` heads: channel pairs `(c, c + C/2)` turn by `position * theta^(-2c/C)`.
#[derive(Clone, Debug)]
struct Rotation {
    /// `[1, S, N C]`.
    cos: Tensor<3>,
    /// `[1, S, N C]`.
    sin: Tensor<3>,
    /// `[C, C]`: maps `(low, high)` to `(-high, low)`.
    quarter_turn: Tensor<2>,
}

impl Rotation {
    /// Tables for `[S, N, C]`, multiplied by `scale` and computed in 64 bits.
    fn new([seq, heads, width]: [usize; 3], theta: f64, scale: f64, device: &Device) -> Self {
        let half = width / 2;
        let table = |f: fn(f64) -> f64| {
            let value = |at: usize| {
                let (position, channel) = (at / (heads * width), at % width % half);
                scale * f(position as f64 * theta.powf(-2.0 * channel as f64 / width as f64))
            };
            let values: Vec<f32> = (0..seq * heads * width).map(|at| value(at) as f32).collect();
            Tensor::from_data(TensorData::new(values, [1, seq, heads * width]), device)
        };
        let turn = |at: usize| match (at / width, at % width) {
            (from, to) if from == to + half => -1.0,
            (from, to) if from + half == to => 1.0,
            _ => 0f32,
        };
        let turn: Vec<f32> = (0..width * width).map(turn).collect();
        let quarter_turn = Tensor::from_data(TensorData::new(turn, [width, width]), device);
        Self { cos: table(f64::cos), sin: table(f64::sin), quarter_turn }
    }

    /// `x`: `[B, S, N C]`, rotated.
    fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        let shape = x.dims();
        let [width, _] = self.quarter_turn.dims();
        let pairs: Tensor<2> = x.clone().reshape([shape.iter().product::<usize>() / width, width]);
        let turned = linear(pairs, self.quarter_turn.clone(), None).reshape(shape);
        x * self.cos.clone() + turned * self.sin.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{primitive::InitScheme, seed::Seed};

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
    fn naive(layer: &AttentionLayer, x: &[Vec<f64>]) -> Vec<f64> {
        let (width, group) = (layer.head_dim, layer.heads / layer.kv_heads);
        let rows = |linear| x.iter().map(|x| project(linear, x)).collect::<Vec<_>>();
        let (queries, keys, values) = (rows(&layer.query), rows(&layer.key), rows(&layer.value));
        let head = |row: &[f64], head: usize| row[head * width..(head + 1) * width].to_vec();
        let mut out = Vec::new();
        for (at, queries) in queries.iter().enumerate() {
            let mut mixed = Vec::new();
            for h in 0..layer.heads {
                let query = rotate(&head(queries, h), at, layer.rope_theta);
                let score = |t: usize| {
                    let key = rotate(&head(&keys[t], h / group), t, layer.rope_theta);
                    query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() / (width as f64).sqrt()
                };
                let weights: Vec<f64> = (0..=at).map(|t| score(t).exp()).collect();
                let total: f64 = weights.iter().sum();
                mixed.extend(
                    (0..width)
                        .map(|c| (0..=at).map(|t| weights[t] / total * values[t][h / group * width + c]).sum::<f64>()),
                );
            }
            out.extend(project(&layer.output, &mixed));
        }
        out
    }

    #[test]
    fn agrees_with_a_naive_reference() {
        for (heads, kv_heads, head_dim, bias, seq) in
            [(1, 1, 6, false, 1), (4, 4, 2, true, 7), (4, 2, 4, false, 5), (6, 1, 4, true, 13)]
        {
            let dims =
                Dims { kv_heads, head_dim, attention_bias: bias, rope_theta: 100.0, ..Dims::new(12, 16, 1).unwrap() };
            let dims = Dims { heads, ..dims };
            for device in [Device::flex(), Device::flex().autodiff()] {
                let mut init = WeightInit::new(InitScheme::Normal(0.7), Seed(3).rng("test", 0));
                let block = Attention.build(&dims, &mut init, &device).unwrap();
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
                let want: Vec<f64> = rows.chunks(seq).flat_map(|sequence| naive(&layer, sequence)).collect();
                let got = layer.forward(x).into_data().try_into_vec::<f32>().unwrap();
                for (got, want) in got.iter().zip(want) {
                    assert!((f64::from(*got) - want).abs() < 2e-5, "{heads} {kv_heads}: {got} {want}");
                }
            }
        }
    }
}
