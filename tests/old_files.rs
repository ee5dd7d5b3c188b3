//! Files that earlier versions wrote: they are read, and searches go on from them.
//!
//! Those in `fixtures/old_files` were written before version 2 of the journal and are never written again.
#![cfg(feature = "flex")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use composer_nas::{
    evaluate::{Progress, Row, Table, TableFile, mad::Protocol},
    journal,
    prelude::*,
    stopping::MedianPruner,
    study::{FailureKind, TrialId, TrialState},
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/old_files").join(name)
}

/// A copy that may be written.
fn copied(name: &str, folder: &Path) -> PathBuf {
    let path = folder.join(name);
    fs::copy(fixture(name), &path).unwrap();
    path
}

fn space() -> SearchSpace {
    SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 6).unwrap()
}

/// Early attention is good, and a little depends on the seed.
fn score(trial: &Trial) -> f64 {
    let places = trial.architecture.layers().iter().enumerate();
    let early: f64 =
        places.filter(|(_, layer)| **layer == Symbol::ATTENTION).map(|(at, _)| 1.0 / (at + 1) as f64).sum();
    early / 4.0 + (trial.seed.0 % 1000) as f64 / 1e5
}

/// `plain.jsonl`: five trials of the default searcher.
fn plain(journal: &Path, trials: usize) -> Found {
    let evaluator = from_fn("early attention", |trial: &Trial, _: &Context| {
        Ok(Report { standard_error: Some(0.01), ..Report::score("accuracy", score(trial)) })
    });
    let pipeline = Pipeline::new(&Primitives::standard(), space(), evaluator).seed(11).trials(trials);
    pipeline.journal(journal).run(&Target::llama_1b()).unwrap()
}

/// `constrained.jsonl`: constraints, a stopping rule, and a trial of every fate.
fn constrained(journal: &Path, trials: usize) -> Found {
    let evaluator = from_fn("early attention, in steps", |trial: &Trial, context: &Context| {
        if trial.architecture.count(Symbol::ATTENTION) == 3 && trial.failed_attempts == 0 {
            return Err(EvalError::Transient("the node\u{1b} went away".into()));
        }
        if trial.architecture.layers()[1] == Symbol::SWIGLU {
            return Err(EvalError::Infeasible("MLP in the second place".into()));
        }
        for step in 1..=4 {
            let value = Some(score(trial) * step as f64 / 4.0);
            context.progress(Progress { stage: "all".into(), step, steps: 4, value });
            if context.cancelled() {
                return Err(EvalError::Cancelled);
            }
        }
        Ok(Report { parameters: 1234, train_flops: Some(1e9), ..Report::score("accuracy", score(trial)) })
    });
    let space = space().count(Symbol::ATTENTION, 1..=3).unwrap().max_run(Symbol::SWIGLU, 4).unwrap();
    let space = space.pin(5, Symbol::SWIGLU).unwrap();
    let pipeline = Pipeline::new(&Primitives::standard(), space, evaluator).seed(12).searcher(RandomSearch);
    let pipeline =
        pipeline.stop_early(MedianPruner::after(2, 2)).trials(trials).invalidate(TrialId(2), "a broken node");
    pipeline.journal(journal).run(&Target::llama_1b()).unwrap()
}

/// `mad.jsonl`: four trials of the example `search` with the tiny protocol.
fn mad(journal: &Path, trials: usize) -> Found {
    let primitives = Primitives::standard();
    let protocol: Protocol = serde_json::from_str(include_str!("fixtures/tiny_protocol.json")).unwrap();
    let evaluator = Mad::new(protocol, &primitives, &Device::flex()).unwrap();
    let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 3).unwrap();
    let pipeline = Pipeline::new(&primitives, space, evaluator).trials(trials).workers(2);
    pipeline.journal(journal).run(&Target::llama_1b()).unwrap()
}

/// `table.csv`: two columns, three architectures, three seeds.
fn table(path: &Path) -> TableFile {
    let empty = Table::new(["recall", "copying"]).unwrap().measured_by("early attention, twice");
    TableFile::open(path, empty).unwrap()
}

/// The trials without what a clock says.
fn timeless(study: &Study) -> Vec<Trial> {
    let mut trials: Vec<Trial> = study.trials().iter().map(|trial| (**trial).clone()).collect();
    for trial in &mut trials {
        if let TrialState::Completed(report) = &mut trial.state {
            report.wall_seconds = 0.0;
        }
    }
    trials
}

#[test]
fn a_plain_journal_is_read_and_goes_on_as_if_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (setup, study) = journal::read(fixture("plain.jsonl")).unwrap();
    let path = copied("plain.jsonl", folder.path());
    assert_eq!((setup.seed, setup.primitives.len(), study.valid_trials()), (Seed(11), 2, 5));
    assert_eq!((setup.workers, setup.eager, setup.aggregator, setup.extrapolator), (None, false, None, None));
    assert_eq!(study.trials()[0].seed, Seed(11).derive("trial", 0));
    assert_eq!(journal::written_by(fixture("plain.jsonl")).unwrap(), "0.1.0");
    let resumed = plain(&path, 10).study;
    let whole = plain(&folder.path().join("whole.jsonl"), 10).study;
    assert_eq!(resumed.trials()[..5], study.trials()[..]);
    assert_eq!(timeless(&resumed), timeless(&whole));
    // What was added to the old lines is read with them.
    assert_eq!(journal::read(&path).unwrap().1, resumed);
    assert!(fs::read(&path).unwrap().starts_with(&fs::read(fixture("plain.jsonl")).unwrap()));
}

#[test]
fn a_journal_with_constraints_and_every_fate_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (setup, study) = journal::read(fixture("constrained.jsonl")).unwrap();
    assert_eq!((setup.space.config().constraints.len(), setup.space.size()), (2, study.space().size()));
    assert!(setup.stopping.is_some_and(|rule| rule.starts_with("median")));
    let failures = study.trials().iter().filter_map(|trial| match &trial.state {
        TrialState::Failed(failure) => Some(failure.kind),
        _ => None,
    });
    let kinds: Vec<_> = failures.collect();
    assert_eq!(kinds.iter().filter(|&&kind| kind == FailureKind::Stopped).count(), 3);
    assert_eq!(kinds.iter().filter(|&&kind| kind == FailureKind::Infeasible).count(), 2);
    assert!(study.trials()[2].is_invalid() && study.trials()[7].is_pending());
    assert_eq!(study.trials()[1].failed_attempts, 1);

    let found = constrained(&copied("constrained.jsonl", folder.path()), 9);
    assert_eq!(found.study.trials()[..7], study.trials()[..7]);
    assert_eq!(found.study.trials()[7].seed, study.trials()[7].seed);
    assert!(!found.study.trials()[7].is_pending());
    assert_eq!(found.study.valid_trials(), 9);
}

#[test]
fn a_journal_of_trainings_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (_, study) = journal::read(fixture("mad.jsonl")).unwrap();
    let report = study.trials()[0].report().unwrap();
    assert!(report.parameters > 0 && report.tasks.len() == 2 && !report.tasks[0].curve.is_empty());
    let found = mad(&copied("mad.jsonl", folder.path()), 5);
    assert_eq!(found.study.trials()[..4], study.trials()[..]);
    assert_eq!(found.study.valid_trials(), 5);
}

#[test]
fn a_table_is_read_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let old = Table::read(fixture("table.csv")).unwrap();
    assert_eq!((old.rows().count(), old.seeds(), old.columns().len()), (9, vec![0, 1, 2], 3));
    assert_eq!(old.rank(&"6M".parse().unwrap()), Some(1));
    let path = copied("table.csv", folder.path());
    let row = Row { architecture: "3A+3M".parse().unwrap(), seed: 0, values: vec![0.5, 0.25, 0.375] };
    let mut file = table(&path);
    assert_eq!(file.table(), &old);
    file.append(row).unwrap();
    drop(file);
    assert_eq!(Table::read(&path).unwrap().rows().count(), 10);
}
