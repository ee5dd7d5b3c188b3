//! Every sequence once.

use super::{Proposal, SearchError, Searcher, unknown::Unknown};
use crate::{seed::Rng, study::Study};

/// Proposes the first sequence, in the order of [`SearchSpace::nth`](crate::space::SearchSpace::nth), that is not known
/// yet. Draws nothing.
///
/// A proposal takes time proportional to the number of trials, not to the size of the space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exhaustive;

impl Searcher for Exhaustive {
    fn fingerprint(&self) -> String {
        "exhaustive".into()
    }

    fn ask(&mut self, study: &Study, _rng: &mut Rng) -> Result<Proposal, SearchError> {
        Ok(Unknown::new(study).first().map_or(Proposal::Finished, Proposal::Evaluate))
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

    #[test]
    fn the_space_is_walked_in_order_and_gaps_are_filled() {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 3).unwrap();
        let mut study = Study::new(space.clone(), Goal::default());
        let mut rng = Seed(0).rng("test", 0);
        let mut walked = Vec::new();
        while let Proposal::Evaluate(architecture) = Exhaustive.ask(&study, &mut rng).unwrap() {
            walked.push(architecture.clone());
            let id = study.next_id();
            let seed = Seed(0);
            let origin = Origin::Searcher;
            study.apply(Event::Proposed { id, architecture, seed, origin }).unwrap();
            study.apply(Event::Completed { id, report: Report::score("accuracy", 0.5) }).unwrap();
        }
        assert_eq!(walked, space.iter().collect::<Vec<_>>());
        let again = study.trials()[3].clone();
        study.apply(Event::Invalidated { id: again.id, reason: "disk".into() }).unwrap();
        assert_eq!(Exhaustive.ask(&study, &mut rng).unwrap(), Proposal::Evaluate(again.architecture.clone()));
    }
}
