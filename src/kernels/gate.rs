//! A gated norm as a plain value.

/// Where the gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `norm(x * silu(z))`, as in Mamba-2.
    BeforeNorm,
    /// `norm(x) * silu(z)`, as in gated DeltaNet.
    AfterNorm,
}

/// The RMS norm of groups of neighbouring channels (Zhang and Sennrich 2019, arXiv 1910.07467), with the gate `silu(z)`
/// before or behind it. The norm is taken in 32 bits. It has no parameters: keep it in a field marked
/// `#[module(skip)]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GatedNorm {
    /// Before or behind the norm.
    pub gate: Gate,
    /// Channels of a group.
    pub width: usize,
    /// Added to the mean square.
    pub epsilon: f64,
}
