//! Layer sequences and their text form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    limits::MAX_LAYERS,
    primitive::{NameError, Symbol},
};

/// A sequence of layers, from first to last, each given by its [`Symbol`].
///
/// The text form is the run-length notation of the papers. A sequence of plain letters is parsed as well:
/// ```
/// use composer_nas::space::Architecture;
/// let a: Architecture = "AAMMMM".parse()?;
/// assert_eq!(a, "2A+4M".parse()?);
/// assert_eq!(a.to_string(), "2A+4M");
/// # Ok::<(), composer_nas::space::ParseError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Architecture(Vec<Symbol>);

impl Architecture {
    /// Maximum number of layers of a sequence that is parsed from text.
    pub const MAX_LAYERS: usize = MAX_LAYERS;

    /// Creates a sequence from its layers.
    pub fn new(layers: impl IntoIterator<Item = Symbol>) -> Self {
        Self(layers.into_iter().collect())
    }

    /// Creates a sequence from runs of equal layers, given as pairs of symbol and length.
    pub fn from_runs(runs: impl IntoIterator<Item = (Symbol, usize)>) -> Self {
        Self(runs.into_iter().flat_map(|(symbol, length)| std::iter::repeat_n(symbol, length)).collect())
    }

    /// Returns the layers, from first to last.
    pub fn layers(&self) -> &[Symbol] {
        &self.0
    }

    /// Returns the number of layers.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no layers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over the maximal runs of equal layers, from first to last, as pairs of symbol and length.
    pub fn runs(&self) -> impl Iterator<Item = (Symbol, usize)> {
        self.0.chunk_by(|a, b| a == b).map(|run| (run[0], run.len()))
    }

    /// Returns the number of layers with this symbol.
    pub fn count(&self, symbol: Symbol) -> usize {
        self.0.iter().filter(|&&layer| layer == symbol).count()
    }

    /// Returns the sequence as one letter per layer, such as `AAMMMM`.
    pub fn letters(&self) -> String {
        self.0.iter().map(|&symbol| char::from(symbol)).collect()
    }
}

/// The error of parsing a text that is not an architecture.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The text contains no layer.
    #[error("an architecture needs at least one layer, as in 2A+4M")]
    Empty,
    /// The text contains a character that is neither a digit, a letter nor `+`.
    #[error("{text:?} is not an architecture: invalid character at position {position}; write 2A+4M or AAMMMM")]
    Letter {
        /// The whole text.
        text: String,
        /// Offset of the invalid character, in characters.
        position: usize,
        /// Why the character is not a symbol.
        source: NameError,
    },
    /// A count without a letter, a misplaced `+`, or a count of zero.
    #[error("{text:?} is not an architecture: a layer is missing before position {position}; write 2A+4M or AAMMMM")]
    MissingLayer {
        /// The whole text.
        text: String,
        /// Offset of the error, in characters.
        position: usize,
    },
    /// The sequence has more than [`Architecture::MAX_LAYERS`] layers.
    #[error("an architecture has at most {MAX_LAYERS} layers")]
    TooLong,
}

impl FromStr for Architecture {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut layers: Vec<Symbol> = Vec::new();
        let mut count: Option<usize> = None;
        let mut after_plus = false;
        let missing = |position| ParseError::MissingLayer { text: text.into(), position };
        for (position, letter) in text.chars().enumerate() {
            match letter {
                '0'..='9' => {
                    let digit = letter as usize - '0' as usize;
                    let value = count.unwrap_or(0) * 10 + digit;
                    if value > MAX_LAYERS {
                        return Err(ParseError::TooLong);
                    }
                    count = Some(value);
                }
                '+' if layers.is_empty() || count.is_some() || after_plus => return Err(missing(position)),
                '+' => after_plus = true,
                letter => {
                    let symbol = Symbol::try_from(letter).map_err(|source| ParseError::Letter {
                        text: text.into(),
                        position,
                        source,
                    })?;
                    let length = count.take().unwrap_or(1);
                    if length == 0 {
                        return Err(missing(position));
                    }
                    if layers.len() + length > MAX_LAYERS {
                        return Err(ParseError::TooLong);
                    }
                    layers.extend(std::iter::repeat_n(symbol, length));
                    after_plus = false;
                }
            }
        }
        match () {
            () if count.is_some() || after_plus => Err(missing(text.chars().count())),
            () if layers.is_empty() => Err(ParseError::Empty),
            () => Ok(Self(layers)),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.runs().map(|(symbol, length)| format!("{length}{symbol}")).collect::<Vec<_>>().join("+");
        f.pad(&text)
    }
}

impl fmt::Debug for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Architecture {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Architecture> for String {
    fn from(architecture: Architecture) -> String {
        architecture.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_notations_parse() {
        let a: Architecture = "2A+5M+2A+3M+1A+3M".parse().unwrap();
        assert_eq!(a.len(), 16);
        assert_eq!(a.letters(), "AAMMMMMAAMMMAMMM");
        assert_eq!(a, "2AMMMMM2A+3M+A3M".parse().unwrap());
        assert_eq!(a.count(Symbol::ATTENTION), 5);
        assert_eq!(serde_json::to_string(&a).unwrap(), "\"2A+5M+2A+3M+1A+3M\"");
    }

    #[test]
    fn texts_that_are_none_are_refused() {
        assert_eq!("".parse::<Architecture>(), Err(ParseError::Empty));
        for text in ["2", "+A", "A+", "A++M", "0A", "2+A", "3A+2"] {
            assert!(matches!(text.parse::<Architecture>(), Err(ParseError::MissingLayer { .. })), "{text}");
        }
        for text in ["2A 4M", "A-M", "Ä"] {
            assert!(matches!(text.parse::<Architecture>(), Err(ParseError::Letter { .. })), "{text}");
        }
        for text in ["99999999999999999999A", "60000A+60000M"] {
            assert_eq!(text.parse::<Architecture>(), Err(ParseError::TooLong), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_and_runs_round_trip(letters in "[A-Za-z]{1,40}") {
            let a: Architecture = letters.parse().unwrap();
            prop_assert_eq!(&a.letters(), &letters);
            prop_assert_eq!(&a.to_string().parse::<Architecture>().unwrap(), &a);
            prop_assert_eq!(&Architecture::from_runs(a.runs()), &a);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,24}") {
            let _ = text.parse::<Architecture>();
        }
    }
}
