//! Running sums of logarithmic decays over the tokens of a chunk, and the exponentials of their differences.

use super::simd::{Simd, exp, load};

/// `s_i = sum of a_k over k <= i` for the tokens of one chunk and one head.
#[derive(Debug, Default)]
pub struct Sums {
    sums: Vec<f64>,
    /// Each `s` is stored in two floats, so that differences of large sums keep their precision.
    high: Vec<f32>,
    low: Vec<f32>,
}

impl Sums {
    /// Computes the sums over the tokens of a chunk.
    pub fn fill(&mut self, a: impl Iterator<Item = f64>) {
        [&mut self.high, &mut self.low].into_iter().for_each(Vec::clear);
        self.sums.clear();
        let mut sum = 0.0;
        for a in a {
            sum += a;
            self.sums.push(sum);
            self.high.push(sum as f32);
            self.low.push((sum - f64::from(sum as f32)) as f32);
        }
    }

    /// Returns `exp(s_i)`.
    pub fn since_start(&self, i: usize) -> f32 {
        self.sums[i].exp() as f32
    }

    /// Returns `exp(s_last - s_i)`.
    pub fn to_end(&self, i: usize) -> f32 {
        (self.sums.last().copied().unwrap_or(0.0) - self.sums[i]).exp() as f32
    }

    /// Returns `exp(s_i - s_j)` for the `j` of one vector, starting at `at`.
    #[inline(always)]
    pub fn between<S: Simd>(&self, simd: S, i: usize, at: usize) -> S::f32s {
        let high = simd.sub_f32s(simd.splat_f32s(self.high[i]), load(simd, &self.high, at));
        let low = simd.sub_f32s(simd.splat_f32s(self.low[i]), load(simd, &self.low, at));
        exp(simd, simd.add_f32s(high, low))
    }
}

/// Returns `ln(1 + e^x)` and its derivative.
pub fn softplus(x: f64) -> (f64, f64) {
    (x.max(0.0) + (-x.abs()).exp().ln_1p(), 1.0 / (1.0 + (-x).exp()))
}

/// Converts the derivatives with respect to the sums of a chunk to those with respect to the terms:
/// `da_k = sum of ds_i over i >= k`.
pub fn terms(ds: &mut [f64]) {
    let mut sum = 0.0;
    for ds in ds.iter_mut().rev() {
        sum += *ds;
        *ds = sum;
    }
}

/// Adds the derivatives with respect to `s_i - s_j`, given for all `j` before `i`, to those with respect to the sums.
/// Uses double precision: the amounts added for `i` and subtracted for `j` cancel unless a large decay is between the
/// two tokens.
#[inline(always)]
pub fn spread(ds: &mut [f64], i: usize, differences: &[f32]) {
    let (lanes, rest) = differences.as_chunks::<8>();
    let mut sums = [0f64; 8];
    for lanes in lanes {
        for lane in 0..8 {
            sums[lane] += f64::from(lanes[lane]);
        }
    }
    ds[i] += sums.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x)).sum::<f64>();
    ds.iter_mut().zip(differences).for_each(|(ds, &x)| *ds -= f64::from(x));
}
