//! `y = x r * gamma` with `r = 1 / sqrt(mean(x^2) + epsilon)`.

use super::{
    Kernel,
    pool::{buffer, zeros},
    simd::{Arch, Simd, WithSimd, load, starts, store},
};

/// The shapes: `x`: `[R N, D]`, `gamma`: `[R D]`, `y`: `[R N, D]`. Each of `R` norms is applied to its part of the
/// rows.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm {
    /// `D`.
    pub width: usize,
    /// Added to the mean square.
    pub epsilon: f32,
}

impl Kernel<2> for RmsNorm {
    /// `r`: `[N]`.
    type Saved = Vec<f32>;

    fn forward(&self, [x, gamma]: [&[f32]; 2], _: bool) -> (Vec<f32>, Vec<f32>) {
        let Self { width, epsilon } = *self;
        let mut y = buffer(x.len());
        let mut r = buffer(x.len() / width);
        let size = x.len() * width / gamma.len();
        let parts = x.chunks_exact(size).zip(y.chunks_exact_mut(size)).zip(r.chunks_exact_mut(size / width));
        for (((x, y), r), gamma) in parts.zip(gamma.chunks_exact(width)) {
            Arch::new().dispatch(Forward { x, gamma, epsilon, y, r });
        }
        (y, r)
    }

    /// `dx = r (dy * gamma - x r^2 mean(dy * gamma * x))`, `dgamma = sum dy * x r`.
    fn backward(&self, [x, gamma]: [&[f32]; 2], r: Vec<f32>, dy: &[f32], _: [bool; 2]) -> [Option<Vec<f32>>; 2] {
        let mut dx = buffer(x.len());
        let mut dgamma = zeros(gamma.len());
        let width = self.width;
        let size = x.len() * width / gamma.len();
        let rows = x.chunks_exact(size).zip(dy.chunks_exact(size)).zip(r.chunks_exact(size / width));
        let scales = gamma.chunks_exact(width).zip(dgamma.chunks_exact_mut(width));
        for ((((x, dy), r), dx), (gamma, dgamma)) in rows.zip(dx.chunks_exact_mut(size)).zip(scales) {
            Arch::new().dispatch(Gradient { x, gamma, r, dy, dx, dgamma });
        }
        [Some(dx), Some(dgamma)]
    }
}

struct Forward<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    epsilon: f32,
    y: &'a mut [f32],
    r: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.gamma.len();
        let rows = self.x.chunks_exact(width).zip(self.y.chunks_exact_mut(width));
        for ((x, y), r) in rows.zip(self.r) {
            let mut sum = simd.splat_f32s(0.0);
            for at in starts::<S>(width) {
                let x = load(simd, x, at);
                sum = simd.mul_add_e_f32s(x, x, sum);
            }
            *r = (simd.reduce_sum_f32s(sum) / width as f32 + self.epsilon).sqrt().recip();
            let scale = simd.splat_f32s(*r);
            for at in starts::<S>(width) {
                let scaled = simd.mul_f32s(load(simd, x, at), scale);
                store(simd, y, at, simd.mul_f32s(scaled, load(simd, self.gamma, at)));
            }
        }
    }
}

struct Gradient<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    r: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    dgamma: &'a mut [f32],
}

impl WithSimd for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.gamma.len();
        let inputs = self.x.chunks_exact(width).zip(self.dy.chunks_exact(width)).zip(self.r);
        for (((x, dy), &r), dx) in inputs.zip(self.dx.chunks_exact_mut(width)) {
            let scale = simd.splat_f32s(r);
            let mut sum = simd.splat_f32s(0.0);
            for at in starts::<S>(width) {
                let x = load(simd, x, at);
                let dy = load(simd, dy, at);
                let gamma = load(simd, self.gamma, at);
                let product = simd.mul_f32s(dy, x);
                sum = simd.mul_add_e_f32s(product, gamma, sum);
                let dgamma = simd.mul_add_e_f32s(product, scale, load(simd, self.dgamma, at));
                store(simd, self.dgamma, at, dgamma);
            }
            let pull = simd.splat_f32s(-simd.reduce_sum_f32s(sum) / width as f32 * r * r);
            for at in starts::<S>(width) {
                let x = load(simd, x, at);
                let dy = load(simd, dy, at);
                let gamma = load(simd, self.gamma, at);
                let inner = simd.mul_add_e_f32s(x, pull, simd.mul_f32s(dy, gamma));
                store(simd, dx, at, simd.mul_f32s(inner, scale));
            }
        }
    }
}
