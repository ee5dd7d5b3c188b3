//! Squared ReLU: `y = max(x, 0)^2`.

use super::{
    Kernel,
    pool::buffer,
    simd::{Arch, Simd, WithSimd, load, starts, store},
};

/// Elementwise squared ReLU.
#[derive(Clone, Copy, Debug)]
pub struct Relu2;

impl Kernel<1> for Relu2 {
    type Saved = ();

    fn forward(&self, [x]: [&[f32]; 1], _: bool) -> (Vec<f32>, ()) {
        let mut y = buffer(x.len());
        Arch::new().dispatch(Multiply { x, by: None, out: &mut y });
        (y, ())
    }

    /// `dx = 2 dy max(x, 0)`.
    fn backward(&self, [x]: [&[f32]; 1], (): (), dy: &[f32], _: [bool; 1]) -> [Option<Vec<f32>>; 1] {
        let mut dx = buffer(x.len());
        Arch::new().dispatch(Multiply { x, by: Some(dy), out: &mut dx });
        [Some(dx)]
    }
}

/// `max(x, 0)^2`, or `2 by max(x, 0)`.
struct Multiply<'a> {
    x: &'a [f32],
    by: Option<&'a [f32]>,
    out: &'a mut [f32],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let zero = simd.splat_f32s(0.0);
        for at in starts::<S>(self.x.len()) {
            let x = load(simd, self.x, at);
            // Not the maximum, which may drop NaN.
            let positive = simd.select_f32s(simd.less_than_f32s(x, zero), zero, x);
            let factor = match self.by {
                None => positive,
                Some(dy) => simd.mul_f32s(simd.splat_f32s(2.0), load(simd, dy, at)),
            };
            store(simd, self.out, at, simd.mul_f32s(positive, factor));
        }
    }
}
