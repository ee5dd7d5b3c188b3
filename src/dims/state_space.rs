//! The sizes of a selective state space.

/// The sizes of a selective state space. It has no parameters: keep it in a field marked `#[module(skip)]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSpace {
    /// `H`, a multiple of `groups`.
    pub heads: usize,
    /// `P`, channels of a head.
    pub width: usize,
    /// `G`.
    pub groups: usize,
    /// `N`.
    pub state: usize,
    /// `L`, tokens that are computed as one matrix; results depend on it by rounding only.
    pub chunk: usize,
}
