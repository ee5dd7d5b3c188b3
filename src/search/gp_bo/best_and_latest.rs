//! A subset of the observations, for long searches.

use std::collections::HashSet;

use crate::study::{Observation, Study, ranked};

/// Returns at most `most` of the observations, in their order. Half of them are the best (the earlier one on ties), the
/// others the latest.
///
/// The best observations locate the optimum, and the latest contain what was learnt around it. Only old observations
/// with mediocre or bad values are dropped, which contribute least to the fit.
pub(super) fn best_and_latest<'a>(
    study: &Study,
    observations: Vec<Observation<'a>>,
    most: usize,
) -> Vec<Observation<'a>> {
    if observations.len() <= most {
        return observations;
    }
    let best = ranked(study, observations.clone(), most.div_ceil(2));
    let best: HashSet<_> = best.iter().map(|seen| seen.trial.id).collect();
    let mut kept: Vec<_> = observations.iter().map(|seen| best.contains(&seen.trial.id)).collect();
    let latest: Vec<_> = (0..kept.len()).rev().filter(|&at| !kept[at]).take(most / 2).collect();
    latest.into_iter().for_each(|at| kept[at] = true);
    observations.into_iter().zip(kept).filter_map(|(seen, kept)| kept.then_some(seen)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::Symbol,
        seed::Seed,
        space::SearchSpace,
        study::{Event, Goal, Origin, Report, Study},
    };

    #[test]
    fn half_are_the_best_and_half_the_latest() {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4).unwrap();
        let mut study = Study::new(space, Goal::default());
        for (index, accuracy) in [0.9, 0.1, 0.9, 0.2, 0.9, 0.1, 0.3].into_iter().enumerate() {
            let id = study.next_id();
            let architecture = study.space().nth(index as u128).unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
            study.apply(Event::Completed { id, report: Report::score("accuracy", accuracy) }).unwrap();
        }
        let kept = |most| {
            let kept = best_and_latest(&study, study.observations().collect(), most);
            kept.iter().map(|seen| seen.trial.id.0).collect::<Vec<_>>()
        };
        assert_eq!(kept(7), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(kept(4), [0, 2, 5, 6]);
        assert_eq!(kept(3), [0, 2, 6]);
        assert_eq!(kept(1), [0]);
    }
}
