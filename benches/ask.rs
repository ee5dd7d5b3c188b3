//! The cost of one proposal, fit included, against the number of observations.
//!
//! `cargo bench --bench ask` measures it on one thread; `-- gp_bo/16x2` selects.

use composer_nas::{prelude::*, testkit::landscape::Landscape};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

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

fn ask(criterion: &mut Criterion) {
    let searchers: [(&str, Make); 3] = [
        ("gp_bo", || Box::new(GpBo::default())),
        ("gp_bo_composer", || Box::new(GpBo::composer())),
        ("evolution", || Box::new(RegularizedEvolution::default())),
    ];
    for (name, make) in searchers {
        for (size, landscape) in [("16x2", "L16Z2"), ("32x3", "L32Z3")] {
            let landscape = Landscape::named(landscape).expect("a known landscape");
            let mut group = criterion.benchmark_group(format!("{name}/{size}"));
            group.sample_size(10);
            for trials in [16, 64, 128, 256] {
                let study = study(&landscape, trials);
                group.bench_function(BenchmarkId::from_parameter(trials), |bencher| {
                    bencher.iter(|| make().ask(&study, &mut Seed(1).rng("ask", 0)).expect("a proposal"));
                });
            }
        }
    }
}

criterion_group!(benches, ask);
criterion_main!(benches);
