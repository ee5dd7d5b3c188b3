//! Repetitions as one observation.

use super::{AggregateError, Aggregator};
use crate::{space::Architecture, study::Study};

/// Applies the aggregator `A` to the [pooled](Study::pooled) study, in which every architecture counts once, with its
/// mean value.
///
/// Use it if the search repeats evaluations, as [`Replicate`](crate::search::Replicate) does. Otherwise every
/// repetition would have a vote, and the best of several draws would be optimistic by chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pooled<A>(
    /// The inner aggregator.
    pub A,
);

impl<A: Aggregator> Aggregator for Pooled<A> {
    fn fingerprint(&self) -> String {
        format!("pooled({})", self.0.fingerprint())
    }

    fn aggregate(&self, study: &Study) -> Result<Architecture, AggregateError> {
        self.0.aggregate(&study.pooled())
    }

    fn voters(&self, study: &Study) -> Option<usize> {
        self.0.voters(&study.pooled())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::{Best, NcClustering},
        primitive::Symbol,
        seed::Seed,
        space::SearchSpace,
        study::{Event, Goal, Origin, Report},
        testkit,
    };

    #[test]
    fn luck_gives_way_to_means() {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 3).unwrap();
        testkit::aggregator::check(&Pooled(Best), &space).unwrap();
        testkit::aggregator::check(&Pooled(NcClustering::n0()), &space).unwrap();
        let mut study = Study::new(space, Goal::default());
        for (text, accuracy) in [("AAM", 0.9), ("AAM", 0.3), ("MAA", 0.7), ("AAM", 0.5)] {
            let id = study.next_id();
            let architecture = text.parse().unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Manual }).unwrap();
            study.apply(Event::Completed { id, report: Report::score("accuracy", accuracy) }).unwrap();
        }
        assert_eq!(Best.aggregate(&study).unwrap().letters(), "AAM");
        assert_eq!(Pooled(Best).aggregate(&study).unwrap().letters(), "MAA");
        assert_eq!(Pooled(Best).fingerprint(), "pooled(best)");
    }
}
