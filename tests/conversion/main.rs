//! Trained models as hybrids: grafting, libraries, evaluation, searches, healing.
#![cfg(feature = "flex")]

mod damaged;
#[cfg(feature = "tokenizers")]
mod gguf;
mod healing;
#[cfg(target_os = "linux")]
#[path = "../mount/mod.rs"]
mod mount;
mod planted;

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use burn::tensor::{Int, Tensor};
use composer_nas::{
    convert::*,
    data::{Corpus, TokenFile, TokenFormat, TokenWidth, TokenWriter, Windows},
    dims::{InitScheme, QueryKeyNorm},
    evaluate::Cached,
    export, import,
    model::HybridLm,
    prelude::*,
    primitive::{CustomAttention, SlidingWindow},
    study::{Origin, TrialId},
    testkit,
    train::TokenBatch,
};

const VOCABULARY: usize = 13;

/// Grouped queries, so that keys and values are repeated.
fn dims() -> Dims {
    Dims { kv_heads: 2, ..Dims::new(32, 48, 4).unwrap() }
}

fn spec(architecture: &str) -> ModelSpec {
    let target = Target::custom("tiny", dims(), VOCABULARY, true, 1).unwrap();
    ModelSpec { init: InitScheme::FanIn, ..target.model(architecture.parse().unwrap()) }
}

/// Attention, windows, none, and recurrences whose sizes fit.
fn primitives() -> Primitives {
    let all = Primitives::paper().with(SlidingWindow::new(4).unwrap()).unwrap();
    let all = all.with(mamba2_like(&dims()).unwrap()).unwrap();
    all.with(gated_delta_net_like(&dims()).unwrap()).unwrap().with(NoLayer).unwrap()
}

fn parent(architecture: &str) -> Parent {
    let spec = spec(architecture);
    let model = HybridLm::new(&spec, &primitives(), Seed(5), &Device::flex()).unwrap();
    Parent::new(spec, model).unwrap()
}

/// Tokens of which each depends on two before it.
fn corpus(folder: &Path) -> Corpus {
    let mut tokens = vec![1_u32, 2];
    for at in 2..4000 {
        tokens.push((tokens[at - 1] * 3 + tokens[at - 2] + (at * at / 7) as u32) % VOCABULARY as u32);
    }
    let path = folder.join("text.bin");
    let mut writer = TokenWriter::create(&path, TokenFormat::Plain, TokenWidth::U8).unwrap();
    writer.document(&tokens).unwrap();
    writer.finish().unwrap();
    Corpus::new(TokenFile::open(path, TokenWidth::U8).unwrap(), VOCABULARY)
}

fn windows(folder: &Path) -> [Windows; 2] {
    let corpus = corpus(folder);
    Windows::split(corpus.tokens.clone(), corpus.vocab_size, 24, 0.2).unwrap()
}

fn settings() -> LocalDistillation {
    LocalDistillation { windows: 8, held_out: 2, batch_size: 2, steps: 30, learning_rate: 5e-3, seed: Seed(1) }
}

fn library(parent: &Parent, alternatives: &Alternatives, folder: &Path) -> Result<BlockLibrary, ConvertError> {
    build(parent, alternatives, &settings(), folder, &|_| {})
}

fn build(
    parent: &Parent,
    alternatives: &Alternatives,
    settings: &LocalDistillation,
    folder: &Path,
    observer: &(dyn Fn(&BlockRecord) + Sync),
) -> Result<BlockLibrary, ConvertError> {
    let [text, _] = windows(folder);
    let primitives = primitives();
    let recipe = LibraryRecipe { parent, primitives: &primitives, alternatives, text: &text, settings };
    BlockLibrary::build(&recipe, folder.join("library"), 2, observer)
}

fn held_out(folder: &Path, count: u64) -> Vec<TokenBatch> {
    windows(folder)[1].sample(count, 1).unwrap()
}

fn symbols(letters: &str) -> Vec<Symbol> {
    letters.chars().map(|letter| letter.try_into().unwrap()).collect()
}

fn logits(model: &HybridLm, length: usize) -> Vec<f32> {
    let tokens: Vec<i32> = (0..length).map(|at| (at * at % VOCABULARY) as i32).collect();
    let tokens = Tensor::<1, Int>::from_data(&tokens[..], &Device::flex()).reshape([1, length]);
    model.forward(tokens).into_data().try_into_vec().unwrap()
}

#[test]
fn every_layer_keeps_what_it_can_of_the_parent() {
    let parent = parent("AMAM");
    let inherited = |architecture: &str| inherit(&parent, &spec(architecture), &primitives(), Seed(2)).unwrap();
    // As long as the window holds all tokens, nothing changes, bit for bit.
    assert_eq!(logits(&inherited("SMSM"), 4), logits(parent.model(), 4));
    assert_ne!(logits(&inherited("SMSM"), 9), logits(parent.model(), 9));
    assert_eq!(logits(&inherited("AMAM"), 9), logits(parent.model(), 9));

    let other = ModelSpec { vocab_size: 14, ..spec("AMAM") };
    let error = inherit(&parent, &other, &primitives(), Seed(2)).unwrap_err().to_string();
    assert!(error.contains("vocab_size") && error.contains("14"), "{error}");
    assert!(inherit(&parent, &spec("AMA"), &primitives(), Seed(2)).is_err());
}

#[test]
fn blocks_learn_and_a_library_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let parent = parent("AMAM");
    let alternatives = Alternatives::of(&parent.spec().architecture, Symbol::ATTENTION, symbols("SBGN"));
    let first = library(&parent, &alternatives, folder).unwrap();
    assert_eq!(first.records().count(), 8);
    for (symbol, record) in first.records() {
        match char::from(symbol) {
            'S' => assert!(record.steps == 0 && record.error == record.start_error && record.error > 0.0),
            'N' => assert!((record.error - 1.0).abs() < 1e-6, "nothing is as wrong as nothing"),
            _ => assert!(record.steps == 30 && record.error < 0.8 * record.start_error, "{record:?}"),
        }
    }
    assert!(!folder.join("library/activations").exists());
    let architecture: Architecture = "BMGM".parse().unwrap();
    let whole = logits(&first.assemble(&architecture).unwrap(), 12);

    // What was killed after its weights, and before its record, is made again alike; the rest is read.
    let record = json_of(folder, "layer-002-gated_delta_net");
    std::fs::remove_file(&record).unwrap();
    let again = library(&parent, &alternatives, folder).unwrap();
    assert_eq!(logits(&again.assemble(&architecture).unwrap(), 12), whole);
    assert!(record.exists());
    // A library that is complete only reads.
    let heard = Mutex::new(0);
    let third = build(&parent, &alternatives, &settings(), folder, &|_| *heard.lock().unwrap() += 1).unwrap();
    assert_eq!(*heard.lock().unwrap(), 8);
    let missing = third.assemble(&"MMGM".parse().unwrap()).unwrap_err().to_string();
    assert!(missing.contains("no M for layer 0"), "{missing}");
}

/// The record whose name begins like this.
fn json_of(folder: &Path, start: &str) -> std::path::PathBuf {
    let entries = std::fs::read_dir(folder.join("library/blocks")).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(start) && name.ends_with(".json")
    };
    entries.into_iter().find(named).unwrap()
}

#[test]
fn a_candidate_is_judged_from_its_first_other_layer_as_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let parent = parent("AMAMAM");
    let alternatives = Alternatives::of(&parent.spec().architecture, Symbol::ATTENTION, symbols("SN"));
    let library = Arc::new(library(&parent, &alternatives, folder).unwrap());
    let evaluator = Distillation::new(library.clone(), &alternatives, held_out(folder, 3)).unwrap();
    let report = |architecture: &str| {
        let trial = Trial::new(TrialId(0), architecture.parse().unwrap(), Seed(3), Origin::Searcher);
        evaluator.evaluate(&trial, &Context::default()).unwrap()
    };
    let own = report("AMAMAM");
    assert_eq!((own.scores[KL], own.standard_error), (0.0, Some(0.0)));
    let mean = {
        let sum: f64 = held_out(folder, 3).iter().map(|batch| loss(parent.model(), batch)).sum();
        sum / 3.0
    };
    assert!((own.scores[LOSS] - mean).abs() < 1e-5, "{} {mean}", own.scores[LOSS]);
    for architecture in ["AMAMSM", "SMAMAM", "AMNMSM"] {
        let report = report(architecture);
        let whole = library.assemble(&architecture.parse().unwrap()).unwrap();
        let judged = evaluator.judge(&whole).unwrap();
        assert_eq!((report.scores[KL], report.scores[LOSS]), (judged.scores[KL], judged.scores[LOSS]));
        assert!(report.scores[KL] > 0.0 && report.standard_error.unwrap() > 0.0);
    }
    let trial = |architecture: &str| Trial::new(TrialId(0), architecture.parse().unwrap(), Seed(3), Origin::Searcher);
    testkit::evaluator::check(&evaluator, &[trial("AMAMSM"), trial("NMSMAM")], &Goal::minimize(KL)).unwrap();

    // A layer that is none can be taken out.
    let spec = library.spec(&"AMNMSM".parse().unwrap());
    let model = library.assemble(&spec.architecture).unwrap();
    let (shorter, taken) = without_empty_layers(&spec, &model, &primitives()).unwrap();
    assert_eq!(shorter.architecture.letters(), "AMMSM");
    assert_eq!(logits(&taken, 12), logits(&model, 12));
}

/// Loss of a batch by the trainer's own function.
fn loss(model: &HybridLm, batch: &TokenBatch) -> f64 {
    let logits = model.forward(batch.tokens(&Device::flex()));
    f64::from(composer_nas::train::cross_entropy(logits, batch).into_scalar::<f32>())
}

#[test]
fn a_parent_of_other_layers_says_which_registry_it_needs() {
    let qwen3 = CustomAttention { norm: QueryKeyNorm::PerHead, ..CustomAttention::default() };
    let registry = Primitives::standard().replacing(qwen3);
    let spec = spec("AMAM");
    let model = HybridLm::new(&spec, &registry, Seed(3), &Device::flex()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("qwen3");
    let options = export::Options { format: export::Format::Qwen3, ..export::Options::default() };
    export::hugging_face(&spec, Some(&model), &registry, &folder, &options).unwrap();
    let refused = Parent::open(&folder, &Primitives::standard(), &Device::flex()).err().unwrap();
    let words = composer_nas::text::causes(&refused);
    assert!(words.contains("the model's A is attention_") && words.contains("import::describe"), "{words}");
    let described = import::describe(&folder, &Primitives::standard()).unwrap();
    let parent = Parent::open(&folder, &described.primitives, &Device::flex()).unwrap();
    assert_eq!(parent.spec().architecture, spec.architecture);
}
