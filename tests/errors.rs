//! An error says what failed and what to do, its source says why: printed as a chain, nothing is said twice.
#![cfg(feature = "flex")]

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use composer_nas::{
    data::Corpus,
    downstream::Benchmark,
    evaluate::{Table, TableFile, mad::Protocol},
    evidence::Evidence,
    import, isoflop, journal,
    pipeline::{RunFolder, read_model},
    prelude::*,
    report::Page,
    text, weights,
};

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The message of an error and the fields that stand below it.
fn repeats_its_source(message: &str, fields: &str) -> bool {
    let named = fields.contains("source:") && (message.contains("{source") || message.contains(".source"));
    let first = fields.split_once('(').is_some_and(|(name, rest)| {
        name.trim().chars().all(char::is_alphanumeric)
            && (rest.trim_start().starts_with("#[from]") || rest.trim_start().starts_with("#[source]"))
    });
    named || first && (message.contains("{0") || message.contains(".0"))
}

#[test]
fn no_message_repeats_its_source() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut messages = 0;
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        for rest in text.split("#[error(").skip(1) {
            let (message, fields) = rest.split_once(")]").unwrap();
            // The next variant begins with its documentation, four spaces deep; an enum ends with a brace.
            let fields = fields.split("\n    ///").next().unwrap().split("\n}").next().unwrap();
            assert!(!repeats_its_source(message, fields), "{}: {message}", file.display());
            messages += 1;
        }
    }
    assert!(messages > 200, "{messages}");
    assert!(repeats_its_source("\"cannot open: {source}\"", "\n    Open {\n        source: io::Error,"));
    assert!(repeats_its_source("\"failed: {0}\"", "\n    Failed(#[from] io::Error),"));
}

/// What a folder answers that has a file in its place: the I/O error once, at the end of the chain.
fn check(error: impl Error + Send + Sync + 'static) {
    let text = text::causes(&error);
    let error = anyhow::Error::new(error);
    assert_eq!(format!("{error:#}"), text);
    let links: Vec<_> = error.chain().map(ToString::to_string).collect();
    for (at, link) in links.iter().enumerate() {
        assert_eq!(text.matches(link.as_str()).count(), 1, "{link:?} in {text}");
        assert!(links[..at].iter().all(|earlier| !earlier.contains(link.as_str())), "{text}");
    }
    assert!(links.len() > 1, "no cause: {text}");
}

#[test]
fn real_errors_say_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "{").unwrap();
    let below = file.join("below");
    let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 2).unwrap();
    let evaluator = from_fn("one", |_: &Trial, _: &Context| Ok(Report::score("accuracy", 1.0)));
    let standard = Primitives::standard();
    let device = Device::flex();

    let pipeline = Pipeline::new(&standard, space.clone(), evaluator).journal(&below);
    check(pipeline.run(&Target::llama_1b()).unwrap_err());
    check(journal::read(&below).unwrap_err());
    check(RunFolder::read(below.join("journal.jsonl")).unwrap_err());
    check(read_model(&below, &standard).unwrap_err());
    check(read_model(&file, &standard).unwrap_err());
    check(Table::read(&below).unwrap_err());
    check(TableFile::open(&below, Table::new(["a"]).unwrap()).unwrap_err());
    check(Evidence::read(&below).unwrap_err());
    check(Evidence::read(&file).unwrap_err());
    check(Corpus::open(&below).unwrap_err());
    check(Benchmark::Arc.read(&below).unwrap_err());
    check(isoflop::read(&below).unwrap_err());
    check(import::hugging_face(&below, &standard, &device, import::Rope::Halves).unwrap_err());
    let dims = Dims::new(8, 24, 2).unwrap();
    let spec = Target::custom("tiny", dims, 10, true, 1).unwrap().baseline_model();
    let model = HybridLm::new(&spec, &standard, Seed(0), &device).unwrap();
    check(weights::load(model.clone(), &below).unwrap_err());
    check(weights::load(model, &file).unwrap_err());
    let study = Study::new(space, Goal::default());
    check(Page::new(&study).write(&below).unwrap_err());

    let narrow = include_str!("fixtures/tiny_protocol.json").replace("\"d_model\": 8", "\"d_model\": 3");
    let protocol: Protocol = serde_json::from_str(&narrow).unwrap();
    let mad = Mad::new(protocol, &standard, &device).unwrap();
    check(mad.check([Symbol::ATTENTION]).unwrap_err());
    check("AA?".parse::<Architecture>().unwrap_err());
}
