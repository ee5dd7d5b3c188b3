//! The sequences of a space that a study does not know yet.

use rand::RngExt;

use super::within::descend;
use crate::{
    seed::Rng,
    space::{Architecture, SearchSpace},
    study::Study,
};

/// Spaces of at most this many sequences are checked completely against bounds on known costs.
const ENUMERATED: u128 = 4096;

/// Number of draws from a larger space before a sequence within its bounds is searched by descent.
const TRIES: usize = 4096;

/// Number of draws from which descents start.
const DESCENTS: usize = 16;

/// The unknown sequences, numbered from zero in the order of the space.
///
/// They are counted and drawn exactly in a space of any size. An unknown sequence is found by its rank among the
/// unknown ones, by skipping the numbers of the known ones.
pub(super) struct Unknown<'a> {
    space: &'a SearchSpace,
    /// The study whose bounds on known costs are checked for each draw. `None` if there are no bounds, or if the
    /// sequences that they exclude are counted as known.
    bounds: Option<&'a Study>,
    /// Numbers of the known sequences, ascending.
    known: Vec<u128>,
}

impl<'a> Unknown<'a> {
    /// Creates the set of sequences that [`Study::knows`] does not contain and that satisfy the bounds on known costs.
    /// In a large space, the bounds are applied by rejection; [`count`](Self::count) and [`nth`](Self::nth) then ignore
    /// them.
    pub(super) fn new(study: &'a Study) -> Self {
        let known = study.full_length_trials().map(|trial| trial.architecture.clone());
        let space = study.space();
        match study.is_selective() {
            true if space.size() <= ENUMERATED => {
                let forbidden = space.iter().filter(|sequence| !study.admits(sequence));
                Self::except(space, &known.chain(forbidden).collect::<Vec<_>>())
            }
            bounded => {
                let unknown = Self::except(space, study.full_length_trials().map(|trial| &trial.architecture));
                Self { bounds: bounded.then_some(study), ..unknown }
            }
        }
    }

    /// Creates the set of all sequences but `known`, which may contain duplicates and sequences outside the space.
    pub(super) fn except<'b>(space: &'a SearchSpace, known: impl IntoIterator<Item = &'b Architecture>) -> Self {
        let mut known: Vec<_> = known.into_iter().filter_map(|known| space.index_of(known)).collect();
        known.sort_unstable();
        known.dedup();
        Self { space, bounds: None, known }
    }

    /// Returns the number of unknown sequences.
    pub(super) fn count(&self) -> u128 {
        self.space.size() - self.known.len() as u128
    }

    /// Returns the unknown sequence of this rank, or `None` beyond the last.
    pub(super) fn nth(&self, rank: u128) -> Option<Architecture> {
        if rank >= self.count() {
            return None;
        }
        let skipped = self.known.iter().zip(0u128..).take_while(|&(&known, before)| known - before <= rank).count();
        self.space.nth(rank + skipped as u128)
    }

    /// Returns the first unknown sequence within the bounds, in the order of the space.
    pub(super) fn first(&self) -> Option<Architecture> {
        let mut all = (0..self.count()).map_while(|rank| self.nth(rank));
        match self.bounds {
            Some(study) => all.find(|sequence| study.admits(sequence)),
            None => all.next(),
        }
    }

    /// Returns an unknown sequence, drawn uniformly, or `None` if there is none. If hardly any sequence is within the
    /// bounds, it returns one found by descent towards them.
    pub(super) fn draw(&self, rng: &mut Rng) -> Option<Architecture> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let Some(study) = self.bounds else { return self.nth(rng.random_range(0..count)) };
        let mut draws = std::iter::repeat_with(|| self.nth(rng.random_range(0..count))).map_while(|drawn| drawn);
        let drawn = draws.by_ref().take(TRIES).find(|sequence| study.admits(sequence));
        let reached = |from| Some(descend(study, from)).filter(|(excess, _)| *excess <= 0.0).map(|(_, to)| to);
        drawn.or_else(|| draws.take(DESCENTS).filter_map(reached).find(|sequence| !study.knows(sequence)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        primitive::Symbol,
        seed::Seed,
        study::{Event, Goal, Origin},
    };

    fn study(known: &[u128]) -> Study {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4).unwrap();
        let space = space.max_run(Symbol::ATTENTION, 2).unwrap();
        let mut study = Study::new(space.clone(), Goal::default());
        for architecture in known.iter().filter_map(|&index| space.nth(index)) {
            let event = Event::Proposed { id: study.next_id(), architecture, seed: Seed(0), origin: Origin::Manual };
            study.apply(event).unwrap();
        }
        study
    }

    proptest! {
        #[test]
        fn ranks_agree_with_filtering(known in proptest::collection::vec(0u128..13, 0..40)) {
            let study = study(&known);
            let unknown = Unknown::new(&study);
            let expected: Vec<_> = study.space().iter().filter(|a| !study.knows(a)).collect();
            prop_assert_eq!(unknown.count(), expected.len() as u128);
            let ranked: Vec<_> = (0..13).map_while(|rank| unknown.nth(rank)).collect();
            prop_assert_eq!(ranked, expected);
        }
    }

    #[test]
    fn nothing_is_left_of_a_space_that_is_known() {
        let study = study(&(0..13).collect::<Vec<_>>());
        assert_eq!(study.space().size(), 13);
        assert_eq!(Unknown::new(&study).draw(&mut Seed(0).rng("test", 0)), None);
    }

    #[test]
    fn the_largest_spaces_are_drawn_from_exactly() {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 127).unwrap();
        let mut study = Study::new(space.clone(), Goal::default());
        for index in [space.size() - 1, 0] {
            let id = study.next_id();
            let architecture = space.nth(index).unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Manual }).unwrap();
        }
        let unknown = Unknown::new(&study);
        assert_eq!(unknown.nth(0), space.nth(1));
        assert_eq!(unknown.nth(unknown.count() - 1), space.nth(space.size() - 2));
        assert_eq!(unknown.nth(unknown.count()), None);
    }
}
