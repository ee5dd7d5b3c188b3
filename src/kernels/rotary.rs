//! Rotary position embeddings (Su et al. 2021, arXiv 2104.09864), composed of Burn's operations.

use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData, module::linear};

use crate::dims::RopeScaling;

/// Returns the frequency of each pair of channels, in radians per position: `theta^(-2c/C)` for `c` from 0 to `C/2`,
/// scaled if requested.
pub(super) fn frequencies(width: usize, theta: f64, scaling: Option<RopeScaling>) -> Vec<f64> {
    let original = (0..width / 2).map(|channel| theta.powf(-2.0 * channel as f64 / width as f64));
    original.map(|frequency| scaling.map_or(frequency, |scaling| scaling.frequency(frequency))).collect()
}

/// Rotary embedding of `S` positions for `N` heads. Channel pair `(c, c + C/2)` rotates by `position * frequencies[c]`.
#[derive(Clone, Debug)]
pub(super) struct Rotation {
    /// `[1, S, N C]`.
    cos: Tensor<3>,
    /// `[1, S, N C]`.
    sin: Tensor<3>,
    /// `[C, C]`: maps `(low, high)` to `(-high, low)`.
    quarter_turn: Tensor<2>,
}

impl Rotation {
    /// Computes tables for `[S, N, C]` in double precision, multiplied by `scale`. `frequencies` are the `C/2`
    /// rotations in radians per position.
    pub fn new(positions: Range<usize>, heads: usize, frequencies: &[f64], scale: f64, device: &Device) -> Self {
        let seq = positions.len();
        let half = frequencies.len();
        let width = 2 * frequencies.len();
        let table = |f: fn(f64) -> f64| {
            // All heads have the same row.
            let row = |position: usize| {
                let value = |frequency: &f64| (scale * f(position as f64 * frequency)) as f32;
                frequencies.iter().map(value).collect::<Vec<_>>().repeat(2 * heads)
            };
            let values: Vec<f32> = positions.clone().flat_map(row).collect();
            Tensor::from_data(TensorData::new(values, [1, seq, heads * width]), device)
        };
        let turn = |at: usize| match (at / width, at % width) {
            (from, to) if from == to + half => -1.0,
            (from, to) if from + half == to => 1.0,
            _ => 0f32,
        };
        let turn: Vec<f32> = (0..width * width).map(turn).collect();
        let quarter_turn = Tensor::from_data(TensorData::new(turn, [width, width]), device);
        Self { cos: table(f64::cos), sin: table(f64::sin), quarter_turn }
    }

    /// Rotates `x`, `[B, S, N C]`, in single precision, regardless of the precision of `x`.
    pub fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        let shape = x.dims();
        let dtype = x.dtype();
        let x = x.cast(DType::F32);
        let [width, _] = self.quarter_turn.dims();
        let pairs: Tensor<2> = x.clone().reshape([shape.iter().product::<usize>() / width, width]);
        let turned = linear(pairs, self.quarter_turn.clone(), None).reshape(shape);
        (x * self.cos.clone() + turned * self.sin.clone()).cast(dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of transformers 5.23 for Llama 3.2, `ROPE_INIT_FUNCTIONS["llama3"]` with heads of 64 channels, in single
    /// precision.
    #[test]
    fn scaled_frequencies_are_those_of_llama() {
        let scaling = RopeScaling {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        let scaled = frequencies(64, 500_000.0, Some(scaling));
        let golden = [
            (0, 1.0),
            (1, 0.663_601_28),
            (14, 0.003_211_446_1),
            (15, 0.001_290_548),
            (16, 0.000_429_556_7),
            (17, 9.708_286e-5),
            (18, 1.946_163_9e-5),
            (31, 9.418_306_5e-8),
        ];
        for (at, want) in golden {
            assert!((scaled[at] / want - 1.0).abs() < 2e-6, "{at}: {} is not {want}", scaled[at]);
        }
        let none = RopeScaling { factor: 1.0, ..scaling };
        for (kept, original) in frequencies(64, 500_000.0, Some(none)).iter().zip(frequencies(64, 500_000.0, None)) {
            assert!((kept / original - 1.0).abs() < 1e-15);
        }
    }
}
