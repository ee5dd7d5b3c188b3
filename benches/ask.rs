//! The cost of one proposal, fit included, against the number of observations.
//!
//! `cargo bench --bench ask` measures it on one thread; `-- gp_bo/16x2` selects rows of the first table. The second
//! compares the default searcher with the times that BoTorch and Optuna took elsewhere, the third with itself where
//! known costs are further objectives; `-- several` makes the third table alone.

use std::{sync::Arc, time::Instant};

use composer_nas::{
    cost::Workload,
    extrapolate::TargetCosts,
    prelude::*,
    search::RegularizedEvolution,
    study::{Event, FnCost, KnownCosts, Measure, Objective, Origin},
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

/// The same trials with these known costs as further objectives.
fn with_costs(study: &Study, names: &[&str], costs: Arc<dyn KnownCosts>) -> Study {
    let and = |goal: Goal, name: &&str| goal.and(Objective::minimize(Measure::cost(*name))).expect("another objective");
    let goal = names.iter().fold(Goal::default(), and);
    let mut several = Study::new(study.space().clone(), goal).with_costs(costs).expect("the costs");
    for seen in study.observations() {
        let architecture = seen.trial.architecture.clone();
        let report = several.priced(&architecture, seen.report.clone()).expect("a cost");
        let id = several.next_id();
        let proposed = Event::Proposed { id, architecture, seed: seen.trial.seed, origin: Origin::Searcher };
        several.apply(proposed).expect("a sequence of the space");
        several.apply(Event::Completed { id, report }).expect("finite values");
    }
    several
}

/// The number of attention layers.
fn attention() -> Arc<dyn KnownCosts> {
    let cost = |architecture: &Architecture| architecture.count(Symbol::ATTENTION) as f64;
    Arc::new(FnCost::new("cache", "attention", cost))
}

/// Parameters, work and cache at Llama 1B's size, of which nothing is remembered yet.
fn of_target() -> Arc<dyn KnownCosts> {
    let primitives = Primitives::standard();
    Arc::new(
        TargetCosts::new(Auto, &Target::llama_1b(), &primitives, Workload::bf16(4096)).expect("costs of the target"),
    )
}

/// Prints how much longer a proposal takes where known costs are further objectives: asks take turns, so that what else
/// the machine does concerns all alike.
fn with_several_objectives() {
    println!(
        "\n| function | trials | one objective, ms | and one known cost | times | and three of the target | times |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for name in ["L16Z2", "L16Z3", "L32Z3"] {
        for trials in [16, 64, 128] {
            let one = study(&Landscape::named(name).expect("a known landscape"), trials);
            let two = with_costs(&one, &["cache"], attention());
            let rounds = (0..9).map(|_| {
                let four = with_costs(&one, &["cache", "work", "parameters"], of_target());
                [&one, &two, &four].map(|study| 1e3 * seconds(|| Box::new(GpBo::default()), study))
            });
            let rounds: Vec<_> = rounds.collect();
            let median = |of: &dyn Fn(&[f64; 3]) -> f64| {
                let mut values: Vec<_> = rounds.iter().map(of).collect();
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            let [one, two, four] = [0, 1, 2].map(|at| median(&|round| round[at]));
            let [twice, four_times] = [1, 2].map(|at| median(&|round| round[at] / round[0]));
            println!("| {name} | {trials} | {one:.1} | {two:.1} | {twice:.2} | {four:.1} | {four_times:.2} |");
        }
    }
}

/// Seconds of the first proposal of a fresh searcher.
fn seconds(make: impl Fn() -> Box<dyn Searcher>, study: &Study) -> f64 {
    let start = Instant::now();
    make().ask(study, &mut Seed(1).rng("ask", 0)).expect("a proposal");
    start.elapsed().as_secs_f64()
}

/// Median seconds of `N` first proposals of fresh searchers.
fn median_seconds<const N: usize>(make: impl Fn() -> Box<dyn Searcher>, study: &Study) -> f64 {
    let mut times = [0; N].map(|_| seconds(&make, study));
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
    if filter.as_deref() != Some("several") {
        by_observations(filter.as_deref());
        against_peers();
    }
    with_several_objectives();
}
