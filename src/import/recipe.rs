//! The layers that a model needs, and the registry that contains them.

use std::sync::Arc;

use super::ImportError;
use crate::{
    dims::Dims,
    primitive::{
        BuildError, CustomAttention, GatedConv, GatedDeltaNet, Linear, Mamba2, Mlp, Moe, Primitive, Primitives, Relu2,
        SizedSwiGlu, SwiGlu, Symbol,
    },
    space::Architecture,
};

/// A layer, as described by a configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Recipe {
    Attention(CustomAttention),
    Mamba2(Mamba2),
    GatedDeltaNet(GatedDeltaNet),
    GatedConv(GatedConv),
    SwiGlu,
    SizedSwiGlu(SizedSwiGlu),
    Relu2,
    Mlp,
    Linear,
    Moe(Moe),
}

impl Recipe {
    fn primitive(&self) -> &dyn Primitive {
        match self {
            Recipe::Attention(attention) => attention,
            Recipe::Mamba2(mamba) => mamba,
            Recipe::GatedDeltaNet(net) => net,
            Recipe::GatedConv(conv) => conv,
            Recipe::SwiGlu => &SwiGlu,
            Recipe::SizedSwiGlu(sized) => sized,
            Recipe::Relu2 => &Relu2,
            Recipe::Mlp => &Mlp,
            Recipe::Linear => &Linear,
            Recipe::Moe(moe) => moe,
        }
    }

    /// Checks that the layer can be built with these dimensions.
    fn check(&self, dims: &Dims) -> Result<(), BuildError> {
        match self {
            Recipe::Attention(attention) => attention.check(dims),
            Recipe::Mamba2(mamba) => mamba.check(dims),
            Recipe::GatedDeltaNet(net) => net.check(dims),
            Recipe::GatedConv(conv) => conv.check(dims),
            Recipe::SizedSwiGlu(sized) => sized.check(dims),
            Recipe::Moe(moe) => moe.validate(dims),
            Recipe::SwiGlu | Recipe::Relu2 | Recipe::Mlp | Recipe::Linear => Ok(()),
        }
    }

    /// Returns the layer as a primitive with this symbol.
    fn under(self, symbol: Symbol) -> Arc<dyn Primitive> {
        match self {
            Recipe::Attention(attention) => Arc::new(attention.with_symbol(symbol)),
            Recipe::Mamba2(mamba) => Arc::new(mamba.with_symbol(symbol)),
            Recipe::GatedDeltaNet(net) => Arc::new(net.with_symbol(symbol)),
            Recipe::GatedConv(conv) => Arc::new(conv.with_symbol(symbol)),
            Recipe::SwiGlu => Arc::new(SwiGlu.with_symbol(symbol)),
            Recipe::SizedSwiGlu(sized) => Arc::new(sized.with_symbol(symbol)),
            Recipe::Relu2 => Arc::new(Relu2.with_symbol(symbol)),
            Recipe::Mlp => Arc::new(Mlp.with_symbol(symbol)),
            Recipe::Linear => Arc::new(Linear.with_symbol(symbol)),
            Recipe::Moe(moe) => Arc::new(moe.with_symbol(symbol)),
        }
    }
}

/// Assigns a symbol to every layer: the symbol of the same primitive in the registry if there is one, else the layer's
/// default symbol (which it then replaces in the registry), else an unused one. Returns the sequence and the registry
/// in which the symbols denote these layers.
pub(super) fn named(
    recipes: &[Recipe],
    dims: &Dims,
    primitives: &Primitives,
) -> Result<(Architecture, Primitives), ImportError> {
    if recipes.len() > Architecture::MAX_LAYERS {
        return Err(ImportError::Blocks(format!("{} layers are too many", recipes.len())));
    }
    let letters: Vec<Symbol> = ('A'..='Z').chain('a'..='z').filter_map(|letter| letter.try_into().ok()).collect();
    let too_many = || ImportError::Blocks("there are more kinds of layers than letters".into());
    let mut kinds: Vec<(Recipe, Option<Symbol>)> = Vec::new();
    for recipe in recipes {
        if kinds.iter().all(|(kind, _)| kind != recipe) {
            if kinds.len() == letters.len() {
                return Err(too_many());
            }
            recipe.check(dims)?;
            let id = recipe.primitive().id();
            let known = primitives.iter().find(|primitive| primitive.id() == id).map(Primitive::symbol);
            kinds.push((*recipe, known));
        }
    }
    let mut registry = primitives.clone();
    for at in 0..kinds.len() {
        let (recipe, None) = kinds[at] else { continue };
        let used = |symbol: &Symbol| kinds.iter().any(|(_, taken)| *taken == Some(*symbol));
        let own = Some(recipe.primitive().symbol()).filter(|symbol| !used(symbol));
        let mut free = letters.iter().copied().filter(|symbol| !used(symbol) && registry.get(*symbol).is_err());
        let symbol = own.or_else(|| free.next()).ok_or_else(too_many)?;
        registry = registry.replaced(symbol, recipe.under(symbol));
        kinds[at].1 = Some(symbol);
    }
    let symbol = |recipe: &Recipe| kinds.iter().find(|(kind, _)| kind == recipe).and_then(|(_, symbol)| *symbol);
    Ok((Architecture::new(recipes.iter().filter_map(symbol)), registry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dims::{Dims, Positions};

    #[test]
    fn letters_mean_what_the_registry_says() {
        let plain = Recipe::Attention(CustomAttention::default());
        let nope = Recipe::Attention(CustomAttention { positions: Positions::None, ..CustomAttention::default() });
        let standard = Primitives::standard();
        let dims = Dims::new(8, 12, 2).unwrap();
        let letters = |recipes: &[Recipe]| named(recipes, &dims, &standard).map(|(found, _)| found.letters()).unwrap();
        assert_eq!(letters(&[plain, Recipe::SwiGlu, Recipe::Relu2]), "AMR");
        // A variant that is the only attention takes its letter; beside plain attention it takes an unused one.
        assert_eq!(letters(&[nope, Recipe::SwiGlu]), "AM");
        assert_eq!(letters(&[nope, plain, nope]), "DAD");
        let (_, registry) = named(&[nope, plain], &dims, &standard).unwrap();
        let id = |letter: char| registry.get(letter.try_into().unwrap()).unwrap().id();
        assert_eq!((id('D').as_str(), id('A').as_str()), ("attention_nope", "attention"));
    }
}
