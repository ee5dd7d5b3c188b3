//! Files that earlier versions wrote are read and gone on with. Those in `tests/fixtures/files/` were written by the
//! version of commit e908231, with `write_them` below; each holds a part of what is asked for here.
#![cfg(feature = "flex")]

mod toy;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use composer_nas::{
    aggregate::Best,
    data::{Corpus, TokenFile, TokenFormat, TokenWidth, TokenWriter},
    evaluate::{Cached, Row, Table, TableFile, corpus::CorpusProtocol, mad::Protocol},
    execute,
    isoflop::{Cell, Family, Grid, Measurement, measure},
    prelude::*,
    space::baseline,
    study::{Origin, TrialId},
};

const STORED: &str = "tests/fixtures/files";

/// A copy of the stored files, to go on with.
fn copies() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(STORED).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let root = folder.path().to_owned();
    (folder, move |name| root.join(name))
}

fn trial(text: &str, seed: u64) -> Trial {
    Trial::new(TrialId(0), text.parse().unwrap(), Seed(seed), Origin::Searcher)
}

fn search(journal: &Path, trials: usize) -> Study {
    let pipeline = Pipeline::new(&Primitives::standard(), toy::space(), toy::evaluator()).searcher(RandomSearch);
    let pipeline = pipeline.aggregator(Best).seed(9).trials(trials).journal(journal);
    pipeline.run(&Target::llama_1b()).unwrap().study
}

/// Evaluates trials with a cache; their reports, and how many were evaluated anew.
fn cached(path: &Path, seeds: std::ops::Range<u64>) -> (Vec<Report>, usize) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let evaluator = from_fn("toy", move |trial, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(Report::score("accuracy", toy::accuracy(trial)))
    });
    let cached = Cached::on_disk(evaluator, path).unwrap();
    let reports = seeds.map(|seed| cached.evaluate(&trial("2A+4M", seed), &Context::default()).unwrap()).collect();
    (reports, calls.load(Ordering::SeqCst))
}

/// Rows of a table that are measured where it lacks them; how many it lacked.
fn table(path: &Path, seeds: u64) -> (Table, usize) {
    let mut file = TableFile::open(path, Table::new(["recall"]).unwrap().measured_by("toy")).unwrap();
    let architecture: Architecture = "2A+4M".parse().unwrap();
    let missing: Vec<u64> = (0..seeds).filter(|&seed| !file.table().contains(&architecture, seed)).collect();
    for &seed in &missing {
        let values = vec![1.0 / (3.0 + seed as f64), 0.1 * seed as f64];
        file.append(Row { architecture: architecture.clone(), seed, values }).unwrap();
    }
    (file.table().clone(), missing.len())
}

/// One attempt at a trial on the synthetic tasks that keeps its trainings, or none.
fn kept(folder: Option<&Path>) -> Report {
    let protocol: Protocol = serde_json::from_str(include_str!("fixtures/tiny_protocol.json")).unwrap();
    let mad = Mad::new(protocol, &Primitives::standard(), &Device::flex()).unwrap();
    let context = Context::default();
    let context = folder.into_iter().fold(context, |context, folder| context.keep_in(folder.into()));
    execute::evaluate(&mad, &trial("AM", 5), &context).unwrap()
}

fn cells() -> Vec<Cell> {
    let primitives = Primitives::standard();
    let target = Target::custom("width 8", Dims::new(8, 16, 2).unwrap(), 256, true, 2).unwrap();
    let grid = Grid {
        families: vec![Family::of_blocks("llama", baseline::llama)],
        sizes: vec![target],
        budgets: vec![5e7, 1e8],
        protocol: CorpusProtocol {
            seq_len: 16,
            batch_size: 4,
            validation_windows: 4,
            evaluations: 1,
            ..CorpusProtocol::stories(1)
        },
        seeds: 1,
    };
    grid.plan(256, &primitives, 1).unwrap()
}

/// Measures cells; the measurements, and how many were trained anew.
fn measured(path: &Path, cells: &[Cell]) -> (Vec<Measurement>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("bytes.bin");
    let text: Vec<u32> = fs::read("tests/fixtures/text/harbour.txt").unwrap().into_iter().map(u32::from).collect();
    let mut writer = TokenWriter::create(&tokens, TokenFormat::Plain, TokenWidth::U8).unwrap();
    writer.document(&text).unwrap();
    writer.finish().unwrap();
    let corpus = Corpus::new(TokenFile::open(tokens, TokenWidth::U8).unwrap(), 256);
    let trained = AtomicUsize::new(0);
    let count = |_: usize, _: &Measurement| {
        trained.fetch_add(1, Ordering::SeqCst);
    };
    let all = measure(cells, &corpus, &Primitives::standard(), &Device::flex(), path, 1, &count).unwrap();
    (all, trained.into_inner())
}

#[test]
fn a_journal_goes_on() {
    let (_folder, at) = copies();
    let resumed = search(&at("journal.jsonl"), 6);
    assert_eq!(toy::outcomes(&resumed), toy::outcomes(&search(&at("new.jsonl"), 6)));
    let resumed = fs::read_to_string(at("journal.jsonl")).unwrap();
    assert!(resumed.starts_with(&fs::read_to_string(Path::new(STORED).join("journal.jsonl")).unwrap()));
}

#[test]
fn a_cache_and_a_table_go_on() {
    let (_folder, at) = copies();
    let (reports, calls) = cached(&at("cache.jsonl"), 0..4);
    assert_eq!((reports, calls), (cached(&at("new.jsonl"), 0..4).0, 1));
    let (rows, missing) = table(&at("table.csv"), 4);
    assert_eq!((rows, missing), (table(&at("new.csv"), 4).0, 1));
}

#[test]
fn trainings_and_a_scaling_study_go_on() {
    let (folder, at) = copies();
    let stored = fs::read(at("trainings.jsonl")).unwrap();
    // Single precision differs between kinds of CPU: the trainings that are kept are those that are reported.
    let resumed = kept(Some(folder.path()));
    assert_eq!(resumed.tasks.len(), kept(None).tasks.len());
    let now = fs::read(at("trainings.jsonl")).unwrap();
    assert!(now.starts_with(&stored) && now.len() > stored.len());
    let first: serde_json::Value = serde_json::from_slice(stored.split(|&byte| byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(serde_json::to_value(&resumed.tasks[0].curve).unwrap(), first["task"]["curve"]);
    let cells = cells();
    let (all, trained) = measured(&at("study.jsonl"), &cells);
    assert_eq!((all.len(), trained), (cells.len(), cells.len() - 1));
    let first: Measurement = serde_json::from_str(
        fs::read_to_string(Path::new(STORED).join("study.jsonl")).unwrap().lines().next().unwrap(),
    )
    .unwrap();
    assert_eq!(all[0], first);
}

#[test]
#[ignore = "writes the stored files anew"]
fn write_them() {
    fs::create_dir_all(STORED).unwrap();
    let at = |name: &str| Path::new(STORED).join(name);
    search(&at("journal.jsonl"), 4);
    cached(&at("cache.jsonl"), 0..3);
    table(&at("table.csv"), 3);
    kept(Some(Path::new(STORED)));
    // The last training is done again by who goes on.
    let kept = fs::read_to_string(at("trainings.jsonl")).unwrap();
    let lines: Vec<_> = kept.lines().collect();
    fs::write(at("trainings.jsonl"), lines[..lines.len() - 1].join("\n") + "\n").unwrap();
    measured(&at("study.jsonl"), &cells()[..1]);
}
