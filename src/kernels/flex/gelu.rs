//! GELU in its tanh form: `y = x s(2 t)` with `t = sqrt(2/pi) (x + 0.044715 x^3)` and the logistic function `s`, which
//! equals `x (1 + tanh t) / 2`.

use std::f32::consts::FRAC_2_SQRT_PI;

use super::{
    Kernel,
    pool::buffer,
    simd::{Arch, Simd, WithSimd, load, sigmoid, starts, store},
};

/// `2 sqrt(2/pi)`.
const SLOPE: f32 = std::f32::consts::SQRT_2 * FRAC_2_SQRT_PI;
const CUBIC: f32 = 0.044_715;

/// Elementwise GELU.
#[derive(Clone, Copy, Debug)]
pub struct Gelu;

impl Kernel<1> for Gelu {
    type Saved = ();

    fn forward(&self, [x]: [&[f32]; 1], _: bool) -> (Vec<f32>, ()) {
        let mut y = buffer(x.len());
        Arch::new().dispatch(Forward { x, y: &mut y });
        (y, ())
    }

    /// `dx = dy (s + x s (1 - s) 2t')`.
    fn backward(&self, [x]: [&[f32]; 1], (): (), dy: &[f32], _: [bool; 1]) -> [Option<Vec<f32>>; 1] {
        let mut dx = buffer(x.len());
        Arch::new().dispatch(Gradient { x, dy, dx: &mut dx });
        [Some(dx)]
    }
}

/// Returns `2 t` and `2 t'` at `x`.
#[inline(always)]
fn argument<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let square = simd.mul_f32s(x, x);
    let splat = |value| simd.splat_f32s(value);
    let t = simd.mul_f32s(x, simd.mul_add_e_f32s(square, splat(SLOPE * CUBIC), splat(SLOPE)));
    (t, simd.mul_add_e_f32s(square, splat(3.0 * SLOPE * CUBIC), splat(SLOPE)))
}

struct Forward<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for at in starts::<S>(self.x.len()) {
            let x = load(simd, self.x, at);
            store(simd, self.y, at, simd.mul_f32s(x, sigmoid(simd, argument(simd, x).0)));
        }
    }
}

struct Gradient<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl WithSimd for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let one = simd.splat_f32s(1.0);
        for at in starts::<S>(self.x.len()) {
            let x = load(simd, self.x, at);
            let (t, slope) = argument(simd, x);
            let s = sigmoid(simd, t);
            let bend = simd.mul_f32s(simd.mul_f32s(x, s), simd.mul_f32s(simd.sub_f32s(one, s), slope));
            store(simd, self.dx, at, simd.mul_f32s(load(simd, self.dy, at), simd.add_f32s(s, bend)));
        }
    }
}
