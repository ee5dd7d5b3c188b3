//! The auto-encoder of the MAD compression task (Poli et al. 2024, arXiv 2403.17844; reference implementation:
//! athms/mad-lab at commit 0f49a45).

use burn::{
    module::Module,
    nn::Linear,
    tensor::{Device, Int, Tensor, TensorData, activation::gelu},
};

use super::{Backbone, ModelSpec, Network, RmsNorm};
use crate::{
    dims::InitScheme,
    kernels::{PositionTables, project},
    layer::WeightInit,
    primitive::{BuildError, Primitives},
    seed::Seed,
};

/// Standard deviation of every linear weight of the decoder, and of the mixers in the reference implementation.
const DECODER_STD: f64 = 0.02;

/// A model that reconstructs its whole input from the residual stream at the last position.
///
/// The decoder adds a fixed sinusoidal position encoding to that last state and maps the sum through norm, linear,
/// GELU, norm, linear, GELU, norm, linear, without residual connections.
///
/// Letters: `B` batch, `S` sequence, `D` model width, `V` vocabulary.
#[derive(Module, Debug)]
pub struct AutoEncoder {
    /// The embedding and the layers.
    pub backbone: Backbone,
    /// The two decoder stages.
    pub decoder: Vec<DecoderStage>,
    /// The norm before the head.
    pub norm: RmsNorm,
    /// The output head: `[D, V]`, with bias.
    pub head: Linear,
    #[module(skip)]
    positions: PositionTables<Tensor<3>>,
}

/// One stage of the decoder: norm, linear map, GELU (erf form).
#[derive(Module, Debug)]
pub struct DecoderStage {
    /// The norm before the linear map.
    pub norm: RmsNorm,
    /// The linear map: `[D, D]`, with bias.
    pub linear: Linear,
}

impl AutoEncoder {
    /// Builds the model.
    ///
    /// The embedding and the layers are initialized as in [`HybridLm`](super::HybridLm). The decoder draws from stream
    /// `init/decoder` and the head from `init/head`; both use N(0, 0.02) weights and zero biases, regardless of
    /// `spec.init`. The reference implementation also uses `InitScheme::Normal(0.02)` for the layers. `tied_embeddings`
    /// and `head_bias` are ignored.
    ///
    /// # Errors
    /// Returns a [`BuildError`] if the spec is empty or inconsistent, if the width is odd or below 4, or if a primitive
    /// is missing or cannot build its layer.
    pub fn new(spec: &ModelSpec, primitives: &Primitives, seed: Seed, device: &Device) -> Result<Self, BuildError> {
        let width = spec.dims.d_model;
        let epsilon = spec.dims.norm_eps;
        if width < 4 || !width.is_multiple_of(2) {
            return Err(BuildError::PositionCode(width));
        }
        let backbone = Backbone::new(spec, primitives, seed, device)?;
        let decoder = (0..2)
            .map(|stage| DecoderStage {
                norm: RmsNorm::new(width, epsilon, device),
                linear: WeightInit::new(InitScheme::Normal(DECODER_STD), seed.rng("init/decoder", stage))
                    .linear_with_bias(width, width, device),
            })
            .collect();
        let head = WeightInit::new(InitScheme::Normal(DECODER_STD), seed.rng("init/head", 0)).linear_with_bias(
            width,
            spec.vocab_size,
            device,
        );
        let norm = RmsNorm::new(width, epsilon, device);
        Ok(Self { backbone, decoder, norm, head, positions: PositionTables::default() })
    }

    /// Returns the logits of the reconstructed token at every position. `tokens`: `[B, S]` to `[B, S, V]`.
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.decode(self.backbone.forward(tokens))
    }

    /// Decodes the last position. `x`: `[B, S, D]` to `[B, S, V]`.
    fn decode(&self, x: Tensor<3>) -> Tensor<3> {
        let [_, seq, width] = x.dims();
        let code = self.positions.get(seq, &x.device(), |device| position_code(seq, width, device));
        // [B, 1, D] + [1, S, D]
        let x = x.narrow(1, seq - 1, 1) + code;
        let x = self.decoder.iter().fold(x, |x, stage| gelu(project(stage.norm.forward(x), &stage.linear)));
        project(self.norm.forward(x), &self.head)
    }
}

impl Network for AutoEncoder {
    fn vocab_size(&self) -> usize {
        self.backbone.vocab_size()
    }

    fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.forward(tokens)
    }

    fn logits_and_aux_loss(&self, tokens: Tensor<2, Int>) -> (Tensor<3>, Option<Tensor<1>>) {
        let (x, aux_loss) = self.backbone.forward_with_aux_loss(tokens);
        (self.decode(x), aux_loss)
    }
}

/// Returns the position encoding, `[1, S, D]`: `sin(p f_i)` for `i < D/2`, then `cos(p f_i)`, where
/// `f_i = exp(-i ln(10^4) / (D/2 - 1))`.
fn position_code(seq: usize, width: usize, device: &Device) -> Tensor<3> {
    let half = width / 2;
    let value = |at: usize| {
        let position = at / width;
        let channel = at % width;
        let frequency = (-((channel % half) as f64) * 1e4f64.ln() / (half - 1) as f64).exp();
        let angle = position as f64 * frequency;
        (if channel < half { angle.sin() } else { angle.cos() }) as f32
    };
    let values: Vec<f32> = (0..seq * width).map(value).collect();
    Tensor::from_data(TensorData::new(values, [1, seq, width]), device)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::dims::Dims;

    fn spec(architecture: &str) -> ModelSpec {
        ModelSpec {
            architecture: architecture.parse().unwrap(),
            dims: Dims { kv_heads: 2, attention_bias: true, ..Dims::new(16, 24, 4).unwrap() },
            vocab_size: 11,
            tied_embeddings: false,
            head_bias: true,
            init: InitScheme::Normal(0.3),
        }
    }

    #[test]
    fn widths_without_a_position_code_are_refused() {
        let dims = Dims { head_dim: 4, ..Dims::new(6, 8, 3).unwrap() };
        let odd = ModelSpec { dims: Dims { d_model: 5, ..dims }, ..spec("M") };
        let built = AutoEncoder::new(&odd, &Primitives::paper(), Seed(1), &Device::flex());
        assert!(matches!(built, Err(BuildError::PositionCode(5))));
    }

    #[test]
    fn the_last_state_is_decoded_at_every_position() {
        let device = Device::flex();
        let spec = spec("AM");
        let primitives = Primitives::paper();
        let model = AutoEncoder::new(&spec, &primitives, Seed(1), &device).unwrap();
        let v = 11;
        let d = 16;
        let cost =
            |symbol: &str| primitives.get(symbol.parse().unwrap()).unwrap().cost(&spec.dims, 1).parameters as usize;
        let decoder = 2 * (d + d * d + d) + d + d * v + v;
        assert_eq!(model.num_params(), v * d + 2 * d + cost("A") + cost("M") + decoder);

        let logits = |ids: [i32; 4]| -> Vec<f32> {
            let tokens = Tensor::from_data(TensorData::new(ids.to_vec(), [1, 4]), &device);
            model.logits(tokens).into_data().try_into_vec().unwrap()
        };
        let before = logits([1, 2, 3, 10]);
        let after = logits([4, 2, 3, 10]);
        assert_eq!(before.len(), 4 * v);
        // What the first token was shows at every position, the last included: they all decode one state.
        assert!((0..4).all(|p| before[p * v..][..v] != after[p * v..][..v]));
        assert!((1..4).all(|p| before[..v] != before[p * v..][..v]));
        let bias: Vec<f32> = model.head.bias.as_ref().unwrap().val().into_data().try_into_vec().unwrap();
        assert!(bias.len() == v && bias.iter().all(|&bias| bias == 0.0));
    }
}
