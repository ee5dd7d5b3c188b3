//! Regularised evolution (Real et al. 2019, arXiv 1802.01548, algorithm 1).

use std::collections::HashSet;

use rand::seq::IndexedRandom;

use super::{Proposal, SearchError, Searcher, unknown::Unknown};
use crate::{
    seed::Rng,
    space::Architecture,
    study::{Observation, Study, ranked},
};

/// Regularised (ageing) evolution. The population is the last `population` observations, whatever their values. The
/// parent is the best of `sample` members, drawn with replacement as in the paper. The child differs from the parent by
/// one mutation.
///
/// What the paper leaves open:
/// - The age of an observation is the number of its trial, not the time at which it finished, so the answer is a
///   function of the study.
/// - The first `population` proposals, and all until something is observed, are drawn uniformly, like those of
///   [`RandomSearch`].
/// - A mutation leads to one of [`SearchSpace::neighbors`]. If all of them are known, a known one is mutated in turn,
///   up to as many times as there are layers. After that, the child is drawn uniformly.
/// - With several objectives or bounds, selection is that of NSGA-II (Deb et al. 2002, IEEE Transactions on
///   Evolutionary Computation 6(2)): the population is the best `population` observations, ordered by bounds, fronts
///   and crowding distance, and the parent is the first of the sample in this order.
/// - `sample` may exceed `population`, because draws are with replacement; selection is then greedier.
///
/// [`RandomSearch`]: super::RandomSearch
/// [`SearchSpace::neighbors`]: crate::space::SearchSpace::neighbors
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegularizedEvolution {
    population: usize,
    sample: usize,
}

impl RegularizedEvolution {
    /// Creates a searcher with this size of the population, and this number of candidates for each parent.
    ///
    /// # Errors
    /// [`SearchError::Zero`] if either number is zero.
    pub fn new(population: usize, sample: usize) -> Result<Self, SearchError> {
        let searcher = "regularized_evolution";
        match (population, sample) {
            (0, _) => Err(SearchError::Zero { searcher, setting: "population" }),
            (_, 0) => Err(SearchError::Zero { searcher, setting: "sample" }),
            (population, sample) => Ok(Self { population, sample }),
        }
    }

    /// Returns the first of `sample` draws in the order of NSGA-II, or `None` if the population is empty.
    fn ranked_parent<'a>(&self, study: &'a Study, rng: &mut Rng) -> Option<&'a Architecture> {
        let population = ranked(study, study.observations().collect(), self.population);
        let places: Vec<_> = (0..population.len()).collect();
        let best = (0..self.sample).filter_map(|_| places.choose(rng)).min()?;
        population.get(*best).map(|parent| &parent.trial.architecture)
    }

    /// Returns the best of `sample` draws (the first on ties), or `None` if the population is empty.
    fn parent<'a>(&self, population: &[Observation<'a>], rng: &mut Rng) -> Option<&'a Architecture> {
        (0..self.sample)
            .filter_map(|_| population.choose(rng))
            .reduce(|best, next| if next.value > best.value { next } else { best })
            .map(|parent| &parent.trial.architecture)
    }
}

/// Returns an unknown sequence that is few mutations away from `parent`, or `None` if none is found.
fn child(study: &Study, parent: &Architecture, rng: &mut Rng) -> Option<Architecture> {
    let mut from = parent.clone();
    // Collected once, because every neighbour is looked up.
    let known: HashSet<_> = study.full_length_trials().map(|trial| &trial.architecture).collect();
    for _ in 0..study.space().layers() {
        let near = study.space().neighbors(&from);
        let unknown: Vec<_> = near.iter().filter(|near| !known.contains(near) && study.admits(near)).collect();
        if let Some(&child) = unknown.choose(rng) {
            return Some(child.clone());
        }
        from = near.choose(rng)?.clone();
    }
    None
}

impl Default for RegularizedEvolution {
    /// A population of 20 and samples of 5: the paper's ratio (100 to 25, rounded) at the budgets of this crate.
    fn default() -> Self {
        Self { population: 20, sample: 5 }
    }
}

impl Searcher for RegularizedEvolution {
    fn fingerprint(&self) -> String {
        format!("regularized_evolution(population={}, sample={})", self.population, self.sample)
    }

    fn ask(&mut self, study: &Study, rng: &mut Rng) -> Result<Proposal, SearchError> {
        let observations: Vec<_> = study.observations().collect();
        let population = &observations[observations.len().saturating_sub(self.population)..];
        let parent = match study.full_length_trials().count() < self.population {
            true => None,
            false if study.goal().is_simple() => self.parent(population, rng),
            false => self.ranked_parent(study, rng),
        };
        let child = parent.and_then(|parent| child(study, parent, rng));
        let child = child.or_else(|| Unknown::new(study).draw(rng));
        Ok(child.map_or(Proposal::Finished, Proposal::Evaluate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::Symbol,
        seed::Seed,
        space::SearchSpace,
        study::{Event, Goal, Origin, Report},
    };

    fn tell(study: &mut Study, architecture: Architecture, value: f64) {
        let id = study.next_id();
        study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
        study.apply(Event::Completed { id, report: Report::score("accuracy", value) }).unwrap();
    }

    fn space(layers: usize) -> SearchSpace {
        SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], layers).unwrap()
    }

    #[test]
    fn settings_of_zero_are_refused() {
        for (population, sample, name) in [(0, 5, "population"), (5, 0, "sample"), (0, 0, "population")] {
            let error = RegularizedEvolution::new(population, sample).unwrap_err();
            assert!(matches!(error, SearchError::Zero { setting, .. } if setting == name));
        }
        assert_eq!(RegularizedEvolution::new(20, 5).unwrap(), RegularizedEvolution::default());
        let fingerprint = RegularizedEvolution::new(2, 3).unwrap().fingerprint();
        assert_eq!(fingerprint, "regularized_evolution(population=2, sample=3)");
    }

    #[test]
    fn parents_come_from_the_young_and_children_are_one_mutation_away() {
        let mut study = Study::new(space(8), Goal::default());
        tell(&mut study, "AAAAAAAA".parse().unwrap(), 9.0); // the best, but too old
        tell(&mut study, "MMMMMMMM".parse().unwrap(), 0.2);
        tell(&mut study, "MMMMMMMA".parse().unwrap(), 0.1);
        let mut evolution = RegularizedEvolution::new(2, 64).unwrap();
        for index in 0..20 {
            let proposal = evolution.ask(&study, &mut Seed(3).rng("test", index)).unwrap();
            let Proposal::Evaluate(child) = proposal else { panic!("{proposal:?}") };
            assert_eq!(child.count(Symbol::ATTENTION), 1, "{child} is no mutation of 8M");
        }
    }

    #[test]
    fn where_all_neighbors_are_known_mutations_go_further() {
        let mut study = Study::new(space(6), Goal::default());
        let parent: Architecture = "MMMMMM".parse().unwrap();
        for near in study.space().neighbors(&parent) {
            tell(&mut study, near, 0.1);
        }
        tell(&mut study, parent, 0.9);
        let mut evolution = RegularizedEvolution::new(1, 1).unwrap();
        let Proposal::Evaluate(child) = evolution.ask(&study, &mut Seed(3).rng("test", 0)).unwrap() else { panic!() };
        assert_eq!(child.count(Symbol::ATTENTION), 2);
    }

    #[test]
    fn evolution_climbs_where_random_search_strays() {
        let fitness = |a: &Architecture| a.count(Symbol::ATTENTION) as f64;
        let mut evolution = RegularizedEvolution::default();
        let mut study = Study::new(space(24), Goal::default());
        for index in 0..200 {
            let proposal = evolution.ask(&study, &mut Seed(5).rng("ask", index)).unwrap();
            let Proposal::Evaluate(architecture) = proposal else { panic!("{proposal:?}") };
            let value = fitness(&architecture);
            tell(&mut study, architecture, value);
        }
        // The best of 200 uniform draws from Binomial(24, 1/2) exceeds 21 with probability 200 * 301 / 2^24 < 0.4 %.
        assert!(study.best().unwrap().value >= 22.0);
    }
}
