//! The set of primitives that a search may use.

use std::{collections::BTreeMap, sync::Arc};

use thiserror::Error;

use super::{
    Attention, GatedConv, GatedDeltaNet, Mamba2, Mlp, Moe, NameError, Primitive, PrimitiveId, Relu2, SlidingWindow,
    SwiGlu, Symbol,
};

/// A set of primitives, indexed by symbol and id.
///
/// There is no global registry: a search uses only the primitives that you pass to it. Cloning is cheap, because the
/// primitives are shared.
///
/// ```
/// use composer_nas::prelude::*;
/// let primitives = Primitives::standard();
/// let choices = primitives.symbols(["attention", "swiglu"])?;
/// assert_eq!(choices, [Symbol::ATTENTION, Symbol::SWIGLU]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Primitives(BTreeMap<Symbol, Arc<dyn Primitive>>);

impl Primitives {
    /// Creates an empty set.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns the two primitives of Composer (Acun, Sinha et al. 2026, arXiv 2510.00379): attention `A` and SwiGLU
    /// `M`.
    pub fn paper() -> Self {
        Self::of([Arc::new(Attention), Arc::new(SwiGlu)])
    }

    /// Returns the three primitives of AIRA-Compose's hybrids (arXiv 2605.15871): attention `A`, SwiGLU `M`, Mamba-2
    /// `B`.
    pub fn hybrid() -> Self {
        Self::of([Arc::new(Attention), Arc::new(SwiGlu), Arc::new(Mamba2::default())])
    }

    /// Returns the standard primitives of this crate, with default options.
    ///
    /// Sequence mixers: attention `A`, sliding-window attention `S`, Mamba-2 `B`, gated DeltaNet `G`, gated convolution
    /// `C`. Channel mixers: SwiGLU `M`, GELU MLP `F`, squared-ReLU MLP `R`, mixture of experts `E`.
    pub fn standard() -> Self {
        Self::of([
            Arc::new(Attention),
            Arc::new(SlidingWindow::default()),
            Arc::new(Mamba2::default()),
            Arc::new(GatedDeltaNet::default()),
            Arc::new(GatedConv::default()),
            Arc::new(SwiGlu),
            Arc::new(Mlp),
            Arc::new(Relu2),
            Arc::new(Moe::default()),
        ])
    }

    fn of<const N: usize>(primitives: [Arc<dyn Primitive>; N]) -> Self {
        Self(primitives.into_iter().map(|primitive| (primitive.symbol(), primitive)).collect())
    }

    /// Adds a primitive.
    ///
    /// # Errors
    /// Returns [`RegistryError`] if its symbol or its id is already used.
    pub fn with(mut self, primitive: impl Primitive + 'static) -> Result<Self, RegistryError> {
        let symbol = primitive.symbol();
        let id = primitive.id();
        if let Some(holder) = self.0.get(&symbol) {
            return Err(RegistryError::SymbolTaken { symbol, id, holder: holder.id() });
        }
        if let Some(holder) = self.0.values().find(|holder| holder.id() == id) {
            return Err(RegistryError::IdTaken { id, holder: holder.symbol() });
        }
        self.0.insert(symbol, Arc::new(primitive));
        Ok(self)
    }

    /// Replaces the primitive that has the same symbol as `primitive`, to use a variant of a layer under its usual
    /// letter.
    ///
    /// ```
    /// use composer_nas::{dims::Positions, prelude::*, primitive::CustomAttention};
    /// let attention = CustomAttention { positions: Positions::None, ..CustomAttention::default() };
    /// let primitives = Primitives::standard().replacing(attention);
    /// assert_eq!(primitives.get(Symbol::ATTENTION)?.id().as_str(), "attention_nope");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn replacing(self, primitive: impl Primitive + 'static) -> Self {
        self.replaced(primitive.symbol(), Arc::new(primitive))
    }

    /// Replaces the primitive with this symbol.
    pub(crate) fn replaced(mut self, symbol: Symbol, primitive: Arc<dyn Primitive>) -> Self {
        self.0.insert(symbol, primitive);
        self
    }

    /// Returns the primitive with this symbol.
    ///
    /// # Errors
    /// Returns [`RegistryError::Unknown`] if there is none.
    pub fn get(&self, symbol: Symbol) -> Result<&dyn Primitive, RegistryError> {
        self.0.get(&symbol).map(AsRef::as_ref).ok_or_else(|| self.unknown(symbol.to_string()))
    }

    /// Returns the symbols of the named primitives, in the given order. A name is an id (`swiglu`) or a symbol (`M`).
    ///
    /// # Errors
    /// Returns [`RegistryError::Unknown`] if a name is unknown.
    pub fn symbols<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Symbol>, RegistryError> {
        names.into_iter().map(|name| self.symbol(name)).collect()
    }

    /// Iterates over all primitives, by symbol.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Primitive> {
        self.0.values().map(AsRef::as_ref)
    }

    fn symbol(&self, name: &str) -> Result<Symbol, RegistryError> {
        let named = |primitive: &&dyn Primitive| {
            primitive.id().as_str() == name || name.parse() == Ok::<_, NameError>(primitive.symbol())
        };
        self.iter().find(named).map(Primitive::symbol).ok_or_else(|| self.unknown(name.into()))
    }

    fn unknown(&self, name: String) -> RegistryError {
        let known = self.iter().map(|p| format!("{} ({})", p.id(), p.symbol())).collect::<Vec<_>>().join(", ");
        RegistryError::Unknown { name, known }
    }
}

/// The error of a primitive that cannot be found or added.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no primitive with this name.
    #[error("unknown primitive {name:?}; known primitives: {known}")]
    Unknown {
        /// The requested name.
        name: String,
        /// The known names.
        known: String,
    },
    /// Two primitives have the same symbol.
    #[error("symbol {symbol} of {id} is already used by {holder}: give one of them another letter")]
    SymbolTaken {
        /// The symbol.
        symbol: Symbol,
        /// The primitive to add.
        id: PrimitiveId,
        /// The primitive that has the symbol.
        holder: PrimitiveId,
    },
    /// Two primitives have the same id.
    #[error("id {id} is already used by the primitive with symbol {holder}: rename one of them")]
    IdTaken {
        /// The id.
        id: PrimitiveId,
        /// The symbol of the primitive that has the id.
        holder: Symbol,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_symbols_find_the_same_primitive() {
        let primitives = Primitives::standard();
        assert_eq!(primitives.symbols(["A", "swiglu", "F"]), primitives.symbols(["attention", "M", "mlp"]));
        assert_eq!(primitives.get(Symbol::SWIGLU).unwrap().id().as_str(), "swiglu");
    }

    #[test]
    fn presets_hold_what_they_say() {
        let letters = |primitives: Primitives| primitives.iter().map(|p| char::from(p.symbol())).collect::<String>();
        assert_eq!(letters(Primitives::paper()), "AM");
        assert_eq!(letters(Primitives::hybrid()), "ABM");
        assert_eq!(letters(Primitives::standard()), "ABCEFGMRS");
    }

    #[test]
    fn unknown_and_duplicate_names_are_refused() {
        let primitives = Primitives::standard();
        let wide = SlidingWindow::new(256).unwrap();
        assert!(matches!(primitives.clone().with(wide), Err(RegistryError::SymbolTaken { .. })));
        let local = SlidingWindow::default().with_symbol(Symbol::try_from('L').unwrap());
        let error = primitives.clone().with(local).unwrap_err();
        assert_eq!(
            error.to_string(),
            "id sliding_window is already used by the primitive with symbol S: rename one of them"
        );
        let error = primitives.symbols(["attention", "mamba9"]).unwrap_err().to_string();
        assert!(error.contains("mamba9") && error.contains("swiglu (M)"), "{error}");
        assert!(matches!(primitives.with(SwiGlu), Err(RegistryError::SymbolTaken { .. })));
    }
}
