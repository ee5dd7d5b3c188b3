//! `y = (silu(x g) * (x u)) d`, one block of rows at a time, so that the intermediate results stay in the cache.

use super::{
    Kernel,
    matmul::{add, blocks, matrix, rows, rows_mut, set},
    pool::{buffer, give_back, zeros},
    simd::{Arch, Simd, WithSimd, load, sigmoid, starts, store},
};

/// The shapes: `x`: `[R N, D]`, `g` and `u`: `[R D, F]`, `d`: `[R F, D]`, `y`: `[R N, D]`. Each of `R` equal layers is
/// applied to its part of the rows.
#[derive(Clone, Copy, Debug)]
pub struct SwiGlu {
    /// `D`.
    pub width: usize,
    /// `F`.
    pub inner: usize,
}

/// `h = x g` and `v = x u`, each `[R N, F]`.
#[derive(Clone, Debug, Default)]
pub struct Branches {
    h: Vec<f32>,
    v: Vec<f32>,
}

impl SwiGlu {
    /// Returns the number of elements of each weight of one layer, and the number of layers, `R`.
    fn layers(self, g: &[f32]) -> (usize, usize) {
        let size = self.width * self.inner;
        (size, g.len() / size)
    }

    /// `h` and `v` hold all rows or those of the longest block.
    fn forward_one(self, x: &[f32], [g, u, d]: [&[f32]; 3], [h, v, a]: [&mut [f32]; 3], y: &mut [f32]) {
        let Self { width, inner } = self;
        let count = x.len() / width;
        let keep = h.len() == count * inner;
        for block in blocks(count) {
            let x = matrix(rows(x, &block, width), width);
            let place = if keep { block.clone() } else { 0..block.len() };
            let h = rows_mut(h, &place, inner);
            let v = rows_mut(v, &place, inner);
            let a = &mut a[..block.len() * inner];
            set(h, x, matrix(g, inner));
            set(v, x, matrix(u, inner));
            Arch::new().dispatch(Gate { h, v, a });
            set(rows_mut(y, &block, width), matrix(a, inner), matrix(d, width));
        }
    }

    /// `da = dy d^T`, `dd = a^T dy`; `dh = da * v * silu'(h)`, `dv = da * silu(h)`; `dx = dh g^T + dv u^T`,
    /// `dg = x^T dh`, `du = x^T dv`. `h` and `v` are overwritten; `a` holds the rows of the longest block.
    fn backward_one(
        self,
        [x, g, u, d]: [&[f32]; 4],
        [h, v, a]: [&mut [f32]; 3],
        dy: &[f32],
        [dx, dg, du, dd]: [&mut [f32]; 4],
    ) {
        let Self { width, inner } = self;
        for block in blocks(x.len() / width) {
            let x = matrix(rows(x, &block, width), width);
            let dy = matrix(rows(dy, &block, width), width);
            let h = rows_mut(h, &block, inner);
            let v = rows_mut(v, &block, inner);
            let a = &mut a[..block.len() * inner];
            set(a, dy, matrix(d, width).transpose());
            Arch::new().dispatch(GateBackward { a, h, v });
            let a = matrix(a, inner);
            let dh = matrix(h, inner);
            let dv = matrix(v, inner);
            add(dd, a.transpose(), dy);
            let dx = rows_mut(dx, &block, width);
            set(dx, dh, matrix(g, inner).transpose());
            add(dx, dv, matrix(u, inner).transpose());
            add(dg, x.transpose(), dh);
            add(du, x.transpose(), dv);
        }
    }
}

impl Kernel<4> for SwiGlu {
    type Saved = Branches;

    fn forward(&self, [x, g, u, d]: [&[f32]; 4], keep: bool) -> (Vec<f32>, Branches) {
        let Self { width, inner } = *self;
        let (size, layers) = self.layers(g);
        let count = x.len() / width / layers;
        let longest = longest_block(count);
        let kept = if keep { count } else { longest };
        let share = if keep { count * inner } else { 0 };
        let held = if keep { layers * count } else { longest };
        let mut y = buffer(x.len());
        let mut saved = Branches { h: buffer(held * inner), v: buffer(held * inner) };
        let mut a = buffer(longest * inner);
        let parts = x.chunks_exact(count * width).zip(y.chunks_exact_mut(count * width));
        for (layer, (x, y)) in parts.enumerate() {
            let weights = [g, u, d].map(|weight| &weight[layer * size..][..size]);
            let h = &mut saved.h[layer * share..][..kept * inner];
            let v = &mut saved.v[layer * share..][..kept * inner];
            self.forward_one(x, weights, [h, v, &mut a], y);
        }
        give_back(a);
        (y, saved)
    }

    fn backward(
        &self,
        [x, g, u, d]: [&[f32]; 4],
        mut saved: Branches,
        dy: &[f32],
        _: [bool; 4],
    ) -> [Option<Vec<f32>>; 4] {
        let Self { width, inner } = *self;
        let (size, layers) = self.layers(g);
        let count = x.len() / width / layers;
        let rows = count * width;
        let kept = count * inner;
        let mut dx = buffer(x.len());
        let [mut dg, mut du, mut dd] = [g, u, d].map(|weight| zeros(weight.len()));
        let mut a = buffer(longest_block(count) * inner);
        for layer in 0..layers {
            let [g, u, d] = [g, u, d].map(|weight| &weight[layer * size..][..size]);
            let h = &mut saved.h[layer * kept..][..kept];
            let v = &mut saved.v[layer * kept..][..kept];
            let dx = &mut dx[layer * rows..][..rows];
            let [dg, du, dd] = [&mut dg, &mut du, &mut dd].map(|weight| &mut weight[layer * size..][..size]);
            let part = layer * rows..(layer + 1) * rows;
            self.backward_one([&x[part.clone()], g, u, d], [h, v, &mut a], &dy[part], [dx, dg, du, dd]);
        }
        [saved.h, saved.v, a].into_iter().for_each(give_back);
        [dx, dg, du, dd].map(Some)
    }
}

/// Returns the number of rows of the longest block.
fn longest_block(rows: usize) -> usize {
    blocks(rows).next().map_or(0, |block| block.len())
}

/// `a = silu(h) * v`.
struct Gate<'a> {
    h: &'a [f32],
    v: &'a [f32],
    a: &'a mut [f32],
}

impl WithSimd for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for at in starts::<S>(self.a.len()) {
            let h = load(simd, self.h, at);
            let v = load(simd, self.v, at);
            store(simd, self.a, at, simd.mul_f32s(simd.mul_f32s(h, sigmoid(simd, h)), v));
        }
    }
}

/// From `da` in `a`, computes `a`, `dh` and `dv` in place of `da`, `h` and `v`.
struct GateBackward<'a> {
    a: &'a mut [f32],
    h: &'a mut [f32],
    v: &'a mut [f32],
}

impl WithSimd for GateBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let one = simd.splat_f32s(1.0);
        for at in starts::<S>(self.a.len()) {
            let da = load(simd, self.a, at);
            let h = load(simd, self.h, at);
            let v = load(simd, self.v, at);
            let s = sigmoid(simd, h);
            let silu = simd.mul_f32s(h, s);
            // silu' = s + silu (1 - s)
            let slope = simd.mul_add_e_f32s(silu, simd.sub_f32s(one, s), s);
            store(simd, self.a, at, simd.mul_f32s(silu, v));
            store(simd, self.h, at, simd.mul_f32s(simd.mul_f32s(da, v), slope));
            store(simd, self.v, at, simd.mul_f32s(da, silu));
        }
    }
}
