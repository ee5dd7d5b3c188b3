//! Checks the contract of [`Aggregator`].

use rand::{RngExt, seq::SliceRandom};

use super::{
    LawBroken, holds,
    simulated::{Outcome, describe, finish, propose, value},
};
use crate::{
    aggregate::Aggregator,
    seed::{Rng, Seed},
    space::{Architecture, SearchSpace},
    study::{Goal, Study},
    text::causes,
};

/// With observations, there is a result.
pub(crate) const ANSWERS: &str = "with observations, an aggregator returns an architecture";
/// The result does not depend on the order of the trials.
pub(crate) const ORDER: &str = "the order of the observations is irrelevant";
/// The result satisfies the choices and constraints of the space.
pub(crate) const IN_SPACE: &str = "the result lies in the space";

/// The number of studies of each size.
const RUNS: u64 = 6;
/// Numbers of trials.
const SIZES: [usize; 6] = [1, 2, 3, 8, 30, 80];
/// The number of permutations of each study.
const ORDERS: usize = 4;

/// Aggregates simulated studies in several orders. They contain repeated architectures, equal values, and failed,
/// pending and invalid trials.
///
/// # Errors
/// [`LawBroken`] for the first law that does not hold.
pub fn check(aggregator: &(impl Aggregator + ?Sized), space: &SearchSpace) -> Result<(), LawBroken> {
    for (run, size) in (0..RUNS).flat_map(|run| SIZES.map(|size| (run, size))) {
        let mut rng = Seed(run).rng("testkit/aggregator", size as u64);
        let mut trials: Vec<_> = (0..size).map(|_| trial(space, &mut rng)).collect();
        let study = study(space, &trials)?;
        if study.observations().next().is_none() {
            continue;
        }
        let first = aggregated(aggregator, &study)?;
        holds(space.contains(&first), IN_SPACE, || format!("{first} from {}", describe(&study)))?;
        for _ in 0..ORDERS {
            trials.shuffle(&mut rng);
            let other = self::study(space, &trials)?;
            let again = aggregated(aggregator, &other)?;
            holds(first == again, ORDER, || {
                format!("{first} from {}, but {again} from {}", describe(&study), describe(&other))
            })?;
        }
    }
    Ok(())
}

fn trial(space: &SearchSpace, rng: &mut Rng) -> (Architecture, Outcome) {
    let architecture = space.sample(rng);
    // Most values are repeated, within an architecture and between architectures.
    let noise = if rng.random_bool(0.25) { rng.random_range(0.0..0.1) } else { 0.0 };
    let outcome = match rng.random_range(0..8) {
        0 => Outcome::Pending,
        _ => Outcome::draw(value(&architecture) + noise, rng),
    };
    (architecture, outcome)
}

fn study(space: &SearchSpace, trials: &[(Architecture, Outcome)]) -> Result<Study, LawBroken> {
    let mut study = Study::new(space.clone(), Goal::default());
    for (at, (architecture, outcome)) in trials.iter().enumerate() {
        propose(&mut study, architecture.clone())?;
        finish(&mut study, at, *outcome)?;
    }
    Ok(study)
}

fn aggregated(aggregator: &(impl Aggregator + ?Sized), study: &Study) -> Result<Architecture, LawBroken> {
    aggregator
        .aggregate(study)
        .map_err(|error| LawBroken::new(ANSWERS, format!("{}: {}", causes(&error), describe(study))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::{AggregateError, Best, NcClustering},
        primitive::Symbol,
    };

    const A: Symbol = Symbol::ATTENTION;
    const M: Symbol = Symbol::SWIGLU;

    fn spaces() -> Vec<SearchSpace> {
        let free = |layers| SearchSpace::uniform([A, M], layers).unwrap();
        vec![
            free(1),
            free(6),
            SearchSpace::uniform([M, Symbol::MLP, A], 16).unwrap(),
            free(6).count(A, 1..=1).unwrap(),
            free(8).count(A, 3..=4).unwrap().max_run(A, 1).unwrap().pin(7, M).unwrap(),
        ]
    }

    #[test]
    fn our_aggregators_keep_the_laws() {
        let clusterings = [NcClustering::n0(), NcClustering::nc(1), NcClustering::nc(3), NcClustering::full_prefix()];
        for space in spaces() {
            assert_eq!(check(&Best, &space), Ok(()), "{space:?}");
            for aggregator in
                clusterings.into_iter().flat_map(|n| [1, 2, 5, 100].map(|k| NcClustering { clusters: k, ..n }))
            {
                assert_eq!(check(&aggregator, &space), Ok(()), "{space:?}");
            }
            assert_eq!(check(&*Box::<dyn Aggregator>::from(Box::new(Best)), &space), Ok(()));
        }
    }

    struct Answering<F>(F);

    impl<F: Fn(&Study) -> Result<Architecture, AggregateError>> Aggregator for Answering<F> {
        fn fingerprint(&self) -> String {
            "test".into()
        }

        fn aggregate(&self, study: &Study) -> Result<Architecture, AggregateError> {
            (self.0)(study)
        }
    }

    #[test]
    fn every_breach_is_caught() {
        let [_, free, _, constrained, _] = &spaces()[..] else { panic!("five spaces") };
        let broken = |answer: &dyn Fn(&Study) -> Result<Architecture, AggregateError>, space| {
            check(&Answering(answer), space).expect_err("a law is broken").law
        };
        // The earliest of equal trials depends on the order.
        let earliest = |study: &Study| {
            let best = study.best().ok_or_else(|| AggregateError::no_observations(study))?;
            Ok(best.trial.architecture.clone())
        };
        assert_eq!(broken(&earliest, free), ORDER);
        // A majority vote per layer that ignores the constraint.
        let majority = |study: &Study| {
            let layer = |at: usize| {
                let votes = study.observations().filter(|seen| seen.trial.architecture.layers()[at] == A).count();
                if 2 * votes > study.observations().count() { A } else { M }
            };
            Ok(Architecture::new((0..study.space().layers()).map(layer)))
        };
        assert_eq!(broken(&majority, constrained), IN_SPACE);
        assert_eq!(broken(&|_: &Study| Err(AggregateError::Other("no quorum".into())), free), ANSWERS);
    }
}
