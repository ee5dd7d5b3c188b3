//! Sizes of a gated delta rule.

/// Sizes of a gated delta rule. It has no parameters: store it in a field marked `#[module(skip)]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaRule {
    /// `K`, the number of query and key heads.
    pub key_heads: usize,
    /// `V`, the number of value heads, a multiple of `key_heads`.
    pub value_heads: usize,
    /// `C`, channels per query or key head.
    pub key_width: usize,
    /// `P`, channels per value head.
    pub value_width: usize,
    /// `L`, tokens per chunk that is computed by matrix products. Results depend on it only by rounding.
    pub chunk: usize,
}
