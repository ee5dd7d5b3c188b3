//! The selective state space of Mamba-2, in the chunked dual form.
//!
//! Notation (Dao and Gu 2024, arXiv 2405.21060): `H` heads with `P` channels each; `G` groups of adjacent heads that
//! share `B` and `C`; state size `N`; chunks of `L` tokens. For each head, `dt = softplus(dt + dt_bias)` and
//! `A = -exp(a_log)`. The state `h`, `[N, P]`, and the output are
//!
//! `h_t = exp(dt_t A) h_(t-1) + B_t (dt_t x_t)^T`, `y_t = C_t h_t + d x_t`.
//!
//! Inside a chunk, this is `y = (C B^T * l) (dt x)` with `l_ij = exp(sum of dt_k A over j < k <= i)` below the diagonal
//! (equation 6 and section 6). A state of size `N P` is passed from chunk to chunk, so the work is linear in the
//! length.

use burn::tensor::{Tensor, activation::softplus};

use crate::dims::StateSpace;

use super::decay::{Chunks, decays, share, single};

/// The inputs of a state space.
#[derive(Clone, Debug)]
pub struct StateSpaceInputs {
    /// `x | B | C`: `[B, S, H P + 2 G N]`.
    pub xbc: Tensor<3>,
    /// `dt` before bias and softplus: `[B, S, H]`.
    pub dt: Tensor<3>,
    /// The bias of `dt`: `[H]`.
    pub dt_bias: Tensor<1>,
    /// `ln(-A)`: `[H]`.
    pub a_log: Tensor<1>,
    /// The skip connection, `D` in the paper: `[H]`.
    pub d: Tensor<1>,
}

impl StateSpace {
    /// Returns the outputs of whole sequences: `[B, S, H P]`.
    pub fn forward(&self, inputs: StateSpaceInputs) -> Tensor<3> {
        #[cfg(feature = "flex")]
        if let Some(y) = self.kernel(&inputs) {
            return y;
        }
        let start = self.start(&inputs.xbc);
        self.extend(inputs, start).0
    }

    /// Returns the state before the first token, with the batch size and the device of `x`: `[B, H, N, P]`.
    pub fn start(&self, x: &Tensor<3>) -> Tensor<4> {
        single(Tensor::zeros([x.dims()[0], self.heads, self.state, self.width], &x.device()))
    }

    /// Returns the outputs of the tokens that follow `past`, and the state after them.
    ///
    /// # Shapes
    /// `past`: `[B, H, N, P]`, to `[B, S, H P]` and `[B, H, N, P]`.
    pub fn extend(&self, inputs: StateSpaceInputs, past: Tensor<4>) -> (Tensor<3>, Tensor<4>) {
        let &Self { heads, width, groups, state, chunk } = self;
        let StateSpaceInputs { xbc, dt, dt_bias, a_log, d } = inputs;
        let [batch, seq, _] = xbc.dims();
        let precision = xbc.dtype();
        let chunks = Chunks::new(batch, seq, chunk);
        let xbc = single(xbc);
        let part = |from, len| xbc.clone().narrow(2, from, len);
        let inner = heads * width;
        let shared = groups * state;
        let [b, c] = [inner, inner + shared].map(|from| chunks.cut(part(from, shared), groups));
        let dt = softplus(single(dt) + single(dt_bias).unsqueeze(), 1.0);
        let x: Tensor<4> = part(0, inner).reshape([batch, seq, heads, width]);
        let u = (x.clone() * dt.clone().unsqueeze_dim(3)).reshape([batch, seq, inner]);
        let u = chunks.cut(u, heads);
        // [B N, H, L]
        let a = chunks.cut(dt * -single(a_log).exp().unsqueeze(), heads).squeeze_dim::<3>(3);
        let l = decays(a.clone());
        let within = share(c.clone().matmul(b.clone().transpose()), heads) * l.clone();
        let reached = a.cumsum(2);
        let to_end = l.narrow(2, chunks.len - 1, 1).transpose();
        let added = share(b, heads).transpose().matmul(u.clone() * to_end);
        let (before, last) = pass_on(chunks, past, added, reached.clone().narrow(2, chunks.len - 1, 1));
        let carried = share(c, heads).matmul(before) * reached.exp().unsqueeze_dim(3);
        let y = chunks.join(within.matmul(u) + carried);
        let skipped = x * single(d).reshape([1, 1, heads, 1]);
        ((y + skipped.reshape([batch, seq, inner])).cast(precision), last)
    }

    #[cfg(feature = "flex")]
    fn kernel(&self, inputs: &StateSpaceInputs) -> Option<Tensor<3>> {
        use super::flex::{StateSpaceScan, apply, input};

        let &Self { heads, width, groups, state, chunk } = self;
        let StateSpaceInputs { xbc, dt, dt_bias, a_log, d } = inputs;
        let [batch, seq, all] = xbc.dims();
        let vectors = [dt_bias.dims(), a_log.dims(), d.dims()];
        let fits = all == heads * width + 2 * groups * state && dt.dims() == [batch, seq, heads];
        let sizes = batch * seq * heads * width * groups * state * chunk;
        if !fits || vectors != [[heads]; 3] || sizes == 0 || !heads.is_multiple_of(groups) {
            return None;
        }
        let inputs = [input(xbc)?, input(dt)?, input(dt_bias)?, input(a_log)?, input(d)?];
        Some(apply(StateSpaceScan { seq, sizes: *self }, inputs, [batch, seq, heads * width]))
    }
}

/// Returns the state before every chunk and the state after the last one. Each chunk multiplies its state by
/// `exp(total)` and adds `added`. All states are computed as one product with the matrix of the decays between chunks.
///
/// # Shapes
/// `past`: `[B, H, N, P]`, `added`: `[B M, H, N, P]` for `M` chunks, `total`: `[B M, H, 1]`, to `[B M, H, N, P]` and
/// `[B, H, N, P]`.
fn pass_on(chunks: Chunks, past: Tensor<4>, added: Tensor<4>, total: Tensor<3>) -> (Tensor<4>, Tensor<4>) {
    let Chunks { batch, count, .. } = chunks;
    let shape = past.dims();
    let [_, heads, state, width] = shape;
    let first = past.reshape([batch, heads, 1, state * width]);
    let added: Tensor<4> = added.reshape([batch, count, heads, state * width]).swap_dims(1, 2);
    let total: Tensor<3> = total.reshape([batch, count, heads]).swap_dims(1, 2);
    let nothing = Tensor::zeros([batch, heads, 1], (&total.device(), total.dtype()));
    let passed = decays(Tensor::cat(vec![nothing, total], 2));
    let states = passed.matmul(Tensor::cat(vec![first, added], 2));
    let before = states.clone().narrow(2, 0, count).swap_dims(1, 2).reshape([batch * count, heads, state, width]);
    (before, states.narrow(2, count, 1).reshape(shape))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::testing::{Case, check, check_reference, lift, lower};

    /// Computes each sequence token by token.
    fn recurrence(sizes: StateSpace, seq: usize, t: &[Vec<f64>]) -> Vec<f64> {
        let StateSpace { heads, width, groups, state, .. } = sizes;
        let inner = heads * width;
        let columns = heads * width + 2 * groups * state;
        let mut y = Vec::new();
        for (xbc, step) in t[0].chunks(seq * columns).zip(t[1].chunks(seq * heads)) {
            let mut h = vec![0.0; inner * state];
            for (xbc, step) in xbc.chunks(columns).zip(step.chunks(heads)) {
                for head in 0..heads {
                    let group = head / (heads / groups);
                    let dt = (step[head] + t[2][head]).exp().ln_1p();
                    let kept = (-dt * t[3][head].exp()).exp();
                    for channel in head * width..(head + 1) * width {
                        let x = xbc[channel];
                        let mut sum = t[4][head] * x;
                        for n in 0..state {
                            let b = xbc[inner + group * state + n];
                            let c = xbc[inner + (groups + group) * state + n];
                            let h = &mut h[channel * state + n];
                            *h = kept * *h + dt * x * b;
                            sum += c * *h;
                        }
                        y.push(sum);
                    }
                }
            }
        }
        y
    }

    fn shapes(sizes: StateSpace, batch: usize, seq: usize) -> Vec<Vec<usize>> {
        let StateSpace { heads, width, groups, state, .. } = sizes;
        let columns = heads * width + 2 * groups * state;
        vec![vec![batch, seq, columns], vec![batch, seq, heads], vec![heads], vec![heads], vec![heads]]
    }

    fn inputs(sizes: StateSpace, batch: usize, seq: usize, t: &[Tensor<1>]) -> StateSpaceInputs {
        let shapes = shapes(sizes, batch, seq);
        StateSpaceInputs {
            xbc: lift(&t[0], [batch, seq, shapes[0][2]]),
            dt: lift(&t[1], [batch, seq, sizes.heads]),
            dt_bias: t[2].clone(),
            a_log: t[3].clone(),
            d: t[4].clone(),
        }
    }

    fn composed(sizes: StateSpace, inputs: StateSpaceInputs) -> Tensor<3> {
        let start = sizes.start(&inputs.xbc);
        sizes.extend(inputs, start).0
    }

    fn sizes(heads: usize, groups: usize, chunk: usize) -> StateSpace {
        StateSpace { heads, width: 3, groups, state: 5, chunk }
    }

    #[test]
    fn both_forms_are_the_recurrence_at_any_length() {
        let chunk = 4;
        for (heads, groups) in [(1, 1), (4, 2)] {
            let sizes = sizes(heads, groups, chunk);
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

    fn agrees(sizes: StateSpace, batch: usize, seq: usize, scale: f32) {
        check(
            Case { shapes: &shapes(sizes, batch, seq), scale, tolerance: 2e-5 },
            &|t| lower(sizes.kernel(&inputs(sizes, batch, seq, t)).unwrap()),
            &|t| lower(composed(sizes, inputs(sizes, batch, seq, t))),
        );
    }

    #[test]
    fn the_kernel_agrees_with_the_composed_form() {
        agrees(StateSpace { heads: 2, width: 16, groups: 1, state: 8, chunk: 32 }, 2, 70, 1.0);
        agrees(StateSpace { heads: 4, width: 5, groups: 2, state: 20, chunk: 16 }, 1, 33, 1.5);
        agrees(StateSpace { heads: 1, width: 33, groups: 1, state: 3, chunk: 64 }, 2, 64, 1.0);
    }

    /// Decays from none to complete, in one batch.
    #[test]
    fn extreme_steps_stay_right_and_finite() {
        let sizes = sizes(2, 1, 8);
        let seq = 21;
        let extreme = |t: &[Tensor<1>]| {
            let mut inputs = inputs(sizes, 1, seq, t);
            inputs.dt = inputs.dt * 300.0;
            inputs
        };
        let want = |t: &[Vec<f64>]| {
            let mut t = t.to_vec();
            t[1].iter_mut().for_each(|step| *step *= 300.0);
            recurrence(sizes, seq, &t)
        };
        let shapes = shapes(sizes, 1, seq);
        let case = || Case { shapes: &shapes, scale: 1.0, tolerance: 1e-4 };
        check_reference(case(), &|t| lower(sizes.kernel(&extreme(t)).unwrap()), &want);
        check_reference(case(), &|t| lower(composed(sizes, extreme(t))), &want);
    }

    #[test]
    fn a_long_sequence_stays_finite() {
        let sizes = StateSpace { heads: 2, width: 4, groups: 1, state: 4, chunk: 64 };
        let device = Device::flex().autodiff();
        let full = |width, value: f32| Tensor::<3>::full([1, 20_000, width], value, &device).require_grad();
        let vector = |value: f32| Tensor::<1>::full([2], value, &device).require_grad();
        let xbc = full(16, 1.0);
        let a_log = vector(-6.0);
        let inputs = StateSpaceInputs {
            xbc: xbc.clone(),
            dt: full(2, -3.0),
            dt_bias: vector(0.0),
            a_log: a_log.clone(),
            d: vector(1.0),
        };
        let y = sizes.forward(inputs);
        let gradients = y.clone().sum().backward();
        let host = |x: Vec<f32>| assert!(x.iter().all(|x| x.is_finite()));
        host(y.into_data().try_into_vec().unwrap());
        host(xbc.grad(&gradients).unwrap().into_data().try_into_vec().unwrap());
        host(a_log.grad(&gradients).unwrap().into_data().try_into_vec().unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        // An argument per axis.
        #[test]
        fn any_shape_agrees(
            batch in 1usize..3, seq in 1usize..40, groups in 1usize..3, shared in 1usize..3,
            width in 1usize..9, state in 1usize..9, chunk in 1usize..20,
        ) {
            agrees(StateSpace { heads: groups * shared, width, groups, state, chunk }, batch, seq, 1.0);
        }
    }
}
