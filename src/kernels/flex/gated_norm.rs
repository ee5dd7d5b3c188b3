//! `y = v r * gamma` with `v = x silu(z)` and `r = 1 / sqrt(mean(v^2) + epsilon)`, or `v = x` and
//! `y = v r * gamma * silu(z)`.

use super::{
    Kernel,
    pool::{buffer, zeros},
    simd::{Arch, Simd, WithSimd, load, sigmoid, starts, store},
};
use crate::kernels::{Gate, GatedNorm};

/// The shapes: `x`, `z` and `y`: `[N, D]`, `gamma`: `[n D]`, for groups of `D` channels. Row `i` has the weights
/// `i % n`.
#[derive(Clone, Copy, Debug)]
pub struct GatedNormKernel(pub GatedNorm);

impl Kernel<3> for GatedNormKernel {
    /// `r`: `[N]`.
    type Saved = Vec<f32>;

    fn forward(&self, [x, z, gamma]: [&[f32]; 3], _: bool) -> (Vec<f32>, Vec<f32>) {
        let mut y = buffer(x.len());
        let mut r = buffer(x.len() / self.0.width);
        Arch::new().dispatch(Forward { norm: self.0, x, z, gamma, y: &mut y, r: &mut r });
        (y, r)
    }

    /// With `e` the gradient of `v r * gamma`: `dv = r (e * gamma - v r^2 mean(e * gamma * v))`,
    /// `dgamma = sum e * v r`. Gate before: `e = dy`, `dx = dv silu(z)`, `dz = dv x silu'(z)`; behind:
    /// `e = dy silu(z)`, `dx = dv`, `dz = dy v r gamma silu'(z)`.
    fn backward(&self, [x, z, gamma]: [&[f32]; 3], r: Vec<f32>, dy: &[f32], _: [bool; 3]) -> [Option<Vec<f32>>; 3] {
        let mut dx = buffer(x.len());
        let mut dz = buffer(x.len());
        let mut dgamma = zeros(gamma.len());
        let gradients = Gradients { dx: &mut dx, dz: &mut dz, dgamma: &mut dgamma };
        Arch::new().dispatch(Backward { norm: self.0, x, z, gamma, r: &r, dy, gradients });
        [dx, dz, dgamma].map(Some)
    }
}

struct Forward<'a> {
    norm: GatedNorm,
    x: &'a [f32],
    z: &'a [f32],
    gamma: &'a [f32],
    y: &'a mut [f32],
    r: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let GatedNorm { width, gate, epsilon } = self.norm;
        let rows = self.x.chunks_exact(width).zip(self.z.chunks_exact(width)).zip(self.y.chunks_exact_mut(width));
        for ((((x, z), y), r), gamma) in rows.zip(self.r).zip(self.gamma.chunks_exact(width).cycle()) {
            let mut sum = simd.splat_f32s(0.0);
            for at in starts::<S>(width) {
                let x = load(simd, x, at);
                let z = load(simd, z, at);
                let silu = simd.mul_f32s(z, sigmoid(simd, z));
                let (v, other) = match gate {
                    Gate::BeforeNorm => (simd.mul_f32s(x, silu), simd.mul_f32s(x, silu)),
                    Gate::AfterNorm => (x, simd.mul_f32s(x, silu)),
                };
                sum = simd.mul_add_e_f32s(v, v, sum);
                store(simd, y, at, other);
            }
            *r = (simd.reduce_sum_f32s(sum) / width as f32 + epsilon as f32).sqrt().recip();
            let scale = simd.splat_f32s(*r);
            for at in starts::<S>(width) {
                let scaled = simd.mul_f32s(load(simd, y, at), scale);
                store(simd, y, at, simd.mul_f32s(scaled, load(simd, gamma, at)));
            }
        }
    }
}

struct Gradients<'a> {
    dx: &'a mut [f32],
    dz: &'a mut [f32],
    dgamma: &'a mut [f32],
}

struct Backward<'a> {
    norm: GatedNorm,
    x: &'a [f32],
    z: &'a [f32],
    gamma: &'a [f32],
    r: &'a [f32],
    dy: &'a [f32],
    gradients: Gradients<'a>,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let GatedNorm { width, gate, .. } = self.norm;
        let one = simd.splat_f32s(1.0);
        let weights = self.gamma.len() / width;
        let Gradients { dx, dz, dgamma } = self.gradients;
        let inputs = self.x.chunks_exact(width).zip(self.z.chunks_exact(width)).zip(self.dy.chunks_exact(width));
        let outputs = dx.chunks_exact_mut(width).zip(dz.chunks_exact_mut(width));
        for (row, ((((x, z), dy), &r), (dx, dz))) in inputs.zip(self.r).zip(outputs).enumerate() {
            let weight = row % weights * width..(row % weights + 1) * width;
            let gamma = &self.gamma[weight.clone()];
            let dgamma = &mut dgamma[weight];
            let scale = simd.splat_f32s(r);
            let mut sum = simd.splat_f32s(0.0);
            // Store `e * gamma` in dx for the second pass.
            for at in starts::<S>(width) {
                let x = load(simd, x, at);
                let z = load(simd, z, at);
                let dy = load(simd, dy, at);
                let s = sigmoid(simd, z);
                let gamma = load(simd, gamma, at);
                let silu = simd.mul_f32s(z, s);
                // silu' = s + silu (1 - s)
                let slope = simd.mul_add_e_f32s(silu, simd.sub_f32s(one, s), s);
                let (v, e) = match gate {
                    Gate::BeforeNorm => (simd.mul_f32s(x, silu), dy),
                    Gate::AfterNorm => (x, simd.mul_f32s(dy, silu)),
                };
                let normal = simd.mul_f32s(v, scale);
                let pulled = simd.mul_f32s(e, gamma);
                sum = simd.mul_add_e_f32s(pulled, v, sum);
                let more = simd.mul_add_e_f32s(e, normal, load(simd, dgamma, at));
                store(simd, dgamma, at, more);
                store(simd, dx, at, pulled);
                if gate == Gate::AfterNorm {
                    store(simd, dz, at, simd.mul_f32s(simd.mul_f32s(dy, normal), simd.mul_f32s(gamma, slope)));
                }
            }
            let pull = simd.splat_f32s(-simd.reduce_sum_f32s(sum) / width as f32 * r * r);
            for at in starts::<S>(width) {
                let x = load(simd, x, at);
                let pulled = load(simd, dx, at);
                match gate {
                    Gate::BeforeNorm => {
                        let z = load(simd, z, at);
                        let s = sigmoid(simd, z);
                        let silu = simd.mul_f32s(z, s);
                        let slope = simd.mul_add_e_f32s(silu, simd.sub_f32s(one, s), s);
                        let inner = simd.mul_add_e_f32s(simd.mul_f32s(x, silu), pull, pulled);
                        let dv = simd.mul_f32s(inner, scale);
                        store(simd, dx, at, simd.mul_f32s(dv, silu));
                        store(simd, dz, at, simd.mul_f32s(simd.mul_f32s(dv, x), slope));
                    }
                    Gate::AfterNorm => {
                        store(simd, dx, at, simd.mul_f32s(simd.mul_add_e_f32s(x, pull, pulled), scale));
                    }
                }
            }
        }
    }
}
