//! Simple rules that score a layout by its symbols alone, as baselines for a proxy.

use crate::{primitive::Symbol, space::Architecture};

/// A score of a layout, higher if the rule prefers it.
pub(crate) type Rule = fn(&Architecture) -> f64;

/// All rules, with their names.
pub const ALL: [(&str, Rule); 4] = [
    ("number of attention layers", attention_layers),
    ("place of the first attention", first_attention),
    ("depth", depth),
    ("not attention first, then more of it", hindsight),
];

/// Returns the number of full attention layers.
pub(crate) fn attention_layers(layout: &Architecture) -> f64 {
    layout.count(Symbol::ATTENTION) as f64
}

/// Returns the number of layers before the first full attention; the number of all layers if there is none.
pub(crate) fn first_attention(layout: &Architecture) -> f64 {
    let place = layout.layers().iter().position(|&layer| layer == Symbol::ATTENTION);
    place.unwrap_or(layout.len()) as f64
}

/// Returns the number of layers.
pub(crate) fn depth(layout: &Architecture) -> f64 {
    layout.len() as f64
}

/// A rule derived from the published comparisons themselves, so known only in hindsight: a layout that begins with
/// attention is worse than any other; among the others, more attention is better.
pub(crate) fn hindsight(layout: &Architecture) -> f64 {
    let begins_with_attention = layout.layers().first() == Some(&Symbol::ATTENTION);
    attention_layers(layout) - if begins_with_attention { f64::from(u16::MAX) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_prefer_what_they_say() {
        let score = |layout: &str| ALL.map(|(_, rule)| rule(&layout.parse().unwrap()));
        assert_eq!(score("BMAMA"), [2.0, 2.0, 5.0, 2.0]);
        assert_eq!(score("BM"), [0.0, 2.0, 2.0, 0.0]);
        let front = score("AMA");
        assert!(front[..3] == [2.0, 0.0, 3.0] && front[3] < score("BM")[3]);
    }
}
