//! The cost of one proposal, fit included, against the number of observations.
//!
//! `cargo bench --bench ask` measures it on one thread; `-- gp_bo/16x2` selects rows of the first table. The second
//! compares the default searcher with the times that BoTorch and Optuna took elsewhere, the third with itself where a
//! known cost is a second objective.

use std::{sync::Arc, time::Instant};

use composer_nas::{
    prelude::*,
    search::RegularizedEvolution,
    study::{Event, FnCost, Measure, Objective, Origin},
    testkit::landscape::Landscape,
};

/// Makes a searcher.
type Make = fn() -> Box<dyn Searcher>;

/// A study of so many random sequences with the landscape's noisy values.
fn study(landscape: &Landscape, trials: u64) -> Study {
    let mut study = Study::new(landscape.space().clone(), Goal::default());
    for trial in 0..trials {
        let architecture = landscape.space().sample(&mut Seed(1).rng("bench", trial));
        let report = Report::score("accuracy", landscape.noisy(1, trial, &architecture));
        let id = study.next_id();
        let proposed = Event::Proposed { id, architecture, seed: Seed(trial), origin: Origin::Searcher };
        study.apply(proposed).expect("a sequence of the space");
        study.apply(Event::Completed { id, report }).expect("a finite value");
    }
    study
}

/// The same trials with attention layers as a second objective.
fn with_cost(study: &Study) -> Study {
    let goal = Goal::default().and(Objective::minimize(Measure::cost("cache"))).expect("another objective");
    let cost = |architecture: &Architecture| architecture.count(Symbol::ATTENTION) as f64;
    let costs = Arc::new(FnCost::new("cache", "attention", cost));
    let mut two = Study::new(study.space().clone(), goal).with_costs(costs).expect("the cost");
    for seen in study.observations() {
        let architecture = seen.trial.architecture.clone();
        let report = two.priced(&architecture, seen.report.clone()).expect("a cost");
        let id = two.next_id();
        let proposed = Event::Proposed { id, architecture, seed: seen.trial.seed, origin: Origin::Searcher };
        two.apply(proposed).expect("a sequence of the space");
        two.apply(Event::Completed { id, report }).expect("finite values");
    }
    two
}

/// Prints how much longer a proposal takes where a known cost is a second objective.
fn with_two_objectives() {
    println!("\n| function | trials | one objective, ms | two, ms | times |\n|---|--:|--:|--:|--:|");
    for name in ["L16Z2", "L16Z3", "L32Z3"] {
        for trials in [16, 64, 128] {
            let one = study(&Landscape::named(name).expect("a known landscape"), trials);
            let two = with_cost(&one);
            let [one, two] = [one, two].map(|study| 1e3 * median_seconds::<10>(|| Box::new(GpBo::default()), &study));
            println!("| {name} | {trials} | {one:.2} | {two:.2} | {:.2} |", two / one);
        }
    }
}

/// Median seconds of `N` first proposals of fresh searchers.
fn median_seconds<const N: usize>(make: impl Fn() -> Box<dyn Searcher>, study: &Study) -> f64 {
    let mut times = [0; N].map(|_| {
        let start = Instant::now();
        make().ask(study, &mut Seed(1).rng("ask", 0)).expect("a proposal");
        start.elapsed().as_secs_f64()
    });
    times.sort_by(f64::total_cmp);
    times[N / 2]
}

/// Prints the time of a proposal by searcher, space and number of observations.
fn by_observations(filter: Option<&str>) {
    let searchers: [(&str, Make); 3] = [
        ("gp_bo", || Box::new(GpBo::default())),
        ("gp_bo_composer", || Box::new(GpBo::composer())),
        ("evolution", || Box::new(RegularizedEvolution::default())),
    ];
    println!("| searcher | trials | ms |\n|---|--:|--:|");
    for (name, make) in searchers {
        for (size, landscape) in [("16x2", "L16Z2"), ("32x3", "L32Z3")] {
            let row = format!("{name}/{size}");
            if filter.is_some_and(|filter| !row.contains(filter)) {
                continue;
            }
            let landscape = Landscape::named(landscape).expect("a known landscape");
            for trials in [16, 64, 128, 256] {
                let study = study(&landscape, trials);
                println!("| {row} | {trials} | {:.3} |", 1e3 * median_seconds::<10>(make, &study));
            }
        }
    }
}

/// CPU seconds of one proposal on one thread of another, busy machine: BoTorch 0.18.1 and Optuna's GPSampler and
/// TPESampler, with so many trials.
const PEERS: &[(&str, &str, u64, f64)] = &[
    ("L16Z2", "BoTorch", 16, 3.1),
    ("L16Z2", "BoTorch", 64, 4.6),
    ("L16Z2", "BoTorch", 256, 4.5),
    ("L16Z2", "Optuna GP", 64, 0.63),
    ("L16Z2", "Optuna TPE", 64, 0.014),
    ("L16Z2", "Optuna TPE", 256, 0.035),
    ("L32Z3", "BoTorch", 16, 5.4),
    ("L32Z3", "BoTorch", 64, 12.9),
    ("L32Z3", "BoTorch", 256, 37.0),
    ("L32Z3", "Optuna GP", 64, 1.27),
    ("L32Z3", "Optuna TPE", 64, 0.020),
    ("L32Z3", "Optuna TPE", 256, 0.080),
];

/// Prints how many times faster than each peer the default searcher proposes.
fn against_peers() {
    println!("\n| function | trials | peer | peer, s | ours, s | times faster |\n|---|---|---|---|---|---|");
    for &(name, peer, trials, theirs) in PEERS {
        let study = study(&Landscape::named(name).expect("a known landscape"), trials);
        let ours = median_seconds::<5>(|| Box::new(GpBo::default()), &study);
        println!("| {name} | {trials} | {peer} | {theirs} | {ours:.4} | {:.1} |", theirs / ours);
    }
}

fn main() {
    // Cargo adds `--bench`.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    by_observations(filter.as_deref());
    against_peers();
    with_two_objectives();
}
