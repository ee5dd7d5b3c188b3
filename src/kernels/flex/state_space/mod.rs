//! The chunked dual form of Mamba-2's state space: `h_t = exp(a_t) h_(t-1) + B_t u_t^T`, `y_t = C_t h_t + d x_t`,
//! with `u = dt x` and `a = dt A`. It processes one sequence, one chunk and one group of heads at a time. The backward
//! pass recomputes the matrices of a chunk; only the states before chunks are stored.

mod back;

use std::ops::Range;

use faer::MatRef;

use self::back::Back;
use super::{
    Kernel,
    decay::{Sums, softplus},
    matmul::{add, add_strided, matrix, set, strided},
    pool::{buffer, give_back},
    rows::{add_scaled, put, scale, take},
    simd::{Arch, Simd, WithSimd, load, starts, store},
};
use crate::dims::StateSpace;

/// The shapes: `x | B | C`: `[B, S, H P + 2 G N]`, `dt`: `[B, S, H]`, `dt_bias`, `a_log` and `d`: `[H]`, the
/// result `[B, S, H P]`.
#[derive(Clone, Copy, Debug)]
pub struct StateSpaceScan {
    /// `S`.
    pub seq: usize,
    /// The other sizes.
    pub sizes: StateSpace,
}

/// For all tokens and heads, `[B, S, H]`: the softplus of `dt + dt_bias`, its derivative, and `a`.
struct Steps {
    dt: Vec<f32>,
    slope: Vec<f32>,
    a: Vec<f64>,
    /// `A` of every head.
    rates: Vec<f64>,
}

/// One group of heads in one chunk of one sequence.
struct Place<'a> {
    scan: &'a StateSpaceScan,
    /// The tokens, counted over the batch.
    tokens: Range<usize>,
    group: usize,
}

impl StateSpaceScan {
    /// Returns `H P`.
    fn inner(&self) -> usize {
        self.sizes.heads * self.sizes.width
    }

    /// Returns the number of columns of `x | B | C`.
    fn columns(&self) -> usize {
        self.inner() + 2 * self.sizes.groups * self.sizes.state
    }

    /// Returns the number of chunks per sequence.
    fn count(&self) -> usize {
        self.seq.div_ceil(self.sizes.chunk)
    }

    /// Returns the number of heads per group, and of their channels.
    fn shared(&self) -> (usize, usize) {
        let heads = self.sizes.heads / self.sizes.groups;
        (heads, heads * self.sizes.width)
    }

    fn places(&self, sequence: usize, chunk: usize) -> impl Iterator<Item = Place<'_>> {
        let len = self.sizes.chunk;
        let start = sequence * self.seq;
        let tokens = start + chunk * len..start + self.seq.min((chunk + 1) * len);
        (0..self.sizes.groups).map(move |group| Place { scan: self, tokens: tokens.clone(), group })
    }

    fn steps(&self, step: &[f32], bias: &[f32], a_log: &[f32]) -> Steps {
        let rates: Vec<f64> = a_log.iter().map(|&a_log| -f64::from(a_log).exp()).collect();
        let [dt, slope] = [(); 2].map(|()| buffer(step.len()));
        let mut steps = Steps { dt, slope, a: vec![0.0; step.len()], rates };
        for (at, step) in step.iter().enumerate() {
            let head = at % bias.len();
            let (dt, slope) = softplus(f64::from(step + bias[head]));
            (steps.dt[at], steps.slope[at], steps.a[at]) = (dt as f32, slope as f32, dt * steps.rates[head]);
        }
        steps
    }
}

impl Place<'_> {
    fn heads(&self) -> Range<usize> {
        let (heads, _) = self.scan.shared();
        self.group * heads..(self.group + 1) * heads
    }

    /// Returns the first channel of the group in `x` and `y`.
    fn channel(&self) -> usize {
        self.group * self.scan.shared().1
    }

    /// Returns the range of the group's states among those of a sequence, `[N, channels]`.
    fn states(&self) -> Range<usize> {
        let size = self.scan.shared().1 * self.scan.sizes.state;
        self.group * size..(self.group + 1) * size
    }

    /// Returns the first columns of `B` and `C` of the group.
    fn columns(&self) -> [usize; 2] {
        let start = self.tokens.start * self.scan.columns();
        let StateSpace { groups, state, .. } = self.scan.sizes;
        [0, groups].map(|skipped| start + self.scan.inner() + (skipped + self.group) * state)
    }

    /// Returns `B` and `C`, `[L, N]` each.
    fn matrices<'a>(&self, xbc: &'a [f32]) -> [MatRef<'a, f32>; 2] {
        self.columns().map(|at| strided(&xbc[at..], self.tokens.len(), self.scan.sizes.state, self.scan.columns()))
    }

    /// Returns the range of the chunk's rows in a tensor with `columns` columns.
    fn rows(&self, columns: usize) -> Range<usize> {
        self.tokens.start * columns..self.tokens.end * columns
    }
}

/// Buffers for one [`Place`]: `L` tokens, `K` heads with `P` channels each.
struct Work {
    /// `[L, K P]`.
    x: Vec<f32>,
    /// `dt x`, `[L, K P]`.
    u: Vec<f32>,
    /// `[L, K]`.
    dt: Vec<f32>,
    /// `exp(s_i)` and `exp(s_last - s_i)`, `[L, K]`.
    from_start: Vec<f32>,
    to_end: Vec<f32>,
    /// Of every head.
    sums: Vec<Sums>,
    /// `C B^T`, `[L, L]`.
    scores: Vec<f32>,
    /// `C B^T * l` of one head, `[L, L]`.
    weights: Vec<f32>,
}

impl Work {
    fn new(heads: usize) -> Self {
        let sums = (0..heads).map(|_| Sums::default()).collect();
        let [x, u, dt, from_start, to_end, scores, weights] = [(); 7].map(|()| Vec::new());
        Self { x, u, dt, from_start, to_end, sums, scores, weights }
    }

    fn fill(&mut self, place: &Place, xbc: &[f32], steps: &Steps) {
        let scan = place.scan;
        let len = place.tokens.len();
        let (heads, channels) = scan.shared();
        [&mut self.x, &mut self.u].into_iter().for_each(|x| x.resize(len * channels, 0.0));
        [&mut self.dt, &mut self.from_start, &mut self.to_end].into_iter().for_each(|x| x.resize(len * heads, 0.0));
        [&mut self.scores, &mut self.weights].into_iter().for_each(|x| x.resize(len * len, 0.0));
        take(&xbc[place.rows(scan.columns())], scan.columns(), place.channel(), channels, &mut self.x);
        take(&steps.dt[place.rows(scan.sizes.heads)], scan.sizes.heads, place.heads().start, heads, &mut self.dt);
        self.u.copy_from_slice(&self.x);
        scale(&mut self.u, &self.dt);
        for (head, sums) in place.heads().zip(&mut self.sums) {
            sums.fill(place.tokens.clone().map(|t| steps.a[t * scan.sizes.heads + head]));
        }
        if scan.count() > 1 {
            for at in 0..len * heads {
                let sums = &self.sums[at % heads];
                (self.from_start[at], self.to_end[at]) = (sums.since_start(at / heads), sums.to_end(at / heads));
            }
        }
        let [b, c] = place.matrices(xbc);
        set(&mut self.scores, c, b.transpose());
    }

    /// Returns the decay of the state over the chunk, per head.
    fn passed(&self) -> &[f32] {
        &self.from_start[self.from_start.len() - self.sums.len()..]
    }
}

impl Kernel<5> for StateSpaceScan {
    /// The states before every chunk but the first: `[B, chunks - 1, G, N, H P / G]`.
    type Saved = Vec<f32>;

    fn forward(&self, [xbc, dt, bias, a_log, d]: [&[f32]; 5], keep: bool) -> (Vec<f32>, Vec<f32>) {
        let StateSpace { width, state, .. } = self.sizes;
        let inner = self.inner();
        let batch = xbc.len() / (self.seq * self.columns());
        let count = self.count();
        let (heads, channels) = self.shared();
        let steps = self.steps(dt, bias, a_log);
        let mut y = buffer(batch * self.seq * inner);
        let mut part = Vec::new();
        let mut saved = buffer(if keep { batch * (count - 1) * inner * state } else { 0 });
        let mut kept = saved.chunks_exact_mut(inner * state);
        let mut states = vec![0.0; inner * state];
        let mut work = Work::new(heads);
        for (sequence, chunk) in (0..batch).flat_map(|sequence| (0..count).map(move |chunk| (sequence, chunk))) {
            if let Some(kept) = (chunk > 0).then(|| kept.next()).flatten() {
                kept.copy_from_slice(&states);
            }
            for place in self.places(sequence, chunk) {
                work.fill(&place, xbc, &steps);
                let [b, c] = place.matrices(xbc);
                let len = place.tokens.len();
                let states = &mut states[place.states()];
                part.resize(len * channels, 0.0);
                if chunk == 0 {
                    part.fill(0.0);
                } else {
                    set(&mut part, c, matrix(states, channels));
                    scale(&mut part, &work.from_start);
                }
                let skips = &d[place.heads()];
                let rows = part.chunks_exact_mut(channels).zip(work.x.chunks_exact(channels));
                rows.for_each(|(part, x)| add_scaled(part, x, skips));
                for (head, sums) in work.sums.iter().enumerate() {
                    let scores = &work.scores;
                    let weights = &mut work.weights[..];
                    Arch::new().dispatch(Weigh { scores, sums, weights, len });
                    let u = strided(&work.u[head * width..], len, width, channels);
                    add_strided(&mut part[head * width..], channels, matrix(weights, len), u);
                }
                put(&part, &mut y[place.rows(inner)], inner, place.channel(), channels);
                if chunk + 1 < count {
                    scale(&mut work.u, &work.to_end);
                    let added = matrix(&work.u, channels);
                    if chunk == 0 {
                        set(states, b.transpose(), added);
                    } else {
                        states.chunks_exact_mut(channels).for_each(|row| scale(row, work.passed()));
                        add(states, b.transpose(), added);
                    }
                }
            }
        }
        (y, saved)
    }

    fn backward(
        &self,
        [xbc, dt, bias, a_log, d]: [&[f32]; 5],
        saved: Vec<f32>,
        dy: &[f32],
        _: [bool; 5],
    ) -> [Option<Vec<f32>>; 5] {
        let StateSpace { heads, state, .. } = self.sizes;
        let inner = self.inner();
        let batch = xbc.len() / (self.seq * self.columns());
        let count = self.count();
        let steps = self.steps(dt, bias, a_log);
        let mut back = Back::new(self, batch);
        let mut dstates = vec![0.0; inner * state];
        for (sequence, chunk) in (0..batch).flat_map(|sequence| (0..count).rev().map(move |chunk| (sequence, chunk))) {
            let before = (chunk > 0).then(|| &saved[(sequence * (count - 1) + chunk - 1) * inner * state..]);
            for place in self.places(sequence, chunk) {
                let before = before.map(|before| &before[place.states()]);
                let dstates = &mut dstates[place.states()];
                back.begin(&place, [xbc, dy], &steps);
                if chunk + 1 < count {
                    back.write_state(&place, xbc, before, dstates);
                } else {
                    dstates.fill(0.0);
                }
                if let Some(before) = before {
                    back.read_state(&place, xbc, before, dstates);
                }
                back.within(&place, xbc);
                back.end(&place, &steps, d);
            }
        }
        give_back(saved);
        let mut dbias = vec![0.0; heads];
        for (at, (dstep, slope)) in back.dstep.iter_mut().zip(&steps.slope).enumerate() {
            *dstep *= slope;
            dbias[at % heads] += f64::from(*dstep);
        }
        let [dbias, da_log, dskip] = [dbias, back.da_log, back.dskip].map(|x| x.iter().map(|&x| x as f32).collect());
        [Some(back.dxbc), Some(back.dstep), Some(dbias), Some(da_log), Some(dskip)]
    }
}

/// `weights = scores * l`.
struct Weigh<'a> {
    scores: &'a [f32],
    sums: &'a Sums,
    weights: &'a mut [f32],
    len: usize,
}

impl WithSimd for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.scores.chunks_exact(self.len).zip(self.weights.chunks_exact_mut(self.len));
        for (i, (scores, weights)) in rows.enumerate() {
            let (seen, hidden) = weights.split_at_mut(i + 1);
            hidden.fill(0.0);
            for at in starts::<S>(seen.len()) {
                store(simd, seen, at, simd.mul_f32s(load(simd, scores, at), self.sums.between(simd, i, at)));
            }
        }
    }
}
