//! Studies to draw.

use crate::{
    primitive::Symbol,
    seed::Seed,
    space::SearchSpace,
    study::{Event, Failure, FailureKind, Goal, Origin, Report, Study},
};

/// A study of the first sequences of four layers, with these scores; without one, a trial failed.
pub(super) fn study(scores: &[Option<f64>]) -> Study {
    let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4).unwrap();
    let mut study = Study::new(space, Goal::default());
    for (index, score) in scores.iter().enumerate() {
        let id = study.next_id();
        let architecture = study.space().nth(index as u128).unwrap();
        study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
        let failure = Failure { kind: FailureKind::Infeasible, reason: "<no>".into() };
        let outcome = score.map_or(Event::Failed { id, failure }, |score| Event::Completed {
            id,
            report: Report::score("accuracy", score),
        });
        study.apply(outcome).unwrap();
    }
    study
}
