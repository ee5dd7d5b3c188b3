//! Candidates trained on text.
#![cfg(feature = "flex")]

use std::fs;

use burn::tensor::Device;
use composer_nas::{
    cost::{ModelCost, Workload},
    data::{Corpus, TokenFile, TokenFormat, TokenWidth, TokenWriter},
    dims::InitScheme,
    evaluate::{
        CancelToken,
        corpus::{CorpusEvaluator, CorpusProtocol, TrainBudget},
    },
    execute,
    prelude::*,
    study::{Origin, TrialId},
    testkit,
    train::AdamWConfig,
};

/// The bytes of the text are the tokens.
fn corpus(folder: &std::path::Path) -> Corpus {
    let text: Vec<u32> = fs::read("tests/fixtures/text/harbour.txt").unwrap().into_iter().map(u32::from).collect();
    let path = folder.join("bytes.bin");
    let mut writer = TokenWriter::create(&path, TokenFormat::Plain, TokenWidth::U8).unwrap();
    writer.document(&text).unwrap();
    writer.finish().unwrap();
    let file = TokenFile::open(path, TokenWidth::U8).unwrap();
    Corpus { token_bytes: Some(vec![1; 256].into()), ..Corpus::new(file, 256) }
}

fn protocol(tokens: u64) -> CorpusProtocol {
    CorpusProtocol {
        dims: Dims::new(16, 32, 2).unwrap(),
        init: InitScheme::FanIn,
        seq_len: 24,
        batch_size: 8,
        budget: TrainBudget::Tokens(tokens),
        learning_rate: 2e-2,
        optimizer: AdamWConfig::default(),
        clip_norm: 1.0,
        evaluations: 4,
        validation_share: 0.1,
        validation_windows: 6,
    }
}

fn evaluator(folder: &std::path::Path, protocol: CorpusProtocol) -> CorpusEvaluator {
    CorpusEvaluator::new(protocol, &corpus(folder), &Primitives::standard(), &Device::flex()).unwrap()
}

fn trial(architecture: &str) -> Trial {
    Trial::new(TrialId(0), architecture.parse().unwrap(), Seed(3), Origin::Searcher)
}

#[test]
fn candidates_learn_and_reports_say_what_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let evaluator = evaluator(folder.path(), protocol(60 * 8 * 24));
    let report = execute::evaluate(&evaluator, &trial("AM"), &Context::default()).unwrap();
    let score = |name: &str| report.scores[name];
    // The most frequent byte of the text is the space, 18 % of it; guessing by frequencies costs about 2.9 nats.
    assert!(score("loss") < 3.1 && score("accuracy") > 0.15, "{report:?}");
    assert!((score("bits_per_byte") - score("loss") / std::f64::consts::LN_2).abs() < 1e-12);
    assert_eq!(report.curve.iter().map(|&(step, _)| step).collect::<Vec<_>>(), [15, 30, 45, 60]);
    assert_eq!(report.curve.last().unwrap().1, score("accuracy"));
    let model = evaluator.protocol().model("AM".parse().unwrap(), 256);
    let cost = ModelCost::new(&model, &Primitives::standard(), Workload::bf16(24)).unwrap();
    assert_eq!(report.parameters, cost.total_parameters);
    assert_eq!(report.train_flops, Some(cost.train_flops_per_token as f64 * 60.0 * 8.0 * 24.0));
}

#[test]
fn the_law_of_evaluators_holds() {
    let folder = tempfile::tempdir().unwrap();
    let evaluator = evaluator(folder.path(), protocol(8 * 8 * 24));
    testkit::evaluator::check(&evaluator, &["AM", "MA", "AAM"].map(trial), &Goal::default()).unwrap();
}

#[test]
fn fingerprints_know_protocol_and_text() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [one, moved] = folders.each_ref().map(|folder| evaluator(folder.path(), protocol(100)).fingerprint());
    assert_eq!(one, moved, "the same text elsewhere");
    assert_ne!(evaluator(folders[0].path(), protocol(101)).fingerprint(), one);
    let text = folders[0].path().join("bytes.bin");
    let mut bytes = fs::read(&text).unwrap();
    bytes[1000] ^= 1;
    fs::write(&text, bytes).unwrap();
    let changed = Corpus::new(TokenFile::open(&text, TokenWidth::U8).unwrap(), 256);
    let changed = CorpusEvaluator::new(protocol(100), &changed, &Primitives::standard(), &Device::flex()).unwrap();
    assert_ne!(changed.fingerprint(), one);
}

#[test]
fn divergence_is_a_score_and_cancelling_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let wild = CorpusProtocol { learning_rate: 1e30, clip_norm: 1e30, ..protocol(60 * 8 * 24) };
    let report = evaluator(folder.path(), wild).evaluate(&trial("AM"), &Context::default()).unwrap();
    assert_eq!((report.scores["accuracy"], report.scores["loss"]), (0.0, 256f64.ln()));
    assert!(report.tasks[0].diverged.is_some());
    let cancel = CancelToken::default();
    cancel.cancel();
    let cancelled = evaluator(folder.path(), protocol(9999)).evaluate(&trial("AM"), &Context::new(cancel, |_| ()));
    assert_eq!(cancelled, Err(EvalError::Cancelled));
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus(folder.path());
    let refused = |protocol| {
        let error = CorpusEvaluator::new(protocol, &corpus, &Primitives::standard(), &Device::flex());
        error.map(|_| ()).unwrap_err().to_string()
    };
    for (protocol, expected) in [
        (CorpusProtocol { budget: TrainBudget::Flops(f64::NAN), ..protocol(1) }, "budget"),
        (protocol(0), "budget"),
        (CorpusProtocol { batch_size: 0, ..protocol(1) }, "batch_size"),
        (CorpusProtocol { evaluations: 0, ..protocol(1) }, "evaluations"),
        (CorpusProtocol { seq_len: 9999, ..protocol(1) }, "a window of 9999"),
        (CorpusProtocol { validation_windows: 0, ..protocol(1) }, "number of windows"),
        (CorpusProtocol { learning_rate: -1.0, ..protocol(1) }, "learning_rate"),
    ] {
        assert!(refused(protocol).contains(expected));
    }
}

#[test]
fn a_search_runs_on_text_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let primitives = Primitives::standard();
    let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu"]).unwrap(), 2).unwrap();
    let search = |trials| {
        Pipeline::new(&primitives, space.clone(), evaluator(folder.path(), protocol(4 * 8 * 24)))
            .searcher(RandomSearch)
            .trials(trials)
            .workers(2)
            .seed(1)
            .journal(folder.path().join("journal.jsonl"))
            .run(&Target::llama_350m())
            .unwrap()
    };
    let first = search(2);
    let second = search(3);
    assert_eq!(second.study.trials()[..2], first.study.trials()[..]);
    assert_eq!(second.study.valid_trials(), 3);
}
