//! A stand-in for a downstream crate: a layer of its own, checked against the laws, in a search over three primitives.
#![cfg(feature = "flex")]

#[path = "../examples/plug_in_primitive/layer.rs"]
mod layer;

use composer_nas::{
    evaluate::mad::{Mad, Protocol},
    prelude::*,
    primitive::{BuildError, FnPrimitive, LayerCost, Role},
    testkit,
};
use layer::running_mean;

#[test]
fn the_walk_through_shows_the_layer_that_is_tested() {
    let text = include_str!("../docs/plug_in.md");
    let layer = include_str!("../examples/plug_in_primitive/layer.rs");
    assert!(text.contains(layer), "docs/plug_in.md and examples/plug_in_primitive/layer.rs differ");
    assert!(layer.lines().count() < 60);
}

#[test]
fn a_plug_in_keeps_the_laws() {
    testkit::primitive::check(&running_mean().unwrap(), &Device::flex()).unwrap();
}

#[test]
fn a_plug_in_is_searched_beside_our_layers() {
    let primitives = Primitives::standard().with(running_mean().unwrap()).unwrap();
    let symbols = primitives.symbols(["attention", "swiglu", "running_mean"]).unwrap();
    let own = symbols[2];
    let space = SearchSpace::uniform(symbols, 3).unwrap().count(own, 1..=3).unwrap();
    let protocol: Protocol = serde_json::from_str(include_str!("fixtures/tiny_protocol.json")).unwrap();
    let mad = Mad::new(protocol, &primitives, &Device::flex()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let search = || {
        let pipeline = Pipeline::new(&primitives, space.clone(), mad.clone()).trials(12).workers(2).seed(1);
        pipeline.journal(folder.path().join("journal.jsonl")).run(&Target::llama_350m()).unwrap()
    };
    let found = search();
    assert_eq!(found.study.observations().count(), 12);
    for observation in found.study.observations() {
        assert!(observation.trial.architecture.count(own) >= 1 && observation.report.parameters > 0);
    }
    assert!(found.aggregated.count(own) >= 1 && found.target.architecture.count(own) >= 1);
    // The journal knows what the letter stands for: another layer under it is refused.
    assert_eq!(search().study, found.study);
    let impostor = FnPrimitive::new(
        "another_mean",
        'K',
        Role::Sequence,
        |_, _| LayerCost::default(),
        |_, _, _| Err(BuildError::EmptyArchitecture),
    );
    let others = Primitives::standard().with(impostor.unwrap()).unwrap();
    let other = Pipeline::new(&others, space.clone(), mad.clone()).trials(12).workers(2).seed(1);
    let error = other.journal(folder.path().join("journal.jsonl")).run(&Target::llama_350m()).unwrap_err();
    assert!(error.to_string().contains("another_mean"), "{error}");
    // So is a registry without it, and a journal that names a layer nobody here knows.
    let fewer = Pipeline::new(&Primitives::standard(), space.clone(), mad.clone()).trials(12);
    let error = fewer.run(&Target::llama_350m()).unwrap_err().to_string();
    assert!(error.contains("unknown primitive \"K\"") && error.contains("swiglu (M)"), "{error}");
    let path = folder.path().join("journal.jsonl");
    let foreign = std::fs::read_to_string(&path).unwrap().replace("running_mean", "mamba9");
    std::fs::write(&path, foreign).unwrap();
    let again = Pipeline::new(&primitives, space, mad).trials(12).workers(2).seed(1).journal(path);
    let error = again.run(&Target::llama_350m()).unwrap_err().to_string();
    assert!(error.contains("mamba9") && error.contains("choose another run name"), "{error}");
}
