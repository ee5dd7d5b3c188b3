//! Hill climbing, the baseline that is hard to beat on small spaces (White, Nolen and Savani 2020, arXiv 2005.02960).

use std::collections::HashSet;

use rand::seq::IndexedRandom;

use super::{Proposal, SearchError, Searcher, unknown::Unknown};
use crate::{
    seed::Rng,
    space::Architecture,
    study::{Study, ranked},
};

/// Hill climbing: proposes a [neighbour] of the best observation that is not known yet, drawn uniformly. If all
/// neighbours are known, the next best observation takes its place. The search therefore leaves a local optimum by
/// climbing from the best observation that still has unknown neighbours.
///
/// The first `initial` proposals are drawn uniformly, like those of [`RandomSearch`], and so are all proposals while
/// nothing is observed or no observation has unknown neighbours. With several objectives or bounds, observations come
/// in the order of NSGA-II, by bounds, fronts and crowding distance (a Pareto local search, Paquete et al. 2004). On
/// ties, the earliest observation comes first. A proposal draws once from the generator.
///
/// [neighbour]: crate::space::SearchSpace::neighbors
/// [`RandomSearch`]: super::RandomSearch
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalSearch {
    initial: usize,
}

impl LocalSearch {
    /// Creates a searcher that starts with `initial` random proposals.
    ///
    /// # Errors
    /// [`SearchError::Zero`] if `initial` is zero.
    pub fn new(initial: usize) -> Result<Self, SearchError> {
        match initial {
            0 => Err(SearchError::Zero { searcher: "local_search", setting: "initial" }),
            initial => Ok(Self { initial }),
        }
    }
}

impl Default for LocalSearch {
    /// Starts with 10 random proposals.
    fn default() -> Self {
        Self { initial: 10 }
    }
}

/// Returns an unknown neighbour of the best observation that has one.
fn uphill(study: &Study, rng: &mut Rng) -> Option<Architecture> {
    let from = ranked(study, study.observations().collect(), usize::MAX);
    // Collected once, because all neighbours of every exhausted observation are looked up.
    let known: HashSet<_> = study.full_length_trials().map(|trial| &trial.architecture).collect();
    from.iter().find_map(|seen| {
        let near = study.space().neighbors(&seen.trial.architecture);
        let unknown: Vec<_> = near.into_iter().filter(|near| !known.contains(near) && study.admits(near)).collect();
        unknown.choose(rng).cloned()
    })
}

impl Searcher for LocalSearch {
    fn fingerprint(&self) -> String {
        format!("local_search(initial={})", self.initial)
    }

    fn ask(&mut self, study: &Study, rng: &mut Rng) -> Result<Proposal, SearchError> {
        let climbing = study.full_length_trials().count() >= self.initial;
        let next = if climbing { uphill(study, rng) } else { None };
        let next = next.or_else(|| Unknown::new(study).draw(rng));
        Ok(next.map_or(Proposal::Finished, Proposal::Evaluate))
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

    const A: Symbol = Symbol::ATTENTION;

    fn study(layers: usize, seen: &[(&str, f64)]) -> Study {
        let mut study = Study::new(SearchSpace::uniform([A, Symbol::SWIGLU], layers).unwrap(), Goal::default());
        seen.iter().for_each(|&(text, value)| tell(&mut study, text.parse().unwrap(), value));
        study
    }

    fn tell(study: &mut Study, architecture: Architecture, value: f64) {
        let id = study.next_id();
        study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
        study.apply(Event::Completed { id, report: Report::score("accuracy", value) }).unwrap();
    }

    fn ask(study: &Study, index: u64) -> Architecture {
        let answer = LocalSearch::new(1).unwrap().ask(study, &mut Seed(3).rng("test", index)).unwrap();
        let Proposal::Evaluate(architecture) = answer else { panic!("{answer:?}") };
        architecture
    }

    #[test]
    fn proposals_lie_around_the_best_then_around_the_next_best() {
        let mut study = study(3, &[("MMM", 0.5), ("AAA", 0.9)]);
        for left in (1..=3).rev() {
            let drawn: std::collections::BTreeSet<_> = (0..50).map(|index| ask(&study, index)).collect();
            assert_eq!(drawn.len(), left);
            assert!(drawn.iter().all(|near| near.count(A) == 2), "{drawn:?}");
            tell(&mut study, drawn.into_iter().next().unwrap(), 0.1);
        }
        // Around AAA everything is known.
        assert_eq!(ask(&study, 0).count(A), 1);
    }

    #[test]
    fn hills_are_climbed_to_the_top() {
        let mut study = study(16, &[]);
        for index in 0..130 {
            let architecture = ask(&study, index);
            let value = architecture.count(A) as f64;
            tell(&mut study, architecture, value);
        }
        assert_eq!(study.best().unwrap().value, 16.0);
    }

    #[test]
    fn settings_are_checked_and_named() {
        assert!(matches!(LocalSearch::new(0), Err(SearchError::Zero { setting: "initial", .. })));
        assert_eq!(LocalSearch::default(), LocalSearch::new(10).unwrap());
        assert_eq!(LocalSearch::default().fingerprint(), "local_search(initial=10)");
    }
}
