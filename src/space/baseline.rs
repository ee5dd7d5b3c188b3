//! Sequences that stand as references in comparisons.

use super::Architecture;
use crate::primitive::Symbol;

/// Attention and MLP in turn, as in Llama and most transformers: `AM` repeated `blocks` times.
pub fn llama(blocks: usize) -> Architecture {
    let (a, m) = (Symbol::ATTENTION, Symbol::SWIGLU);
    Architecture::new([a, m].repeat(blocks))
}

/// The sandwich transformer (Press et al. 2020, arXiv 1911.03864): `A^k (AM)^(n-k) M^k`, with `n = blocks` sublayers of
/// each kind and sandwich coefficient `k` (capped at `n`).
pub fn sandwich(blocks: usize, coefficient: usize) -> Architecture {
    let (a, m, k) = (Symbol::ATTENTION, Symbol::SWIGLU, coefficient.min(blocks));
    Architecture::new([vec![a; k], [a, m].repeat(blocks - k), vec![m; k]].concat())
}

/// One attention layer, then `mlps` MLP layers, repeated `stripes` times; the paper compares with 1:2.
pub fn striped(stripes: usize, mlps: usize) -> Architecture {
    let stripe = [vec![Symbol::ATTENTION], vec![Symbol::SWIGLU; mlps]].concat();
    Architecture::new(stripe.repeat(stripes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn baselines_are_what_their_papers_say() {
        assert_eq!(llama(3).letters(), "AMAMAM");
        assert_eq!(sandwich(4, 2).letters(), "AAAMAMMM");
        assert_eq!(sandwich(2, 9).letters(), "AAMM");
        assert_eq!(striped(2, 2).letters(), "AMMAMM");
    }
}
