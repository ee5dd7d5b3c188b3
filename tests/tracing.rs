//! What a search emits through `tracing`; alone in its process, since subscribers are global.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use composer_nas::prelude::*;
use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// Writes down the messages of events, and the names of spans with their fields.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &match field.name() {
            "message" => format!("{value:?} "),
            name => format!("{name}={value:?} "),
        };
    }
}

impl Subscriber for Heard {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "composer_nas::search"
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = Text(format!("span {} ", span.metadata().name()));
        span.record(&mut text);
        self.note(text.0);
        Id::from_u64(1)
    }
    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.note(text.0);
    }
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

#[test]
fn a_search_says_what_happens() {
    let heard = Heard::default();
    tracing::subscriber::set_global_default(heard.clone()).unwrap();
    let primitives = Primitives::standard();
    let space = SearchSpace::uniform(primitives.symbols(["A", "M"]).unwrap(), 1).unwrap();
    let evaluator = from_fn("test", |trial: &Trial, _: &Context| match trial.architecture.letters().as_str() {
        "M" => Err(EvalError::Infeasible("no".into())),
        _ => Ok(Report::score("accuracy", 1.0)),
    });
    Pipeline::new(&primitives, space, evaluator).trials(2).workers(1).run(&Target::llama_350m()).unwrap();
    let heard = heard.0.lock().unwrap();
    let expected = [
        "search started trials=0 budget=2",
        "trial proposed trial=1 architecture=1",
        "span trial id=0 architecture=1",
        "trial completed trial=",
        "trial failed trial=",
        "search finished trials=2",
    ];
    for text in expected {
        assert!(heard.iter().any(|heard| heard.starts_with(text)), "{text}: {heard:#?}");
    }
}
