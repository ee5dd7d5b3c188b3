//! `L = -sum_i w_i log p_i[y_i]` with `p = softmax(z)`. Its gradient, `dL/dz_i = w_i (p_i - onehot(y_i))`, is computed
//! in the forward pass.

use super::{
    Kernel,
    pool::zeros,
    simd::{Arch, Simd, WithSimd, exp, load, starts, store},
};

/// The shapes: `z`: `[N, V]`, `L`: `[R]`, one loss for each of `R` equal parts of the rows.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// `V`.
    pub vocab: usize,
    /// `y`: `[N]`.
    pub targets: Vec<i32>,
    /// `w`: `[N]`; rows of weight zero are skipped.
    pub weights: Vec<f32>,
    /// `R`.
    pub parts: usize,
}

impl Kernel<1> for CrossEntropy {
    /// `dL/dz`.
    type Saved = Vec<f32>;

    fn forward(&self, [z]: [&[f32]; 1], _: bool) -> (Vec<f32>, Vec<f32>) {
        let mut gradient = zeros(z.len());
        let size = z.len() / self.parts;
        let rows = size / self.vocab;
        let labels = self.targets.chunks_exact(rows).zip(self.weights.chunks_exact(rows));
        let parts = z.chunks_exact(size).zip(gradient.chunks_exact_mut(size)).zip(labels);
        let losses = parts.map(|((z, gradient), (targets, weights))| {
            Arch::new().dispatch(Rows { vocab: self.vocab, targets, weights, z, gradient }) as f32
        });
        (losses.collect(), gradient)
    }

    fn backward(&self, _: [&[f32]; 1], mut gradient: Vec<f32>, dy: &[f32], _: [bool; 1]) -> [Option<Vec<f32>>; 1] {
        let size = gradient.len() / self.parts;
        for (gradient, &factor) in gradient.chunks_exact_mut(size).zip(dy).filter(|(_, factor)| **factor != 1.0) {
            gradient.iter_mut().for_each(|g| *g *= factor);
        }
        [Some(gradient)]
    }
}

struct Rows<'a> {
    vocab: usize,
    targets: &'a [i32],
    weights: &'a [f32],
    z: &'a [f32],
    gradient: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let Self { vocab, targets, weights, z, gradient } = self;
        let rows = z.chunks_exact(vocab).zip(gradient.chunks_exact_mut(vocab));
        let mut loss = 0.0;
        for ((z, p), (&target, &weight)) in rows.zip(targets.iter().zip(weights)) {
            if weight == 0.0 {
                continue;
            }
            let largest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let shift = simd.splat_f32s(largest);
            for at in starts::<S>(vocab) {
                store(simd, p, at, exp(simd, simd.sub_f32s(load(simd, z, at), shift)));
            }
            let sum: f32 = p.iter().sum();
            let target = target as usize;
            loss += f64::from(weight) * f64::from(largest + sum.ln() - z[target]);
            let share = weight / sum;
            p.iter_mut().for_each(|p| *p *= share);
            p[target] -= weight;
        }
        loss
    }
}
