//! Shared code of the recurrent layers: head widths and checks of options.

use super::{BuildError, PrimitiveId};
use crate::limits::MAX_WIDTH;

/// Minimum number of heads, if the width can be divided.
const FEWEST_HEADS: usize = 4;

/// Returns the width of the heads into which `channels` are split: the largest divisor that is at most `most` and
/// leaves at least four heads, so that narrow models have several time scales too.
pub(super) fn head_width(channels: usize, most: usize) -> usize {
    let most = most.min(channels / FEWEST_HEADS).max(1);
    (1..=most).rev().find(|&width| channels.is_multiple_of(width)).unwrap_or(1)
}

/// Returns the size of the states before every chunk except the first, which recurrences keep for the backward pass.
pub(super) fn chunk_states(seq_len: u64, chunk: usize, state: u64) -> u64 {
    seq_len.div_ceil(chunk.max(1) as u64).saturating_sub(1).saturating_mul(state)
}

/// Maximum inner width of a layer.
pub(super) const MAX_INNER: usize = MAX_WIDTH;

/// Returns an error if an option is 0 or too large.
pub(super) fn check_option(id: PrimitiveId, name: &str, value: usize, example: usize) -> Result<(), BuildError> {
    if (1..=MAX_INNER).contains(&value) {
        return Ok(());
    }
    let reason = format!("{name} is {value}: use a number from 1 to {MAX_INNER}, such as {example}");
    Err(BuildError::Primitive { id, reason })
}

/// Returns an error if the kernel size of a short convolution is below 2 or too large.
pub(super) fn check_kernel_size(id: PrimitiveId, kernel_size: usize) -> Result<(), BuildError> {
    const MOST: usize = 1 << 10;
    if (2..=MOST).contains(&kernel_size) {
        return Ok(());
    }
    let reason =
        format!("the convolution has a kernel size of {kernel_size}: use a number from 2 to {MOST}, such as 4");
    Err(BuildError::Primitive { id, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_narrow_with_the_model() {
        for (channels, most, width) in
            [(4096, 64, 64), (256, 64, 64), (64, 64, 16), (48, 64, 12), (16, 64, 4), (7, 64, 1)]
        {
            assert_eq!(head_width(channels, most), width, "{channels} {most}");
        }
        assert_eq!((head_width(2048, 128), head_width(32, 128), head_width(3, 0)), (128, 8, 1));
    }
}
