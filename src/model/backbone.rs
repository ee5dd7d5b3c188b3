//! The part that all models share: the token embedding and the residual blocks.

use burn::{
    module::{Module, Param},
    tensor::{Device, Int, Tensor, module::embedding},
};

use super::{ModelSpec, RmsNorm};
use crate::{
    layer::{Block, LayerCache, WeightInit},
    primitive::{BuildError, Primitives},
    seed::Seed,
};

/// Token embedding and residual blocks. Letters: `B` batch, `S` sequence, `D` model width, `V` vocabulary.
#[derive(Module, Debug)]
pub struct Backbone {
    /// The token embedding: `[V, D]`.
    pub embedding: Param<Tensor<2>>,
    /// The layers, in order.
    pub layers: Vec<ResidualBlock>,
}

/// One layer with pre-normalization: `x + mixer(norm(x))`.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// The norm before the mixer.
    pub norm: RmsNorm,
    /// The layer.
    pub mixer: Block,
}

impl ResidualBlock {
    /// Applies the block to the residual stream. `x`: `[B, S, D]` to `[B, S, D]`.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        x.clone() + self.mixer.forward(self.norm.forward(x))
    }
}

impl Backbone {
    /// Builds the embedding and the layers.
    ///
    /// Layer `i` draws from stream `init/layer` `i` and the embedding from `init/embedding` 0. The weights of a layer
    /// therefore depend neither on the other layers nor on other threads.
    ///
    /// # Errors
    /// Returns a [`BuildError`] if the spec is empty, inconsistent or too large for this machine, or if a primitive is
    /// missing or cannot build its layer.
    pub fn new(spec: &ModelSpec, primitives: &Primitives, seed: Seed, device: &Device) -> Result<Self, BuildError> {
        spec.validate()?;
        spec.check_memory(primitives, device)?;
        let dims = &spec.dims;
        let layer = |(index, &symbol)| {
            let mut init = WeightInit::new(spec.init, seed.rng("init/layer", index as u64));
            Ok(ResidualBlock {
                norm: RmsNorm::new(dims.d_model, dims.norm_eps, device),
                mixer: primitives.get(symbol)?.build(dims, &mut init, device)?,
            })
        };
        let layers = spec.architecture.layers().iter().enumerate().map(layer).collect::<Result<_, BuildError>>()?;
        let mut init = WeightInit::new(spec.init, seed.rng("init/embedding", 0));
        let embedding = init.normal([spec.vocab_size, dims.d_model], spec.init.embedding_std(), device);
        Ok(Self { embedding, layers })
    }

    /// Returns the number of token ids.
    pub fn vocab_size(&self) -> usize {
        self.embedding.shape().dims::<2>()[0]
    }

    /// Returns the residual stream after the last layer. `tokens`: `[B, S]` to `[B, S, D]`.
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.layers.iter().fold(self.embed(tokens), |x, layer| layer.forward(x))
    }

    /// Returns the residual stream before the first layer. `tokens`: `[B, S]` to `[B, S, D]`.
    pub(crate) fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        embedding(self.embedding.val(), tokens)
    }

    /// Like [`forward`](Self::forward), and also returns the sum of the layers' auxiliary losses (one element), or
    /// `None` if no layer has one; see [`Mixer::aux_loss`](crate::layer::Mixer::aux_loss).
    pub(crate) fn forward_with_aux_loss(&self, tokens: Tensor<2, Int>) -> (Tensor<3>, Option<Tensor<1>>) {
        let start = (embedding(self.embedding.val(), tokens), None);
        self.layers.iter().fold(start, |(x, sum), layer| {
            let normed = layer.norm.forward(x.clone());
            let (y, aux_loss) = layer.mixer.forward_with_aux_loss(normed);
            (x + y, sum.into_iter().chain(aux_loss).reduce(|sum, aux_loss| sum + aux_loss))
        })
    }

    /// Returns the residual stream of `tokens`, which continue the sequences in `cache`, and appends them to the cache.
    /// `tokens`: `[B, S]` to `[B, S, D]`.
    pub fn decode(&self, tokens: Tensor<2, Int>, cache: &mut Cache) -> Tensor<3> {
        cache.0.resize_with(self.layers.len(), LayerCache::default);
        let x = embedding(self.embedding.val(), tokens);
        let layers = self.layers.iter().zip(&mut cache.0);
        layers.fold(x, |x, (layer, memory)| x.clone() + layer.mixer.step(layer.norm.forward(x), memory))
    }
}

/// The decoding state of all layers of a model, for one batch of sequences.
///
/// A new cache is empty. A clone is independent of the original, so several continuations can start from one prompt.
#[derive(Clone, Debug, Default)]
pub struct Cache(Vec<LayerCache>);

impl Cache {
    /// Returns the number of stored elements, over all layers and the whole batch.
    pub fn elements(&self) -> usize {
        self.0.iter().map(LayerCache::elements).sum()
    }
}
