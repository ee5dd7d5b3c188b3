//! The settings of a gated norm.

/// The position of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `norm(x * silu(z))`, as in Mamba-2.
    BeforeNorm,
    /// `norm(x) * silu(z)`, as in gated DeltaNet.
    AfterNorm,
}

/// An RMS norm over groups of adjacent channels (Zhang and Sennrich 2019, arXiv 1910.07467), with the gate `silu(z)`
/// before or after it. The norm is computed in single precision. It has no parameters. Keep it in a field with
/// `#[module(skip)]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GatedNorm {
    /// The position of the gate.
    pub gate: Gate,
    /// The number of channels per group.
    pub width: usize,
    /// Added to the mean square.
    pub epsilon: f64,
}
