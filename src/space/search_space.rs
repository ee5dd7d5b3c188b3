//! The set of sequences that a search may propose.

use std::fmt;

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{
    Architecture, Constraint, SpaceConfig, SpaceError,
    automaton::{Automaton, State},
};
use crate::{limits::MAX_LAYERS, primitive::Symbol, seed::Rng};

/// Returns an error if there are more than [`MAX_LAYERS`] layers.
fn check_layers(layers: usize) -> Result<(), SpaceError> {
    if layers > MAX_LAYERS { Err(SpaceError::TooManyLayers(layers)) } else { Ok(()) }
}

/// A search space: a non-empty set of layer sequences of equal length.
///
/// The sequences are numbered from zero in lexicographic order, given by the order of each layer's choices.
///
/// ```
/// use composer_nas::prelude::*;
/// let a = Symbol::ATTENTION;
/// let m = Symbol::SWIGLU;
/// let space = SearchSpace::uniform([a, m], 6)?.pin(0, a)?.count(a, 1..=2)?;
/// assert_eq!(space.size(), 6);
/// assert!(space.contains(&"2A+4M".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "SpaceConfig", into = "SpaceConfig")]
pub struct SearchSpace {
    config: SpaceConfig,
    /// The number of sequences that complete a prefix, by its state.
    automaton: Automaton,
}

impl SearchSpace {
    /// Creates a space of `layers` layers that all have the same choices, without constraints.
    ///
    /// # Errors
    /// Returns [`SpaceError`] if there are no layers or no choices, if a choice appears twice, or if there are too many
    /// layers.
    pub fn uniform(choices: impl IntoIterator<Item = Symbol>, layers: usize) -> Result<Self, SpaceError> {
        let choices: Vec<_> = choices.into_iter().collect();
        check_layers(layers)?;
        Self::new(SpaceConfig { layers: vec![choices; layers], constraints: Vec::new() })
    }

    /// Validates a description and counts its sequences.
    ///
    /// # Errors
    /// Returns [`SpaceError`] if the description is invalid, if no sequence satisfies it, or if it is too large to
    /// count.
    pub fn new(config: SpaceConfig) -> Result<Self, SpaceError> {
        if config.layers.is_empty() {
            return Err(SpaceError::NoLayers);
        }
        check_layers(config.layers.len())?;
        for (layer, choices) in config.layers.iter().enumerate() {
            if choices.is_empty() {
                return Err(SpaceError::NoChoices { layer });
            }
            if let Some(&symbol) = choices.iter().enumerate().find(|(at, s)| choices[..*at].contains(s)).map(|(_, s)| s)
            {
                return Err(SpaceError::DuplicateChoice { layer, symbol });
            }
        }
        for constraint in &config.constraints {
            if let Constraint::Budget { what, costs, .. } = constraint
                && let Some(&symbol) = config.layers.iter().flatten().find(|symbol| !costs.contains_key(symbol))
            {
                return Err(SpaceError::NoCost { symbol, what: what.clone() });
            }
        }
        let automaton = Automaton::new(&config)?;
        let space = Self { config, automaton };
        if space.size() == 0 { Err(SpaceError::Contradiction(space.config)) } else { Ok(space) }
    }

    /// Restricts layer `layer` (counted from zero) to `symbol`.
    ///
    /// # Errors
    /// Returns [`SpaceError`] if there is no such layer, if `symbol` is not among its choices, or if no sequence
    /// remains.
    pub fn pin(self, layer: usize, symbol: Symbol) -> Result<Self, SpaceError> {
        let mut config = self.config;
        let layers = config.layers.len();
        match config.layers.get_mut(layer) {
            Some(choices) if choices.contains(&symbol) => *choices = vec![symbol],
            Some(_) => return Err(SpaceError::NotAChoice { layer, symbol }),
            None => return Err(SpaceError::NoSuchLayer { layer, layers }),
        }
        Self::new(config)
    }

    /// Restricts the number of `symbol` layers to `range`.
    ///
    /// # Errors
    /// Returns [`SpaceError::Contradiction`] if no sequence remains.
    pub fn count(self, symbol: Symbol, range: std::ops::RangeInclusive<usize>) -> Result<Self, SpaceError> {
        self.with(Constraint::Count { symbol, min: *range.start(), max: *range.end() })
    }

    /// Restricts runs of consecutive `symbol` layers to at most `max` layers.
    ///
    /// # Errors
    /// Returns [`SpaceError::Contradiction`] if no sequence remains.
    pub fn max_run(self, symbol: Symbol, max: usize) -> Result<Self, SpaceError> {
        self.with(Constraint::MaxRun { symbol, max })
    }

    /// Adds a constraint.
    ///
    /// # Errors
    /// Returns [`SpaceError`] if no sequence remains, if a budget has no cost for one of the choices, or if the
    /// constraints need too many states to count.
    pub fn with(mut self, constraint: Constraint) -> Result<Self, SpaceError> {
        self.config.constraints.push(constraint);
        Self::new(self.config)
    }

    /// Returns the plain description of this space.
    pub fn config(&self) -> &SpaceConfig {
        &self.config
    }

    /// Returns the number of layers of every sequence.
    pub fn layers(&self) -> usize {
        self.config.layers.len()
    }

    /// Returns the choices of layer `layer` (counted from zero), or an empty slice beyond the last layer.
    pub fn choices(&self, layer: usize) -> &[Symbol] {
        self.config.layers.get(layer).map_or(&[], Vec::as_slice)
    }

    /// Returns every symbol among the choices of any layer, in order of first appearance.
    pub fn symbols(&self) -> Vec<Symbol> {
        let mut symbols = Vec::new();
        for &symbol in self.config.layers.iter().flatten() {
            if !symbols.contains(&symbol) {
                symbols.push(symbol);
            }
        }
        symbols
    }

    /// Returns the exact number of sequences, which is at least one.
    pub fn size(&self) -> u128 {
        self.automaton.completions(0, Automaton::START)
    }

    /// Returns the sequence with number `index`, or `None` if `index` is not below [`size`](Self::size).
    pub fn nth(&self, mut index: u128) -> Option<Architecture> {
        if index >= self.size() {
            return None;
        }
        let mut state = Automaton::START;
        let mut layers = Vec::with_capacity(self.layers());
        for (layer, choices) in self.config.layers.iter().enumerate() {
            for (choice, &symbol) in choices.iter().enumerate() {
                let Some(next) = self.automaton.step(layer, state, choice) else { continue };
                let completions = self.automaton.completions(layer + 1, next);
                if index < completions {
                    layers.push(symbol);
                    state = next;
                    break;
                }
                index -= completions;
            }
        }
        Some(Architecture::new(layers))
    }

    /// Returns the number of a sequence, the inverse of [`nth`](Self::nth), or `None` if it is not in the space.
    pub fn index_of(&self, architecture: &Architecture) -> Option<u128> {
        if architecture.len() != self.layers() {
            return None;
        }
        let mut state = Automaton::START;
        let mut index = 0;
        for (layer, symbol) in architecture.layers().iter().enumerate() {
            let chosen = self.choices(layer).iter().position(|choice| choice == symbol)?;
            let before = (0..chosen).filter_map(|choice| self.automaton.step(layer, state, choice));
            index += before.map(|next| self.automaton.completions(layer + 1, next)).sum::<u128>();
            state = self.automaton.step(layer, state, chosen)?;
        }
        (self.automaton.completions(self.layers(), state) > 0).then_some(index)
    }

    /// Returns the choices for the layer after `prefix` that lead to at least one sequence of the space, in order.
    ///
    /// The result is empty if the prefix is already complete or cannot be completed.
    pub fn next_choices(&self, prefix: &[Symbol]) -> Vec<Symbol> {
        let Some(state) = self.state(prefix) else { return Vec::new() };
        let choices = self.choices(prefix.len()).iter().enumerate();
        let completable = |choice| {
            let next = self.automaton.step(prefix.len(), state, choice);
            next.is_some_and(|next| self.automaton.completions(prefix.len() + 1, next) > 0)
        };
        choices.filter(|&(choice, _)| completable(choice)).map(|(_, &symbol)| symbol).collect()
    }

    /// Iterates over all sequences, in order.
    pub fn iter(&self) -> impl Iterator<Item = Architecture> {
        (0..self.size()).map_while(|index| self.nth(index))
    }

    /// Draws a sequence uniformly at random.
    pub fn sample(&self, rng: &mut Rng) -> Architecture {
        self.nth(rng.random_range(0..self.size())).unwrap_or_default()
    }

    /// Returns whether the space contains the sequence.
    pub fn contains(&self, architecture: &Architecture) -> bool {
        let accepted = |state| self.automaton.completions(self.layers(), state) > 0;
        architecture.len() == self.layers() && self.state(architecture.layers()).is_some_and(accepted)
    }

    /// Returns whether this is a partial architecture of the space, as incremental strategies evaluate: not empty,
    /// shorter than the sequences of the space, and made of its symbols.
    ///
    /// Constraints apply to complete sequences only and are ignored here.
    pub fn is_part(&self, architecture: &Architecture) -> bool {
        let known = |symbol: &Symbol| self.config.layers.iter().any(|choices| choices.contains(symbol));
        (1..self.layers()).contains(&architecture.len()) && architecture.layers().iter().all(known)
    }

    /// Returns the sequences of the space that differ from `architecture` in exactly one layer, in a fixed order.
    ///
    /// If the constraints leave no such sequence, returns those in which two layers are swapped.
    pub fn neighbors(&self, architecture: &Architecture) -> Vec<Architecture> {
        let layers = architecture.layers();
        let changed = |at: usize, symbol: Symbol| {
            Architecture::new(layers.iter().enumerate().map(|(i, &old)| if i == at { symbol } else { old }))
        };
        let near: Vec<_> = (0..layers.len())
            .flat_map(|at| self.choices(at).iter().filter(move |&&s| s != layers[at]).map(move |&s| changed(at, s)))
            .filter(|near| self.contains(near))
            .collect();
        if !near.is_empty() {
            return near;
        }
        let exchanged = |i: usize, j: usize| {
            let mut layers = layers.to_vec();
            layers.swap(i, j);
            Architecture::new(layers)
        };
        (0..layers.len())
            .flat_map(|i| (i + 1..layers.len()).map(move |j| (i, j)))
            .filter(|&(i, j)| layers[i] != layers[j])
            .map(|(i, j)| exchanged(i, j))
            .filter(|near| self.contains(near))
            .collect()
    }

    /// Returns the state after a prefix, or `None` if it violates a constraint or has a symbol that is not a choice.
    fn state(&self, prefix: &[Symbol]) -> Option<State> {
        prefix.iter().enumerate().try_fold(Automaton::START, |state, (layer, symbol)| {
            let choice = self.choices(layer).iter().position(|choice| choice == symbol)?;
            self.automaton.step(layer, state, choice)
        })
    }
}

impl PartialEq for SearchSpace {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
    }
}

impl fmt::Debug for SearchSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl TryFrom<SpaceConfig> for SearchSpace {
    type Error = SpaceError;
    fn try_from(config: SpaceConfig) -> Result<Self, SpaceError> {
        Self::new(config)
    }
}

impl From<SearchSpace> for SpaceConfig {
    fn from(space: SearchSpace) -> SpaceConfig {
        space.config
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::seed::Seed;

    const A: Symbol = Symbol::ATTENTION;
    const M: Symbol = Symbol::SWIGLU;
    const F: Symbol = Symbol::MLP;

    #[test]
    fn spaces_that_cannot_be_searched_are_refused() {
        assert_eq!(SearchSpace::uniform([A, M], 0), Err(SpaceError::NoLayers));
        assert_eq!(SearchSpace::uniform([], 3), Err(SpaceError::NoChoices { layer: 0 }));
        assert_eq!(SearchSpace::uniform([A, A], 3), Err(SpaceError::DuplicateChoice { layer: 0, symbol: A }));
        assert_eq!(SearchSpace::uniform([A, M], 200), Err(SpaceError::TooLarge));
        let space = SearchSpace::uniform([A, M], 4).unwrap();
        assert_eq!(space.clone().pin(4, A), Err(SpaceError::NoSuchLayer { layer: 4, layers: 4 }));
        assert_eq!(space.clone().pin(0, F), Err(SpaceError::NotAChoice { layer: 0, symbol: F }));
        assert!(matches!(space.clone().count(A, 5..=9), Err(SpaceError::Contradiction(_))));
        let tight = space.max_run(A, 1).unwrap();
        assert!(matches!(tight.count(A, 3..=4), Err(SpaceError::Contradiction(_))));
    }

    #[test]
    fn sizes_are_exact() {
        assert_eq!(SearchSpace::uniform([A, M], 6).unwrap().size(), 64);
        assert_eq!(SearchSpace::uniform([A, M, F], 32).unwrap().size(), 3u128.pow(32));
        // Binary strings of length 16 without two adjacent ones: Fibonacci(18).
        assert_eq!(SearchSpace::uniform([A, M], 16).unwrap().max_run(A, 1).unwrap().size(), 2584);
        // C(16, 5)
        assert_eq!(SearchSpace::uniform([A, M], 16).unwrap().count(A, 5..=5).unwrap().size(), 4368);
    }

    #[test]
    fn files_are_checked_like_code() {
        let space = SearchSpace::uniform([A, M], 3).unwrap().count(A, 1..=2).unwrap();
        let text = serde_json::to_string(&space).unwrap();
        assert_eq!(serde_json::from_str::<SearchSpace>(&text).unwrap(), space);
        let impossible = text.replace("\"min\":1", "\"min\":2").replace("\"max\":2", "\"max\":1");
        assert!(serde_json::from_str::<SearchSpace>(&impossible).unwrap_err().to_string().contains("relax"));
        assert!(serde_json::from_str::<SearchSpace>(&text.replace("layers", "slots")).is_err());
    }

    fn budget(costs: [u64; 3], max: u64) -> Constraint {
        Constraint::Budget { what: "points".into(), costs: [A, M, F].into_iter().zip(costs).collect(), max }
    }

    #[test]
    fn budgets_bound_the_sum_of_the_layers() {
        let free = SearchSpace::uniform([A, M, F], 32).unwrap();
        // At most 3 layers of attention: sum over k of C(32, k) 2^(32 - k).
        let few = free.clone().with(budget([1, 0, 0], 3)).unwrap();
        assert_eq!(few, SearchSpace::new(few.config().clone()).unwrap());
        assert_eq!(few.size(), (1 << 32) + 32 * (1 << 31) + 496 * (1 << 30) + 4960 * (1 << 29));
        assert!(free.clone().with(budget([u64::MAX; 3], u64::MAX)).unwrap_err().to_string().contains("relax"));
        assert_eq!(free.clone().with(budget([u64::MAX, 0, 1], u64::MAX)).unwrap().size(), (1 << 32) + 32);

        let text = serde_json::to_string(&few).unwrap();
        assert!(text.contains(r#"{"budget":{"what":"points","costs":{"A":1,"F":0,"M":0},"max":3}}"#), "{text}");
        assert_eq!(serde_json::from_str::<SearchSpace>(&text).unwrap(), few);
        let error = serde_json::from_str::<SearchSpace>(&text.replace(r#","M":0"#, "")).unwrap_err().to_string();
        assert!(error.contains("no cost for M") && error.contains("points"), "{error}");
        // Every sum of 40 different powers is a separate state.
        let symbols: Vec<Symbol> = ('a'..='z').chain('A'..='N').map(|c| Symbol::try_from(c).unwrap()).collect();
        let costs = symbols.iter().enumerate().map(|(at, &symbol)| (symbol, 1 << at)).collect();
        let all = SearchSpace::uniform(symbols, 12).unwrap();
        let wild = Constraint::Budget { what: "points".into(), costs, max: u64::MAX };
        assert_eq!(all.with(wild), Err(SpaceError::TooComplex));
    }

    #[test]
    fn neighbors_keep_exact_counts_by_exchange() {
        let space = SearchSpace::uniform([A, M], 4).unwrap().count(A, 2..=2).unwrap();
        let near = space.neighbors(&"AAMM".parse().unwrap());
        assert_eq!(near.len(), 4);
        assert!(near.iter().all(|near| space.contains(near)));
    }

    fn spaces() -> impl Strategy<Value = Option<SearchSpace>> {
        let numbers = (1usize..7, 0usize..4, 0usize..7, 1usize..4);
        let budgets = (any::<[bool; 4]>(), any::<[u8; 3]>(), 0u64..1000);
        (numbers, budgets).prop_map(|((layers, min, width, run), (on, costs, max))| {
            let mut config = SpaceConfig { layers: vec![vec![A, M, F]; layers], constraints: Vec::new() };
            if on[0] {
                config.constraints.push(Constraint::Count { symbol: A, min, max: min + width });
            }
            if on[1] {
                config.constraints.push(Constraint::MaxRun { symbol: M, max: run });
            }
            if on[2] {
                config.constraints.push(Constraint::Count { symbol: F, min, max: usize::MAX });
            }
            if on[3] {
                config.constraints.push(budget(costs.map(u64::from), max));
            }
            SearchSpace::new(config).ok()
        })
    }

    proptest! {
        #[test]
        fn numbering_agrees_with_brute_force(space in spaces()) {
            let Some(space) = space else { return Ok(()) };
            let free = SearchSpace::uniform([A, M, F], space.layers()).unwrap();
            let allowed: Vec<_> = free.iter().filter(|a| space.contains(a)).collect();
            let within = |a: &Architecture| space.config().constraints.iter().all(|constraint| match constraint {
                &Constraint::Count { symbol, min, max } => (min..=max).contains(&a.count(symbol)),
                &Constraint::MaxRun { symbol, max } => a.runs().all(|(kind, length)| kind != symbol || length <= max),
                Constraint::Budget { costs, max, .. } => a.layers().iter().map(|layer| costs[layer]).sum::<u64>() <= *max,
            });
            prop_assert_eq!(&free.iter().filter(within).collect::<Vec<_>>(), &allowed);
            prop_assert_eq!(free.size(), 3u128.pow(space.layers() as u32));
            prop_assert_eq!(&space.iter().collect::<Vec<_>>(), &allowed);
            prop_assert!(space.nth(space.size()).is_none());
            for a in free.iter() {
                let index = allowed.iter().position(|allowed| *allowed == a).map(|index| index as u128);
                prop_assert_eq!(space.index_of(&a), index);
            }
        }

        #[test]
        fn next_choices_agree_with_brute_force(space in spaces(), length in 0usize..8) {
            let Some(space) = space else { return Ok(()) };
            let Ok(prefixes) = SearchSpace::uniform([A, M, F], length.clamp(1, space.layers() + 1)) else { return Ok(()) };
            let all: Vec<_> = space.iter().collect();
            for prefix in prefixes.iter().map(|p| p.layers()[..length.min(p.len())].to_vec()) {
                let follows = |s: Symbol| {
                    all.iter().any(|a| a.layers().starts_with(&prefix) && a.layers().get(prefix.len()) == Some(&s))
                };
                let expected: Vec<_> = [A, M, F].into_iter().filter(|&s| follows(s)).collect();
                prop_assert_eq!(space.next_choices(&prefix), expected);
            }
        }

        #[test]
        fn samples_and_neighbors_lie_in_the_space(space in spaces(), seed: u64) {
            let Some(space) = space else { return Ok(()) };
            let sample = space.sample(&mut Seed(seed).rng("test", 0));
            prop_assert!(space.contains(&sample));
            for near in space.neighbors(&sample) {
                prop_assert!(space.contains(&near) && near != sample);
            }
        }
    }

    #[test]
    fn sampling_is_uniform_under_constraints() {
        let space = SearchSpace::uniform([A, M], 5).unwrap().max_run(A, 2).unwrap();
        let mut rng = Seed(1).rng("test", 0);
        let mut counts = HashMap::new();
        let draws = 20_000;
        for _ in 0..draws {
            *counts.entry(space.sample(&mut rng)).or_insert(0.0) += 1.0;
        }
        let expected = draws as f64 / space.size() as f64;
        let chi2: f64 = counts.values().map(|n: &f64| (n - expected).powi(2) / expected).sum();
        assert_eq!(counts.len() as u128, space.size());
        // 23 degrees of freedom: the 99.99 % quantile is 55.
        assert!(chi2 < 55.0, "{chi2}");
    }
}
