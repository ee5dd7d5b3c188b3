//! Detection of bounds on known costs that no sequence satisfies.

use super::SearchError;
use crate::{seed::Rng, space::Architecture, study::Study};

/// Number of sequences that are checked.
const LOOKED_AT: usize = 4096;

/// Checks that some sequence of the space satisfies the bounds on known costs. In a small space, all sequences are
/// checked. In a large one, some thousand draws are, and the sequences on a descent from the nearest draw towards the
/// bounds.
///
/// # Errors
/// [`SearchError::Costs`] if the goal names a cost without a value, [`SearchError::NothingWithin`] with the nearest
/// sequence if none satisfies the bounds.
pub(crate) fn check_bounds(study: &Study, rng: &mut Rng) -> Result<(), SearchError> {
    study.costs(&study.space().sample(rng)).map(drop).or_else(|error| match error {
        crate::study::KnownCostError::Unbuildable { .. } => Ok(()),
        error => Err(SearchError::Costs(error)),
    })?;
    if !study.goal().limits_costs() {
        return Ok(());
    }
    let all = study.space().size() <= LOOKED_AT as u128;
    let mut nearest: Option<(f64, Architecture)> = None;
    let mut look = |sequence: Architecture| {
        let excess = study.cost_excess(&sequence);
        if nearest.as_ref().is_none_or(|(least, _)| excess < *least) {
            nearest = Some((excess, sequence));
        }
        excess <= 0.0
    };
    let found = match all {
        true => study.space().iter().any(&mut look),
        false => (0..LOOKED_AT).any(|_| look(study.space().sample(rng))),
    };
    let Some(nearest) = nearest.filter(|_| !found) else { return Ok(()) };
    let (excess, nearest) = if all { nearest } else { descend(study, nearest.1) };
    if excess <= 0.0 {
        return Ok(());
    }
    let costs = study.costs(&nearest).unwrap_or_default();
    let costs = costs.iter().map(|(name, cost)| format!("{name} {cost}")).collect::<Vec<_>>().join(", ");
    let looked = if all { "the space".into() } else { format!("{LOOKED_AT} sequences drawn") };
    Err(SearchError::NothingWithin { looked, nearest, costs })
}

/// Moves to the neighbour that violates the bounds least, as long as this is an improvement. Returns the remaining
/// violation and the sequence.
pub(super) fn descend(study: &Study, mut at: Architecture) -> (f64, Architecture) {
    let mut excess = study.cost_excess(&at);
    while excess > 0.0 {
        let near = study.space().neighbors(&at).into_iter().map(|near| (study.cost_excess(&near), near));
        let Some(next) = near.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|next| next.0 < excess) else { break };
        (excess, at) = next;
    }
    (excess, at)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        primitive::Symbol,
        search::{Exhaustive, GpBo, LocalSearch, Proposal, RandomSearch, RegularizedEvolution, Searcher},
        seed::Seed,
        space::SearchSpace,
        study::{Event, FnCost, Goal, Measure, Objective, Origin, Report},
    };

    fn study(goal: Goal) -> Study {
        let attention = |architecture: &Architecture| architecture.count(Symbol::ATTENTION) as f64;
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 40).unwrap();
        Study::new(space, goal).with_costs(Arc::new(FnCost::new("cache", "attention", attention))).unwrap()
    }

    #[test]
    fn what_has_no_cost_is_not_proposed() {
        let attention = |architecture: &Architecture| match architecture.count(Symbol::ATTENTION) {
            count @ 0..=2 => count as f64,
            _ => f64::NAN,
        };
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 5).unwrap();
        let goal = Goal::default().and(Objective::minimize(Measure::cost("cache"))).unwrap();
        let costs = Arc::new(FnCost::new("cache", "few", attention));
        let searchers: [&mut dyn Searcher; 5] = [
            &mut RandomSearch,
            &mut Exhaustive,
            &mut RegularizedEvolution::new(4, 2).unwrap(),
            &mut LocalSearch::default(),
            &mut GpBo::default(),
        ];
        for searcher in searchers {
            let mut study = Study::new(space.clone(), goal.clone()).with_costs(costs.clone()).unwrap();
            while let Proposal::Evaluate(architecture) =
                searcher.ask(&study, &mut Seed(1).rng("test", study.next_id().0)).unwrap()
            {
                let id = study.next_id();
                let report = study.priced(&architecture, Report::score("accuracy", id.0 as f64)).unwrap();
                study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
                study.apply(Event::Completed { id, report }).unwrap();
            }
            assert_eq!(study.trials().len(), 1 + 5 + 10, "{}", searcher.fingerprint());
        }
    }

    #[test]
    fn what_draws_do_not_meet_is_found_on_the_way_to_the_bounds() {
        let cache = || Measure::cost("cache");
        let mut rng = Seed(0).rng("test", 0);
        let mut tight = study(Goal::default().at_most(cache(), 0.0).unwrap());
        check_bounds(&tight, &mut rng).unwrap();
        let none: Architecture = "40M".parse().unwrap();
        for searcher in [&mut RandomSearch as &mut dyn Searcher, &mut GpBo::default()] {
            assert_eq!(searcher.ask(&tight, &mut rng).unwrap(), Proposal::Evaluate(none.clone()));
        }
        let event = Event::Proposed { id: tight.next_id(), architecture: none, seed: Seed(0), origin: Origin::Manual };
        tight.apply(event).unwrap();
        assert_eq!(RandomSearch.ask(&tight, &mut rng).unwrap(), Proposal::Finished);
        let error = check_bounds(&study(Goal::default().at_least(cache(), 41.0).unwrap()), &mut rng).unwrap_err();
        assert!(error.to_string().contains("nearest is 40A with cache 40"), "{error}");
    }
}
