//! Architectures as rows of a matrix.
//!
//! | symbol | meaning |
//! |---|---|
//! | N, n, Z | number of architectures, of layers, of symbols of the space |
//! | a_i | index of the symbol of layer i among the symbols of the space, 0..Z |
//! | d | number of columns: n (bit) or n Z (one-hot) |

use nalgebra::DMatrix;

use super::GpError;
use crate::{
    primitive::Symbol,
    space::{Architecture, SearchSpace},
};

/// How a layer is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// One column per layer with the value a_i, for at most two symbols.
    Bit,
    /// Z columns per layer; column i Z + a_i is 1.
    OneHot,
}

/// Encodes the architectures of one space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Encoder {
    symbols: Vec<Symbol>,
    layers: usize,
    encoding: Encoding,
}

impl Encoder {
    /// Creates an encoder: one bit per layer for at most two symbols, otherwise one-hot.
    pub(super) fn new(space: &SearchSpace) -> Self {
        let encoding = if space.symbols().len() <= 2 { Encoding::Bit } else { Encoding::OneHot };
        Self::with_encoding(space, encoding)
    }

    /// Creates an encoder with a given encoding. `Encoding::Bit` requires at most two symbols.
    pub(super) fn with_encoding(space: &SearchSpace, encoding: Encoding) -> Self {
        Self { symbols: space.symbols(), layers: space.layers(), encoding }
    }

    /// Returns the encoding.
    #[cfg(test)]
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Returns the number of layers, n.
    pub(super) fn layers(&self) -> usize {
        self.layers
    }

    /// Returns the number of symbols, Z.
    pub(super) fn symbols(&self) -> usize {
        self.symbols.len()
    }

    /// Returns the number of columns, d.
    pub(super) fn columns(&self) -> usize {
        match self.encoding {
            Encoding::Bit => self.layers,
            Encoding::OneHot => self.layers * self.symbols.len(),
        }
    }

    /// Returns the n integers a_i of an architecture.
    ///
    /// # Errors
    /// [`GpError::OutsideSpace`] if its length or one of its symbols is not that of the space.
    pub(super) fn codes(&self, architecture: &Architecture) -> Result<Vec<usize>, GpError> {
        let code = |symbol: &Symbol| self.symbols.iter().position(|known| known == symbol);
        let codes: Option<Vec<_>> = architecture.layers().iter().map(code).collect();
        codes
            .filter(|codes| codes.len() == self.layers)
            .ok_or_else(|| GpError::OutsideSpace { architecture: architecture.to_string() })
    }

    /// Returns N architectures as the rows of an N x d matrix of zeros and ones.
    ///
    /// # Errors
    /// [`GpError::OutsideSpace`] for the first architecture that does not lie in the space.
    pub(super) fn rows<'a>(
        &self,
        architectures: impl IntoIterator<Item = &'a Architecture>,
    ) -> Result<DMatrix<f64>, GpError> {
        let codes: Result<Vec<_>, _> = architectures.into_iter().map(|one| self.codes(one)).collect();
        Ok(self.rows_of_codes(&codes?))
    }

    /// Returns N lists of n integers below Z as the rows of an N x d matrix.
    pub(super) fn rows_of_codes(&self, codes: &[Vec<usize>]) -> DMatrix<f64> {
        let mut rows = DMatrix::zeros(codes.len(), self.columns());
        for (row, codes) in codes.iter().enumerate() {
            for (layer, &code) in codes.iter().enumerate() {
                match self.encoding {
                    Encoding::Bit => rows[(row, layer)] = code as f64,
                    Encoding::OneHot => rows[(row, layer * self.symbols.len() + code)] = 1.0,
                }
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(letters: &str, layers: usize) -> SearchSpace {
        SearchSpace::uniform(letters.chars().map(|letter| Symbol::try_from(letter).unwrap()), layers).unwrap()
    }

    #[test]
    fn two_symbols_are_bits_and_more_are_one_hot() {
        let two = Encoder::new(&space("AM", 3));
        assert_eq!((two.encoding(), two.columns(), two.layers(), two.symbols()), (Encoding::Bit, 3, 3, 2));
        let rows = two.rows(&["AMM".parse().unwrap(), "MAA".parse().unwrap()]).unwrap();
        assert_eq!(rows, DMatrix::from_row_slice(2, 3, &[0.0, 1.0, 1.0, 1.0, 0.0, 0.0]));
        let three = Encoder::new(&space("AMS", 2));
        assert_eq!((three.encoding(), three.columns()), (Encoding::OneHot, 6));
        let rows = three.rows(&["SM".parse().unwrap()]).unwrap();
        assert_eq!(rows, DMatrix::from_row_slice(1, 6, &[0.0, 0.0, 1.0, 0.0, 1.0, 0.0]));
    }

    #[test]
    fn strangers_are_refused() {
        let encoder = Encoder::new(&space("AM", 3));
        for text in ["AM", "AMS", "AMAM"] {
            let refused = encoder.codes(&text.parse().unwrap());
            assert!(matches!(refused, Err(GpError::OutsideSpace { .. })), "{text}");
        }
    }
}
