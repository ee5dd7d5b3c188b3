//! The sizes of a gated delta rule.

/// The sizes of a gated delta rule. It has no parameters: keep it in a field marked `#[module(skip)]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaRule {
    /// `K`.
    pub key_heads: usize,
    /// `V`, a multiple of `key_heads`.
    pub value_heads: usize,
    /// `C`, channels of a query or key head.
    pub key_width: usize,
    /// `P`, channels of a value head.
    pub value_width: usize,
    /// `L`, tokens that are computed as one matrix; results depend on it by rounding only.
    pub chunk: usize,
}
