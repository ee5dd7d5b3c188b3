//! Attention for heads too narrow for matrix products to pay off. It processes as many queries at a time as a vector
//! has lanes. The width `C` of a head is a compile-time constant.

use super::{
    super::{
        pool::buffer,
        simd::{Arch, Simd, WithSimd, cast_slice, cast_slice_mut, exp, load, store},
    },
    Angles, Attention, Block, Head,
};

/// One head of one sequence, `[S, C]`.
type Rows<const C: usize> = Vec<[f32; C]>;

/// The transpose: blocks of as many rows as a vector has lanes, `C` vectors each, where the first vector holds column
/// 0. Rows after `S` are zero.
#[derive(Clone)]
struct Across<S: Simd, const C: usize>(Vec<S::f32s>);

impl<S: Simd, const C: usize> Across<S, C> {
    #[inline(always)]
    fn zeros(simd: S, seq: usize) -> Self {
        Self(vec![simd.splat_f32s(0.0); C * seq.div_ceil(S::F32_LANES)])
    }

    #[inline(always)]
    fn set(&mut self, rows: &[[f32; C]]) {
        let blocks = cast_slice_mut::<S::f32s, f32>(&mut self.0).chunks_exact_mut(C * S::F32_LANES);
        for (block, rows) in blocks.zip(rows.chunks(S::F32_LANES)) {
            for (column, lanes) in block.chunks_exact_mut(S::F32_LANES).enumerate() {
                for (lane, row) in lanes.iter_mut().zip(rows) {
                    *lane = row[column];
                }
            }
        }
    }

    #[inline(always)]
    fn row(&self, at: usize) -> [f32; C] {
        let first = at / S::F32_LANES * C * S::F32_LANES + at % S::F32_LANES;
        let values = &cast_slice::<S::f32s, f32>(&self.0)[first..];
        let mut row = [0.0; C];
        for (column, value) in row.iter_mut().enumerate() {
            *value = values[column * S::F32_LANES];
        }
        row
    }

    /// Returns the block of rows that begins with row `at`.
    #[inline(always)]
    fn block(&self, at: usize) -> &[S::f32s; C] {
        &self.0.as_chunks().0[at / S::F32_LANES]
    }

    #[inline(always)]
    fn block_mut(&mut self, at: usize) -> &mut [S::f32s; C] {
        &mut self.0.as_chunks_mut().0[at / S::F32_LANES]
    }
}

/// Returns the inner products of `row` with the rows of `block`.
#[inline(always)]
fn products<S: Simd, const C: usize>(simd: S, block: &[S::f32s; C], row: &[f32; C]) -> S::f32s {
    let mut sum = simd.mul_f32s(block[0], simd.splat_f32s(row[0]));
    for c in 1..C {
        sum = simd.mul_add_e_f32s(block[c], simd.splat_f32s(row[c]), sum);
    }
    sum
}

/// Returns, for each lane, the sum of `rows` weighted by `factors`.
#[inline(always)]
fn sums<S: Simd, const C: usize>(simd: S, factors: &[S::f32s], rows: &[[f32; C]]) -> [S::f32s; C] {
    let mut sums = [simd.splat_f32s(0.0); C];
    for (&factors, row) in factors.iter().zip(rows) {
        for c in 0..C {
            sums[c] = simd.mul_add_e_f32s(factors, simd.splat_f32s(row[c]), sums[c]);
        }
    }
    sums
}

/// Adds `rows`, weighted by `factors`, to `sum`.
#[inline(always)]
fn add<const C: usize>(mut sum: [f32; C], factors: &[f32], rows: &[[f32; C]]) -> [f32; C] {
    for (factor, row) in factors.iter().zip(rows) {
        for c in 0..C {
            sum[c] += factor * row[c];
        }
    }
    sum
}

#[inline(always)]
fn row<const C: usize>(x: &[f32], at: usize) -> &[f32; C] {
    &x[at..].as_chunks().0[0]
}

/// Copies `C` columns of `x`, whose rows begin `stride` apart, starting at `at`.
#[inline(always)]
fn take<const C: usize>(x: &[f32], at: usize, stride: usize, rows: &mut [[f32; C]]) {
    for (position, out) in rows.iter_mut().enumerate() {
        *out = *row(x, at + position * stride);
    }
}

/// Rotary positions. Column `c` of a row is multiplied by the first factor, and its partner in the other half by the
/// second.
struct Turn<const C: usize>(Vec<[[f32; C]; 2]>);

impl<const C: usize> Turn<C> {
    /// Creates the table from cosines and sines, each multiplied by a factor.
    fn new(angles: &Angles, [cos_factor, sin_factor]: [f32; 2]) -> Self {
        let factors = angles.rows(C).map(|(cos, sin)| {
            let mut factors = [[0.0; C]; 2];
            for c in 0..C {
                let sign = if c < C / 2 { -1.0 } else { 1.0 };
                factors[0][c] = cos_factor * cos[c % (C / 2)];
                factors[1][c] = sign * sin_factor * sin[c % (C / 2)];
            }
            factors
        });
        Self(factors.collect())
    }

    #[inline(always)]
    fn row(&self, position: usize, x: &[f32; C]) -> [f32; C] {
        let [own, partner] = &self.0[position];
        let mut out = [0.0; C];
        for c in 0..C {
            out[c] = x[c] * own[c] + x[(c + C / 2) % C] * partner[c];
        }
        out
    }

    /// Like [`take`], rotated.
    #[inline(always)]
    fn take(&self, x: &[f32], at: usize, stride: usize, rows: &mut [[f32; C]]) {
        for (position, out) in rows.iter_mut().enumerate() {
            *out = self.row(position, row(x, at + position * stride));
        }
    }
}

impl Attention {
    /// Masks the scores of a key: minus infinity for queries, from position `first` on, that do not see it. Positions
    /// are exact up to 2^24.
    #[inline(always)]
    fn cut<S: Simd>(&self, simd: S, scores: S::f32s, first: usize, key: usize) -> S::f32s {
        const LANES: [f32; 16] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];
        let queries = simd.add_f32s(load(simd, &LANES, 0), simd.splat_f32s(first as f32));
        let none = simd.splat_f32s(f32::NEG_INFINITY);
        let early = simd.less_than_f32s(queries, simd.splat_f32s(key as f32));
        let late = simd.greater_than_f32s(queries, simd.splat_f32s(key.saturating_add(self.window - 1) as f32));
        simd.select_f32s(late, none, simd.select_f32s(early, none, scores))
    }
}

/// Like [`Kernel::forward`](super::Kernel::forward). Saves for every query the largest score and the weight of that
/// key, `[2, B, H, S]`. One number would be enough, but would need a logarithm, for which there is no vector function.
pub fn forward<const C: usize>(shape: &Attention, inputs: [&[f32]; 3]) -> (Vec<f32>, Vec<f32>) {
    Arch::new().dispatch(Forward::<C> { shape, inputs })
}

struct Forward<'a, const C: usize> {
    shape: &'a Attention,
    inputs: [&'a [f32]; 3],
}

impl<const C: usize> WithSimd for Forward<'_, C> {
    type Output = (Vec<f32>, Vec<f32>);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let Self { shape, inputs: [q, k, v] } = self;
        let seq = shape.seq;
        let (stride, kv_stride) = shape.strides();
        let mut y = buffer(q.len());
        let mut saved = buffer(2 * q.len() / C);
        let (largest, shares) = saved.split_at_mut(q.len() / C);
        let normalizers = largest.chunks_exact_mut(seq).zip(shares.chunks_exact_mut(seq));
        let [turn_query, turn_key] = [shape.scale(), 1.0].map(|factor| Turn::new(&shape.angles, [factor, factor]));
        let mut queries: Rows<C> = vec![[0.0; C]; seq];
        let mut keys = queries.clone();
        let mut values = queries.clone();
        let mut queries_across = Across::<S, C>::zeros(simd, seq);
        let mut y_across = queries_across.clone();
        let mut weights = vec![simd.splat_f32s(0.0); seq];
        for (Head { rows, kv_rows, opens, .. }, (largest, shares)) in shape.each_head(q.len()).zip(normalizers) {
            if opens {
                turn_key.take(k, kv_rows.start, kv_stride, &mut keys);
                take(v, kv_rows.start, kv_stride, &mut values);
            }
            turn_query.take(q, rows.start, stride, &mut queries);
            queries_across.set(&queries);
            for Block { queries, keys: seen } in shape.blocks(S::F32_LANES) {
                let first = queries.start;
                let q = queries_across.block(first);
                let weights = &mut weights[..seen.len()];
                let mut most = simd.splat_f32s(f32::NEG_INFINITY);
                for ((scores, key), at) in weights.iter_mut().zip(&keys[seen.clone()]).zip(seen.clone()) {
                    *scores = shape.cut(simd, products(simd, q, key), first, at);
                    most = simd.max_f32s(most, *scores);
                }
                let mut sum = simd.splat_f32s(0.0);
                for weight in &mut *weights {
                    *weight = exp(simd, simd.sub_f32s(*weight, most));
                    sum = simd.add_f32s(sum, *weight);
                }
                let share = simd.div_f32s(simd.splat_f32s(1.0), sum);
                store(simd, largest, first, most);
                store(simd, shares, first, share);
                let mixed = sums(simd, weights, &values[seen]);
                *y_across.block_mut(first) = mixed.map(|mixed| simd.mul_f32s(mixed, share));
            }
            for (position, y) in y[rows].chunks_mut(stride).enumerate() {
                y[..C].copy_from_slice(&y_across.row(position));
            }
        }
        (y, saved)
    }
}

/// Like [`Kernel::backward`](super::Kernel::backward).
pub fn backward<const C: usize>(shape: &Attention, inputs: [&[f32]; 3], saved: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
    Arch::new().dispatch(Backward::<C> { shape, inputs, saved, dy })
}

struct Backward<'a, const C: usize> {
    shape: &'a Attention,
    inputs: [&'a [f32]; 3],
    saved: &'a [f32],
    dy: &'a [f32],
}

impl<const C: usize> WithSimd for Backward<'_, C> {
    type Output = [Vec<f32>; 3];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let Self { shape, inputs: [q, k, v], saved, dy } = self;
        let seq = shape.seq;
        let (stride, kv_stride) = shape.strides();
        let (largest, shares) = saved.split_at(q.len() / C);
        let normalizers = largest.chunks_exact(seq).zip(shares.chunks_exact(seq));
        let [mut dq, mut dk, mut dv] = [q, k, v].map(|x| buffer(x.len()));
        let factors = [shape.scale(), 1.0];
        let [turn_query, turn_key] = factors.map(|factor| Turn::new(&shape.angles, [factor, factor]));
        let [query_back, key_back] = factors.map(|factor| Turn::new(&shape.angles, [factor, -factor]));
        let mut now = HeadBack::<S, C>::new(simd, seq);
        for (Head { rows, kv_rows, opens, closes }, (largest, shares)) in shape.each_head(q.len()).zip(normalizers) {
            if opens {
                turn_key.take(k, kv_rows.start, kv_stride, &mut now.keys);
                take(v, kv_rows.start, kv_stride, &mut now.values);
                now.key_gradients.fill([0.0; C]);
                now.value_gradients.fill([0.0; C]);
            }
            turn_query.take(q, rows.start, stride, &mut now.queries);
            take(dy, rows.start, stride, &mut now.outputs);
            now.queries_across.set(&now.queries);
            now.outputs_across.set(&now.outputs);
            for block in shape.blocks(S::F32_LANES) {
                let first = block.queries.start;
                now.weigh(simd, shape, &block, [load(simd, largest, first), load(simd, shares, first)]);
                now.add_up(simd, &block);
            }
            for (position, dq) in dq[rows].chunks_mut(stride).enumerate() {
                dq[..C].copy_from_slice(&query_back.row(position, &now.query_gradients.row(position)));
            }
            if closes {
                let gradients = now.key_gradients.iter().zip(&now.value_gradients);
                let kv = dk[kv_rows.clone()].chunks_mut(kv_stride).zip(dv[kv_rows].chunks_mut(kv_stride));
                for (position, ((dk_row, dv_row), (dk, dv))) in gradients.zip(kv).enumerate() {
                    dk[..C].copy_from_slice(&key_back.row(position, dk_row));
                    dv[..C].copy_from_slice(dv_row);
                }
            }
        }
        [dq, dk, dv]
    }
}

/// The backward pass of one query head.
struct HeadBack<S: Simd, const C: usize> {
    queries: Rows<C>,
    keys: Rows<C>,
    values: Rows<C>,
    /// The gradients of the outputs.
    outputs: Rows<C>,
    key_gradients: Rows<C>,
    value_gradients: Rows<C>,
    queries_across: Across<S, C>,
    outputs_across: Across<S, C>,
    query_gradients: Across<S, C>,
    /// The weights of one block of queries, one vector per key.
    weights: Vec<S::f32s>,
    /// The gradients of the scores.
    slopes: Vec<S::f32s>,
}

impl<S: Simd, const C: usize> HeadBack<S, C> {
    #[inline(always)]
    fn new(simd: S, seq: usize) -> Self {
        let rows = || vec![[0.0; C]; seq];
        let across = || Across::zeros(simd, seq);
        let vectors = || vec![simd.splat_f32s(0.0); seq];
        Self {
            queries: rows(),
            keys: rows(),
            values: rows(),
            outputs: rows(),
            key_gradients: rows(),
            value_gradients: rows(),
            queries_across: across(),
            outputs_across: across(),
            query_gradients: across(),
            weights: vectors(),
            slopes: vectors(),
        }
    }

    /// Recomputes the weights of a block of queries from their largest scores and the weights of these, and computes
    /// the gradients of the scores.
    #[inline(always)]
    fn weigh(&mut self, simd: S, shape: &Attention, block: &Block, [most, share]: [S::f32s; 2]) {
        let seen = block.keys.clone();
        let first = block.queries.start;
        let q = self.queries_across.block(first);
        let dy = self.outputs_across.block(first);
        let weights = &mut self.weights[..seen.len()];
        let slopes = &mut self.slopes[..seen.len()];
        let rows = self.keys[seen.clone()].iter().zip(&self.values[seen.clone()]).zip(seen);
        let mut mean = simd.splat_f32s(0.0);
        for (((key, value), at), (p, ds)) in rows.zip(weights.iter_mut().zip(&mut *slopes)) {
            let scores = shape.cut(simd, products(simd, q, key), first, at);
            *p = simd.mul_f32s(exp(simd, simd.sub_f32s(scores, most)), share);
            *ds = products(simd, dy, value);
            mean = simd.mul_add_e_f32s(*p, *ds, mean);
        }
        for (p, ds) in weights.iter().zip(slopes) {
            *ds = simd.mul_f32s(*p, simd.sub_f32s(*ds, mean));
        }
    }

    /// Computes the gradients of the queries of a block, and its contribution to those of the keys and values that they
    /// see.
    #[inline(always)]
    fn add_up(&mut self, simd: S, block: &Block) {
        let Block { queries, keys: seen } = block;
        let p = &self.weights[..seen.len()];
        let ds = &self.slopes[..seen.len()];
        *self.query_gradients.block_mut(queries.start) = sums(simd, ds, &self.keys[seen.clone()]);
        let [p, ds] = [p, ds].map(|vectors| cast_slice::<S::f32s, f32>(vectors).chunks_exact(S::F32_LANES));
        for ((p, ds), at) in p.zip(ds).zip(seen.clone()) {
            // Queries before the key do not see it.
            let from = at.saturating_sub(queries.start);
            let later = queries.start + from..queries.end;
            self.key_gradients[at] = add(self.key_gradients[at], &ds[from..], &self.queries[later.clone()]);
            self.value_gradients[at] = add(self.value_gradients[at], &p[from..], &self.outputs[later]);
        }
    }
}
