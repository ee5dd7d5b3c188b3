//! Multi-head latent attention; notation as in [`primitive::LatentAttention`](crate::primitive::LatentAttention).

use burn::{
    module::{Module, Param},
    nn::Linear,
    tensor::{Device, Tensor},
};

use super::{LayerCache, LayerState, Mixer, WeightInit};
use crate::{
    dims::{Dims, LatentSizes},
    kernels::{CausalAttention, project, rms_norm},
};

/// Multi-head latent attention. Letters: `D` model width, `H` heads, `N` and `R` channels of a query or key without and
/// with rotary positions, `V` channels of a value, `L` width of the latent vector, `Q` width of the latent query.
#[derive(Module, Debug)]
pub struct LatentAttentionLayer {
    /// The down-projection of the queries, if they are low-rank: `[D, Q]`.
    pub query_down: Option<Linear>,
    /// The scale of the norm of the latent query: `[Q]`.
    pub query_norm: Option<Param<Tensor<1>>>,
    /// The query projection: `[D, H (N + R)]`, or `[Q, H (N + R)]` if the queries are low-rank.
    pub query: Linear,
    /// The down-projection to the latent vector and the rotary key that all heads share: `[D, L + R]`.
    pub down: Linear,
    /// The scale of the norm of the latent vector: `[L]`.
    pub norm: Param<Tensor<1>>,
    /// The up-projection to keys and values, head by head: `[L, H (N + V)]`.
    pub up: Linear,
    /// The output projection: `[H V, D]`.
    pub output: Linear,
    #[module(skip)]
    sizes: LatentSizes,
    #[module(skip)]
    mix: CausalAttention,
    #[module(skip)]
    epsilon: f64,
}

/// The cached latent vectors and rotary keys: `[B, T, L + R]`.
#[derive(Clone, Debug, Default)]
struct Latents(Option<Tensor<3>>);

impl LayerState for Latents {
    fn elements(&self) -> usize {
        self.0.as_ref().map_or(0, |kept| kept.shape().num_elements())
    }
}

impl LatentAttentionLayer {
    /// Draws the weights of the queries, the latent vectors, the keys and values, and the output, in this order.
    pub(crate) fn new(sizes: LatentSizes, dims: &Dims, init: &mut WeightInit, device: &Device) -> Self {
        let LatentSizes { heads, nope, rope, value, rank, query_rank } = sizes;
        let width = dims.d_model;
        let query_down = query_rank.map(|rank| init.linear(width, rank, device));
        let query_norm = query_rank.map(|rank| init.constant([rank], 1.0, device));
        let query = init.linear(query_rank.unwrap_or(width), heads * (nope + rope), device);
        let mix = CausalAttention::new(heads, heads, nope + rope, dims.rope_theta, dims.rope_scaling);
        Self {
            query_down,
            query_norm,
            query,
            down: init.linear(width, rank + rope, device),
            norm: init.constant([rank], 1.0, device),
            up: init.linear(rank, heads * (nope + value), device),
            output: init.linear(heads * value, width, device),
            sizes,
            mix: mix.rotating(dims, rope),
            epsilon: dims.norm_eps,
        }
    }

    /// Returns the queries: `[B, S, H (N + R)]`.
    fn queries(&self, x: Tensor<3>) -> Tensor<3> {
        let x = match (&self.query_down, &self.query_norm) {
            (Some(down), Some(norm)) => rms_norm(project(x, down), norm.val(), self.epsilon),
            _ => x,
        };
        let LatentSizes { heads, nope, rope, .. } = self.sizes;
        let [query, turned] = self.split(project(x, &self.query), nope, rope);
        self.join(query, turned, heads)
    }

    /// Returns the normalized latent vectors and the rotary keys: `[B, S, L + R]`.
    fn latents(&self, x: Tensor<3>) -> Tensor<3> {
        let LatentSizes { rank, rope, .. } = self.sizes;
        let low = project(x, &self.down);
        let latent = rms_norm(low.clone().narrow(2, 0, rank), self.norm.val(), self.epsilon);
        Tensor::cat(vec![latent, low.narrow(2, rank, rope)], 2)
    }

    /// Returns the keys and values of latent vectors, both `[B, T, H (N + R)]`. Values are padded with zeros.
    fn keys_and_values(&self, latents: Tensor<3>) -> [Tensor<3>; 2] {
        let LatentSizes { heads, nope, rope, value, rank, .. } = self.sizes;
        let [batch, seq, _] = latents.dims();
        let shared: Tensor<4> = latents.clone().narrow(2, rank, rope).unsqueeze_dim(2);
        let [key, values] = self.split(project(latents.narrow(2, 0, rank), &self.up), nope, value);
        let keys = self.join(key, shared.repeat_dim(2, heads), heads);
        let missing = nope + rope - value;
        let values = match missing {
            0 => values,
            _ => Tensor::cat(vec![values.clone(), Tensor::zeros([batch, seq, heads, missing], &values.device())], 3),
        };
        [keys, values.reshape([batch, seq, heads * (nope + rope)])]
    }

    /// Splits the channels of every head: `[B, S, H (A + B)]` to `[B, S, H, A]` and `[B, S, H, B]`.
    fn split(&self, x: Tensor<3>, first: usize, second: usize) -> [Tensor<4>; 2] {
        let [batch, seq, _] = x.dims();
        let x: Tensor<4> = x.reshape([batch, seq, self.sizes.heads, first + second]);
        [x.clone().narrow(3, 0, first), x.narrow(3, first, second)]
    }

    /// Reorders the channels of every head for [`CausalAttention`], which rotates channels `c` and `c + C/2` as a pair.
    fn join(&self, nope: Tensor<4>, rope: Tensor<4>, heads: usize) -> Tensor<3> {
        let LatentSizes { nope: plain, rope: turned, .. } = self.sizes;
        let half = |x: &Tensor<4>, second: usize, width: usize| x.clone().narrow(3, second * (width / 2), width / 2);
        let parts = [0, 1].into_iter().flat_map(|at| [half(&rope, at, turned), half(&nope, at, plain)]);
        let joined = Tensor::cat(parts.collect(), 3);
        let [batch, seq, _, width] = joined.dims();
        joined.reshape([batch, seq, heads * width])
    }

    /// Removes the zero padding of the values and projects.
    fn finish(&self, mixed: Tensor<3>) -> Tensor<3> {
        let LatentSizes { heads, nope, rope, value, .. } = self.sizes;
        let [batch, seq, _] = mixed.dims();
        let mixed: Tensor<4> = mixed.reshape([batch, seq, heads, nope + rope]);
        project(mixed.narrow(3, 0, value).reshape([batch, seq, heads * value]), &self.output)
    }
}

impl Mixer for LatentAttentionLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [key, value] = self.keys_and_values(self.latents(x.clone()));
        self.finish(self.mix.forward(self.queries(x), key, value))
    }

    fn step(&self, x: Tensor<3>, memory: &mut LayerCache) -> Tensor<3> {
        let latents = memory.advance(Latents::default, |kept| {
            let next = self.latents(x.clone());
            let all = kept.0.take().map_or(next.clone(), |before| Tensor::cat(vec![before, next], 1));
            kept.0 = Some(all.clone());
            all
        });
        let [key, value] = self.keys_and_values(latents);
        self.finish(self.mix.last(self.queries(x), key, value))
    }
}
