//! The backward pass of the delta rule, one chunk and one head at a time.

use super::{
    super::{
        decay::{spread, terms},
        matmul::{add, matrix, set, solve_unit_upper},
        pool::buffer,
        rows::{add_scaled, products, put, scale, take},
        simd::{Arch, Simd, WithSimd, load, starts, store},
    },
    DeltaScan, Gates, Head, Keys, Place,
};
use crate::dims::DeltaRule;

/// One value head in one chunk.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) scan: &'a DeltaScan,
    pub(super) place: &'a Place,
    pub(super) head: usize,
}

/// The gradients of a chunk, and the buffers for one chunk of `L` tokens.
pub(super) struct Back {
    pub(super) keys: Keys,
    own: Head,
    /// The gradients of `q` and `k`, `[2 L, C]`, and of their inner products, `[2 L, L]`.
    dunit: Vec<f32>,
    doverlap: Vec<f32>,
    /// `[2 L, L]`.
    dweights: Vec<f32>,
    /// The gradients of the running sums: `[L]`.
    ds: Vec<f64>,
    /// `[2 L, P]`: the gradient of the outputs, above the negated gradient of the right-hand side of the system.
    both: Vec<f32>,
    /// `[2 L, P]`.
    dread: Vec<f32>,
    pub(super) dqkv: Vec<f32>,
    pub(super) dstrength: Vec<f32>,
    /// The gradient of `g`: `[B, S, V]`.
    pub(super) dg: Vec<f64>,
}

impl Back {
    pub(super) fn new(scan: &DeltaScan, qkv: usize, gates: usize) -> Self {
        let [dunit, doverlap, dweights, both, dread] = [(); 5].map(|()| Vec::new());
        let keys = Keys::default();
        let own = Head::default();
        let ds = Vec::with_capacity(scan.sizes.chunk);
        let dqkv = buffer(qkv);
        let dstrength = buffer(gates);
        let dg = vec![0.0; gates];
        Self { keys, own, dunit, doverlap, dweights, ds, both, dread, dqkv, dstrength, dg }
    }

    pub(super) fn begin(&mut self, scan: &DeltaScan, place: &Place) {
        let len = place.tokens.len();
        let DeltaRule { key_width, value_width, .. } = scan.sizes;
        for (x, width) in [(&mut self.dunit, key_width), (&mut self.doverlap, len), (&mut self.dweights, len)] {
            x.clear();
            x.resize(2 * len * width, 0.0);
        }
        for x in [&mut self.both, &mut self.dread] {
            x.resize(2 * len * value_width, 0.0);
        }
    }

    /// Backward pass of one value head: converts the gradient of its state after the chunk (which is zero after the
    /// last chunk) to that of the state before it.
    pub(super) fn head(&mut self, spot: Spot, [qkv, before, w, dy]: [&[f32]; 4], gates: &Gates, dstate: &mut [f32]) {
        let Spot { scan, place, head } = spot;
        let width = scan.sizes.value_width;
        let values = scan.values();
        let len = place.tokens.len();
        let behind = place.chunk + 1 < scan.count();
        self.own.fill(scan, place, head, [qkv, before], &self.keys, gates);
        self.ds.clear();
        self.ds.resize(len, 0.0);
        let (dy_part, dw) = self.both.split_at_mut(len * width);
        take(&dy[place.tokens.start * values..place.tokens.end * values], values, head * width, width, dy_part);
        let (scores, _) = self.own.weights.split_at(len * len);
        set(dw, matrix(scores, len).transpose(), matrix(dy_part, width));
        if behind {
            self.behind_chunk(spot, w, dstate);
        }
        let (_, a) = self.own.weights.split_at(len * len);
        solve_unit_upper(matrix(a, len).transpose(), &mut self.both[len * width..], width);
        let dbeta = self.values(spot, before);
        if before.is_empty() {
            dstate.fill(0.0);
        } else {
            self.before_chunk(spot, before, dstate, behind);
        }
        self.weights(spot, w, dbeta);
    }

    /// Converts the gradient of the state after the chunk, `exp(c_last) s + k^T (exp(c_last - c) w)`, to those of `w`,
    /// the keys and the running sums.
    fn behind_chunk(&mut self, spot: Spot, w: &[f32], dstate: &[f32]) {
        let DeltaRule { key_width, value_width: width, .. } = spot.scan.sizes;
        let len = spot.place.tokens.len();
        let last = len - 1;
        let Self { keys, own, ds, .. } = self;
        let dw = &mut self.both[len * width..];
        let (drive, scaled) = self.dread.split_at_mut(len * width);
        set(drive, matrix(keys.keys(), key_width), matrix(dstate, width));
        add_scaled(dw, drive, &own.to_end);
        products(w, drive, width, |t, product| {
            let part = f64::from(own.to_end[t]) * product;
            ds[t] -= part;
            ds[last] += part;
        });
        scaled.copy_from_slice(w);
        scale(scaled, &own.to_end);
        let dkeys = &mut self.dunit[len * key_width..];
        add(dkeys, matrix(scaled, width), matrix(dstate, width).transpose());
    }

    /// Converts the gradient of the right-hand side of the system to those of `v` and of `beta` as its factor.
    /// Afterwards, `dread` is the gradient of the values that the outputs read, and of the surprise, which is also that
    /// of `v`.
    fn values(&mut self, spot: Spot, before: &[f32]) -> Vec<f64> {
        let Spot { scan, place, head } = spot;
        let width = scan.sizes.value_width;
        let len = place.tokens.len();
        let Self { own, dread, .. } = self;
        if !before.is_empty() {
            dread.copy_from_slice(&own.read);
            scale(dread, &own.from_start);
            own.surprise(&dread[len * width..]);
        }
        let (dy_part, dw) = self.both.split_at(len * width);
        let mut dbeta = vec![0.0; len];
        products(dw, &own.values, width, |t, product| dbeta[t] = product);
        let (dqueries, dvalues) = dread.split_at_mut(len * width);
        dqueries.copy_from_slice(dy_part);
        dvalues.copy_from_slice(dw);
        scale(dvalues, &own.beta);
        let [_, _, v] = scan.first(0, head);
        let columns = scan.columns();
        put(dvalues, &mut self.dqkv[place.tokens.start * columns..place.tokens.end * columns], columns, v, width);
        dbeta
    }

    /// Backward pass through the reads of the state before the chunk, and through its decayed part in the state
    /// `behind`.
    fn before_chunk(&mut self, spot: Spot, before: &[f32], dstate: &mut [f32], behind: bool) {
        let DeltaRule { key_width, value_width: width, .. } = spot.scan.sizes;
        let len = spot.place.tokens.len();
        let Self { keys, own, ds, dread, dunit, .. } = self;
        scale(dread, &own.from_start);
        products(dread, &own.read, width, |row, product| ds[row % len] += product);
        if behind {
            let passed = own.passed();
            products(dstate, before, dstate.len(), |_, product| ds[len - 1] += f64::from(passed) * product);
            dstate.iter_mut().for_each(|s| *s *= passed);
        }
        let dread = matrix(dread, width);
        add(dunit, dread, matrix(before, width).transpose());
        add(dstate, matrix(&keys.unit, key_width).transpose(), dread);
    }

    /// Backward pass through the weights, to the inner products, the running sums and `beta`, whose gradient so far is
    /// given.
    fn weights(&mut self, spot: Spot, w: &[f32], mut dbeta: Vec<f64>) {
        let Spot { scan, place, head } = spot;
        let DeltaRule { value_width: width, value_heads, .. } = scan.sizes;
        let Self { keys, own, ds, both, .. } = self;
        both[place.tokens.len() * width..].iter_mut().for_each(|dw| *dw = -*dw);
        set(&mut self.dweights, matrix(both, width), matrix(w, width).transpose());
        Arch::new().dispatch(WeighBackward {
            overlap: &keys.overlap,
            own,
            dweights: &mut self.dweights,
            doverlap: &mut self.doverlap,
            dbeta: &mut dbeta,
            ds,
        });
        terms(ds);
        for (t, (dg, dbeta)) in ds.iter().zip(dbeta).enumerate() {
            let at = (place.tokens.start + t) * value_heads + head;
            let beta = f64::from(own.beta[t]);
            self.dg[at] = *dg;
            self.dstrength[at] = (dbeta * beta * (1.0 - beta)) as f32;
        }
    }

    /// Backward pass through the inner products and the lengths of queries and keys.
    pub(super) fn end(&mut self, scan: &DeltaScan, place: &Place, key_head: usize) {
        let width = scan.sizes.key_width;
        let columns = scan.columns();
        let len = place.tokens.len();
        let doverlap = matrix(&self.doverlap, len);
        add(&mut self.dunit, doverlap, matrix(self.keys.keys(), width));
        add(&mut self.dunit[len * width..], doverlap.transpose(), matrix(&self.keys.unit, width));
        // q = f u and k = u with u = x r: dx = r (f dq - u (q dq)).
        let factor = (width as f64).sqrt().recip();
        let mut along = vec![0.0; 2 * len];
        products(&self.keys.unit, &self.dunit, width, |row, product| {
            along[row] = -(if row < len { product / factor } else { product }) as f32;
        });
        self.dunit[..len * width].iter_mut().for_each(|dq| *dq *= factor as f32);
        add_scaled(&mut self.dunit, &self.keys.unit, &along);
        scale(&mut self.dunit, &self.keys.lengths);
        let [q, k, _] = scan.first(key_head, 0);
        let dqkv = &mut self.dqkv[place.tokens.start * columns..place.tokens.end * columns];
        let (dqueries, dkeys) = self.dunit.split_at(len * width);
        put(dqueries, dqkv, columns, q, width);
        put(dkeys, dqkv, columns, k, width);
    }
}

/// Converts the gradients of both weight matrices to those of the inner products, of `beta` and of the running sums.
struct WeighBackward<'a> {
    overlap: &'a [f32],
    own: &'a Head,
    /// Becomes the gradient that is distributed over the sums.
    dweights: &'a mut [f32],
    doverlap: &'a mut [f32],
    dbeta: &'a mut [f64],
    ds: &'a mut [f64],
}

impl WithSimd for WeighBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Head { sums, beta, weights, .. } = self.own;
        let len = beta.len();
        let (_, keys) = self.overlap.split_at(len * len);
        let (scores, a) = weights.split_at(len * len);
        let (dscores, da) = self.dweights.split_at_mut(len * len);
        let (dqueries, dkeys) = self.doverlap.split_at_mut(len * len);
        let mut l = vec![0.0; len];
        for i in 0..len {
            let row = i * len..i * len + i + 1;
            let [keys, scores, a] = [keys, scores, a].map(|x| &x[row.clone()]);
            let [dscores, da, dqueries, dkeys] =
                [&mut *dscores, &mut *da, &mut *dqueries, &mut *dkeys].map(|x| &mut x[row.clone()]);
            // On the diagonal, only the scores have a weight.
            da[i] = 0.0;
            let seen = &mut l[..=i];
            let factor = simd.splat_f32s(beta[i]);
            let mut sum = simd.splat_f32s(0.0);
            for at in starts::<S>(i + 1) {
                store(simd, seen, at, sums.between(simd, i, at));
                // Load the stored values, because beyond the end they are not zero and may be infinite.
                let l = load(simd, seen, at);
                let dscore = load(simd, dscores, at);
                let da_now = load(simd, da, at);
                store(simd, dqueries, at, simd.mul_add_e_f32s(dscore, l, load(simd, dqueries, at)));
                let pulled = simd.mul_f32s(da_now, l);
                store(simd, dkeys, at, simd.mul_add_e_f32s(pulled, factor, load(simd, dkeys, at)));
                sum = simd.mul_add_e_f32s(pulled, load(simd, keys, at), sum);
                let both =
                    simd.mul_add_e_f32s(dscore, load(simd, scores, at), simd.mul_f32s(da_now, load(simd, a, at)));
                store(simd, dscores, at, both);
            }
            self.dbeta[i] += f64::from(simd.reduce_sum_f32s(sum));
            spread(self.ds, i, &dscores[..i]);
        }
    }
}
