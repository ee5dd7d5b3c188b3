//! The causal language model.

use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Int, Tensor},
};

use super::{Backbone, Cache, ModelSpec, Network, RmsNorm};
use crate::{
    kernels::{linear_transposed, project},
    layer::WeightInit,
    primitive::{BuildError, Primitives},
    seed::Seed,
};

/// A causal language model: embedding, residual blocks, norm and head.
///
/// Letters: `B` batch, `S` sequence, `D` model width, `V` vocabulary.
#[derive(Module, Debug)]
pub struct HybridLm {
    /// The embedding and the layers.
    pub backbone: Backbone,
    /// The norm before the head.
    pub norm: RmsNorm,
    /// The output head: `[D, V]`. `None` if the head shares the embedding's weights.
    pub head: Option<Linear>,
}

impl HybridLm {
    /// Builds the model. The weights depend only on `spec`, the primitives and `seed`.
    ///
    /// Layer `i` draws from stream `init/layer` `i`, the embedding from `init/embedding` 0, and the head from
    /// `init/head` 0.
    ///
    /// # Errors
    /// Returns a [`BuildError`] if the spec is empty, inconsistent or too large for this machine, or if a primitive is
    /// missing or cannot build its layer.
    pub fn new(spec: &ModelSpec, primitives: &Primitives, seed: Seed, device: &Device) -> Result<Self, BuildError> {
        let backbone = Backbone::new(spec, primitives, seed, device)?;
        let width = spec.dims.d_model;
        let vocab = spec.vocab_size;
        let mut init = WeightInit::new(spec.init, seed.rng("init/head", 0));
        let head = match (spec.tied_embeddings, spec.head_bias) {
            (true, _) => None,
            (false, true) => Some(init.linear_with_bias(width, vocab, device)),
            (false, false) => Some(init.linear(width, vocab, device)),
        };
        Ok(Self { backbone, norm: RmsNorm::new(width, spec.dims.norm_eps, device), head })
    }

    /// Returns whether several networks of this shape can be trained as one; see
    /// [`Mixer::can_ensemble`](crate::layer::Mixer::can_ensemble).
    pub(crate) fn can_ensemble(&self) -> bool {
        self.head.is_some() && self.backbone.layers.iter().all(|layer| layer.mixer.can_ensemble())
    }

    /// Returns the logits of the next token. `tokens`: `[B, S]` to `[B, S, V]`. Position `s` depends on tokens `0..=s`
    /// only.
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.score(self.backbone.forward(tokens))
    }

    /// Returns the logits of the next token after each of `tokens`, which continue the sequences in `cache`, and
    /// appends them to the cache. `tokens`: `[B, S]` to `[B, S, V]`.
    ///
    /// The logits equal those of [`forward`](Self::forward) up to rounding, however a sequence is divided into calls.
    pub fn decode(&self, tokens: Tensor<2, Int>, cache: &mut Cache) -> Tensor<3> {
        self.score(self.backbone.decode(tokens, cache))
    }

    /// Like [`decode`](Self::decode), but returns only the logits after the last token: `[B, S]` to `[B, 1, V]`.
    pub(crate) fn decode_last(&self, tokens: Tensor<2, Int>, cache: &mut Cache) -> Tensor<3> {
        let x = self.backbone.decode(tokens, cache);
        let [batch, seq, width] = x.dims();
        self.score(x.slice([0..batch, seq.saturating_sub(1)..seq, 0..width]))
    }

    /// Returns the logits from the residual stream after the last layer. `x`: `[B, S, D]` to `[B, S, V]`.
    pub(crate) fn score(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.norm.forward(x);
        match &self.head {
            Some(head) => project(x, head),
            None => linear_transposed(x, self.backbone.embedding.val()),
        }
    }
}

impl Network for HybridLm {
    fn vocab_size(&self) -> usize {
        self.backbone.vocab_size()
    }

    fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.forward(tokens)
    }

    fn logits_and_aux_loss(&self, tokens: Tensor<2, Int>) -> (Tensor<3>, Option<Tensor<1>>) {
        let (x, aux_loss) = self.backbone.forward_with_aux_loss(tokens);
        (self.score(x), aux_loss)
    }
}
