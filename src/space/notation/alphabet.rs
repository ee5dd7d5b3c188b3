//! Mappings from letters to layers.

use std::{collections::BTreeMap, str::FromStr};

use super::NotationError;
use crate::{limits::MAX_LAYERS, primitive::Symbol, space::Architecture};

/// A mapping between the letters of a notation and layers.
///
/// Several layers may share a letter when sequences are written. When they are read, the letter means the first of
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alphabet {
    meanings: BTreeMap<char, Symbol>,
    letters: BTreeMap<Symbol, char>,
}

impl Alphabet {
    /// Creates an alphabet from pairs of letter and layer. If a letter occurs several times, its first layer is the one
    /// read.
    pub fn new(pairs: impl IntoIterator<Item = (char, Symbol)>) -> Self {
        let mut alphabet = Self { meanings: BTreeMap::new(), letters: BTreeMap::new() };
        for (letter, symbol) in pairs {
            alphabet.meanings.entry(letter).or_insert(symbol);
            alphabet.letters.entry(symbol).or_insert(letter);
        }
        alphabet
    }

    /// Returns the letters of Megatron-LM: `*` attention, `-` MLP (read as SwiGLU), `M` Mamba-2, `G` gated DeltaNet,
    /// `E` mixture of experts, `+` multi-head latent attention.
    pub fn megatron() -> Self {
        Self::new([
            ('*', Symbol::ATTENTION),
            ('*', Symbol::SLIDING_WINDOW),
            ('-', Symbol::SWIGLU),
            ('-', Symbol::RELU2),
            ('-', Symbol::MLP),
            ('M', Symbol::MAMBA2),
            ('G', Symbol::GATED_DELTA_NET),
            ('E', Symbol::MOE),
            ('+', Symbol::LATENT_ATTENTION),
        ])
    }

    /// Returns the letters of Nemotron-H: `*` attention, `-` squared-ReLU MLP, `M` Mamba-2, `E` mixture of experts.
    pub fn nemotron_h() -> Self {
        Self::new([('*', Symbol::ATTENTION), ('-', Symbol::RELU2), ('M', Symbol::MAMBA2), ('E', Symbol::MOE)])
    }

    /// Returns the symbols of this crate: every letter means itself.
    pub(crate) fn ours() -> Self {
        let letters = ('A'..='Z').chain('a'..='z');
        Self::new(letters.filter_map(|letter| Some((letter, Symbol::try_from(letter).ok()?))))
    }

    /// Parses a text with one letter per layer.
    ///
    /// # Errors
    /// Returns [`NotationError`] if a letter has no meaning, or if the text has no layers or too many.
    pub fn read(&self, text: &str) -> Result<Architecture, NotationError> {
        let meaning = |(position, letter): (usize, char)| {
            let found = self.meanings.get(&letter).copied();
            found.ok_or_else(|| NotationError::Letter { text: text.into(), letter, position, known: self.to_string() })
        };
        let layers = text.chars().enumerate().map(meaning).collect::<Result<Vec<_>, _>>()?;
        match layers.len() {
            0 => Err(NotationError::Pattern { text: text.into(), reason: "it has no layers".into() }),
            1..=MAX_LAYERS => Ok(Architecture::new(layers)),
            _ => Err(NotationError::TooLong),
        }
    }

    /// Formats a sequence with one letter per layer.
    ///
    /// # Errors
    /// Returns [`NotationError::Layer`] if a layer has no letter.
    pub fn write(&self, architecture: &Architecture) -> Result<String, NotationError> {
        let letter = |symbol: &Symbol| {
            let known = || self.letters.keys().map(Symbol::to_string).collect::<Vec<_>>().join(", ");
            let found = self.letters.get(symbol).copied();
            found.ok_or_else(|| NotationError::Layer { symbol: *symbol, known: known() })
        };
        architecture.layers().iter().map(letter).collect()
    }
}

impl std::fmt::Display for Alphabet {
    /// Writes the pairs in the form that [`FromStr`] reads.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs: Vec<String> = self.meanings.iter().map(|(letter, symbol)| format!("{letter}={symbol}")).collect();
        f.pad(&pairs.join(","))
    }
}

impl FromStr for Alphabet {
    type Err = NotationError;

    /// Parses a name (`ours`, `megatron`, `nemotron-h`), or pairs of a letter and a symbol of this crate:
    /// `M=B,*=A,-=M`.
    fn from_str(text: &str) -> Result<Self, NotationError> {
        let wrong = |reason| NotationError::Alphabet { text: text.into(), reason };
        match text {
            "ours" => return Ok(Self::ours()),
            "megatron" => return Ok(Self::megatron()),
            "nemotron-h" | "nemotron_h" => return Ok(Self::nemotron_h()),
            _ => {}
        }
        let mut pairs = Vec::new();
        for pair in text.split(',') {
            let letters: Vec<char> = pair.trim().chars().collect();
            let &[letter, '=', ours] = letters.as_slice() else {
                return Err(wrong("write every pair as a letter, = and a letter"));
            };
            let symbol =
                Symbol::try_from(ours).map_err(|_| wrong("the letter after = must be a symbol of this crate"))?;
            if pairs.iter().any(|(other, _)| *other == letter) {
                return Err(wrong("a letter is listed twice"));
            }
            pairs.push((letter, symbol));
        }
        Ok(Self::new(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabets_are_read_and_written() {
        let custom: Alphabet = "M=B,*=A, -=M".parse().unwrap();
        assert_eq!(custom.read("M-M*").unwrap().letters(), "BMBA");
        assert_eq!(custom.write(&"BMBA".parse().unwrap()).unwrap(), "M-M*");
        assert_eq!(custom.to_string().parse(), Ok(custom));
        for (text, reason) in [
            ("", "every pair"),
            ("M", "every pair"),
            ("M=", "every pair"),
            ("M=B,M=A", "listed twice"),
            ("M=*", "this crate"),
            ("M==B", "every pair"),
        ] {
            let error = text.parse::<Alphabet>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert_eq!("ours".parse::<Alphabet>().unwrap().read("ABz").unwrap().letters(), "ABz");
    }

    #[test]
    fn letters_without_a_meaning_are_refused_and_never_dropped() {
        let error = Alphabet::nemotron_h().read("M-Q*").unwrap_err();
        assert!(matches!(&error, NotationError::Letter { letter: 'Q', position: 2, .. }), "{error}");
        assert!(error.to_string().contains("M=B"), "{error}");
        assert!(Alphabet::nemotron_h().read("M G").is_err() && Alphabet::nemotron_h().read("").is_err());
        let error = Alphabet::megatron().write(&"AC".parse().unwrap()).unwrap_err();
        assert!(matches!(&error, NotationError::Layer { symbol, .. } if char::from(*symbol) == 'C'), "{error}");
        let long = "M".repeat(MAX_LAYERS + 1);
        assert_eq!(Alphabet::megatron().read(&long), Err(NotationError::TooLong));
    }
}
