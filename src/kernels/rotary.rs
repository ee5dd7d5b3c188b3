//! Rotary position embeddings (Su et al. 2021, arXiv 2104.09864), composed of Burn's operations.

use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData, module::linear};

/// Rotary embedding of `S` positions for `N` heads: channel pairs `(c, c + C/2)` turn by `position * theta^(-2c/C)`.
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
    /// Tables for `[S, N, C]`, multiplied by `scale` and computed in 64 bits.
    pub fn new(positions: Range<usize>, [heads, width]: [usize; 2], theta: f64, scale: f64, device: &Device) -> Self {
        let (seq, half) = (positions.len(), width / 2);
        let table = |f: fn(f64) -> f64| {
            let value = |position: usize, channel: usize| {
                (scale * f(position as f64 * theta.powf(-2.0 * channel as f64 / width as f64))) as f32
            };
            // One head's row serves all of them.
            let row =
                |position| (0..half).map(|channel| value(position, channel)).collect::<Vec<_>>().repeat(2 * heads);
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

    /// `x`: `[B, S, N C]`, rotated in 32 bits whatever its precision.
    pub fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        let (shape, dtype) = (x.dims(), x.dtype());
        let x = x.cast(DType::F32);
        let [width, _] = self.quarter_turn.dims();
        let pairs: Tensor<2> = x.clone().reshape([shape.iter().product::<usize>() / width, width]);
        let turned = linear(pairs, self.quarter_turn.clone(), None).reshape(shape);
        (x * self.cos.clone() + turned * self.sin.clone()).cast(dtype)
    }
}
