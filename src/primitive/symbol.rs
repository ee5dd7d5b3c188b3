//! Names of primitives: a stable id for files, and a letter for sequences.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The letter of a primitive in sequences, such as `A` and `M` in `2A+4M`.
///
/// A symbol is an ASCII letter; case matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "char", into = "char")]
pub struct Symbol(u8);

impl Symbol {
    /// `A`: causal self-attention.
    pub const ATTENTION: Symbol = Symbol(b'A');
    /// `M`: SwiGLU multi-layer perceptron.
    pub const SWIGLU: Symbol = Symbol(b'M');
    /// `B`: Mamba-2.
    pub const MAMBA2: Symbol = Symbol(b'B');
    /// `G`: gated DeltaNet.
    pub const GATED_DELTA_NET: Symbol = Symbol(b'G');
    /// `C`: short gated causal convolution.
    pub const GATED_CONV: Symbol = Symbol(b'C');
    /// `F`: two-layer perceptron with GELU.
    pub const MLP: Symbol = Symbol(b'F');
    /// `R`: two-layer perceptron with squared ReLU.
    pub const RELU2: Symbol = Symbol(b'R');
    /// `S`: causal self-attention with a sliding window.
    pub const SLIDING_WINDOW: Symbol = Symbol(b'S');
    /// `I`: linear map.
    pub const LINEAR: Symbol = Symbol(b'I');
    /// `L`: multi-head latent attention.
    pub const LATENT_ATTENTION: Symbol = Symbol(b'L');
    /// `E`: sparse mixture of experts.
    pub const MOE: Symbol = Symbol(b'E');
    /// `N`: no layer, where a conversion may remove one.
    pub const NO_LAYER: Symbol = Symbol(b'N');
}

/// The stable name of a primitive in journals and configuration files, such as `attention` or `swiglu`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrimitiveId(Arc<str>);

impl PrimitiveId {
    /// Creates an id. It consists of lower-case ASCII letters, digits and `_`, and starts with a letter.
    ///
    /// # Errors
    /// Returns [`NameError::Id`] if `name` does not.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let mut bytes = name.bytes();
        let head = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
        if head && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            Ok(Self(name.into()))
        } else {
            Err(NameError::Id(name.into()))
        }
    }

    /// Creates the id of a primitive with options: `name`, followed by `_`, tag and value for each option that differs
    /// from its default.
    ///
    /// Each option is given as (tag, value, default). Tags consist of lower-case letters.
    pub(crate) fn with_options(name: &'static str, options: &[(&str, usize, usize)]) -> Self {
        let others = options.iter().filter(|(_, value, default)| value != default);
        let tags: String = others.map(|(tag, value, _)| format!("_{tag}{value}")).collect();
        Self(format!("{name}{tags}").into())
    }

    /// Creates an id from `name` and tags, which must consist of valid characters.
    pub(crate) fn tagged(name: &'static str, tags: &str) -> Self {
        Self(format!("{name}{tags}").into())
    }

    /// Appends tags.
    pub(crate) fn and(self, tags: &str) -> Self {
        if tags.is_empty() { self } else { Self(format!("{}{tags}", self.0).into()) }
    }

    /// Creates an id from a literal of this crate, which must be valid.
    pub(crate) fn known(name: &'static str) -> Self {
        Self(name.into())
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The error of an invalid symbol or id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text is not an ASCII letter.
    #[error("{0:?} is not a symbol: use one ASCII letter, such as A")]
    Symbol(String),
    /// The text is not a primitive id.
    #[error("{0:?} is not a primitive id: use lower-case letters, digits and _, starting with a letter")]
    Id(String),
}

impl TryFrom<char> for Symbol {
    type Error = NameError;
    fn try_from(letter: char) -> Result<Self, NameError> {
        if letter.is_ascii_alphabetic() { Ok(Symbol(letter as u8)) } else { Err(NameError::Symbol(letter.into())) }
    }
}

impl From<Symbol> for char {
    fn from(symbol: Symbol) -> char {
        symbol.0.into()
    }
}

impl FromStr for Symbol {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut letters = text.chars();
        match (letters.next(), letters.next()) {
            (Some(letter), None) => Symbol::try_from(letter),
            _ => Err(NameError::Symbol(text.into())),
        }
    }
}

impl TryFrom<String> for PrimitiveId {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        PrimitiveId::new(&name)
    }
}

impl From<PrimitiveId> for String {
    fn from(id: PrimitiveId) -> String {
        id.0.as_ref().into()
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        char::from(*self).fmt(f)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        char::from(*self).fmt(f)
    }
}

impl fmt::Display for PrimitiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PrimitiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_used_are_refused() {
        for bad in ["", "AB", "1", "é", "+"] {
            assert_eq!(bad.parse::<Symbol>(), Err(NameError::Symbol(bad.into())));
        }
        for bad in ["", "Attention", "2d", "a-b", "a b"] {
            assert_eq!(PrimitiveId::new(bad), Err(NameError::Id(bad.into())));
        }
        assert_eq!("A".parse(), Ok(Symbol::ATTENTION));
        assert_eq!(PrimitiveId::new("mamba2").unwrap().as_str(), "mamba2");
    }

    #[test]
    fn ids_show_the_options_that_differ_from_the_default() {
        let id = |window, heads| PrimitiveId::with_options("local", &[("", window, 64), ("h", heads, 4)]);
        assert_eq!([id(64, 4), id(256, 4), id(256, 2)].map(String::from), ["local", "local_256", "local_256_h2"]);
        assert_eq!(PrimitiveId::new(id(256, 2).as_str()), Ok(id(256, 2)));
    }
}
