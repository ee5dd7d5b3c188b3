//! Causal attention with grouped queries, rotary positions and an optional sliding window, one head and one block of
//! queries at a time. The backward pass recomputes the weights of a block, so nothing of size `S^2` is stored.

mod narrow;
mod wide;

use std::{ops::Range, sync::Arc};

use super::Kernel;

/// The longest sequence for which heads of 16 channels count as narrow. For longer ones, matrix products are as fast.
const SHORT: usize = 512;

/// The shapes: `q`: `[B, S, H C]`, `k` and `v`: `[B, S, K C]`, the result `[B, S, H C]`.
#[derive(Clone, Debug)]
pub struct Attention {
    /// `S`.
    pub seq: usize,
    /// `H`, a multiple of `K`.
    pub heads: usize,
    /// `K`.
    pub kv_heads: usize,
    /// `C`, even.
    pub width: usize,
    /// The number of keys that a query sees, including its own; at least 1.
    pub window: usize,
    /// The angles for this length and width.
    pub angles: Arc<Angles>,
}

/// Cosine and sine of `position * frequencies[c]`, each `[S, C/2]`.
#[derive(Debug)]
pub struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Angles {
    /// Computes the tables in double precision. `frequencies` are the `C/2` rotations in radians per position.
    pub fn new(seq: usize, frequencies: &[f64]) -> Self {
        let table = |f: fn(f64) -> f64| {
            let row = |position: usize| frequencies.iter().map(move |frequency| f(position as f64 * frequency) as f32);
            (0..seq).flat_map(row).collect()
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    fn rows(&self, width: usize) -> impl Iterator<Item = (&[f32], &[f32])> {
        self.cos.chunks_exact(width / 2).zip(self.sin.chunks_exact(width / 2))
    }
}

/// Queries that are processed together.
#[derive(Clone)]
struct Block {
    /// The positions of the queries.
    queries: Range<usize>,
    /// The positions of the keys that they see.
    keys: Range<usize>,
}

/// One query head of one sequence.
struct Head {
    /// The range from the first number of the head in `q` to the end of the sequence.
    rows: Range<usize>,
    /// The same range for its key/value head in `k` and `v`.
    kv_rows: Range<usize>,
    /// Whether it is the first of the heads that share the key/value head.
    opens: bool,
    /// Whether it is the last of them.
    closes: bool,
}

impl Attention {
    /// Returns the blocks of at most `queries` queries.
    fn blocks(&self, queries: usize) -> impl Iterator<Item = Block> + use<> {
        let seq = self.seq;
        let before = self.window - 1;
        (0..seq).step_by(queries).map(move |start| {
            let end = seq.min(start + queries);
            Block { queries: start..end, keys: start.saturating_sub(before)..end }
        })
    }

    /// Returns every query head of the sequences in `q`, which has `numbers` elements. Heads that share a key/value
    /// head are consecutive.
    fn each_head(&self, numbers: usize) -> impl Iterator<Item = Head> + use<> {
        let Self { seq, heads, width, .. } = *self;
        let (stride, kv_stride) = self.strides();
        let group = heads / self.kv_heads;
        let sequences = numbers / (seq * stride);
        (0..sequences).flat_map(move |sequence| {
            (0..heads).map(move |head| Head {
                rows: sequence * seq * stride + head * width..(sequence + 1) * seq * stride,
                kv_rows: sequence * seq * kv_stride + head / group * width..(sequence + 1) * seq * kv_stride,
                opens: head % group == 0,
                closes: head % group == group - 1,
            })
        })
    }

    /// Returns the row strides of `q`, and of `k` and `v`.
    fn strides(&self) -> (usize, usize) {
        (self.heads * self.width, self.kv_heads * self.width)
    }

    fn scale(&self) -> f32 {
        (self.width as f64).powf(-0.5) as f32
    }
}

impl Kernel<3> for Attention {
    /// What turns the scores of every query into weights: one number, or two for narrow heads.
    type Saved = Vec<f32>;

    fn forward(&self, inputs: [&[f32]; 3], _: bool) -> (Vec<f32>, Vec<f32>) {
        match (self.width, self.seq) {
            (8, _) => narrow::forward::<8>(self, inputs),
            (16, ..=SHORT) => narrow::forward::<16>(self, inputs),
            _ => wide::forward(self, inputs),
        }
    }

    /// With the weights `p` and `dp = dy v^T`: `ds = p (dp - sum p dp)`, `dq = ds k`, `dk = ds^T q`, `dv = p^T dy`,
    /// where `q` and `k` are rotated.
    fn backward(&self, inputs: [&[f32]; 3], saved: Vec<f32>, dy: &[f32], _: [bool; 3]) -> [Option<Vec<f32>>; 3] {
        let gradients = match (self.width, self.seq) {
            (8, _) => narrow::backward::<8>(self, inputs, &saved, dy),
            (16, ..=SHORT) => narrow::backward::<16>(self, inputs, &saved, dy),
            _ => wide::backward(self, inputs, &saved, dy),
        };
        gradients.map(Some)
    }
}
