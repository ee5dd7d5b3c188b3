//! Seeded random streams, the only source of randomness in this crate.
//!
//! A stream is addressed by (root seed, name, index) and is independent of all other streams. So a draw never depends
//! on earlier draws, the clock, or the number of threads. The generator is ChaCha8: it is portable, and its
//! specification fixes its output.

use rand::{Rng as _, SeedableRng};
use serde::{Deserialize, Serialize};

/// The random number generator of all streams.
pub type Rng = rand_chacha::ChaCha8Rng;

/// The root of a family of random streams.
///
/// ```
/// use composer_nas::seed::Seed;
/// let a = Seed(7).derive("trial", 0);
/// let b = Seed(7).derive("trial", 1);
/// assert_ne!(a, b);
/// assert_eq!(a, Seed(7).derive("trial", 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// Returns the generator of stream `name` at `index`.
    ///
    /// The ChaCha key is `seed ‖ index ‖ FNV-1a-128(name)`. ChaCha is a pseudo-random function of its key, so streams
    /// with different addresses are independent.
    pub fn rng(self, name: &str, index: u64) -> Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.0.to_le_bytes());
        key[8..16].copy_from_slice(&index.to_le_bytes());
        key[16..].copy_from_slice(&digest(name.as_bytes()).to_le_bytes());
        Rng::from_seed(key)
    }

    /// Derives a new seed from stream `name` at `index`: the root of a nested family of streams.
    pub fn derive(self, name: &str, index: u64) -> Seed {
        Seed(self.rng(name, index).next_u64())
    }
}

/// Serializes a seed as a string such as `0x1f`, for programs in other languages.
///
/// Many of them store numbers as doubles, which are exact only up to 2^53, and some convert strings of decimal digits
/// to numbers automatically. Numbers, as earlier versions wrote them, and decimal strings are accepted as well.
pub(crate) mod text {
    use std::fmt;

    use serde::{Deserializer, Serializer, de};

    use super::Seed;

    pub(crate) fn serialize<S: Serializer>(seed: &Seed, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", seed.0))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Seed, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Seed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a seed, such as \"0x1f\", from 0 to \"0xffffffffffffffff\"")
            }

            fn visit_u64<E: de::Error>(self, seed: u64) -> Result<Seed, E> {
                Ok(Seed(seed))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Seed, E> {
                let parsed = match text.strip_prefix("0x") {
                    Some(digits) => u64::from_str_radix(digits, 16),
                    None => text.parse(),
                };
                parsed.map(Seed).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// FNV-1a with 128 bits: a fixed, portable hash of stream names and data. It is not collision-resistant to attacks.
pub(crate) fn digest(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, &byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_agrees_with_the_published_vectors() {
        // From the FNV reference test suite (draft-eastlake-fnv).
        assert_eq!(digest(b""), 0x6c62272e07bb014262b821756295c58d);
        assert_eq!(digest(b"a"), 0xd228cb696f1a8caf78912b704e4a8964);
    }

    #[test]
    fn seeds_are_read_from_texts_and_numbers() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Line(#[serde(with = "text")] Seed);
        assert_eq!(serde_json::to_string(&Line(Seed(u64::MAX))).unwrap(), "\"0xffffffffffffffff\"");
        for (text, seed) in
            [("\"0x1f\"", 31), ("31", 31), ("\"31\"", 31), ("18446744073709551615", u64::MAX), ("\"0x0\"", 0)]
        {
            assert_eq!(serde_json::from_str::<Line>(text).unwrap(), Line(Seed(seed)));
        }
        for text in ["-1", "1.5", "null", "\"\"", "\"0x\"", "\"0x10000000000000000\"", "\"x\"", "\"-0x1\""] {
            let error = serde_json::from_str::<Line>(text).unwrap_err().to_string();
            assert!(error.contains("a seed, such as"), "{error}");
        }
    }

    #[test]
    fn streams_are_fixed_for_ever() {
        // Journals record seeds, so a change of these values would break every resumed search.
        assert_eq!(Seed(7).rng("trial", 3).next_u64(), Seed(7).derive("trial", 3).0);
        let mut all: Vec<_> = (0..4)
            .flat_map(|root| {
                (0..4).flat_map(move |index| ["a", "b", "trial"].map(|name| Seed(root).derive(name, index)))
            })
            .collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 48);
    }
}
