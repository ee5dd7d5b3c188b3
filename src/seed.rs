//! Seeded random streams, the only source of randomness in this crate.
//!
//! A stream is addressed by (root seed, name, index) and is independent of every other stream, so a draw never depends
//! on what else has been drawn, on the clock, or on how many threads run. The generator is ChaCha8, which is portable
//! and whose output is fixed by its specification.

use rand::{Rng as _, SeedableRng};
use serde::{Deserialize, Serialize};

/// The generator behind every stream.
pub type Rng = rand_chacha::ChaCha8Rng;

/// The root of a family of random streams.
///
/// ```
/// use composer_nas::Seed;
/// let (a, b) = (Seed(7).derive("trial", 0), Seed(7).derive("trial", 1));
/// assert_ne!(a, b);
/// assert_eq!(a, Seed(7).derive("trial", 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// The generator of stream `name`, element `index`.
    ///
    /// The ChaCha key is `seed ‖ index ‖ FNV-1a-128(name)`; ChaCha is a pseudo-random function of its key, so streams
    /// with different addresses are independent.
    pub fn rng(self, name: &str, index: u64) -> Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.0.to_le_bytes());
        key[8..16].copy_from_slice(&index.to_le_bytes());
        key[16..].copy_from_slice(&digest(name.as_bytes()).to_le_bytes());
        Rng::from_seed(key)
    }

    /// A seed of its own for stream `name`, element `index`: the root of a nested family of streams.
    pub fn derive(self, name: &str, index: u64) -> Seed {
        Seed(self.rng(name, index).next_u64())
    }
}

/// A seed in a file that programs in other languages read: a string such as `0x1f`. Many of them hold numbers as
/// doubles, which are whole up to 2^53 alone, and some turn strings of decimal digits into numbers by themselves.
/// Numbers, as earlier versions wrote, and decimal strings are read as well.
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

/// FNV-1a, 128 bits: a fixed, portable hash of stream names and of data. No defence against those who want two alike.
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
        // Journals record seeds: a change of these values would break every resumed search.
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
