//! Causal sliding-window self-attention (Beltagy et al. 2020, arXiv 2004.05150, section 3.1; Mistral, Jiang et al.
//! 2023, arXiv 2310.06825, section 2), with grouped queries and rotary position embeddings.

use std::num::NonZeroUsize;

use super::{
    BuildError, CacheKind, HfMapping, LayerCost, Primitive, PrimitiveId, Role, Symbol,
    attention::{kept, named, windowed_cost},
};
use crate::dims::Dims;
#[cfg(feature = "model")]
use crate::{
    device::Device,
    layer::{AttentionLayer, Block, WeightInit},
};

/// The default window, in keys. The `unwrap` is evaluated at compile time.
const WINDOW: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// [`Attention`](super::Attention) in which a query sees only the last keys. Symbol `S`.
///
/// Query `i` sees the keys `i + 1 - window ..= i`, as in Mistral and transformers. Computation grows linearly with the
/// sequence length, and decoding keeps the keys and values of only `window` tokens.
///
/// The default window is 64 keys. To use several windows in one search, give each its own letter:
/// ```
/// use composer_nas::{prelude::*, primitive::SlidingWindow};
/// let wide = SlidingWindow::new(256)?.with_symbol('L'.try_into()?);
/// let primitives = Primitives::empty().with(SlidingWindow::default())?.with(wide)?;
/// assert_eq!(primitives.symbols(["sliding_window", "sliding_window_256"])?, primitives.symbols(["S", "L"])?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SlidingWindow {
    window: NonZeroUsize,
}

impl SlidingWindow {
    /// Creates attention over the last `window` keys, at least 2.
    ///
    /// With one key, a query would see only itself, and the query and key weights could not learn.
    ///
    /// # Errors
    /// Returns [`BuildError::Option`] if `window` is 0 or 1.
    pub fn new(window: usize) -> Result<Self, BuildError> {
        let error = || BuildError::Option {
            id: PrimitiveId::with_options("sliding_window", &[]),
            option: "window",
            value: window,
            remedy: "let a query see at least 2 keys, its own and the one before".into(),
        };
        Ok(Self { window: NonZeroUsize::new(window).filter(|window| window.get() > 1).ok_or_else(error)? })
    }

    /// Returns the number of keys that a query sees.
    pub fn window(self) -> usize {
        self.window.get()
    }
}

impl Default for SlidingWindow {
    fn default() -> Self {
        Self { window: WINDOW }
    }
}

impl Primitive for SlidingWindow {
    fn id(&self) -> PrimitiveId {
        PrimitiveId::with_options("sliding_window", &[("", self.window(), WINDOW.get())])
    }

    fn symbol(&self) -> Symbol {
        Symbol::SLIDING_WINDOW
    }

    fn role(&self) -> Role {
        Role::Sequence
    }

    fn cost(&self, dims: &Dims, seq_len: u64) -> LayerCost {
        windowed_cost(dims, seq_len, self.window() as u64)
    }

    fn activations(&self, dims: &Dims, seq_len: u64) -> u64 {
        kept(dims, seq_len)
    }

    #[cfg(feature = "model")]
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        dims.validate()?;
        let layer = AttentionLayer::new(dims, init, device);
        Ok(Block::new(AttentionLayer { mix: layer.mix.window(self.window), ..layer }))
    }

    fn hf_mapping(&self, dims: &Dims) -> Option<HfMapping> {
        let start = HfMapping::new("sliding_attention", CacheKind::Window).setting("sliding_window", self.window());
        Some(named(start, dims))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::Attention;

    #[cfg(feature = "flex")]
    #[test]
    fn windows_of_every_size_keep_the_laws() {
        for window in [2, 5, 8, 1000] {
            let local = SlidingWindow::new(window).unwrap();
            assert_eq!(crate::testkit::primitive::check(&local, &Device::flex()), Ok(()), "{local:?}");
        }
        assert_eq!(SlidingWindow::default().window(), 64);
    }

    #[test]
    fn windows_that_leave_no_choice_are_refused() {
        for window in [0, 1] {
            let error = SlidingWindow::new(window).unwrap_err().to_string();
            let want = "let a query see at least 2 keys, its own and the one before";
            assert_eq!(error, format!("primitive sliding_window: window is {window}: {want}"));
        }
    }

    #[test]
    fn work_grows_with_the_window_and_not_with_its_square() {
        let dims = Dims { kv_heads: 2, ..Dims::new(16, 32, 4).unwrap() };
        let local = SlidingWindow::new(8).unwrap();
        let mixing = |seq| local.cost(&dims, seq).forward_flops_per_token - 2 * local.cost(&dims, seq).parameters;
        // The triangle of 8 tokens, then strips of 8 keys: 4 H C (8^2 / 2 + (S - 8) 8) / S.
        for seq in [8u64, 9, 16, 1000] {
            assert_eq!(mixing(seq), 4 * 16 * (32 + (seq - 8) * 8) / seq);
        }
        for seq in [1, 5, 8] {
            assert_eq!(local.cost(&dims, seq), Attention.cost(&dims, seq));
        }
        assert_eq!([3, 8, 1000].map(|seq| local.cost(&dims, seq).cache_elements), [3, 8, 8].map(|kept| 2 * 8 * kept));
        let long = SlidingWindow::new(usize::MAX).unwrap().cost(&dims, 1 << 32);
        assert_eq!(long, Attention.cost(&dims, 1 << 32));
        assert_eq!(local.cost(&dims, 0).cache_elements, 0);
    }
}
