//! Operations on the rows of matrices: copying columns, and scaling by one factor per row. A matrix has as many rows as
//! there are factors.

use super::simd::Arch;

/// Copies `width` columns of `x`, from column `from` on, into the contiguous `out`. The rows of `x` have length
/// `stride`.
pub fn take(x: &[f32], stride: usize, from: usize, width: usize, out: &mut [f32]) {
    for (x, out) in x.chunks(stride).zip(out.chunks_exact_mut(width)) {
        out.copy_from_slice(&x[from..from + width]);
    }
}

/// The inverse of [`take`].
pub fn put(x: &[f32], out: &mut [f32], stride: usize, from: usize, width: usize) {
    for (x, out) in x.chunks_exact(width).zip(out.chunks_mut(stride)) {
        out[from..from + width].copy_from_slice(x);
    }
}

/// Computes `x_r *= f_r`.
pub fn scale(x: &mut [f32], factors: &[f32]) {
    let width = x.len() / factors.len().max(1);
    Arch::new().dispatch(|| {
        for (x, factor) in x.chunks_exact_mut(width).zip(factors) {
            x.iter_mut().for_each(|x| *x *= factor);
        }
    });
}

/// Computes `out_r += f_r x_r`.
pub fn add_scaled(out: &mut [f32], x: &[f32], factors: &[f32]) {
    let width = x.len() / factors.len().max(1);
    Arch::new().dispatch(|| {
        for ((out, x), factor) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(factors) {
            out.iter_mut().zip(x).for_each(|(out, x)| *out += factor * x);
        }
    });
}

/// Calls `each` with the index of every row and the inner product of this row of `x` and `y`.
pub fn products(x: &[f32], y: &[f32], width: usize, mut each: impl FnMut(usize, f64)) {
    Arch::new().dispatch(|| {
        for (row, (x, y)) in x.chunks_exact(width).zip(y.chunks_exact(width)).enumerate() {
            each(row, f64::from(dot(x, y)));
        }
    });
}

#[inline(always)]
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let (x, x_rest) = x.as_chunks::<8>();
    let (y, y_rest) = y.as_chunks::<8>();
    let mut sums = [0f32; 8];
    for (x, y) in x.iter().zip(y) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum::<f32>()
}
