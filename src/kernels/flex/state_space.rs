//! The chunked dual form of Mamba-2's state space: `h_t = exp(a_t) h_(t-1) + B_t u_t^T`, `y_t = C_t h_t + skip x_t`, with
//! `u = dt x` and `a = dt A`. One sequence, one chunk and one group of heads at a time; the way back computes the matrices of
//! a chunk anew and keeps only the states before chunks.

use std::ops::Range;

use faer::MatRef;

use super::{
    Kernel,
    decay::{Sums, softplus, spread, terms},
    matmul::{add, add_strided, matrix, set, strided},
    pool::{buffer, give_back, zeros},
    rows::{add_scaled, products, put, scale, take},
    simd::{Arch, Simd, WithSimd, load, starts, store},
};
use crate::kernels::StateSpace;

/// The shapes: `x | B | C`: `[B, S, H P + 2 G N]`, `step`: `[B, S, H]`, `step_bias`, `a_log` and `skip`: `[H]`, the result
/// `[B, S, H P]`.
#[derive(Clone, Copy, Debug)]
pub struct StateSpaceScan {
    /// `S`.
    pub seq: usize,
    /// The others.
    pub sizes: StateSpace,
}

/// Of all tokens and heads, `[B, S, H]`: `dt`, its derivative by `step`, and `a`.
struct Steps {
    dt: Vec<f32>,
    slope: Vec<f32>,
    a: Vec<f64>,
    /// `A` of every head.
    rates: Vec<f64>,
}

/// One group of one chunk of one sequence.
struct Place<'a> {
    scan: &'a StateSpaceScan,
    /// Tokens, counted over the batch.
    tokens: Range<usize>,
    group: usize,
}

impl StateSpaceScan {
    /// `H P`.
    fn inner(&self) -> usize {
        self.sizes.heads * self.sizes.width
    }

    /// Columns of `x | B | C`.
    fn columns(&self) -> usize {
        self.inner() + 2 * self.sizes.groups * self.sizes.state
    }

    /// Chunks of a sequence.
    fn count(&self) -> usize {
        self.seq.div_ceil(self.sizes.chunk)
    }

    /// Heads of a group, and their channels.
    fn shared(&self) -> (usize, usize) {
        let heads = self.sizes.heads / self.sizes.groups;
        (heads, heads * self.sizes.width)
    }

    fn places(&self, sequence: usize, chunk: usize) -> impl Iterator<Item = Place<'_>> {
        let (len, start) = (self.sizes.chunk, sequence * self.seq);
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

    /// The first channel of the group in `x` and `y`.
    fn channel(&self) -> usize {
        self.group * self.scan.shared().1
    }

    /// The states of the group among those of a sequence, `[N, channels]`.
    fn states(&self) -> Range<usize> {
        let size = self.scan.shared().1 * self.scan.sizes.state;
        self.group * size..(self.group + 1) * size
    }

    /// Where `B` and `C` of the group begin.
    fn columns(&self) -> [usize; 2] {
        let (start, StateSpace { groups, state, .. }) = (self.tokens.start * self.scan.columns(), self.scan.sizes);
        [0, groups].map(|skipped| start + self.scan.inner() + (skipped + self.group) * state)
    }

    /// `B` and `C`, `[L, N]` each.
    fn matrices<'a>(&self, mixed: &'a [f32]) -> [MatRef<'a, f32>; 2] {
        self.columns().map(|at| strided(&mixed[at..], self.tokens.len(), self.scan.sizes.state, self.scan.columns()))
    }

    /// The rows of the chunk in a tensor of `columns` columns.
    fn rows(&self, columns: usize) -> Range<usize> {
        self.tokens.start * columns..self.tokens.end * columns
    }
}

/// Buffers for one [`Place`]: `L` tokens, `K` heads of width `P`.
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

    fn fill(&mut self, place: &Place, mixed: &[f32], steps: &Steps) {
        let (scan, len) = (place.scan, place.tokens.len());
        let (heads, channels) = scan.shared();
        [&mut self.x, &mut self.u].into_iter().for_each(|x| x.resize(len * channels, 0.0));
        [&mut self.dt, &mut self.from_start, &mut self.to_end].into_iter().for_each(|x| x.resize(len * heads, 0.0));
        [&mut self.scores, &mut self.weights].into_iter().for_each(|x| x.resize(len * len, 0.0));
        take(&mixed[place.rows(scan.columns())], scan.columns(), place.channel(), channels, &mut self.x);
        take(&steps.dt[place.rows(scan.sizes.heads)], scan.sizes.heads, place.heads().start, heads, &mut self.dt);
        self.u.copy_from_slice(&self.x);
        scale(&mut self.u, &self.dt);
        for (head, sums) in place.heads().zip(&mut self.sums) {
            sums.fill(place.tokens.clone().map(|t| steps.a[t * scan.sizes.heads + head]));
        }
        if scan.count() > 1 {
            for at in 0..len * heads {
                let sums = &self.sums[at % heads];
                (self.from_start[at], self.to_end[at]) = (sums.from_start(at / heads), sums.to_end(at / heads));
            }
        }
        let [b, c] = place.matrices(mixed);
        set(&mut self.scores, c, b.transpose());
    }

    /// What is left of the state behind the chunk, of every head.
    fn passed(&self) -> &[f32] {
        &self.from_start[self.from_start.len() - self.sums.len()..]
    }
}

impl Kernel<5> for StateSpaceScan {
    /// The states before every chunk but the first: `[B, chunks - 1, G, N, H P / G]`.
    type Saved = Vec<f32>;

    fn forward(&self, [mixed, step, bias, a_log, skip]: [&[f32]; 5], keep: bool) -> (Vec<f32>, Vec<f32>) {
        let (StateSpace { width, state, .. }, inner) = (self.sizes, self.inner());
        let (batch, count) = (mixed.len() / (self.seq * self.columns()), self.count());
        let (heads, channels) = self.shared();
        let steps = self.steps(step, bias, a_log);
        let (mut y, mut part) = (buffer(batch * self.seq * inner), Vec::new());
        let mut saved = buffer(if keep { batch * (count - 1) * inner * state } else { 0 });
        let mut kept = saved.chunks_exact_mut(inner * state);
        let (mut states, mut work) = (vec![0.0; inner * state], Work::new(heads));
        for (sequence, chunk) in (0..batch).flat_map(|sequence| (0..count).map(move |chunk| (sequence, chunk))) {
            if let Some(kept) = (chunk > 0).then(|| kept.next()).flatten() {
                kept.copy_from_slice(&states);
            }
            for place in self.places(sequence, chunk) {
                work.fill(&place, mixed, &steps);
                let ([b, c], len, states) = (place.matrices(mixed), place.tokens.len(), &mut states[place.states()]);
                part.resize(len * channels, 0.0);
                if chunk == 0 {
                    part.fill(0.0);
                } else {
                    set(&mut part, c, matrix(states, channels));
                    scale(&mut part, &work.from_start);
                }
                let skips = &skip[place.heads()];
                let rows = part.chunks_exact_mut(channels).zip(work.x.chunks_exact(channels));
                rows.for_each(|(part, x)| add_scaled(part, x, skips));
                for (head, sums) in work.sums.iter().enumerate() {
                    let (scores, weights) = (&work.scores, &mut work.weights[..]);
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
        [mixed, step, bias, a_log, skip]: [&[f32]; 5],
        saved: Vec<f32>,
        dy: &[f32],
        _: [bool; 5],
    ) -> [Option<Vec<f32>>; 5] {
        let (StateSpace { heads, state, .. }, inner) = (self.sizes, self.inner());
        let (batch, count) = (mixed.len() / (self.seq * self.columns()), self.count());
        let steps = self.steps(step, bias, a_log);
        let mut back = Back::new(self, batch);
        let mut dstates = vec![0.0; inner * state];
        for (sequence, chunk) in (0..batch).flat_map(|sequence| (0..count).rev().map(move |chunk| (sequence, chunk))) {
            let before = (chunk > 0).then(|| &saved[(sequence * (count - 1) + chunk - 1) * inner * state..]);
            for place in self.places(sequence, chunk) {
                let before = before.map(|before| &before[place.states()]);
                let dstates = &mut dstates[place.states()];
                back.begin(&place, [mixed, dy], &steps);
                if chunk + 1 < count {
                    back.to_state(&place, mixed, before, dstates);
                } else {
                    dstates.fill(0.0);
                }
                if let Some(before) = before {
                    back.from_state(&place, mixed, before, dstates);
                }
                back.within(&place, mixed);
                back.end(&place, &steps, skip);
            }
        }
        give_back(saved);
        let mut dbias = vec![0.0; heads];
        for (at, (dstep, slope)) in back.dstep.iter_mut().zip(&steps.slope).enumerate() {
            *dstep *= slope;
            dbias[at % heads] += f64::from(*dstep);
        }
        let [dbias, da_log, dskip] = [dbias, back.da_log, back.dskip].map(|x| x.iter().map(|&x| x as f32).collect());
        [Some(back.dmixed), Some(back.dstep), Some(dbias), Some(da_log), Some(dskip)]
    }
}

/// The gradients, and buffers for one [`Place`].
struct Back {
    work: Work,
    /// Of `y`, `[L, K P]`.
    dy: Vec<f32>,
    /// Of `u`, `[L, K P]`.
    du: Vec<f32>,
    /// Of `C B^T`, `[L, L]`.
    dscores: Vec<f32>,
    /// Of one head's `C B^T * l`, `[L, L]`.
    dweights: Vec<f32>,
    /// Of the sums `s` of every head, `[K][L]`.
    ds: Vec<Vec<f64>>,
    /// `[L, K P]`.
    scratch: [Vec<f32>; 2],
    dmixed: Vec<f32>,
    /// First of `dt`.
    dstep: Vec<f32>,
    da_log: Vec<f64>,
    dskip: Vec<f64>,
}

impl Back {
    fn new(scan: &StateSpaceScan, batch: usize) -> Self {
        let (tokens, heads) = (batch * scan.seq, scan.sizes.heads);
        let (shared, _) = scan.shared();
        let [dy, du, dscores, dweights] = [(); 4].map(|()| Vec::new());
        Self {
            work: Work::new(shared),
            dy,
            du,
            dscores,
            dweights,
            ds: vec![Vec::new(); shared],
            scratch: Default::default(),
            dmixed: zeros(tokens * scan.columns()),
            dstep: buffer(tokens * heads),
            da_log: vec![0.0; heads],
            dskip: vec![0.0; heads],
        }
    }

    fn begin(&mut self, place: &Place, [mixed, dy]: [&[f32]; 2], steps: &Steps) {
        let (inner, len, (_, channels)) = (place.scan.inner(), place.tokens.len(), place.scan.shared());
        self.work.fill(place, mixed, steps);
        for buffer in [&mut self.dscores, &mut self.dweights] {
            buffer.resize(len * len, 0.0);
        }
        for buffer in self.scratch.iter_mut().chain([&mut self.dy, &mut self.du]) {
            buffer.resize(len * channels, 0.0);
        }
        for ds in &mut self.ds {
            ds.clear();
            ds.resize(len, 0.0);
        }
        [&mut self.du, &mut self.dscores].into_iter().for_each(|sums| sums.fill(0.0));
        take(&dy[place.rows(inner)], inner, place.channel(), channels, &mut self.dy);
    }

    /// `h = exp(s_last) h_before + B^T v` with `v_j = exp(s_last - s_j) u_j`: from the gradient of the state behind the chunk to
    /// that of the state before it.
    fn to_state(&mut self, place: &Place, mixed: &[f32], before: Option<&[f32]>, dstates: &mut [f32]) {
        let ((heads, channels), StateSpace { width, .. }) = (place.scan.shared(), place.scan.sizes);
        let ([b, _], [db, _], last) = (place.matrices(mixed), place.columns(), place.tokens.len() - 1);
        let [v, dv] = &mut self.scratch;
        v.copy_from_slice(&self.work.u);
        scale(v, &self.work.to_end);
        set(dv, b, matrix(dstates, channels));
        let columns = place.scan.columns();
        add_strided(&mut self.dmixed[db..], columns, matrix(v, channels), matrix(dstates, channels).transpose());
        products(v, dv, width, |at, product| {
            self.ds[at % heads][at / heads] -= product;
            self.ds[at % heads][last] += product;
        });
        add_scaled(&mut self.du, dv, &self.work.to_end);
        if let Some(before) = before {
            let passed = self.work.passed();
            products(before, dstates, width, |at, product| {
                self.ds[at % heads][last] += f64::from(passed[at % heads]) * product;
            });
            dstates.chunks_exact_mut(channels).for_each(|row| scale(row, passed));
        }
    }

    /// `y_i += exp(s_i) C_i h_before`.
    fn from_state(&mut self, place: &Place, mixed: &[f32], before: &[f32], dstates: &mut [f32]) {
        let ((heads, channels), StateSpace { width, .. }) = (place.scan.shared(), place.scan.sizes);
        let ([_, c], [_, dc]) = (place.matrices(mixed), place.columns());
        let [read, dread] = &mut self.scratch;
        set(read, c, matrix(before, channels));
        dread.copy_from_slice(&self.dy);
        scale(dread, &self.work.from_start);
        products(read, dread, width, |at, product| self.ds[at % heads][at / heads] += product);
        let (dread, columns) = (matrix(dread, channels), place.scan.columns());
        add_strided(&mut self.dmixed[dc..], columns, dread, matrix(before, channels).transpose());
        add(dstates, c.transpose(), dread);
    }

    /// `y += (C B^T * l) u`.
    fn within(&mut self, place: &Place, mixed: &[f32]) {
        let ((_, channels), StateSpace { width, .. }, len) =
            (place.scan.shared(), place.scan.sizes, place.tokens.len());
        for (head, (sums, ds)) in self.work.sums.iter().zip(&mut self.ds).enumerate() {
            let part = |x| strided(x, len, width, channels);
            let (u, dy) = (part(&self.work.u[head * width..]), part(&self.dy[head * width..]));
            set(&mut self.dweights, dy, u.transpose());
            Arch::new().dispatch(WeighBackward {
                scores: &self.work.scores,
                sums,
                weights: &mut self.work.weights,
                dweights: &mut self.dweights,
                dscores: &mut self.dscores,
                ds,
            });
            add_strided(&mut self.du[head * width..], channels, matrix(&self.work.weights, len).transpose(), dy);
        }
        let ([b, c], [db, dc], columns) = (place.matrices(mixed), place.columns(), place.scan.columns());
        let dscores = matrix(&self.dscores, len);
        add_strided(&mut self.dmixed[db..], columns, dscores.transpose(), c);
        add_strided(&mut self.dmixed[dc..], columns, dscores, b);
    }

    /// `u = dt x`, `y += skip x`, and the gradients of the heads.
    fn end(&mut self, place: &Place, steps: &Steps, skip: &[f32]) {
        let ((heads, channels), StateSpace { width, heads: all, .. }) = (place.scan.shared(), place.scan.sizes);
        let first = place.heads().start;
        let at_head = |at: usize| (place.tokens.start + at / heads) * all + first + at % heads;
        self.ds.iter_mut().for_each(|ds| terms(ds));
        products(&self.du, &self.work.x, width, |at, ddt| {
            let (da, at_step) = (self.ds[at % heads][at / heads], at_head(at));
            self.dstep[at_step] = (ddt + da * steps.rates[first + at % heads]) as f32;
            self.da_log[first + at % heads] += da * steps.a[at_step];
        });
        products(&self.dy, &self.work.x, width, |at, product| self.dskip[first + at % heads] += product);
        scale(&mut self.du, &self.work.dt);
        let rows = self.du.chunks_exact_mut(channels).zip(self.dy.chunks_exact(channels));
        rows.for_each(|(dx, dy)| add_scaled(dx, dy, &skip[place.heads()]));
        let columns = place.scan.columns();
        put(&self.du, &mut self.dmixed[place.rows(columns)], columns, place.channel(), channels);
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

/// The weights anew, and from their gradients those of the scores and of the sums.
struct WeighBackward<'a> {
    scores: &'a [f32],
    sums: &'a Sums,
    weights: &'a mut [f32],
    /// Becomes `dweights * weights`.
    dweights: &'a mut [f32],
    dscores: &'a mut [f32],
    ds: &'a mut [f64],
}

impl WithSimd for WeighBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let len = self.ds.len();
        let rows = self.scores.chunks_exact(len).zip(self.weights.chunks_exact_mut(len));
        let slopes = self.dweights.chunks_exact_mut(len).zip(self.dscores.chunks_exact_mut(len));
        for (i, ((scores, weights), (dweights, dscores))) in rows.zip(slopes).enumerate() {
            let (seen, hidden) = weights.split_at_mut(i + 1);
            hidden.fill(0.0);
            for at in starts::<S>(i + 1) {
                store(simd, seen, at, self.sums.between(simd, i, at));
                // Read back, because behind the end it is not zero and may be infinite.
                let (l, score) = (load(simd, seen, at), load(simd, scores, at));
                let slope = simd.mul_f32s(load(simd, dweights, at), l);
                store(simd, dscores, at, simd.add_f32s(load(simd, dscores, at), slope));
                store(simd, dweights, at, simd.mul_f32s(slope, score));
                store(simd, seen, at, simd.mul_f32s(score, l));
            }
            spread(self.ds, i, &dweights[..i]);
        }
    }
}
