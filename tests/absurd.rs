//! Numbers that are finite but absurd, and spaces that nobody can enumerate: every searcher and aggregator answers.

use std::{path::Path, sync::mpsc, thread, time::Duration};

use composer_nas::{
    aggregate::{Best, Clustering, Pooled},
    journal,
    prelude::*,
    search::{Exhaustive, Incremental, LocalSearch, RegularizedEvolution, Replicate, Side},
    space::SpaceError,
    stopping::{MedianPruner, Pruner},
    study::{Event, Origin},
};
use proptest::prelude::*;

/// So long nothing may hang, however slow the machine.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Fails where `act` hangs.
fn within_bounds<T: Send + 'static>(what: &str, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let worker = thread::spawn(move || sender.send(act()));
    match receiver.recv_timeout(WATCHDOG) {
        Ok(value) => value,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} does not come back"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{what} panicked: {:?}", worker.join().map(drop)),
    }
}

fn searchers() -> Vec<Box<dyn Searcher>> {
    let budget = composer_nas::search::AskBudget { candidates: 200, fit_evaluations: 20, fit_observations: 100 };
    let small = |gp: GpBo| gp.with_initial(2).unwrap().with_budget(budget).unwrap();
    vec![
        Box::new(RandomSearch),
        Box::new(Exhaustive),
        Box::new(RegularizedEvolution::new(4, 2).unwrap()),
        Box::new(LocalSearch::new(2).unwrap()),
        Box::new(Replicate::new(RandomSearch, 2, 3).unwrap()),
        Box::new(Incremental::new(RandomSearch, Side::End, 2, 3).unwrap()),
        Box::new(small(GpBo::default())),
        Box::new(small(GpBo::composer())),
        Box::new(small(GpBo::categorical())),
    ]
}

/// Asks every searcher, and aggregates.
fn ask_all(study: &Study) {
    for (number, searcher) in searchers().iter().enumerate() {
        let searched = study.clone();
        let known = study;
        // A searcher is no value that threads may share: the thread makes its own.
        let answer = within_bounds(&searcher.fingerprint(), move || {
            let mut rng = Seed(1).rng("ask", searched.next_id().0);
            searchers()[number].ask(&searched, &mut rng).map_err(|error| error.to_string())
        });
        match answer.unwrap() {
            Proposal::Evaluate(architecture) => {
                assert!(known.space().contains(&architecture) || known.space().is_part(&architecture), "{architecture}")
            }
            Proposal::Wait => assert!(known.pending().next().is_some()),
            Proposal::Finished => assert!(known.space().iter().all(|a| known.knows(&a))),
        }
    }
    if study.observations().next().is_some() {
        for gp in [GpBo::default(), GpBo::composer()] {
            let seen = gp.inspect(study, &mut Seed(1).rng("inspect", 0)).unwrap();
            let candidates = seen.candidates.iter().flat_map(|candidate| [candidate.mean, candidate.sd]);
            let predictions = seen.predictions.iter().flat_map(|seen| [seen.mean, seen.sd]);
            let numbers: Vec<_> = candidates.chain(predictions).chain(seen.layers).chain([seen.noise]).collect();
            assert!(numbers.iter().all(|number| number.is_finite()), "{gp:?} {numbers:?}");
            assert!(gp.recommend(study).is_ok());
        }
        for aggregator in [NcClustering::n0(), NcClustering::nc(1), NcClustering::full_prefix()] {
            let Clustering { clusters, architecture, .. } = aggregator.explain(study).unwrap();
            assert!(study.space().contains(&architecture));
            for cluster in clusters {
                assert!(cluster.low <= cluster.high && cluster.mean.is_finite(), "{cluster:?}");
            }
        }
        for aggregator in [&Best as &dyn Aggregator, &Pooled(NcClustering::n0())] {
            assert!(study.space().contains(&aggregator.aggregate(study).unwrap()));
        }
        assert_eq!(study.pooled().observations().count(), {
            let mut seen: Vec<_> = study.observations().map(|seen| &seen.trial.architecture).collect();
            seen.sort();
            seen.dedup();
            seen.len()
        });
    }
    let bar = MedianPruner::after(1, 0).threshold(study, &study.space().nth(0).unwrap());
    assert!(bar.points().iter().all(|(_, value)| value.is_finite()));
}

fn absurd() -> impl Strategy<Value = f64> {
    prop_oneof![
        proptest::sample::select(vec![
            0.0,
            -0.0,
            0.5,
            0.5,
            1e308,
            -1e308,
            f64::MAX,
            f64::MIN,
            1e300,
            -1e300,
            1e-320,
            5e-324,
            1e154,
            1e9
        ]),
        any::<f64>().prop_filter("finite", |value| value.is_finite()),
        0.0..1.0,
    ]
}

fn study(seen: &[(u128, f64, f64)], goal: Goal) -> Study {
    let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4).unwrap();
    let mut study = Study::new(space, goal.clone());
    for &(number, score, other) in seen {
        let id = study.next_id();
        let architecture = study.space().nth(number % 16).unwrap();
        study.apply(Event::Proposed { id, architecture, seed: Seed(id.0), origin: Origin::Manual }).unwrap();
        let curve = vec![(1, other), (2, score)];
        let report = Report {
            curve,
            standard_error: Some(other.abs()),
            train_flops: Some(other),
            wall_seconds: other,
            ..Report::score(goal.score.clone(), score)
        };
        study.apply(Event::Completed { id, report }).unwrap();
    }
    study
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn absurd_numbers_are_searched_and_aggregated(
        seen in proptest::collection::vec((0u128..16, absurd(), absurd()), 1..14), minimize: bool
    ) {
        let goal = if minimize { Goal::minimize("loss") } else { Goal::default() };
        ask_all(&study(&seen, goal));
    }
}

#[test]
fn ties_outliers_and_opposites_are_searched_and_aggregated() {
    let many = |score: fn(u128) -> f64| (0..12).map(|n| (n, score(n), 0.1)).collect::<Vec<_>>();
    for seen in [
        many(|_| 0.5),
        many(|_| 1e308),
        many(|n| if n == 3 { 1e308 } else { 0.1 * n as f64 }),
        many(|n| if n % 2 == 0 { 1e300 } else { -1e300 }),
        many(|n| if n % 2 == 0 { f64::MAX } else { f64::MIN }),
        many(|n| 1e-320 * n as f64),
    ] {
        ask_all(&study(&seen, Goal::default()));
    }
}

#[test]
fn journals_with_absurd_numbers_are_gone_on_with() {
    for name in ["score_1e308_hangs.jsonl", "standard_error_1e308_hangs.jsonl"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cases/journal").join(name);
        ask_all(&journal::read(path).unwrap().1);
    }
}

fn five() -> [Symbol; 5] {
    ["A", "M", "F", "B", "C"].map(|letter| letter.parse().unwrap())
}

#[test]
fn large_spaces_are_searched_and_too_large_ones_refused() {
    let space = SearchSpace::uniform(five(), 25).unwrap();
    assert_eq!(space.size(), 5u128.pow(25));
    let mut study = Study::new(space.clone(), Goal::default());
    for trial in 0..12u64 {
        let id = study.next_id();
        let architecture = space.sample(&mut Seed(3).rng("test", trial));
        let score = architecture.count(Symbol::ATTENTION) as f64;
        study.apply(Event::Proposed { id, architecture, seed: Seed(id.0), origin: Origin::Searcher }).unwrap();
        study.apply(Event::Completed { id, report: Report::score("accuracy", score) }).unwrap();
    }
    ask_all(&study);
    assert_eq!(SearchSpace::uniform(five(), 200), Err(SpaceError::TooLarge));
}

#[test]
fn every_searcher_ends_where_all_is_known() {
    let a = Symbol::ATTENTION;
    let m = Symbol::SWIGLU;
    // Twenty-five layers, of which one is attention.
    let few = SearchSpace::uniform([a, m], 25).unwrap().count(a, 1..=1).unwrap();
    for space in [few, SearchSpace::uniform([a, m], 3).unwrap()] {
        let mut study = Study::new(space.clone(), Goal::default());
        for architecture in space.iter() {
            let id = study.next_id();
            study.apply(Event::Proposed { id, architecture, seed: Seed(id.0), origin: Origin::Searcher }).unwrap();
            study.apply(Event::Completed { id, report: Report::score("accuracy", 1e308) }).unwrap();
        }
        for mut searcher in searchers() {
            let answer = searcher.ask(&study, &mut Seed(1).rng("ask", 0)).unwrap();
            assert_eq!(answer, Proposal::Finished, "{}", searcher.fingerprint());
        }
    }
}
