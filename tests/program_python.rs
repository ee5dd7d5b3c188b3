//! The programs of `docs/program.md`: the evaluator in the shell, the helpers in Python.
//!
//! Where there is no Python 3, the tests that need it say `SKIPPED` on standard error.
#![cfg(unix)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use composer_nas::{
    evaluate::Program,
    execute::evaluate,
    prelude::*,
    study::{Origin, TrialId},
    testkit,
};
use serde_json::Value;

fn loss() -> Goal {
    Goal::minimize("loss")
}

fn trial(id: u64, architecture: &str) -> Trial {
    Trial::new(TrialId(id), architecture.parse().unwrap(), Seed(id), Origin::Searcher)
}

fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("SKIPPED: {program} is not on this machine");
    }
    there
}

#[test]
fn the_evaluator_of_the_document_keeps_the_laws() {
    let text = fs::read_to_string("docs/program.md").unwrap();
    let script = text.split("```bash\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(script.starts_with("#!/bin/sh") && script.lines().count() <= 20, "{script}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evaluate.sh");
    fs::write(&path, script).unwrap();
    let program = Program::new(["sh", path.to_str().unwrap()], folder.path().join("trials"), loss()).unwrap();
    let trials = [trial(0, "2A+4M"), trial(1, "AM"), trial(2, "4M")];
    assert_eq!(testkit::evaluator::check(&program, &trials, &loss()), Ok(()));
    let report = evaluate(&program, &trials[0], &Context::default()).unwrap();
    assert_eq!((report.scores["loss"], report.curve), (3.0, vec![(1, -5.0), (2, -4.0), (3, -3.0)]));
    let refused = program.evaluate(&trials[2], &Context::default());
    assert_eq!(refused, Err(EvalError::Infeasible("three MLPs in front".into())));
}

#[test]
fn the_first_program_of_the_document_runs() {
    if !is_there("python3") {
        return;
    }
    let text = fs::read_to_string("docs/program.md").unwrap();
    let script = text.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("toy.py"), script).unwrap();
    fs::copy("examples/python/composer_nas.py", folder.path().join("composer_nas.py")).unwrap();
    let command = ["python3".into(), folder.path().join("toy.py").to_string_lossy().into_owned()];
    let program = Program::new(command, folder.path().join("trials"), loss()).unwrap();
    let score = |id, letters| {
        let report = evaluate(&program, &trial(id, letters), &Context::default()).unwrap();
        (10.0 * report.scores["loss"]).round()
    };
    assert_eq!([score(0, "2A+4M"), score(1, "1M+1A+4M"), score(2, "4M")], [28.0, 29.0, 30.0]);
}

#[test]
fn the_helper_in_python_asks_and_answers() {
    if !is_there("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = |words: &[&str]| {
        let command = [&["python3", "tests/fixtures/python/train.py"], words].concat();
        let target = Target::custom("small", Dims::new(32, 96, 4).unwrap(), 300, true, 3).unwrap();
        let program = Program::new(command, folder.path().join("trials"), loss()).unwrap();
        program.target(target, &Primitives::standard()).unwrap()
    };
    let trials: Vec<_> = (0..3).map(|id| trial(id, "2A+4M")).collect();
    assert_eq!(testkit::evaluator::check(&program(&[]), &trials, &loss()), Ok(()));
    let report = evaluate(&program(&[]), &trials[1], &Context::default()).unwrap();
    let scores: Vec<_> = report.scores.iter().map(|(name, &value)| (name.as_str(), value)).collect();
    assert_eq!(scores, [("layers", 6.0), ("loss", 3.0)]);
    assert_eq!((report.parameters, report.standard_error), (4 * 32 * 32, Some(0.5)));
    assert_eq!(report.curve, [(1, -6.0), (2, -5.0), (3, -4.0), (4, -3.0)]);

    let outcome = |words: &[&str]| program(words).evaluate(&trials[0], &Context::default());
    assert_eq!(outcome(&["infeasible"]), Err(EvalError::Infeasible("too wide".into())));
    assert_eq!(outcome(&["transient"]), Err(EvalError::Transient("node lost".into())));
    assert_eq!(outcome(&["fatal"]), Err(EvalError::Fatal("no data".into())));
    assert!(outcome(&["nan"]).unwrap().scores["loss"].is_nan());
    match outcome(&["bug"]) {
        Err(EvalError::Transient(reason)) => assert!(reason.contains("ZeroDivisionError: by zero"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_layers_in_pytorch_compute_what_they_say() {
    let python = |arguments: &[&str]| Command::new("python3").args(arguments).output();
    if !python(&["-c", "import torch"]).is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: python3 with torch is not on this machine");
        return;
    }
    let Output { status, stderr, .. } = python(&["tests/fixtures/python/check_layers.py"]).unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
}

#[test]
fn a_newer_specification_is_refused() {
    if !is_there("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spec.json");
    for (text, words) in [(r#"{"format": 2}"#, "format 2"), ("{}", "format None"), ("[", "")] {
        fs::write(&path, text).unwrap();
        let output = Command::new("python3").arg("tests/fixtures/python/train.py").arg(&path).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        if words.is_empty() {
            assert!(output.status.code() == Some(1) && stdout.is_empty(), "{stdout}");
            continue;
        }
        let answer: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((output.status.code(), &answer["error"]["kind"]), (Some(78), &"fatal".into()));
        assert!(answer["error"]["reason"].as_str().unwrap().contains(words), "{answer}");
    }
}

/// The program, which cargo builds beside the tests.
fn example(name: &str) -> PathBuf {
    let tests = env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("examples").join(name);
    assert!(program.exists(), "{} is not there: run cargo test without naming single tests", program.display());
    program
}

fn session(folder: &Path) -> Vec<String> {
    let journal = folder.join("run/journal.jsonl").display().to_string();
    let program = example("session").display().to_string();
    let words = ["--layers", "4", "--score", "loss", "--minimize", "--searcher", "evolution"];
    [&[program, "--journal".into(), journal], &words.map(String::from)[..]].concat()
}

#[test]
fn a_notebook_owns_the_loop() {
    if !is_there("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut notebook = Command::new("python3");
    notebook.arg("tests/fixtures/python/notebook.py").args(session(folder.path()));
    let Output { status, stdout, stderr } = notebook.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    assert_eq!(String::from_utf8_lossy(&stdout).trim(), "done 15");
}

#[test]
fn a_shell_owns_the_loop() {
    let folder = tempfile::tempdir().unwrap();
    let words = session(folder.path());
    let mut shell = Command::new("sh");
    let script = r#"printf '%s\n' '{"ask": {}}' '{"tell": {"trial": 0, "result": {"scores": {"loss": 2.5}}}}' '' '{"best": {}}' 'oh' | "$@""#;
    let Output { status, stdout, .. } = shell.args(["-c", script, "sh"]).args(words).output().unwrap();
    assert!(status.success());
    let lines: Vec<Value> =
        String::from_utf8(stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!((&lines[1]["trial"]["trial"], &lines[2]["told"]), (&0.into(), &"completed".into()));
    assert_eq!(lines[3]["best"]["score"], 2.5);
    assert!(lines[4]["error"].is_string());
}

#[test]
fn what_a_session_cannot_take_is_answered_and_costs_no_trial() {
    let folder = tempfile::tempdir().unwrap();
    let words = session(folder.path());
    let mut shell = Command::new("sh");
    let script = r#"printf '%s\n' '{"ask": {}}' '{"tell": {"trial": 0, "result": {"scores": {"los": 1}}}}' \
        '{"tell": {"trial": 0, "result": {"scores": {"loss": 1}, "standard_error": -1}}}' \
        '{"tell": {"trial": 0, "result": {"scores": {"loss": 1}}}}' | { cat; printf '\377\n{"best": {}}\n'; } | "$@""#;
    let Output { status, stdout, .. } = shell.args(["-c", script, "sh"]).args(&words).output().unwrap();
    assert!(status.success());
    let lines: Vec<Value> =
        String::from_utf8(stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[2]["error"].as_str().unwrap().contains("no score \"loss\", only [los]"), "{lines:?}");
    assert!(lines[3]["error"].is_string() && lines[5]["error"].is_string(), "{lines:?}");
    assert_eq!((&lines[4]["told"], &lines[6]["best"]["score"]), (&"completed".into(), &1.0.into()));
    // Trials of other widths are another session.
    let other = Command::new(&words[0]).args(&words[1..]).args(["--candidates", "llama_1b"]).output().unwrap();
    assert!(!other.status.success() && String::from_utf8_lossy(&other.stderr).contains("evaluator"), "{other:?}");
}
