//! The number types of GGUF files: plain ones, and blocks of 32 quantized numbers that share a scale.
//!
//! The layouts are those of `ggml-quants.c` in the repository of ggml. A block has a scale `d` in half precision, for
//! some types also a minimum `m`, and quantized numbers `q` of a few bits. A weight is `d q` or `d q + m`.

use half::{bf16, f16};

/// Numbers per block.
const BLOCK: usize = 32;
/// Bytes of the 4-bit numbers of a block.
const NIBBLES: usize = BLOCK / 2;

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockType {
    F32,
    F16,
    Bf16,
    /// `d (q - 8)`, 4 bits.
    Q4Zero,
    /// `d q + m`, 4 bits.
    Q4One,
    /// `d (q - 16)`, 5 bits.
    Q5Zero,
    /// `d q + m`, 5 bits.
    Q5One,
    /// `d q`, 8 bits, signed.
    Q8Zero,
}

impl BlockType {
    /// Returns the type with this number in `enum ggml_type`.
    pub fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4Zero,
            3 => Self::Q4One,
            6 => Self::Q5Zero,
            7 => Self::Q5One,
            8 => Self::Q8Zero,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// Returns the number of values and of bytes per block.
    fn block(self) -> [usize; 2] {
        match self {
            Self::F32 => [1, 4],
            Self::F16 | Self::Bf16 => [1, 2],
            Self::Q4Zero => [BLOCK, 2 + NIBBLES],
            Self::Q4One => [BLOCK, 4 + NIBBLES],
            Self::Q5Zero => [BLOCK, 6 + NIBBLES],
            Self::Q5One => [BLOCK, 8 + NIBBLES],
            Self::Q8Zero => [BLOCK, 2 + BLOCK],
        }
    }

    /// Returns the size in bytes of a tensor with this shape, or `None` if its rows are not a whole number of blocks or
    /// the size overflows.
    pub fn bytes(self, shape: &[usize]) -> Option<u64> {
        let [numbers, bytes] = self.block();
        if !shape.last().copied().unwrap_or(1).is_multiple_of(numbers) {
            return None;
        }
        let all = shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(size as u64))?;
        (all / numbers as u64).checked_mul(bytes as u64)
    }

    /// Converts the stored numbers to single precision.
    pub fn numbers(self, bytes: &[u8]) -> Vec<f32> {
        let [count, size] = self.block();
        let mut numbers = Vec::with_capacity(bytes.len() / size * count);
        for block in bytes.chunks_exact(size) {
            self.expand(block, &mut numbers);
        }
        numbers
    }

    fn expand(self, block: &[u8], out: &mut Vec<f32>) {
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        match self {
            Self::F32 => out.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]])),
            Self::F16 => out.push(half(0)),
            Self::Bf16 => out.push(bf16::from_le_bytes([block[0], block[1]]).to_f32()),
            Self::Q4Zero => out.extend(nibbles(&block[2..]).map(|q| half(0) * (f32::from(q) - 8.0))),
            Self::Q4One => out.extend(nibbles(&block[4..]).map(|q| half(0) * f32::from(q) + half(2))),
            Self::Q5Zero => out.extend(fives(&block[2..]).map(|q| half(0) * (f32::from(q) - 16.0))),
            Self::Q5One => out.extend(fives(&block[4..]).map(|q| half(0) * f32::from(q) + half(2))),
            Self::Q8Zero => out.extend(block[2..].iter().map(|&q| half(0) * f32::from(q.cast_signed()))),
        }
    }
}

/// Returns the low halves of all bytes, then the high halves.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4))
}

/// Decodes 5-bit numbers: four bytes with the fifth bits, then the nibbles.
fn fives(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let (high, low) = bytes.split_at(4);
    nibbles(low).enumerate().map(move |(at, q)| q | ((high[at / 8] >> (at % 8) & 1) << 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block with scale 0.5, minimum -1 if it has one, and the remaining bytes.
    fn block(head: &[f32], rest: impl IntoIterator<Item = u8>) -> Vec<u8> {
        let head = head.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes());
        head.chain(rest).collect()
    }

    #[test]
    fn blocks_expand_by_their_formulas() {
        let ramp = (0..16).map(|at: u8| at | ((15 - at) << 4));
        let low = |at: usize| if at < 16 { at as f32 } else { 31.0 - at as f32 };
        let want = |number: &dyn Fn(f32) -> f32| (0..32).map(|at| number(low(at))).collect::<Vec<_>>();
        let four = BlockType::Q4Zero.numbers(&block(&[0.5], ramp.clone()));
        assert_eq!(four, want(&|q| 0.5 * (q - 8.0)));
        assert_eq!(BlockType::Q4One.numbers(&block(&[0.5, -1.0], ramp.clone())), want(&|q| 0.5 * q - 1.0));
        // The fifth bit of the first and of the last number.
        let bits = [1, 0, 0, 128];
        let five = BlockType::Q5One.numbers(&block(&[0.5, -1.0], bits.into_iter().chain(ramp.clone())));
        assert_eq!((five[0], five[1], five[31]), (7.0, -0.5, 7.0));
        let five = BlockType::Q5Zero.numbers(&block(&[0.5], bits.into_iter().chain(ramp)));
        assert_eq!((five[0], five[1], five[31]), (0.0, -7.5, 0.0));
        let eight = BlockType::Q8Zero.numbers(&block(&[0.5], (0..32).map(|at: i8| (at - 16).cast_unsigned())));
        assert_eq!(eight, (0..32).map(|at| 0.5 * (at as f32 - 16.0)).collect::<Vec<_>>());
        assert_eq!(BlockType::Bf16.numbers(&[0x80, 0x3f]), [1.0]);
    }

    #[test]
    fn sizes_are_whole_blocks_or_none() {
        assert_eq!(BlockType::Q4One.bytes(&[3, 64]), Some(3 * 2 * 20));
        assert_eq!(BlockType::Q4One.bytes(&[64, 3]), None);
        assert_eq!(BlockType::F32.bytes(&[usize::MAX, 2]), None);
        assert_eq!(BlockType::from_number(12), None);
    }
}
