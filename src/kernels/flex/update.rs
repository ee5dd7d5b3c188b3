//! Optimizer updates of one parameter, in one pass over memory.

use super::simd::{Arch, Simd, WithSimd, load, starts, store};
use crate::kernels::AdamWStep;

/// Applies one step of AdamW to `weights` and the moments.
pub fn adamw(weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], step: AdamWStep) {
    Arch::new().dispatch(AdamW { weights, gradient, first, second, step });
}

/// Returns the sum of the squares.
pub fn sum_of_squares(x: &[f32]) -> f32 {
    Arch::new().dispatch(SumOfSquares(x))
}

struct AdamW<'a> {
    weights: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    step: AdamWStep,
}

impl WithSimd for AdamW<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let splat = |value: f64| simd.splat_f32s(value as f32);
        let AdamWStep { beta1, beta2, eps, decay, rate, second_correction } = self.step;
        let [beta1s, rest1, beta2s, rest2] = [beta1, 1.0 - beta1, beta2, 1.0 - beta2].map(splat);
        let [eps, decay, rate, correction] = [eps, decay, -rate, second_correction].map(splat);
        for at in starts::<S>(self.weights.len()) {
            let w = load(simd, self.weights, at);
            let g = load(simd, self.gradient, at);
            let m = simd.mul_add_e_f32s(g, rest1, simd.mul_f32s(load(simd, self.first, at), beta1s));
            let squared = simd.mul_f32s(simd.mul_f32s(g, g), rest2);
            let v = simd.mul_add_e_f32s(load(simd, self.second, at), beta2s, squared);
            store(simd, self.first, at, m);
            store(simd, self.second, at, v);
            let root = simd.add_f32s(simd.sqrt_f32s(simd.mul_f32s(v, correction)), eps);
            let w = simd.mul_add_e_f32s(rate, simd.div_f32s(m, root), simd.mul_f32s(w, decay));
            store(simd, self.weights, at, w);
        }
    }
}

struct SumOfSquares<'a>(&'a [f32]);

impl WithSimd for SumOfSquares<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let mut sum = simd.splat_f32s(0.0);
        for at in starts::<S>(self.0.len()) {
            let x = load(simd, self.0, at);
            sum = simd.mul_add_e_f32s(x, x, sum);
        }
        simd.reduce_sum_f32s(sum)
    }
}
