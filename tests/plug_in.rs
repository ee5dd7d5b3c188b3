//! A stand-in for a downstream crate: a layer of its own, checked against the laws, in a search over three primitives.

mod plugged_conv;

use composer_nas::{
    evaluate::mad::{Mad, Protocol},
    prelude::*,
    testkit,
};
use plugged_conv::PluggedConv;

#[test]
fn a_plug_in_keeps_the_laws() {
    testkit::primitive::check(&PluggedConv, &Device::flex()).unwrap();
}

#[test]
fn a_plug_in_is_searched_beside_our_layers() {
    let primitives = Primitives::standard().with(PluggedConv).unwrap();
    let symbols = primitives.symbols(["attention", "swiglu", "plugged_conv"]).unwrap();
    let conv = symbols[2];
    let space = SearchSpace::uniform(symbols, 3).unwrap().count(conv, 1..=3).unwrap();
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
        assert!(observation.trial.architecture.count(conv) >= 1 && observation.report.parameters > 0);
    }
    assert!(found.aggregated.count(conv) >= 1 && found.target.architecture.count(conv) >= 1);
    // The journal knows what the letter stands for: another layer under it is refused.
    assert_eq!(search().study, found.study);
    let impostor = FnPrimitive::new(
        "other_conv",
        'K',
        Role::Sequence,
        |_, _| LayerCost::default(),
        |_, _, _| Err(BuildError::EmptyArchitecture),
    );
    let others = Primitives::standard().with(impostor.unwrap()).unwrap();
    let other = Pipeline::new(&others, space.clone(), mad.clone()).trials(12).workers(2).seed(1);
    let error = other.journal(folder.path().join("journal.jsonl")).run(&Target::llama_350m()).unwrap_err();
    assert!(error.to_string().contains("other_conv"), "{error}");
}
