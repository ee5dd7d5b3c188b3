//! The random numbers of the landscapes: hashes of indices, simple enough to implement in any language.

/// One step of SplitMix64 (Steele, Lea and Flood 2014), which adds the increment first.
pub(super) fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `s = mix(tag)`, then `s = mix(s ^ index)` for every index.
fn hash<const N: usize>(tag: u64, indices: [u64; N]) -> u64 {
    indices.into_iter().fold(mix(tag), |state, index| mix(state ^ index))
}

/// Returns a number in 0..1, a multiple of 2^-53.
pub(super) fn u01<const N: usize>(tag: u64, indices: [u64; N]) -> f64 {
    (hash(tag, indices) >> 11) as f64 * 2f64.powi(-53)
}

/// Returns a number in -1..1.
pub(super) fn c11<const N: usize>(tag: u64, indices: [u64; N]) -> f64 {
    2.0 * u01(tag, indices) - 1.0
}

/// Returns an integer in 0..n.
pub(super) fn below<const N: usize>(tag: u64, indices: [u64; N], n: usize) -> usize {
    (u01(tag, indices) * n as f64) as usize
}
