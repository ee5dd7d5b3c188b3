//! The laws that need a whole search or real training; the other ones are checked beside their testkit functions.
#![cfg(feature = "flex")]

mod toy;

use composer_nas::{
    evaluate::mad::{Mad, Protocol},
    prelude::*,
    search::{Incremental, RegularizedEvolution, Side},
    study::{Origin, TrialId},
    testkit,
};

#[test]
fn mad_is_a_function_of_the_trial() {
    let text = include_str!("fixtures/tiny_protocol.json");
    let protocol: Protocol = serde_json::from_str(text).unwrap();
    let mad = Mad::new(protocol, &Primitives::standard(), &Device::flex()).unwrap();
    let trial =
        |(id, text): (u64, &str)| Trial::new(TrialId(id), text.parse().unwrap(), Seed(id % 2), Origin::Searcher);
    let trials: Vec<_> = (0..).zip(["AM", "AM", "AFAM", "MMM", "A"]).map(trial).collect();
    testkit::evaluator::check(&mad, &trials, &Goal::default()).unwrap();
}

#[test]
fn interrupted_searches_end_alike() {
    let folder = tempfile::tempdir().unwrap();
    for workers in [1, 3] {
        let place = folder.path().join(workers.to_string());
        let pipeline = || {
            let pipeline = Pipeline::new(&Primitives::standard(), toy::space(), toy::evaluator());
            let evolution = RegularizedEvolution::new(6, 2).unwrap();
            pipeline.searcher(evolution).trials(16).seed(5).workers(workers)
        };
        testkit::pipeline::check(pipeline, &Target::llama_350m(), &place).unwrap();
    }
}

#[test]
fn interrupted_incremental_searches_end_alike() {
    let folder = tempfile::tempdir().unwrap();
    for (side, workers) in [(Side::End, 1), (Side::Middle, 1), (Side::Middle, 3)] {
        let place = folder.path().join(format!("{side:?}{workers}"));
        let pipeline = || {
            let pipeline = Pipeline::new(&Primitives::standard(), toy::space(), toy::evaluator());
            let grown = Incremental::new(RegularizedEvolution::new(3, 2).unwrap(), side, 2, 4).unwrap();
            pipeline.searcher(grown).trials(14).seed(5).workers(workers)
        };
        testkit::pipeline::check(pipeline, &Target::llama_350m(), &place).unwrap();
    }
}
