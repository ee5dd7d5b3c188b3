//! `y = (silu(x g) * (x u)) d`, one block of rows at a time, so that the intermediate results stay in the cache.

use super::{
    Kernel,
    matmul::{add, blocks, matrix, rows, rows_mut, set},
    pool::{buffer, give_back, zeros},
    simd::{Arch, Simd, WithSimd, load, sigmoid, starts, store},
};

/// The shapes: `x`: `[N, D]`, `g` and `u`: `[D, F]`, `d`: `[F, D]`, `y`: `[N, D]`.
#[derive(Clone, Copy, Debug)]
pub struct SwiGlu {
    /// `D`.
    pub width: usize,
    /// `F`.
    pub inner: usize,
}

/// `h = x g` and `v = x u`, each `[N, F]`.
#[derive(Clone, Debug, Default)]
pub struct Branches {
    h: Vec<f32>,
    v: Vec<f32>,
}

impl Kernel<4> for SwiGlu {
    type Saved = Branches;

    fn forward(&self, [x, g, u, d]: [&[f32]; 4], keep: bool) -> (Vec<f32>, Branches) {
        let Self { width, inner } = *self;
        let count = x.len() / width;
        let mut y = buffer(x.len());
        let longest = blocks(count).next().map_or(0, |block| block.len());
        let kept = if keep { count } else { longest };
        let mut saved = Branches { h: buffer(kept * inner), v: buffer(kept * inner) };
        let mut a = buffer(longest * inner);
        for block in blocks(count) {
            let x = matrix(rows(x, &block, width), width);
            let place = if keep { block.clone() } else { 0..block.len() };
            let h = rows_mut(&mut saved.h, &place, inner);
            let v = rows_mut(&mut saved.v, &place, inner);
            let a = &mut a[..block.len() * inner];
            set(h, x, matrix(g, inner));
            set(v, x, matrix(u, inner));
            Arch::new().dispatch(Gate { h, v, a });
            set(rows_mut(&mut y, &block, width), matrix(a, inner), matrix(d, width));
        }
        give_back(a);
        (y, saved)
    }

    /// `da = dy d^T`, `dd = a^T dy`; `dh = da * v * silu'(h)`, `dv = da * silu(h)`; `dx = dh g^T + dv u^T`,
    /// `dg = x^T dh`, `du = x^T dv`.
    fn backward(
        &self,
        [x, g, u, d]: [&[f32]; 4],
        mut saved: Branches,
        dy: &[f32],
        _: [bool; 4],
    ) -> [Option<Vec<f32>>; 4] {
        let Self { width, inner } = *self;
        let count = x.len() / width;
        let mut dx = buffer(x.len());
        let [mut dg, mut du, mut dd] = [g, u, d].map(|weight| zeros(weight.len()));
        let mut scratch = buffer(blocks(count).next().map_or(0, |block| block.len()) * inner);
        for block in blocks(count) {
            let x = matrix(rows(x, &block, width), width);
            let dy = matrix(rows(dy, &block, width), width);
            let h = rows_mut(&mut saved.h, &block, inner);
            let v = rows_mut(&mut saved.v, &block, inner);
            let a = &mut scratch[..block.len() * inner];
            set(a, dy, matrix(d, width).transpose());
            Arch::new().dispatch(GateBackward { a, h, v });
            let a = matrix(a, inner);
            let dh = matrix(h, inner);
            let dv = matrix(v, inner);
            add(&mut dd, a.transpose(), dy);
            let dx = rows_mut(&mut dx, &block, width);
            set(dx, dh, matrix(g, inner).transpose());
            add(dx, dv, matrix(u, inner).transpose());
            add(&mut dg, x.transpose(), dh);
            add(&mut du, x.transpose(), dv);
        }
        [saved.h, saved.v, scratch].into_iter().for_each(give_back);
        [dx, dg, du, dd].map(Some)
    }
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
