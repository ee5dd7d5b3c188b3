//! What the chunked forms of recurrences share: chunks, and the decay of a state between two tokens.

use burn::tensor::{DType, Tensor, TensorData};

/// The division of sequences into chunks of equal length, with zero padding at the end.
#[derive(Clone, Copy, Debug)]
pub struct Chunks {
    /// The number of sequences.
    pub batch: usize,
    /// The number of tokens per sequence.
    pub seq: usize,
    /// The number of tokens per chunk, at most that of the sequence.
    pub len: usize,
    /// The number of chunks per sequence.
    pub count: usize,
}

impl Chunks {
    /// Divides sequences `[batch, seq, _]` into chunks of at most `len` tokens.
    pub fn new(batch: usize, seq: usize, len: usize) -> Self {
        let len = len.clamp(1, seq.max(1));
        Self { batch, seq, len, count: seq.div_ceil(len) }
    }

    /// Splits `x` into chunks and heads: `[B, S, H C]` to `[B N, H, L, C]`, for `N` chunks of `L` tokens.
    pub fn cut(&self, x: Tensor<3>, heads: usize) -> Tensor<4> {
        let [_, _, width] = x.dims();
        let padding = self.count * self.len - self.seq;
        let whole = match padding {
            0 => x,
            _ => {
                let zeros = Tensor::zeros([self.batch, padding, width], (&x.device(), x.dtype()));
                Tensor::cat(vec![x, zeros], 1)
            }
        };
        whole.reshape([self.batch * self.count, self.len, heads, width / heads]).swap_dims(1, 2)
    }

    /// The inverse of [`cut`](Self::cut): `[B N, H, L, C]` to `[B, S, H C]`.
    pub fn join(&self, x: Tensor<4>) -> Tensor<3> {
        let [_, heads, _, width] = x.dims();
        let whole = x.swap_dims(1, 2).reshape([self.batch, self.count * self.len, heads * width]);
        whole.narrow(1, 0, self.seq)
    }
}

/// Returns `l_ij = exp(sum of a_k over j < k <= i)` for `j <= i`, and 0 elsewhere. Each sum is computed separately, so
/// a large `a_k` does not reduce the precision of sums without it.
///
/// # Shapes
/// `a`: `[Z, H, L]`, not positive, to `[Z, H, L, L]`.
pub fn decays(a: Tensor<3>) -> Tensor<4> {
    let len = a.dims()[2];
    let device = a.device().without_autodiff();
    let table = |value: fn(usize, usize) -> f32| {
        let values: Vec<f32> = (0..len * len).map(|at| value(at / len, at % len)).collect();
        // Outside autodiff, where Burn takes it for a constant.
        Tensor::<4>::from_data(TensorData::new(values, [1, 1, len, len]), &device)
    };
    let behind = table(|k, j| if k > j { 1.0 } else { 0.0 });
    let causal = table(|i, j| if i >= j { 0.0 } else { f32::NEG_INFINITY });
    let sums = (a.unsqueeze_dim::<4>(3) * behind).cumsum(2);
    (sums + causal).exp()
}

/// Repeats `x` for every head. Groups of adjacent heads share one row. `x`: `[Z, G, L, C]` to `[Z, H, L, C]`.
pub fn share(x: Tensor<4>, heads: usize) -> Tensor<4> {
    let [rows, groups, len, width] = x.dims();
    if groups == heads {
        return x;
    }
    let shared = x.unsqueeze_dim::<5>(2).repeat_dim(2, heads / groups);
    shared.reshape([rows, heads, len, width])
}

/// Converts to single precision. States and decays are never kept in less.
pub fn single<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(DType::F32)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn chunks_join_to_what_was_cut() {
        let values: Vec<f32> = (0..2 * 7 * 6).map(|i| i as f32).collect();
        let x = Tensor::<3>::from_data(TensorData::new(values.clone(), [2, 7, 6]), &Device::flex());
        for len in [1, 3, 7, 100] {
            let chunks = Chunks::new(2, 7, len);
            let cut = chunks.cut(x.clone(), 3);
            assert_eq!(cut.dims(), [2 * chunks.count, 3, len.min(7), 2]);
            assert_eq!(chunks.join(cut).into_data().try_into_vec::<f32>().unwrap(), values);
        }
    }

    #[test]
    fn a_large_decay_costs_no_precision_behind_it() {
        let a = [-0.5f32, -1e6, -0.25, -0.125];
        let l = decays(Tensor::<3>::from_data(TensorData::new(a.to_vec(), [1, 1, 4]), &Device::flex()));
        let l = l.into_data().try_into_vec::<f32>().unwrap();
        let half = [(-0.25f32).exp(), (-0.375f32).exp(), (-0.125f32).exp()];
        let want = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, half[0], 1.0, 0.0, 0.0, half[1], half[2], 1.0];
        assert!(l.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-6), "{l:?}");
    }
}
