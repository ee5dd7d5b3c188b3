//! The backward pass of a state space, one chunk and one group of heads at a time.

use super::{
    super::{
        decay::{Sums, spread, terms},
        matmul::{add, add_strided, matrix, set, strided},
        pool::{buffer, zeros},
        rows::{add_scaled, products, put, scale, take},
        simd::{Arch, Simd, WithSimd, load, starts, store},
    },
    Place, StateSpaceScan, Steps, Work,
};
use crate::dims::StateSpace;

/// The gradients of a chunk, and the buffers for one [`Place`].
pub(super) struct Back {
    work: Work,
    /// The gradient of `y`: `[L, K P]`.
    dy: Vec<f32>,
    /// The gradient of `u`: `[L, K P]`.
    du: Vec<f32>,
    /// The gradient of `C B^T`: `[L, L]`.
    dscores: Vec<f32>,
    /// The gradient of one head's `C B^T * l`: `[L, L]`.
    dweights: Vec<f32>,
    /// The gradients of the sums `s` of every head: `[K][L]`.
    ds: Vec<Vec<f64>>,
    /// `[L, K P]`.
    scratch: [Vec<f32>; 2],
    pub(super) dxbc: Vec<f32>,
    /// The gradient of the softplus of `dt`, and then of `dt`.
    pub(super) dstep: Vec<f32>,
    pub(super) da_log: Vec<f64>,
    pub(super) dskip: Vec<f64>,
}

impl Back {
    pub(super) fn new(scan: &StateSpaceScan, batch: usize) -> Self {
        let tokens = batch * scan.seq;
        let heads = scan.sizes.heads;
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
            dxbc: zeros(tokens * scan.columns()),
            dstep: buffer(tokens * heads),
            da_log: vec![0.0; heads],
            dskip: vec![0.0; heads],
        }
    }

    pub(super) fn begin(&mut self, place: &Place, [xbc, dy]: [&[f32]; 2], steps: &Steps) {
        let inner = place.scan.inner();
        let len = place.tokens.len();
        let (_, channels) = place.scan.shared();
        self.work.fill(place, xbc, steps);
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

    /// Backward pass of `h = exp(s_last) h_before + B^T v` with `v_j = exp(s_last - s_j) u_j`: from the gradient of the
    /// state after the chunk to that of the state before it.
    pub(super) fn write_state(&mut self, place: &Place, xbc: &[f32], before: Option<&[f32]>, dstates: &mut [f32]) {
        let (heads, channels) = place.scan.shared();
        let StateSpace { width, .. } = place.scan.sizes;
        let [b, _] = place.matrices(xbc);
        let [db, _] = place.columns();
        let last = place.tokens.len() - 1;
        let [v, dv] = &mut self.scratch;
        v.copy_from_slice(&self.work.u);
        scale(v, &self.work.to_end);
        set(dv, b, matrix(dstates, channels));
        let columns = place.scan.columns();
        add_strided(&mut self.dxbc[db..], columns, matrix(v, channels), matrix(dstates, channels).transpose());
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

    /// Backward pass of `y_i += exp(s_i) C_i h_before`.
    pub(super) fn read_state(&mut self, place: &Place, xbc: &[f32], before: &[f32], dstates: &mut [f32]) {
        let (heads, channels) = place.scan.shared();
        let StateSpace { width, .. } = place.scan.sizes;
        let [_, c] = place.matrices(xbc);
        let [_, dc] = place.columns();
        let [read, dread] = &mut self.scratch;
        set(read, c, matrix(before, channels));
        dread.copy_from_slice(&self.dy);
        scale(dread, &self.work.from_start);
        products(read, dread, width, |at, product| self.ds[at % heads][at / heads] += product);
        let dread = matrix(dread, channels);
        let columns = place.scan.columns();
        add_strided(&mut self.dxbc[dc..], columns, dread, matrix(before, channels).transpose());
        add(dstates, c.transpose(), dread);
    }

    /// Backward pass of `y += (C B^T * l) u`.
    pub(super) fn within(&mut self, place: &Place, xbc: &[f32]) {
        let (_, channels) = place.scan.shared();
        let width = place.scan.sizes.width;
        let len = place.tokens.len();
        for (head, (sums, ds)) in self.work.sums.iter().zip(&mut self.ds).enumerate() {
            let part = |x| strided(x, len, width, channels);
            let u = part(&self.work.u[head * width..]);
            let dy = part(&self.dy[head * width..]);
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
        let [b, c] = place.matrices(xbc);
        let [db, dc] = place.columns();
        let columns = place.scan.columns();
        let dscores = matrix(&self.dscores, len);
        add_strided(&mut self.dxbc[db..], columns, dscores.transpose(), c);
        add_strided(&mut self.dxbc[dc..], columns, dscores, b);
    }

    /// Backward pass of `u = dt x` and `y += d x`, and the gradients of the per-head parameters.
    pub(super) fn end(&mut self, place: &Place, steps: &Steps, d: &[f32]) {
        let (heads, channels) = place.scan.shared();
        let StateSpace { width, heads: all, .. } = place.scan.sizes;
        let first = place.heads().start;
        let at_head = |at: usize| (place.tokens.start + at / heads) * all + first + at % heads;
        self.ds.iter_mut().for_each(|ds| terms(ds));
        products(&self.du, &self.work.x, width, |at, ddt| {
            let da = self.ds[at % heads][at / heads];
            let at_step = at_head(at);
            self.dstep[at_step] = (ddt + da * steps.rates[first + at % heads]) as f32;
            self.da_log[first + at % heads] += da * steps.a[at_step];
        });
        products(&self.dy, &self.work.x, width, |at, product| self.dskip[first + at % heads] += product);
        scale(&mut self.du, &self.work.dt);
        let rows = self.du.chunks_exact_mut(channels).zip(self.dy.chunks_exact(channels));
        rows.for_each(|(dx, dy)| add_scaled(dx, dy, &d[place.heads()]));
        let columns = place.scan.columns();
        put(&self.du, &mut self.dxbc[place.rows(columns)], columns, place.channel(), channels);
    }
}

/// Recomputes the weights, and converts their gradients to those of the scores and the sums.
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
                // Load the stored values, because beyond the end they are not zero and may be infinite.
                let l = load(simd, seen, at);
                let score = load(simd, scores, at);
                let slope = simd.mul_f32s(load(simd, dweights, at), l);
                store(simd, dscores, at, simd.add_f32s(load(simd, dscores, at), slope));
                store(simd, dweights, at, simd.mul_f32s(slope, score));
                store(simd, seen, at, simd.mul_f32s(score, l));
            }
            spread(self.ds, i, &dweights[..i]);
        }
    }
}
