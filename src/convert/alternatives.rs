//! The possible replacements of every layer.

use serde::{Deserialize, Serialize};

use super::ConvertError;
use crate::{
    primitive::Symbol,
    space::{Architecture, Constraint, SearchSpace, SpaceConfig},
};

/// The possible choices for every layer of a parent. The first is always the parent's own layer.
///
/// ```
/// use composer_nas::{convert::Alternatives, prelude::*};
/// // Every attention layer can become a sliding window; layer 6 can also be left out.
/// let alternatives = Alternatives::of(&"AMAMAMAM".parse()?, Symbol::ATTENTION, [Symbol::SLIDING_WINDOW]);
/// let alternatives = alternatives.at(6, [Symbol::NO_LAYER])?;
/// assert_eq!(alternatives.space([])?.size(), 2 * 2 * 2 * 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Alternatives(Vec<Vec<Symbol>>);

impl Alternatives {
    /// Allows each of `choices` in place of every `replaced` layer of the parent. Other layers stay.
    pub fn of(parent: &Architecture, replaced: Symbol, choices: impl IntoIterator<Item = Symbol>) -> Self {
        let choices: Vec<Symbol> = choices.into_iter().collect();
        let layer = |&own: &Symbol| {
            let mut all = vec![own];
            if own == replaced {
                all.extend(choices.iter().filter(|&&choice| choice != own));
            }
            all
        };
        Self(parent.layers().iter().map(layer).collect())
    }

    /// Adds choices for one layer, counted from 0.
    ///
    /// # Errors
    /// [`ConvertError::NoSuchLayer`] if the parent does not have this layer.
    pub fn at(mut self, layer: usize, choices: impl IntoIterator<Item = Symbol>) -> Result<Self, ConvertError> {
        let layers = self.0.len();
        let known = self.0.get_mut(layer).ok_or(ConvertError::NoSuchLayer { layer, layers })?;
        for choice in choices {
            if !known.contains(&choice) {
                known.push(choice);
            }
        }
        Ok(self)
    }

    /// Returns the architecture of the parent.
    pub fn parent(&self) -> Architecture {
        Architecture::new(self.0.iter().filter_map(|choices| choices.first().copied()))
    }

    /// Returns the index and the alternatives of every layer that can be replaced.
    pub(crate) fn replacements(&self) -> impl Iterator<Item = (usize, &[Symbol])> {
        let layers = self.0.iter().enumerate().map(|(layer, choices)| (layer, choices.get(1..).unwrap_or_default()));
        layers.filter(|(_, others)| !others.is_empty())
    }

    /// Returns the parent with one layer replaced, for every layer and alternative.
    pub(crate) fn single_replacements(&self) -> Vec<Architecture> {
        let replaced = self.replacements().flat_map(|(layer, others)| others.iter().map(move |&other| (layer, other)));
        replaced.map(|(layer, other)| with(&self.parent(), layer, other)).collect()
    }

    /// Returns the space of these architectures under `constraints`, for example one of
    /// [`cost::Budget`](crate::cost::Budget). For a budget of measured times, use [`Constraint::Budget`] with
    /// nanoseconds per layer.
    ///
    /// # Errors
    /// [`ConvertError::Budget`], with the smallest possible cost, if no architecture is within a budget.
    pub fn space(&self, constraints: impl IntoIterator<Item = Constraint>) -> Result<SearchSpace, ConvertError> {
        let constraints: Vec<Constraint> = constraints.into_iter().collect();
        constraints.iter().try_for_each(|constraint| self.reachable(constraint))?;
        Ok(SearchSpace::new(SpaceConfig { layers: self.0.clone(), constraints })?)
    }

    fn reachable(&self, constraint: &Constraint) -> Result<(), ConvertError> {
        let Constraint::Budget { what, costs, max } = constraint else { return Ok(()) };
        let cheapest = |choices: &Vec<Symbol>| choices.iter().filter_map(|symbol| costs.get(symbol)).min().copied();
        let least = self.0.iter().filter_map(cheapest).fold(0, u64::saturating_add);
        let error = || ConvertError::Budget { what: what.clone(), max: *max, least };
        if least <= *max { Ok(()) } else { Err(error()) }
    }
}

/// Returns the architecture with another layer at this index.
pub(super) fn with(architecture: &Architecture, layer: usize, symbol: Symbol) -> Architecture {
    let mut layers = architecture.layers().to_vec();
    if let Some(place) = layers.get_mut(layer) {
        *place = symbol;
    }
    Architecture::new(layers)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_budget_out_of_reach_names_the_least() {
        let [a, s, m] = [Symbol::ATTENTION, Symbol::SLIDING_WINDOW, Symbol::SWIGLU];
        let alternatives = Alternatives::of(&"AMAM".parse().unwrap(), a, [s]);
        let costs = BTreeMap::from([(a, 10), (s, 3), (m, 0)]);
        let budget = |max| Constraint::Budget { what: "bytes".into(), costs: costs.clone(), max };
        assert_eq!(alternatives.space([budget(13)]).unwrap().size(), 3);
        let error = alternatives.space([budget(5)]).unwrap_err().to_string();
        assert!(error.contains("the least is 6") && error.contains("at most 5 of bytes"), "{error}");
        assert!(alternatives.clone().at(4, [s]).unwrap_err().to_string().contains("the parent has 4"));
        let singles: Vec<_> = alternatives.single_replacements().iter().map(Architecture::letters).collect();
        assert_eq!(singles, ["SMAM", "AMSM"]);
    }
}
