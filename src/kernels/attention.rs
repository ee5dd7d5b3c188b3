//! Causal attention with grouped queries and rotary positions, over all keys or a sliding window.

use std::{num::NonZeroUsize, sync::Arc};

use burn::tensor::{DType, Device, Tensor, TensorData, activation::softmax};

use super::{
    KeyValues, PositionTables,
    rotary::{Rotation, frequencies},
};
use crate::dims::{Dims, Positions, RopeScaling};

/// Causal attention of projected queries, keys and values, with grouped queries (Ainslie et al. 2023, arXiv 2305.13245)
/// and rotary position embeddings (Su et al. 2021, arXiv 2104.09864) in the rotate-half convention of Llama.
///
/// It has no parameters. Keep it in a field with `#[module(skip)]`. Letters: `H` query heads, `K` key/value heads, `C`
/// channels per head.
#[derive(Clone, Debug)]
pub struct CausalAttention {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// The rotation of each pair of channels, in radians per position.
    frequencies: Arc<[f64]>,
    /// The number of keys that a query sees, including its own.
    window: NonZeroUsize,
    composed: PositionTables<Tables>,
    #[cfg(feature = "flex")]
    angles: PositionTables<Arc<super::flex::Angles>>,
}

impl CausalAttention {
    /// Creates attention with `heads` query heads that share `kv_heads` key/value heads, with `head_dim` channels per
    /// head, an even number. Channel pair `c` rotates by `rope_theta^(-2c/C)` radians per position, scaled by `scaling`
    /// if given.
    pub fn new(heads: usize, kv_heads: usize, head_dim: usize, rope_theta: f64, scaling: Option<RopeScaling>) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            frequencies: frequencies(head_dim, rope_theta, scaling).into(),
            window: NonZeroUsize::MAX,
            composed: PositionTables::default(),
            #[cfg(feature = "flex")]
            angles: PositionTables::default(),
        }
    }

    /// Returns the same attention over a sliding window: position `s` sees the last `keys` positions, from
    /// `s + 1 - keys` to `s`. Mistral (Jiang et al. 2023, arXiv 2310.06825, section 2) and `sliding_window` of
    /// transformers use the same convention.
    #[must_use]
    pub fn window(self, keys: NonZeroUsize) -> Self {
        Self { window: keys, composed: PositionTables::default(), ..self }
    }

    /// Returns the same attention with these positions. If only a share of the `C` channels is rotary, these are the
    /// pairs `(c, c + C/2)` with the smallest `c`.
    pub(crate) fn positions(self, dims: &Dims, positions: Positions) -> Self {
        let channels = positions.channels(self.head_dim);
        self.rotating(dims, channels)
    }

    /// Returns the same attention with only `channels` rotary channels per head: the pairs `(c, c + C/2)` with `c`
    /// below half their number.
    pub(crate) fn rotating(self, dims: &Dims, channels: usize) -> Self {
        let mut table = frequencies(channels, dims.rope_theta, dims.rope_scaling);
        table.resize(self.head_dim / 2, 0.0);
        Self {
            frequencies: table.into(),
            composed: PositionTables::default(),
            #[cfg(feature = "flex")]
            angles: PositionTables::default(),
            ..self
        }
    }

    /// Returns the outputs of the last `S` of `T` tokens, given the keys and values of all.
    ///
    /// # Shapes
    /// `query`: `[B, S, H C]`, `key` and `value`: `[B, T, K C]`, to `[B, S, H C]`.
    pub(crate) fn last(&self, query: Tensor<3>, key: Tensor<3>, value: Tensor<3>) -> Tensor<3> {
        let seq = query.dims()[1];
        let total = key.dims()[1];
        let device = query.device().without_autodiff();
        let past = total - seq;
        let rotation = |range, heads, scale| Rotation::new(range, heads, &self.frequencies, scale, &device);
        let query = rotation(past..total, self.heads, self.scale()).apply(query);
        let key = rotation(0..total, self.kv_heads, 1.0).apply(key);
        let bias = self.bias(past, seq, &device);
        self.mix([query, key, value], bias, None)
    }

    /// Like [`forward`](Self::forward), with learned attention sinks as in gpt-oss: `sinks`, `[H]`, are additional
    /// logits in the softmax, with a value of zero.
    pub(crate) fn forward_with_sinks(
        &self,
        query: Tensor<3>,
        key: Tensor<3>,
        value: Tensor<3>,
        sinks: &Tensor<1>,
    ) -> Tensor<3> {
        self.compose(query, key, value, Some(sinks))
    }

    /// Returns the attention outputs. Position `s` sees positions `0..=s`, or those of them in the window. Scores are
    /// divided by `sqrt(C)`.
    ///
    /// # Shapes
    /// `query`: `[B, S, H C]`, `key` and `value`: `[B, S, K C]`, to `[B, S, H C]`.
    pub fn forward(&self, query: Tensor<3>, key: Tensor<3>, value: Tensor<3>) -> Tensor<3> {
        #[cfg(feature = "flex")]
        if let Some(mixed) = self.kernel(&query, &key, &value) {
            return mixed;
        }
        self.compose(query, key, value, None)
    }

    #[cfg(feature = "flex")]
    fn kernel(&self, query: &Tensor<3>, key: &Tensor<3>, value: &Tensor<3>) -> Option<Tensor<3>> {
        use super::flex::{Angles, Attention, apply, input};

        let &Self { heads, kv_heads, head_dim: width, window, .. } = self;
        let shape = query.dims();
        let [batch, seq, _] = shape;
        let sizes = batch * seq * heads * kv_heads * width;
        let fits = shape[2] == heads * width && [key.dims(), value.dims()] == [[batch, seq, kv_heads * width]; 2];
        if !fits || sizes == 0 || !heads.is_multiple_of(kv_heads) || !width.is_multiple_of(2) {
            return None;
        }
        let inputs = [input(query)?, input(key)?, input(value)?];
        let angles = self.angles.get(seq, &query.device(), |_| Angles::new(seq, &self.frequencies).into());
        Some(apply(Attention { seq, heads, kv_heads, width, window: window.get(), angles }, inputs, shape))
    }

    /// Returns the outputs of the next tokens, which see the tokens in `past` and each other causally. Appends their
    /// keys and values to `past`, which keeps as many as the window needs.
    ///
    /// # Shapes
    /// As in [`forward`](Self::forward), for the next `S` tokens.
    pub fn extend(&self, query: Tensor<3>, key: Tensor<3>, value: Tensor<3>, past: &mut KeyValues) -> Tensor<3> {
        self.extend_with_sinks([query, key, value], past, None)
    }

    /// Like [`extend`](Self::extend), with optional attention sinks, `[H]`.
    pub(crate) fn extend_with_sinks(
        &self,
        [query, key, value]: [Tensor<3>; 3],
        past: &mut KeyValues,
        sinks: Option<&Tensor<1>>,
    ) -> Tensor<3> {
        let seq = query.dims()[1];
        let window = self.window.get();
        if seq > window {
            // In pieces, so that none sees more keys than two windows contain.
            let piece = |x: &Tensor<3>, at| x.clone().narrow(1, at, window.min(seq - at));
            let mut next = |at| {
                let pieces = [piece(&query, at), piece(&key, at), piece(&value, at)];
                self.extend_with_sinks(pieces, past, sinks)
            };
            return Tensor::cat((0..seq).step_by(window).map(&mut next).collect(), 1);
        }
        let start = past.tokens;
        let device = query.device().without_autodiff();
        let rotation = |heads, scale| Rotation::new(start..start + seq, heads, &self.frequencies, scale, &device);
        let query = rotation(self.heads, self.scale()).apply(query);
        let (key, value) = past.push(rotation(self.kv_heads, 1.0).apply(key), value, window);
        let bias = self.bias(key.dims()[1] - seq, seq, &device);
        self.mix([query, key, value], bias, sinks)
    }

    fn compose(&self, query: Tensor<3>, key: Tensor<3>, value: Tensor<3>, sinks: Option<&Tensor<1>>) -> Tensor<3> {
        let seq = query.dims()[1];
        let tables = self.composed.get(seq, &query.device(), |device| Tables::new(self, seq, device));
        let query = tables.query.apply(query);
        let key = tables.key.apply(key);
        if seq > self.window.get() {
            self.mix_blocks([query, key, value], tables.bias, sinks)
        } else {
            self.mix([query, key, value], tables.bias, sinks)
        }
    }

    /// Like [`mix`](Self::mix), for more queries than the window `W`. Blocks of `W` queries see the keys of their own
    /// block and of the previous one, so no tensor has size `S^2`.
    ///
    /// # Shapes
    /// `query`: `[B, S, H C]`, `key` and `value`: `[B, S, K C]`, `bias`: `[1, 1, (H/K) W, 2 W]`, to `[B, S, H C]`.
    fn mix_blocks(&self, [query, key, value]: [Tensor<3>; 3], bias: Tensor<4>, sinks: Option<&Tensor<1>>) -> Tensor<3> {
        let [batch, seq, width] = query.dims();
        let window = self.window.get();
        let later = seq.div_ceil(window) - 1;
        // Pad the last block with zeros at the end, which no earlier token sees.
        let [query, key, value] = [query, key, value].map(|x| {
            let [_, _, width] = x.dims();
            let missing = (later + 1) * window - seq;
            let zeros = Tensor::zeros([batch, missing, width], &x.device());
            if missing == 0 { x } else { Tensor::cat(vec![x, zeros], 1) }
        });
        let first = |x: &Tensor<3>| x.clone().narrow(1, 0, window);
        let head = self.mix([first(&query), first(&key), first(&value)], bias.clone().narrow(3, window, window), sinks);
        // Turns the blocks from token `start` on into separate sequences: [B, ..] -> [B N, W, ..].
        let blocks = |x: &Tensor<3>, start| {
            let [_, _, width] = x.dims();
            x.clone().narrow(1, start, later * window).reshape([batch * later, window, width])
        };
        let pairs = |x: &Tensor<3>| Tensor::cat(vec![blocks(x, 0), blocks(x, window)], 1);
        let rest = self.mix([blocks(&query, window), pairs(&key), pairs(&value)], bias, sinks);
        Tensor::cat(vec![head, rest.reshape([batch, later * window, width])], 1).narrow(1, 0, seq)
    }

    /// Returns the attention of rotated and scaled queries over rotated keys.
    ///
    /// # Shapes
    /// `query`: `[B, S, H C]`, `key` and `value`: `[B, T, K C]`, `bias`: `[1, 1, (H/K) S, T]`, to `[B, S, H C]`.
    fn mix(&self, [query, key, value]: [Tensor<3>; 3], bias: Tensor<4>, sinks: Option<&Tensor<1>>) -> Tensor<3> {
        let [batch, seq, _] = query.dims();
        let total = key.dims()[1];
        let heads = self.heads;
        let kv_heads = self.kv_heads;
        let width = self.head_dim;
        // [B, T, K C] -> [B, K, T, C]
        let split = |x: Tensor<3>, tokens| x.reshape([batch, tokens, kv_heads, width]).swap_dims(1, 2);
        let dtype = query.dtype();
        // Query heads that share a key/value head become rows of one product: [B, S, H C] -> [B, K, (H/K) S, C].
        let group = heads / kv_heads;
        let query = match group {
            1 => split(query, seq),
            _ => {
                let query: Tensor<5> = query.reshape([batch, seq, kv_heads, group, width]).permute([0, 2, 3, 1, 4]);
                query.reshape([batch, kv_heads, group * seq, width])
            }
        };
        // Attention weights are computed in single precision, products in the precision of the tensors.
        let scores = query.matmul(split(key, total).transpose()).cast(DType::F32);
        let value = split(value, total);
        let mixed = match sinks {
            None => attend(scores, bias, value).cast(dtype),
            Some(sinks) => {
                // [H] -> [1, K, (H/K) S, 1]: one score per row.
                let sinks: Tensor<4> = sinks.clone().cast(DType::F32).reshape([1, kv_heads, group, 1]);
                let sinks = sinks.repeat_dim(3, seq).reshape([1, kv_heads, group * seq, 1]);
                attend_or_not(scores + bias, sinks, value).cast(dtype)
            }
        };
        let mixed: Tensor<5> = mixed.reshape([batch, kv_heads, group, seq, width]);
        mixed.permute([0, 3, 1, 2, 4]).reshape([batch, seq, heads * width])
    }

    /// Returns the mask `[1, 1, (H/K) S, P + S]` after `P` past tokens: zero where query `i` sees key `j` (at most
    /// `P + i`, and within the window), and minus infinity elsewhere.
    fn bias(&self, past: usize, seq: usize, device: &Device) -> Tensor<4> {
        let rows = self.heads / self.kv_heads * seq;
        let total = past + seq;
        let bias = |at: usize| {
            let query = past + at / total % seq;
            let key = at % total;
            if key <= query && query - key < self.window.get() { 0.0 } else { f32::NEG_INFINITY }
        };
        let values: Vec<f32> = (0..rows * total).map(bias).collect();
        Tensor::from_data(TensorData::new(values, [1, 1, rows, total]), device)
    }

    /// `1 / sqrt(C)`.
    fn scale(&self) -> f64 {
        (self.head_dim as f64).powf(-0.5)
    }
}

/// The constants of one sequence length.
#[derive(Clone, Debug)]
struct Tables {
    /// Includes the factor `1 / sqrt(C)`.
    query: Rotation,
    key: Rotation,
    /// The mask of [`CausalAttention::bias`]: `[1, 1, (H/K) S, S]`, or `[1, 1, (H/K) W, 2 W]` for blocks of a window
    /// that is shorter than the sequence.
    bias: Tensor<4>,
}

impl Tables {
    fn new(attention: &CausalAttention, seq: usize, device: &Device) -> Self {
        let rotation = |heads, scale| Rotation::new(0..seq, heads, &attention.frequencies, scale, device);
        Self {
            query: rotation(attention.heads, attention.scale()),
            key: rotation(attention.kv_heads, 1.0),
            bias: match attention.window.get() {
                window if window < seq => attention.bias(window, window, device),
                _ => attention.bias(0, seq, device),
            },
        }
    }
}

/// Returns the attention weights: the softmax of `scores + bias` over the last axis. `bias` is a constant that can be
/// minus infinity.
///
/// Autodiff sees `weights + weights * (scores - constant(scores))`, whose last term is zero. The backward pass is then
/// one multiplication instead of the backward pass of the softmax. The derivative is that of `exp(scores + bias - c)`
/// with a constant normalizer `c`, so it lacks the normalization: divide by the sum of each row, which is one, as
/// [`attend`] does.
///
/// # Shapes
/// `scores`: `[B, N, Q, S]`, `bias`: `[1, 1, Q, S]`, to `[B, N, Q, S]`.
fn exponential_weights(scores: Tensor<4>, bias: Tensor<4>) -> Tensor<4> {
    let constant = scores.clone().inner();
    let weights = softmax(constant.clone() + bias, 3);
    if !scores.is_autodiff() {
        return weights;
    }
    weights.clone() + weights * (scores - constant)
}

/// Returns `softmax(scores + bias) value`. `bias` is a constant that can be minus infinity.
///
/// # Shapes
/// `scores`: `[B, N, Q, S]`, `bias`: `[1, 1, Q, S]`, `value`: `[B, N, S, C]`, to `[B, N, Q, C]`.
fn attend(scores: Tensor<4>, bias: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
    let weights = exponential_weights(scores, bias);
    let mixed = weights.clone().cast(value.dtype()).matmul(value).cast(DType::F32);
    if !weights.is_autodiff() { mixed } else { mixed / weights.sum_dim(3) }
}

/// Like [`attend`], with one more entry in the softmax that adds nothing to the output.
///
/// # Shapes
/// `scores`: `[B, N, Q, S]`, `sinks`: `[1, N, Q, 1]`, `value`: `[B, N, S, C]`, to `[B, N, Q, C]`.
fn attend_or_not(scores: Tensor<4>, sinks: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
    let [batch, _, _, keys] = scores.dims();
    let weights = softmax(Tensor::cat(vec![scores, sinks.repeat_dim(0, batch)], 3), 3).narrow(3, 0, keys);
    weights.cast(value.dtype()).matmul(value).cast(DType::F32)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::{Case, check, lift, lower};

    fn windowed(attention: CausalAttention, window: Option<usize>) -> CausalAttention {
        match window {
            Some(keys) => attention.window(NonZeroUsize::new(keys).unwrap()),
            None => attention,
        }
    }

    type Form = fn(&CausalAttention, Tensor<3>, Tensor<3>, Tensor<3>) -> Tensor<3>;

    fn fused(attention: &CausalAttention, query: Tensor<3>, key: Tensor<3>, value: Tensor<3>) -> Tensor<3> {
        attention.kernel(&query, &key, &value).unwrap()
    }

    fn composed(attention: &CausalAttention, query: Tensor<3>, key: Tensor<3>, value: Tensor<3>) -> Tensor<3> {
        attention.compose(query, key, value, None)
    }

    /// Batch, length, query heads, KV heads, head width.
    fn agrees(form: Form, [batch, seq, heads, kv_heads, width]: [usize; 5], window: Option<usize>, scale: f32) {
        let attention = windowed(CausalAttention::new(heads, kv_heads, width, 100.0, None), window);
        let all = [batch, seq, heads * width];
        let shared = [batch, seq, kv_heads * width];
        let shapes = [all.to_vec(), shared.to_vec(), shared.to_vec()];
        let lifted = |x: &[Tensor<1>]| (lift(&x[0], all), lift(&x[1], shared), lift(&x[2], shared));
        check(
            Case { shapes: &shapes, scale, tolerance: 1e-5 },
            &|x| {
                let (query, key, value) = lifted(x);
                lower(form(&attention, query, key, value))
            },
            &|x| {
                let (query, key, value) = lifted(x);
                lower(plain(&attention, query, key, value))
            },
        );
    }

    /// Burn's own softmax over all keys, with a mask.
    fn plain(attention: &CausalAttention, query: Tensor<3>, key: Tensor<3>, value: Tensor<3>) -> Tensor<3> {
        let [batch, seq, _] = query.dims();
        let group = attention.heads / attention.kv_heads;
        let width = attention.head_dim;
        let tables = attention.composed.get(seq, &query.device(), |device| Tables::new(attention, seq, device));
        let device = key.device().without_autodiff();
        let split = |x: Tensor<3>, heads| -> Tensor<4> { x.reshape([batch, seq, heads, width]).swap_dims(1, 2) };
        let shared = |x| -> Tensor<4> {
            let x: Tensor<5> = split(x, attention.kv_heads).unsqueeze_dim::<5>(2).repeat_dim(2, group);
            x.reshape([batch, attention.heads, seq, width])
        };
        let scores =
            split(tables.query.apply(query), attention.heads).matmul(shared(tables.key.apply(key)).transpose());
        let mask = attention.bias(0, seq, &device);
        let weights = softmax(scores + mask.slice([0..1, 0..1, 0..seq, 0..seq]), 3);
        weights.matmul(shared(value)).swap_dims(1, 2).reshape([batch, seq, attention.heads * width])
    }

    #[test]
    fn value_and_gradients_are_those_of_burns_composition() {
        let general = [[1, 1, 1, 1, 2], [2, 7, 2, 2, 6], [1, 5, 4, 2, 4], [2, 13, 6, 1, 4], [1, 70, 2, 1, 32]];
        let narrow = [
            [1, 1, 1, 1, 8],
            [2, 16, 2, 2, 8],
            [2, 24, 4, 2, 8],
            [1, 70, 2, 1, 8],
            [2, 17, 3, 1, 16],
            [1, 520, 1, 1, 16],
        ];
        for sizes in general.into_iter().chain(narrow) {
            for form in [fused as Form, composed] {
                agrees(form, sizes, None, 1.0);
                agrees(form, sizes, None, 3.0);
            }
        }
    }

    #[test]
    fn a_window_is_a_banded_mask() {
        for (seq, window) in [(1, 1), (5, 1), (6, 3), (7, 3), (5, 5), (6, 5), (70, 9), (100, 40), (5, usize::MAX)] {
            for (form, width) in [(fused as Form, 4), (fused, 8), (fused, 16), (composed, 4)] {
                agrees(form, [2, seq, 4, 2, width], Some(window), 2.0);
            }
        }
    }

    #[test]
    fn large_and_very_negative_scores_stay_finite() {
        for (sign, width) in [(1.0, 2), (-1.0, 2), (1.0, 8), (-1.0, 8)] {
            let attention = CausalAttention::new(1, 1, width, 1e9, None);
            let device = Device::flex().autodiff();
            let constant = |x: f32| Tensor::<3>::full([1, 19, width], x, &device).require_grad();
            let query = constant(sign * 100.0);
            let key = constant(100.0);
            let value = constant(0.5);
            let y = attention.forward(query.clone(), key.clone(), value.clone());
            let gradients = y.clone().sum().backward();
            for x in [y.inner(), query.grad(&gradients).unwrap(), value.grad(&gradients).unwrap()] {
                assert!(x.into_data().try_into_vec::<f32>().unwrap().iter().all(|x| x.is_finite()));
            }
        }
    }

    #[test]
    fn permuted_inputs_keep_their_order() {
        let attention = CausalAttention::new(2, 1, 4, 100.0, None);
        let shapes = [vec![3, 5, 8], vec![3, 5, 4], vec![3, 5, 4]];
        let run = |form: &dyn Fn(Tensor<3>, Tensor<3>, Tensor<3>) -> Tensor<3>, x: &[Tensor<1>]| {
            let swapped = |x: &Tensor<1>, width| lift::<3>(x, [5, 3, width]).swap_dims(0, 1);
            lower(form(swapped(&x[0], 8), swapped(&x[1], 4), swapped(&x[2], 4)))
        };
        check(
            Case { shapes: &shapes, scale: 2.0, tolerance: 1e-5 },
            &|x| run(&|q, k, v| attention.forward(q, k, v), x),
            &|x| run(&|q, k, v| plain(&attention, q, k, v), x),
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_shape_agrees(
            batch in 1usize..3,
            seq in 1usize..70,
            kv_heads in 1usize..4,
            group in 1usize..4,
            half in 1usize..9,
            window in 1usize..80,
        ) {
            agrees(fused, [batch, seq, kv_heads * group, kv_heads, 2 * half], Some(window), 1.5);
        }
    }
}
