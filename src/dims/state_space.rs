//! Sizes of a selective state space.

/// Sizes of a selective state space. It has no parameters: store it in a field marked `#[module(skip)]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSpace {
    /// `H`, the number of heads, a multiple of `groups`.
    pub heads: usize,
    /// `P`, channels per head.
    pub width: usize,
    /// `G`, the number of groups that share B and C.
    pub groups: usize,
    /// `N`, the state size.
    pub state: usize,
    /// `L`, tokens per chunk that is computed by matrix products. Results depend on it only by rounding.
    pub chunk: usize,
}
