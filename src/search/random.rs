//! Uniform random search, the reference of every comparison (Li and Talwalkar 2019, arXiv 1902.07638).

use super::{Proposal, SearchError, Searcher, unknown::Unknown};
use crate::{seed::Rng, study::Study};

/// Draws uniformly from the sequences that are not known yet.
///
/// The draw is exact in spaces of every size, also when almost all of the space is known: it picks a rank among the
/// unknown sequences. There is no rejection, and one draw from the generator per proposal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RandomSearch;

impl Searcher for RandomSearch {
    fn fingerprint(&self) -> String {
        "random".into()
    }

    fn ask(&mut self, study: &Study, rng: &mut Rng) -> Result<Proposal, SearchError> {
        Ok(Unknown::new(study).draw(rng).map_or(Proposal::Finished, Proposal::Evaluate))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{
        primitive::Symbol,
        seed::Seed,
        space::SearchSpace,
        study::{Event, Goal, Origin},
    };

    #[test]
    fn draws_are_uniform_over_what_is_not_known() {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4).unwrap();
        let mut study = Study::new(space, Goal::default());
        for text in ["AAAA", "AAMM", "MMMM", "AMMM", "MAMA"] {
            let id = study.next_id();
            let architecture = text.parse().unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Manual }).unwrap();
        }
        let mut rng = Seed(1).rng("test", 0);
        let draws = 11_000;
        let mut counts = HashMap::new();
        for _ in 0..draws {
            *counts.entry(format!("{:?}", RandomSearch.ask(&study, &mut rng).unwrap())).or_insert(0.0) += 1.0;
        }
        let chi2: f64 = counts.values().map(|n: &f64| (n - 1000.0).powi(2) / 1000.0).sum();
        assert_eq!(counts.len(), 11);
        // 10 degrees of freedom: the 99.99 % quantile is 35.6.
        assert!(chi2 < 35.6, "{chi2}");
    }
}
