//! Attention by matrix products, for heads of any width.

use super::{
    super::{
        matmul::{add, matrix, rows, rows_mut, set, set_strided, strided},
        pool::buffer,
        simd::{Arch, Simd, WithSimd, exp, load, starts, store},
    },
    Angles, Attention, Block, Head,
};

/// The number of queries whose scores are computed together. Keys that none of them sees are skipped.
const QUERIES: usize = 32;

impl Angles {
    /// Rotates the rows of `x`, which begin `stride` apart, and multiplies them by `scale`. `out` is contiguous.
    fn turn(&self, x: &[f32], stride: usize, out: &mut [f32], width: usize, scale: f32) {
        for ((x, out), (cos, sin)) in x.chunks(stride).zip(out.chunks_exact_mut(width)).zip(self.rows(width)) {
            turn_row(&x[..width], [cos, sin], [scale, scale], out);
        }
    }

    /// The transpose of [`turn`](Self::turn): from contiguous `x` to rows that begin `stride` apart.
    fn turn_back(&self, x: &[f32], out: &mut [f32], stride: usize, width: usize, scale: f32) {
        for ((x, out), (cos, sin)) in x.chunks_exact(width).zip(out.chunks_mut(stride)).zip(self.rows(width)) {
            turn_row(x, [cos, sin], [scale, -scale], &mut out[..width]);
        }
    }
}

/// Rotates the pairs `(c, c + C/2)` of `x` by angles given as cosines and sines, each multiplied by a factor.
#[inline(always)]
fn turn_row(x: &[f32], [cos, sin]: [&[f32]; 2], factors: [f32; 2], out: &mut [f32]) {
    let half = x.len() / 2;
    let (low, high) = x.split_at(half);
    let (out_low, out_high) = out.split_at_mut(half);
    // Four at a time, because heads are too narrow for loops of unknown length to be fast.
    let (low, low_rest) = low.as_chunks::<4>();
    let (high, high_rest) = high.as_chunks::<4>();
    let (cos, cos_rest) = cos.as_chunks::<4>();
    let (sin, sin_rest) = sin.as_chunks::<4>();
    let (out_low, out_low_rest) = out_low.as_chunks_mut::<4>();
    let (out_high, out_high_rest) = out_high.as_chunks_mut::<4>();
    let outs = out_low.iter_mut().zip(out_high);
    for (((low, high), (cos, sin)), (out_low, out_high)) in low.iter().zip(high).zip(cos.iter().zip(sin)).zip(outs) {
        for c in 0..4 {
            (out_low[c], out_high[c]) = turn_pair([low[c], high[c]], [cos[c], sin[c]], factors);
        }
    }
    for c in 0..low_rest.len() {
        (out_low_rest[c], out_high_rest[c]) =
            turn_pair([low_rest[c], high_rest[c]], [cos_rest[c], sin_rest[c]], factors);
    }
}

#[inline(always)]
fn turn_pair([low, high]: [f32; 2], [cos, sin]: [f32; 2], factors: [f32; 2]) -> (f32, f32) {
    let cos = factors[0] * cos;
    let sin = factors[1] * sin;
    (low * cos - high * sin, high * cos + low * sin)
}

/// Buffers for one head.
struct Scratch {
    /// `[S, C]`, rotated.
    q: Vec<f32>,
    /// `[S, C]`, rotated.
    k: Vec<f32>,
    /// `[QUERIES, T]`, where a block of queries sees at most `T` keys: first scores, then weights.
    weights: Vec<f32>,
}

impl Attention {
    fn scratch(&self) -> Scratch {
        let most = self.blocks(QUERIES).map(|Block { queries, keys }| queries.len() * keys.len()).max();
        Scratch {
            q: buffer(self.seq * self.width),
            k: buffer(self.seq * self.width),
            weights: buffer(most.unwrap_or(0)),
        }
    }

    /// Returns the keys that the queries of a block see, counted from the first key of the block.
    fn sight(&self, block: &Block) -> Sight {
        Sight { first: block.queries.start - block.keys.start, keys: block.keys.len(), window: self.window }
    }
}

/// Like [`Kernel::forward`](super::Kernel::forward). Saves for every query the log-sum-exp of its scores: `[B, H, S]`.
pub fn forward(shape: &Attention, [q, k, v]: [&[f32]; 3]) -> (Vec<f32>, Vec<f32>) {
    let width = shape.width;
    let (stride, kv_stride) = shape.strides();
    let mut y = buffer(q.len());
    let mut log_sums = buffer(q.len() / width);
    let mut scratch = shape.scratch();
    for (head, log_sums) in shape.each_head(q.len()).zip(log_sums.chunks_exact_mut(shape.seq)) {
        let Head { rows: all, kv_rows, opens, .. } = head;
        if opens {
            shape.angles.turn(&k[kv_rows.clone()], kv_stride, &mut scratch.k, width, 1.0);
        }
        shape.angles.turn(&q[all.clone()], stride, &mut scratch.q, width, shape.scale());
        for block in shape.blocks(QUERIES) {
            let Block { queries, keys } = block.clone();
            let weights = &mut scratch.weights[..queries.len() * keys.len()];
            let rotated = matrix(rows(&scratch.k, &keys, width), width);
            set(weights, matrix(rows(&scratch.q, &queries, width), width), rotated.transpose());
            let log_sums = &mut log_sums[queries.clone()];
            Arch::new().dispatch(Softmax { weights, sight: shape.sight(&block), log_sums });
            let y = &mut y[all.clone()][queries.start * stride..];
            let values = strided(&v[kv_rows.clone()][keys.start * kv_stride..], keys.len(), width, kv_stride);
            set_strided(y, stride, matrix(weights, keys.len()), values);
        }
    }
    (y, log_sums)
}

/// Like [`Kernel::backward`](super::Kernel::backward).
pub fn backward(shape: &Attention, [q, k, v]: [&[f32]; 3], log_sums: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
    let width = shape.width;
    let (stride, kv_stride) = shape.strides();
    let [mut dq, mut dk, mut dv] = [q, k, v].map(|x| buffer(x.len()));
    let mut scratch = shape.scratch();
    let mut slopes = scratch.weights.clone();
    let [mut head_dq, mut head_dk, mut head_dv] = [(); 3].map(|()| vec![0.0; shape.seq * width]);
    for (head, log_sums) in shape.each_head(q.len()).zip(log_sums.chunks_exact(shape.seq)) {
        let Head { rows: all, kv_rows, opens, closes } = head;
        if opens {
            shape.angles.turn(&k[kv_rows.clone()], kv_stride, &mut scratch.k, width, 1.0);
            head_dk.fill(0.0);
            head_dv.fill(0.0);
        }
        shape.angles.turn(&q[all.clone()], stride, &mut scratch.q, width, shape.scale());
        for block in shape.blocks(QUERIES) {
            let Block { queries, keys } = block.clone();
            let size = queries.len() * keys.len();
            let weights = &mut scratch.weights[..size];
            let slopes = &mut slopes[..size];
            let q = matrix(rows(&scratch.q, &queries, width), width);
            let k = matrix(rows(&scratch.k, &keys, width), width);
            let v = strided(&v[kv_rows.clone()][keys.start * kv_stride..], keys.len(), width, kv_stride);
            let dy = strided(&dy[all.clone()][queries.start * stride..], queries.len(), width, stride);
            set(weights, q, k.transpose());
            set(slopes, dy, v.transpose());
            let sight = shape.sight(&block);
            let log_sums = &log_sums[queries.clone()];
            Arch::new().dispatch(SoftmaxBackward { weights, slopes, sight, log_sums });
            let weights = matrix(weights, keys.len());
            let slopes = matrix(slopes, keys.len());
            set(rows_mut(&mut head_dq, &queries, width), slopes, k);
            add(rows_mut(&mut head_dk, &keys, width), slopes.transpose(), q);
            add(rows_mut(&mut head_dv, &keys, width), weights.transpose(), dy);
        }
        shape.angles.turn_back(&head_dq, &mut dq[all], stride, width, shape.scale());
        if closes {
            shape.angles.turn_back(&head_dk, &mut dk[kv_rows.clone()], kv_stride, width, 1.0);
            for (dv, head) in dv[kv_rows].chunks_mut(kv_stride).zip(head_dv.chunks_exact(width)) {
                dv[..width].copy_from_slice(head);
            }
        }
    }
    [dq, dk, dv]
}

/// The keys that the queries of a block see. Positions are counted from the first key of the block.
#[derive(Clone, Copy)]
struct Sight {
    /// The position of the first query.
    first: usize,
    /// The number of keys in the block.
    keys: usize,
    /// The number of keys that a query sees, including its own.
    window: usize,
}

impl Sight {
    /// Returns the keys that query `row` sees, and sets all others in the row to zero.
    #[inline(always)]
    fn cut<'a>(&self, row: usize, keys: &'a mut [f32]) -> &'a mut [f32] {
        let end = self.first + row + 1;
        let (keys, later) = keys.split_at_mut(end);
        later.fill(0.0);
        let (earlier, seen) = keys.split_at_mut(end.saturating_sub(self.window));
        earlier.fill(0.0);
        seen
    }
}

/// Converts scores to weights in place.
struct Softmax<'a> {
    weights: &'a mut [f32],
    sight: Sight,
    log_sums: &'a mut [f32],
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.weights.chunks_exact_mut(self.sight.keys);
        for (row, (weights, log_sum)) in rows.zip(self.log_sums).enumerate() {
            let seen = self.sight.cut(row, weights);
            let whole = seen.len() - seen.len() % S::F32_LANES;
            let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
            for &scores in S::as_simd_f32s(seen).0 {
                largest = simd.max_f32s(largest, scores);
            }
            let largest = seen[whole..].iter().copied().fold(simd.reduce_max_f32s(largest), f32::max);
            let shift = simd.splat_f32s(largest);
            let mut sum = simd.splat_f32s(0.0);
            let (vectors, rest) = S::as_mut_simd_f32s(seen);
            for scores in vectors {
                *scores = exp(simd, simd.sub_f32s(*scores, shift));
                sum = simd.add_f32s(sum, *scores);
            }
            let weights = exp(simd, simd.sub_f32s(simd.partial_load_f32s(rest), shift));
            simd.partial_store_f32s(rest, weights);
            let sum = simd.reduce_sum_f32s(sum) + rest.iter().sum::<f32>();
            let share = simd.splat_f32s(sum.recip());
            for at in starts::<S>(seen.len()) {
                store(simd, seen, at, simd.mul_f32s(load(simd, seen, at), share));
            }
            *log_sum = largest + sum.ln();
        }
    }
}

/// Recomputes the weights from the scores, and converts gradients of the weights to gradients of the scores, both in
/// place.
struct SoftmaxBackward<'a> {
    weights: &'a mut [f32],
    slopes: &'a mut [f32],
    sight: Sight,
    log_sums: &'a [f32],
}

impl WithSimd for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Sight { keys, .. } = self.sight;
        let rows = self.weights.chunks_exact_mut(keys).zip(self.slopes.chunks_exact_mut(keys));
        for (row, ((weights, slopes), &log_sum)) in rows.zip(self.log_sums).enumerate() {
            let weights = self.sight.cut(row, weights);
            let slopes = self.sight.cut(row, slopes);
            let shift = simd.splat_f32s(log_sum);
            let mut sum = simd.splat_f32s(0.0);
            for at in starts::<S>(weights.len()) {
                let p = exp(simd, simd.sub_f32s(load(simd, weights, at), shift));
                store(simd, weights, at, p);
                // Load the stored values, because beyond the end `p` is not zero and may be infinite.
                sum = simd.mul_add_e_f32s(load(simd, weights, at), load(simd, slopes, at), sum);
            }
            let mean = simd.splat_f32s(simd.reduce_sum_f32s(sum));
            for at in starts::<S>(weights.len()) {
                let slope = simd.sub_f32s(load(simd, slopes, at), mean);
                store(simd, slopes, at, simd.mul_f32s(load(simd, weights, at), slope));
            }
        }
    }
}
