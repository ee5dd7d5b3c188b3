//! The gated delta rule, in chunks.
//!
//! Notation (Yang et al. 2024, arXiv 2412.06464): `K` key heads with `C` channels each; `V` value heads with `P`
//! channels each, of which `V / K` share a key head; chunks of `L` tokens. For each value head, `q` and `k` have unit
//! length, `q` is divided by `sqrt(C)`, `beta = sigmoid(beta_logits)`, and
//! `alpha = exp(-exp(a_log) softplus(decay + dt_bias))`. The state `s`, `[C, P]`, and the output are
//!
//! `s_t = alpha_t s_(t-1) + k_t (beta_t (v_t - alpha_t s_(t-1)^T k_t))^T`, `y_t = s_t^T q_t` (equation 10).
//!
//! Inside a chunk (section 3.3), let `c` be the running sum of `ln alpha` and `l_ij = exp(c_i - c_j)`. The corrections
//! `w = beta (v - ...)` of all tokens solve the triangular system `(I + A) w = beta (v - exp(c) k s)` with
//! `A_ij = beta_i k_i^T k_j l_ij` for `j < i`; then `y = exp(c) q s + (q k^T * l) w`.

use burn::tensor::{
    Tensor, TensorData,
    activation::{sigmoid, softplus},
};

use crate::dims::DeltaRule;

use super::decay::{Chunks, decays, share, single};

/// The inputs of the delta rule.
#[derive(Clone, Debug)]
pub struct DeltaRuleInputs {
    /// `q | k | v`: `[B, S, 2 K C + V P]`.
    pub qkv: Tensor<3>,
    /// Beta before the sigmoid: `[B, S, V]`.
    pub beta_logits: Tensor<3>,
    /// The decay before bias and softplus: `[B, S, V]`.
    pub decay: Tensor<3>,
    /// The bias of the decay: `[V]`.
    pub dt_bias: Tensor<1>,
    /// The logarithm of the decay rate: `[V]`.
    pub a_log: Tensor<1>,
}

/// Added to the squared length of queries and keys.
pub(crate) const LENGTH_EPSILON: f32 = 1e-6;

impl DeltaRule {
    /// Returns the outputs of whole sequences: `[B, S, V P]`.
    pub fn forward(&self, inputs: DeltaRuleInputs) -> Tensor<3> {
        #[cfg(feature = "flex")]
        if let Some(y) = self.kernel(&inputs) {
            return y;
        }
        let start = self.start(&inputs.qkv);
        self.extend(inputs, start).0
    }

    /// Returns the state before the first token, with the batch size and the device of `x`: `[B, V, C, P]`.
    pub fn start(&self, x: &Tensor<3>) -> Tensor<4> {
        single(Tensor::zeros([x.dims()[0], self.value_heads, self.key_width, self.value_width], &x.device()))
    }

    /// Returns the outputs of the tokens that follow `past`, and the state after them.
    ///
    /// # Shapes
    /// `past`: `[B, V, C, P]`, to `[B, S, V P]` and `[B, V, C, P]`.
    pub fn extend(&self, inputs: DeltaRuleInputs, past: Tensor<4>) -> (Tensor<3>, Tensor<4>) {
        let &Self { key_heads, value_heads, key_width, value_width, chunk } = self;
        let DeltaRuleInputs { qkv, beta_logits, decay, dt_bias, a_log } = inputs;
        let [batch, seq, _] = qkv.dims();
        let precision = qkv.dtype();
        let chunks = Chunks::new(batch, seq, chunk);
        let qkv = single(qkv);
        let keys = key_heads * key_width;
        let part = |from, len, heads| chunks.cut(qkv.clone().narrow(2, from, len), heads);
        let q = unit(part(0, keys, key_heads)) * (key_width as f64).powf(-0.5);
        let k = unit(part(keys, keys, key_heads));
        let v = part(2 * keys, value_heads * value_width, value_heads);
        // [B N, V, L, 1]
        let beta = chunks.cut(sigmoid(single(beta_logits)), value_heads);
        let dt = softplus(single(decay) + single(dt_bias).unsqueeze(), 1.0);
        let g = chunks.cut(dt * -single(a_log).exp().unsqueeze(), value_heads).squeeze_dim::<3>(3);
        let l = decays(g.clone());
        let reached = g.cumsum(2).exp().unsqueeze_dim::<4>(3);
        let overlap = share(k.clone().matmul(k.clone().transpose()), value_heads) * l.clone();
        let solved = inverse((overlap * beta.clone()).tril(-1));
        let scores = share(q.clone().matmul(k.clone().transpose()), value_heads) * l.clone();
        let q = share(q, value_heads);
        let k = share(k, value_heads);
        let step = Step {
            wanted: solved.clone().matmul(v * beta.clone()),
            known: solved.matmul(k.clone() * beta * reached.clone()),
            scores,
            q: q * reached.clone(),
            k: k * l.narrow(2, chunks.len - 1, 1).transpose(),
            passed: reached.narrow(2, chunks.len - 1, 1),
        };
        let mut state = past;
        let mut outputs = Vec::new();
        for at in 0..chunks.count {
            let (y, next) = step.of(chunks, at).apply(state);
            state = next;
            outputs = [outputs, vec![y]].concat();
        }
        let y = Tensor::cat(outputs.into_iter().map(|y| y.unsqueeze_dim::<5>(1)).collect(), 1);
        let y = y.reshape([batch * chunks.count, value_heads, chunks.len, value_width]);
        (chunks.join(y).cast(precision), state)
    }

    #[cfg(feature = "flex")]
    fn kernel(&self, inputs: &DeltaRuleInputs) -> Option<Tensor<3>> {
        use super::flex::{DeltaScan, apply, input};

        let &Self { key_heads, value_heads, key_width, value_width, chunk } = self;
        let DeltaRuleInputs { qkv, beta_logits, decay, dt_bias, a_log } = inputs;
        let [batch, seq, all] = qkv.dims();
        let gates = [beta_logits.dims(), decay.dims()] == [[batch, seq, value_heads]; 2];
        let vectors = [dt_bias.dims(), a_log.dims()] == [[value_heads]; 2];
        let fits = all == 2 * key_heads * key_width + value_heads * value_width && gates && vectors;
        let sizes = batch * seq * key_heads * value_heads * key_width * value_width * chunk;
        if !fits || sizes == 0 || !value_heads.is_multiple_of(key_heads) {
            return None;
        }
        let inputs = [input(qkv)?, input(beta_logits)?, input(decay)?, input(dt_bias)?, input(a_log)?];
        Some(apply(DeltaScan { seq, sizes: *self }, inputs, [batch, seq, value_heads * value_width]))
    }
}

/// The terms by which a chunk updates a state, `[_, V, _, _]` each.
#[derive(Clone)]
struct Step {
    /// `(I + A)^-1 beta v`, `[L, P]`.
    wanted: Tensor<4>,
    /// `(I + A)^-1 beta exp(c) k`, `[L, C]`.
    known: Tensor<4>,
    /// `q k^T * l`, `[L, L]`.
    scores: Tensor<4>,
    /// `exp(c) q`, `[L, C]`.
    q: Tensor<4>,
    /// `exp(c_last - c) k`, `[L, C]`.
    k: Tensor<4>,
    /// `exp(c_last)`, `[1, 1]`.
    passed: Tensor<4>,
}

impl Step {
    /// Returns the terms of chunk `at` only: `[B, V, _, _]`.
    fn of(&self, chunks: Chunks, at: usize) -> Self {
        let one = |x: &Tensor<4>| {
            let [_, heads, rows, columns] = x.dims();
            let all: Tensor<5> = x.clone().reshape([chunks.batch, chunks.count, heads, rows, columns]);
            all.narrow(1, at, 1).squeeze_dim::<4>(1)
        };
        let Self { wanted, known, scores, q, k, passed } = self;
        let [wanted, known, scores, q, k, passed] = [wanted, known, scores, q, k, passed].map(one);
        Self { wanted, known, scores, q, k, passed }
    }

    /// Returns the outputs, `[B, V, L, P]`, and the state after the chunk.
    fn apply(self, state: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let corrections = self.wanted - self.known.matmul(state.clone());
        let y = self.q.matmul(state.clone()) + self.scores.matmul(corrections.clone());
        (y, state * self.passed + self.k.transpose().matmul(corrections))
    }
}

/// Scales the rows to unit length.
fn unit(x: Tensor<4>) -> Tensor<4> {
    let square = (x.clone() * x.clone()).sum_dim(3);
    x * (square + LENGTH_EPSILON).sqrt().recip()
}

/// Returns `(I + a)^-1` for `a` below the diagonal. Diagonal blocks of size 1, 2, 4, ... are inverted in turn, using
/// `[[t, 0], [b, u]]^-1 = [[t^-1, 0], [-u^-1 b t^-1, u^-1]]`. The alternative, a product of `I + a^(2^n)`, needs powers
/// of `a`, which exceed any precision if keys repeat.
///
/// Autodiff sees `t - t (a - constant(a)) t`, whose last term is zero, so the backward pass needs only two products.
fn inverse(a: Tensor<4>) -> Tensor<4> {
    let constant = a.clone().inner();
    let len = a.dims()[3];
    let table = |value: &dyn Fn(usize, usize) -> bool| {
        let values: Vec<f32> = (0..len * len).map(|at| f32::from(u8::from(value(at / len, at % len)))).collect();
        Tensor::<4>::from_data(TensorData::new(values, [1, 1, len, len]), &constant.device())
    };
    let mut solved = table(&|i, j| i == j).expand(constant.dims());
    let mut block = 1;
    while block < len {
        let joined = |i: usize, j: usize| i / (2 * block) == j / (2 * block) && i / block > j / block;
        let below = constant.clone() * table(&joined);
        solved = solved.clone() - solved.clone().matmul(below).matmul(solved);
        block *= 2;
    }
    if !a.is_autodiff() {
        return solved;
    }
    solved.clone() - solved.clone().matmul(a - constant).matmul(solved)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::{Case, check, check_reference, lift, lower};

    /// Computes each sequence token by token.
    fn recurrence(sizes: DeltaRule, seq: usize, t: &[Vec<f64>]) -> Vec<f64> {
        let DeltaRule { key_heads, value_heads, key_width, value_width, .. } = sizes;
        let keys = key_heads * key_width;
        let columns = 2 * key_heads * key_width + value_heads * value_width;
        let unit = |x: &[f64]| {
            let length = (x.iter().map(|x| x * x).sum::<f64>() + f64::from(LENGTH_EPSILON)).sqrt();
            x.iter().map(|x| x / length).collect::<Vec<f64>>()
        };
        let mut y = Vec::new();
        for (sequence, qkv) in t[0].chunks(seq * columns).enumerate() {
            let mut states = vec![vec![0.0; key_width * value_width]; value_heads];
            for (token, qkv) in qkv.chunks(columns).enumerate() {
                for (head, s) in states.iter_mut().enumerate() {
                    let gate = (sequence * seq + token) * value_heads + head;
                    let key = head / (value_heads / key_heads);
                    let beta = 1.0 / (1.0 + (-t[1][gate]).exp());
                    let alpha = (-t[4][head].exp() * (t[2][gate] + t[3][head]).exp().ln_1p()).exp();
                    let q = unit(&qkv[key * key_width..][..key_width]);
                    let k = unit(&qkv[keys + key * key_width..][..key_width]);
                    for p in 0..value_width {
                        let read = |s: &[f64], x: &[f64]| {
                            x.iter().enumerate().map(|(c, x)| x * s[c * value_width + p]).sum::<f64>()
                        };
                        let wanted = qkv[2 * keys + head * value_width + p];
                        let correction = beta * (wanted - alpha * read(s, &k));
                        (0..key_width).for_each(|c| {
                            let s = &mut s[c * value_width + p];
                            *s = alpha * *s + k[c] * correction;
                        });
                        y.push(read(s, &q) / (key_width as f64).sqrt());
                    }
                }
            }
        }
        y
    }

    fn shapes(sizes: DeltaRule, batch: usize, seq: usize) -> Vec<Vec<usize>> {
        let heads = sizes.value_heads;
        let columns = 2 * sizes.key_heads * sizes.key_width + heads * sizes.value_width;
        vec![vec![batch, seq, columns], vec![batch, seq, heads], vec![batch, seq, heads], vec![heads], vec![heads]]
    }

    fn inputs(sizes: DeltaRule, batch: usize, seq: usize, t: &[Tensor<1>]) -> DeltaRuleInputs {
        let gates = [batch, seq, sizes.value_heads];
        DeltaRuleInputs {
            qkv: lift(&t[0], [batch, seq, shapes(sizes, batch, seq)[0][2]]),
            beta_logits: lift(&t[1], gates),
            decay: lift(&t[2], gates),
            dt_bias: t[3].clone(),
            a_log: t[4].clone(),
        }
    }

    fn composed(sizes: DeltaRule, inputs: DeltaRuleInputs) -> Tensor<3> {
        let start = sizes.start(&inputs.qkv);
        sizes.extend(inputs, start).0
    }

    fn sizes(key_heads: usize, value_heads: usize, chunk: usize) -> DeltaRule {
        DeltaRule { key_heads, value_heads, key_width: 3, value_width: 4, chunk }
    }

    #[test]
    fn both_forms_are_the_recurrence_at_any_length() {
        let chunk = 4;
        for (key_heads, value_heads) in [(1, 1), (2, 4)] {
            let sizes = sizes(key_heads, value_heads, chunk);
            for seq in [1, chunk - 1, chunk, chunk + 1, 3 * chunk + 5] {
                let shapes = shapes(sizes, 2, seq);
                for scale in [1.0, 2.5] {
                    let case = || Case { shapes: &shapes, scale, tolerance: 1e-4 };
                    let want = |t: &[Vec<f64>]| recurrence(sizes, seq, t);
                    let kernel = |t: &[Tensor<1>]| lower(sizes.kernel(&inputs(sizes, 2, seq, t)).unwrap());
                    check_reference(case(), &kernel, &want);
                    check_reference(case(), &|t| lower(composed(sizes, inputs(sizes, 2, seq, t))), &want);
                }
            }
        }
    }

    fn agrees(sizes: DeltaRule, batch: usize, seq: usize, scale: f32) {
        check(
            Case { shapes: &shapes(sizes, batch, seq), scale, tolerance: 2e-5 },
            &|t| lower(sizes.kernel(&inputs(sizes, batch, seq, t)).unwrap()),
            &|t| lower(composed(sizes, inputs(sizes, batch, seq, t))),
        );
    }

    #[test]
    fn the_kernel_agrees_with_the_composed_form() {
        agrees(DeltaRule { key_heads: 2, value_heads: 2, key_width: 16, value_width: 8, chunk: 32 }, 2, 70, 1.0);
        agrees(DeltaRule { key_heads: 2, value_heads: 4, key_width: 5, value_width: 20, chunk: 16 }, 1, 33, 1.5);
        agrees(DeltaRule { key_heads: 1, value_heads: 1, key_width: 33, value_width: 3, chunk: 64 }, 2, 64, 1.0);
    }

    /// Closed and open gates, with decays from none to complete, in one batch.
    #[test]
    fn extreme_gates_stay_right_and_finite() {
        let sizes = sizes(1, 2, 8);
        let seq = 21;
        let extreme = |t: &[Tensor<1>]| {
            let mut inputs = inputs(sizes, 1, seq, t);
            inputs.beta_logits = inputs.beta_logits * 40.0;
            inputs.decay = inputs.decay * 300.0;
            inputs
        };
        let want = |t: &[Vec<f64>]| {
            let mut t = t.to_vec();
            t[1].iter_mut().for_each(|beta_logits| *beta_logits *= 40.0);
            t[2].iter_mut().for_each(|decay| *decay *= 300.0);
            recurrence(sizes, seq, &t)
        };
        let shapes = shapes(sizes, 1, seq);
        let case = || Case { shapes: &shapes, scale: 1.0, tolerance: 1e-4 };
        check_reference(case(), &|t| lower(sizes.kernel(&extreme(t)).unwrap()), &want);
        check_reference(case(), &|t| lower(composed(sizes, extreme(t))), &want);
    }

    /// The same key repeated, written in full and never forgotten: the worst case of the triangular system. Every token
    /// reads back the value that it has just written.
    #[test]
    fn repeated_keys_are_overwritten_exactly() {
        let sizes = DeltaRule { key_heads: 1, value_heads: 1, key_width: 4, value_width: 2, chunk: 64 };
        let device = Device::flex();
        let seq = 200;
        let value = |t: usize, p: usize| (1.3 * t as f32 + p as f32).sin();
        let row = |t| [2.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, value(t, 0), value(t, 1)];
        let qkv: Vec<f32> = (0..seq).flat_map(row).collect();
        let gates = |value: f32| Tensor::<3>::full([1, seq, 1], value, &device);
        let inputs = DeltaRuleInputs {
            qkv: Tensor::from_data(TensorData::new(qkv, [1, seq, 10]), &device),
            beta_logits: gates(40.0),
            decay: gates(-100.0),
            dt_bias: Tensor::zeros([1], &device),
            a_log: Tensor::zeros([1], &device),
        };
        for y in [sizes.kernel(&inputs).unwrap(), composed(sizes, inputs)] {
            let y = y.into_data().try_into_vec::<f32>().unwrap();
            for (at, y) in y.iter().enumerate() {
                assert!((y - value(at / 2, at % 2) / 2.0).abs() < 1e-5, "{at}: {y}");
            }
        }
    }

    #[test]
    fn a_long_sequence_stays_finite() {
        let sizes = DeltaRule { key_heads: 1, value_heads: 2, key_width: 4, value_width: 4, chunk: 64 };
        let device = Device::flex().autodiff();
        let full = |width, value: f32| Tensor::<3>::full([1, 20_000, width], value, &device).require_grad();
        let vector = |value: f32| Tensor::<1>::full([2], value, &device).require_grad();
        let qkv = full(16, 1.0);
        let a_log = vector(-9.0);
        let inputs = DeltaRuleInputs {
            qkv: qkv.clone(),
            beta_logits: full(2, 3.0),
            decay: full(2, -3.0),
            dt_bias: vector(0.0),
            a_log: a_log.clone(),
        };
        let y = sizes.forward(inputs);
        let gradients = y.clone().sum().backward();
        let host = |x: Vec<f32>| assert!(x.iter().all(|x| x.is_finite()));
        host(y.into_data().try_into_vec().unwrap());
        host(qkv.grad(&gradients).unwrap().into_data().try_into_vec().unwrap());
        host(a_log.grad(&gradients).unwrap().into_data().try_into_vec().unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        // A key with one channel is normalized to its sign. Its gradient is zero, and both forms return rounding
        // errors.
        #[test]
        fn any_shape_agrees(
            batch in 1usize..3, seq in 1usize..40, key_heads in 1usize..3, shared in 1usize..3,
            key_width in 2usize..9, value_width in 1usize..9, chunk in 1usize..20,
        ) {
            let value_heads = key_heads * shared;
            agrees(DeltaRule { key_heads, value_heads, key_width, value_width, chunk }, batch, seq, 1.0);
        }
    }
}
