//! Causal self-attention with grouped queries (Ainslie et al. 2023, arXiv 2305.13245) and rotary position embeddings
//! (Su et al. 2021, arXiv 2104.09864) in the rotate-half convention of Llama.

use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Tensor, TensorData, activation::softmax},
};

use super::{Block, BuildError, Dims, LayerCost, Mixer, Primitive, PrimitiveId, Role, Symbol, WeightInit};

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
}

impl Mixer for AttentionLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq, _] = x.dims();
        let device = x.device();
        let group = self.heads / self.kv_heads;
        // [B, S, N C] -> [B, N, S, C]
        let split = |x: Tensor<3>, heads| x.reshape([batch, seq, heads, self.head_dim]).swap_dims(1, 2);
        let rotation = Rotation::new(seq, self.head_dim, self.rope_theta, &device);
        let query = rotation.apply(split(self.query.forward(x.clone()), self.heads));
        let key = repeat_heads(rotation.apply(split(self.key.forward(x.clone()), self.kv_heads)), group);
        let value = repeat_heads(split(self.value.forward(x), self.kv_heads), group);

        let scores = (query * (self.head_dim as f64).powf(-0.5)).matmul(key.transpose());
        let weights = softmax(scores + causal_bias(seq, &device), 3);
        let mixed = weights.matmul(value).swap_dims(1, 2).reshape([batch, seq, self.heads * self.head_dim]);
        self.output.forward(mixed)
    }
}

/// `[B, K, S, C]` to `[B, K g, S, C]`: each KV head serves `g` neighbouring query heads.
fn repeat_heads(x: Tensor<4>, group: usize) -> Tensor<4> {
    if group == 1 {
        return x;
    }
    let [batch, heads, seq, width] = x.dims();
    let x: Tensor<5> = x.unsqueeze_dim(2);
    x.expand([batch, heads, group, seq, width]).reshape([batch, heads * group, seq, width])
}

/// `[1, 1, S, S]`: zero where query `i` may see key `j <= i`, minus infinity elsewhere.
fn causal_bias(seq: usize, device: &Device) -> Tensor<4> {
    let values: Vec<f32> =
        (0..seq * seq).map(|at| if at % seq <= at / seq { 0.0 } else { f32::NEG_INFINITY }).collect();
    Tensor::from_data(TensorData::new(values, [1, 1, seq, seq]), device)
}

/// Rotary embedding of positions `0..S`: channel pairs `(c, c + C/2)` turn by `position * theta^(-2c/C)`.
struct Rotation {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotation {
    /// Tables of shape `[1, 1, S, C]`, computed in 64 bits.
    fn new(seq: usize, head_dim: usize, theta: f64, device: &Device) -> Self {
        let half = head_dim / 2;
        let table = |f: fn(f64) -> f64| {
            let angle = |at: usize| {
                let (position, channel) = (at / head_dim, at % head_dim % half);
                position as f64 * theta.powf(-2.0 * channel as f64 / head_dim as f64)
            };
            let values: Vec<f32> = (0..seq * head_dim).map(|at| f(angle(at)) as f32).collect();
            Tensor::from_data(TensorData::new(values, [1, 1, seq, head_dim]), device)
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// `x`: `[B, N, S, C]`, rotated.
    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let (low, high) = (x.clone().narrow(3, 0, half), x.clone().narrow(3, half, half));
        x * self.cos.clone() + Tensor::cat(vec![-high, low], 3) * self.sin.clone()
    }
}
