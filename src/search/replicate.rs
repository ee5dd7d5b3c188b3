//! Repeated evaluation of the leaders.

use super::{Proposal, SearchError, Searcher, unknown::Unknown};
use crate::{
    seed::Rng,
    space::Architecture,
    study::{Observation, Study, ranked},
};

/// A searcher that evaluates the leaders again, with a new seed, at every `every`-th proposal; the other proposals come
/// from `S`.
///
/// The leaders are the `leaders` architectures with the best mean so far, of those that ran to their end. The one with
/// the fewest observations is repeated; on ties, the better one.
///
/// Repetitions are ordinary trials. Merge them with [`Pooled`](crate::aggregate::Pooled), so that means are compared
/// instead of the luckiest results. Once every sequence of the space is known, nothing is repeated and the search ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicate<S> {
    inner: S,
    every: usize,
    leaders: usize,
}

impl<S> Replicate<S> {
    /// Creates a searcher that repeats one of `leaders` leaders at every `every`-th proposal.
    ///
    /// # Errors
    /// [`SearchError::Zero`] if either number is zero.
    pub fn new(inner: S, every: usize, leaders: usize) -> Result<Self, SearchError> {
        let searcher = "replicate";
        match (every, leaders) {
            (0, _) => Err(SearchError::Zero { searcher, setting: "every" }),
            (_, 0) => Err(SearchError::Zero { searcher, setting: "leaders" }),
            _ => Ok(Self { inner, every, leaders }),
        }
    }

    /// Returns the leader with the fewest observations, or `None` if all of them are pending.
    fn leader(&self, study: &Study) -> Option<Architecture> {
        let pooled = study.pooled();
        let leaders = ranked(&pooled, pooled.observations().filter(Observation::is_whole).collect(), self.leaders);
        let seen = |a: &Architecture| study.observations().filter(|seen| seen.trial.architecture == *a).count();
        let pending = |a: &Architecture| study.pending().any(|trial| trial.architecture == *a);
        let free = leaders.iter().map(|leader| &leader.trial.architecture).filter(|a| !pending(a));
        free.min_by_key(|a| seen(a)).cloned()
    }
}

impl<S: Searcher> Searcher for Replicate<S> {
    fn fingerprint(&self) -> String {
        let Self { inner, every, leaders } = self;
        format!("replicate({}, every={every}, leaders={leaders})", inner.fingerprint())
    }

    fn ask(&mut self, study: &Study, rng: &mut Rng) -> Result<Proposal, SearchError> {
        let due =
            (study.full_length_trials().count() + 1).is_multiple_of(self.every) && Unknown::new(study).count() > 0;
        match self.leader(study).filter(|_| due) {
            Some(leader) => Ok(Proposal::Evaluate(leader)),
            None => self.inner.ask(study, rng),
        }
    }

    fn notice(&mut self) -> Option<String> {
        self.inner.notice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::Symbol,
        search::{RandomSearch, RegularizedEvolution},
        seed::Seed,
        space::SearchSpace,
        study::{Event, Goal, Origin, Report},
        testkit,
    };

    fn space() -> SearchSpace {
        SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4).unwrap()
    }

    #[test]
    fn the_laws_hold() {
        for (every, leaders) in [(1, 1), (2, 3), (3, 8)] {
            let make = || Replicate::new(RegularizedEvolution::new(4, 2).unwrap(), every, leaders).unwrap();
            testkit::searcher::check(make, &space()).unwrap();
        }
        assert!(matches!(Replicate::new(RandomSearch, 0, 1), Err(SearchError::Zero { setting: "every", .. })));
        assert!(matches!(Replicate::new(RandomSearch, 1, 0), Err(SearchError::Zero { setting: "leaders", .. })));
        let name = Replicate::new(RandomSearch, 3, 2).unwrap().fingerprint();
        assert_eq!(name, "replicate(random, every=3, leaders=2)");
    }

    #[test]
    fn the_least_known_leader_comes_next() {
        let mut study = Study::new(space(), Goal::default());
        let tell = |study: &mut Study, text: &str, accuracy: Option<f64>| {
            let id = study.next_id();
            let architecture = text.parse().unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(id.0), origin: Origin::Searcher }).unwrap();
            if let Some(accuracy) = accuracy {
                study.apply(Event::Completed { id, report: Report::score("accuracy", accuracy) }).unwrap();
            }
        };
        let ask = |study: &Study, every| {
            let answer = Replicate::new(RandomSearch, every, 2).unwrap().ask(study, &mut Seed(0).rng("test", 0));
            let Proposal::Evaluate(architecture) = answer.unwrap() else { panic!() };
            architecture.letters()
        };
        for (text, accuracy) in [("AAAA", 0.9), ("AMMM", 0.6), ("MMMM", 0.1), ("AAMM", 0.5)] {
            tell(&mut study, text, Some(accuracy));
        }
        assert_eq!(ask(&study, 5), "AAAA");
        assert!(study.trials().iter().all(|trial| trial.architecture.letters() != ask(&study, 2)));
        tell(&mut study, "AAAA", Some(0.7));
        assert_eq!(ask(&study, 1), "AMMM");
        tell(&mut study, "AMMM", None);
        assert_eq!(ask(&study, 1), "AAAA");
        tell(&mut study, "AAAA", Some(-1.0));
        // Its mean is 0.2 now: AMMM, pending, and AAMM lead.
        assert_eq!(ask(&study, 1), "AAMM");
    }
}
