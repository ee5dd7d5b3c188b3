//! A search that moves from a device to the processor.

use std::{fs, path::Path};

use composer_nas::{
    evaluate::mad::Protocol,
    journal,
    prelude::*,
    study::{Report, TrialState},
};

use crate::{others, turn};

/// Trains on the first task of the tiny protocol.
fn evaluator(device: &Device) -> Mad {
    let mut protocol: Protocol = serde_json::from_str(include_str!("../fixtures/tiny_protocol.json")).unwrap();
    protocol.trainings.truncate(1);
    Mad::new(protocol, &Primitives::standard(), device).unwrap()
}

/// The search to its end at so many trials in total.
fn search(device: &Device, trials: usize, journal: &Path) -> Found {
    let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 2).unwrap();
    let pipeline = Pipeline::new(&Primitives::standard(), space, evaluator(device)).trials(trials).journal(journal);
    pipeline.run(&Target::llama_1b()).unwrap()
}

fn report(trial: &Trial) -> &Report {
    match &trial.state {
        TrialState::Completed(report) => report,
        other => panic!("trial {} is {other:?}", trial.id.0),
    }
}

#[test]
fn a_search_moves_from_a_device_to_the_processor() {
    let _turn = turn();
    let here = Device::flex();
    for other in others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let first = search(&other.device, 2, &path);
        let lines = fs::read_to_string(&path).unwrap();
        let found = search(&here, 3, &path);

        let name = &other.name;
        assert!(fs::read_to_string(&path).unwrap().starts_with(&lines), "{name}: lines of the first part changed");
        let trials = found.study.trials();
        assert_eq!((&trials[..2], trials.len()), (first.study.trials(), 3), "{name}");
        assert_eq!(journal::read(&path).unwrap().1, found.study, "{name}");
        assert_eq!((found.aggregated.len(), found.target.dims), (2, Target::llama_1b().dims), "{name}");
        for trial in trials {
            let report = report(trial);
            assert!((0.0..=1.0).contains(&report.scores["accuracy"]), "{name}: {report:?}");
            // Those of the first part agree with the processor up to rounding, and the next one is the processor's own.
            let want = evaluator(&here).evaluate(trial, &Context::default()).unwrap();
            let tolerance = if trial.id.0 < 2 { 1e-2 } else { 0.0 };
            for (got, want) in report.tasks.iter().zip(&want.tasks) {
                let got = got.loss.unwrap();
                let want = want.loss.unwrap();
                assert!((got - want).abs() <= tolerance * want, "{name}, trial {}: {got}, not {want}", trial.id.0);
            }
        }
    }
}
