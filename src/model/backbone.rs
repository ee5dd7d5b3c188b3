//! What every model shares: the embedding and the residual blocks.

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
    /// `[V, D]`.
    pub embedding: Param<Tensor<2>>,
    /// The layers, first to last.
    pub layers: Vec<ResidualBlock>,
}

/// One layer with its pre-norm: `x + mixer(norm(x))`.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// In front of the mixer.
    pub norm: RmsNorm,
    /// The layer itself.
    pub mixer: Block,
}

impl ResidualBlock {
    /// The residual stream behind the layer. `x`: `[B, S, D]` to `[B, S, D]`.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        x.clone() + self.mixer.forward(self.norm.forward(x))
    }
}

impl Backbone {
    /// Builds embedding and layers. Layer `i` draws from stream `init/layer` `i` and the embedding from
    /// `init/embedding` 0, so the weights of a layer depend on neither its neighbours nor on other threads.
    ///
    /// # Errors
    /// [`BuildError`] when the spec is empty, contradicts itself or is too large for this machine, or a primitive is
    /// missing or refuses.
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

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        self.embedding.shape().dims::<2>()[0]
    }

    /// The residual stream after the last layer. `tokens`: `[B, S]` to `[B, S, D]`.
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.layers.iter().fold(self.embed(tokens), |x, layer| layer.forward(x))
    }

    /// The residual stream before the first layer. `tokens`: `[B, S]` to `[B, S, D]`.
    pub(crate) fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        embedding(self.embedding.val(), tokens)
    }

    /// As [`forward`](Self::forward), with the sum of what the layers add to the loss in training, one element, where
    /// any does; see [`Mixer::aux_loss`](crate::layer::Mixer::aux_loss).
    pub(crate) fn forward_with_aux_loss(&self, tokens: Tensor<2, Int>) -> (Tensor<3>, Option<Tensor<1>>) {
        let start = (embedding(self.embedding.val(), tokens), None);
        self.layers.iter().fold(start, |(x, sum), layer| {
            let normed = layer.norm.forward(x.clone());
            let sum = sum.into_iter().chain(layer.mixer.aux_loss(&normed)).reduce(|sum, aux_loss| sum + aux_loss);
            (x + layer.mixer.forward(normed), sum)
        })
    }

    /// The residual stream of the tokens that follow those in `cache`, which then holds them too. `tokens`: `[B, S]` to
    /// `[B, S, D]`.
    pub fn decode(&self, tokens: Tensor<2, Int>, cache: &mut Cache) -> Tensor<3> {
        cache.0.resize_with(self.layers.len(), LayerCache::default);
        let x = embedding(self.embedding.val(), tokens);
        let layers = self.layers.iter().zip(&mut cache.0);
        layers.fold(x, |x, (layer, memory)| x.clone() + layer.mixer.step(layer.norm.forward(x), memory))
    }
}

/// What the layers of one model remember of the tokens they have decoded, for one batch of sequences. Empty at first; a
/// clone goes on by itself, which is how one prompt serves several continuations.
#[derive(Clone, Debug, Default)]
pub struct Cache(Vec<LayerCache>);

impl Cache {
    /// Numbers kept, over all layers and the whole batch.
    pub fn elements(&self) -> usize {
        self.0.iter().map(LayerCache::elements).sum()
    }
}
