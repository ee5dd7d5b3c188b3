//! The committed table of the protocol `quick`: what `docs/proxy.md` says of it, and a search that replays it.
#![cfg(feature = "flex")]

use composer_nas::{
    aggregate::NcClustering,
    evaluate::{Table, TabularEvaluator, mad::Protocol},
    prelude::*,
};

fn table() -> Table {
    Table::read(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/data/quick.csv")).unwrap()
}

fn space(layers: usize) -> SearchSpace {
    SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], layers).unwrap()
}

#[test]
fn it_was_measured_with_the_protocol_as_it_is() {
    let table = table();
    let quick = Mad::quick(&Primitives::standard(), &Device::flex()).fingerprint();
    assert!(table.evaluator().is_some_and(|evaluator| evaluator.starts_with(&quick)), "measure the table again");
    assert_eq!(table.seeds(), [0, 1, 2, 3, 4, 5]);
    for layers in [2, 4, 6] {
        table.of_length(layers).complete(&space(layers)).unwrap();
    }
}

#[test]
fn the_documents_name_its_trainings() {
    let quick = Protocol::quick();
    let repeats: Vec<usize> = quick.trainings.iter().map(|training| training.repeats).collect();
    let steps: Vec<usize> = quick.trainings.iter().map(|training| training.train.steps).collect();
    let text = include_str!("../docs/mad.md");
    assert!(text.contains(&format!("recall ({} times) and copying ({} times)", repeats[0], repeats[1])));
    assert!(text.contains(&format!("| {} and {}, {} |", steps[0], steps[1], quick.trainings[0].train.batch_size)));
}

#[test]
fn known_architectures_stand_where_the_documents_say() {
    let table = table().of_length(6);
    let rank = |text: &str| table.rank(&text.parse().unwrap()).unwrap();
    let ranks = ["AAMMMM", "AAMMMA", "AAMAMM", "AAAMMM", "AMAMAM", "AMMAMM", "MMMMMM"].map(rank);
    assert_eq!(ranks, [1, 2, 5, 7, 19, 40, 64]);
    let study = table.study(&space(6)).unwrap();
    let aggregated =
        [NcClustering::n0(), NcClustering::full_prefix()].map(|by| by.aggregate(&study).unwrap().to_string());
    assert_eq!(aggregated, ["3A+3M", "2A+4M"]);
    let reliability = table.reliability(1, 20, Seed(0)).unwrap();
    assert!(reliability.value > 0.9 && reliability.low > 0.8, "{reliability:?}");
}

#[test]
fn a_search_replays_it() {
    let primitives = Primitives::standard();
    let search = |seed| {
        Pipeline::new(&primitives, space(6), TabularEvaluator::new(table()))
            .trials(24)
            .seed(seed)
            .run(&Target::llama_1b())
            .unwrap()
    };
    let table = table().of_length(6);
    let regrets: Vec<f64> = (0..4).map(|seed| table.regret(&search(seed).aggregated).unwrap()).collect();
    // The mean of all 64 has a regret of 0.062.
    assert!(regrets.iter().sum::<f64>() / 4.0 < 0.05, "{regrets:?}");
    assert_eq!(search(1).aggregated, search(1).aggregated);
}
