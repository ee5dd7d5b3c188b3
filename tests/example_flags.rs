//! The examples from outside: absurd flags, closed pipes, letters, counts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use composer_nas::{
    data::{Importer, TextReader},
    journal,
    prelude::*,
    primitive::Symbol,
};

const TINY: [&str; 4] = ["--device", "flex", "--protocol", "tests/fixtures/tiny_protocol.json"];

/// A program, which cargo builds beside the tests.
fn program(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("examples").join(name);
    assert!(program.exists(), "{} is not there: run cargo test without naming single tests", program.display());
    Command::new(program)
}

fn search(runs: &Path, arguments: &[&str]) -> Command {
    let mut command = program("search");
    command.args(TINY).arg("--runs").arg(runs).args(["--layers", "3", "--trials", "2"]).args(arguments);
    command
}

/// What a command prints; it must succeed.
fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// A command must be refused in these words.
fn refuse(command: &mut Command, words: &str) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let text = String::from_utf8_lossy(&stderr);
    assert!(!status.success() && text.contains(words) && !text.contains("panicked"), "{command:?}: {text}");
    assert!(status.code().is_some(), "{command:?}: {status}");
}

fn corpus(folder: &Path) -> PathBuf {
    let text = || TextReader::new([PathBuf::from("tests/fixtures/text/harbour.txt")]);
    let corpus = folder.join("corpus");
    Importer::train(text(), 280).unwrap().import(text(), &corpus).unwrap();
    corpus
}

#[test]
fn absurd_flags_are_refused_with_their_limit() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus(folder.path());
    let table = folder.path().join("table.csv");
    let runs = folder.path().join("runs");
    const HUGE: &str = "9223372036854775808";
    for (flags, words) in [
        (vec!["--layers", HUGE], "at most 65536"),
        (vec!["--workers", "1000000000"], "at most"),
        (vec!["--executor", "process", "--workers", "1000000000"], "at most"),
        (vec!["--repeat", "1000000000"], "at most 65536"),
        (vec!["--trials", "0"], "at least one"),
        (vec!["--count", "attention=4"], "no sequence of 3 layers"),
        (vec!["--count", "attention=3..=1"], "write PRIMITIVE=NUMBER"),
        (vec!["--count", "mamba2=1"], "not among --primitives"),
        (vec!["--count", "mamba9=1"], "unknown primitive"),
        (vec!["--add", "AAZ"], "not in the search space"),
        (vec!["--add", "AA"], "not in the search space"),
        (vec!["--minutes", "1e308"], "--minutes 1e308"),
        (vec!["--minutes", "nan"], "positive number"),
    ] {
        refuse(&mut search(&runs, &flags), words);
    }
    let runs: Vec<_> = fs::read_dir(&runs).into_iter().flatten().flatten().map(|run| run.path()).collect();
    assert!(runs.is_empty(), "what is refused leaves no run: {runs:?}");

    let text = ["--corpus", corpus.to_str().unwrap()];
    for (flags, words) in [
        (vec!["--layers", HUGE], "at most 65536"),
        (vec!["--seeds", "0..18446744073709551615"], "at most 1048576"),
        (vec!["--workers", "1000000000"], "at most"),
        (vec![text[0], text[1], "--tokens", "1000000000000"], "at most 100000000"),
        (vec![text[0], text[1], "--width", HUGE], "at most 16777216"),
        (vec!["--analyse", "--splits", HUGE], "--splits"),
        (vec!["--threshold", "nan"], "between 0 and 1"),
    ] {
        let mut command = program("calibrate");
        command.arg(&table).args(["--device", "flex"]).args(flags);
        refuse(&mut command, words);
    }
    assert!(!table.exists(), "what is refused leaves no table");

    for (flags, words) in [
        (["--seq-len", HUGE], "between 1 and 4294967296"),
        (["--batch", HUGE], "at most 16777216"),
        (["--repeats", HUGE], "at most 65536"),
        (["--seq-len", "4294967296"], "of memory"),
        (["--batch", "16777216"], "of memory"),
    ] {
        refuse(program("latency").args(["--device", "flex", "--architecture", "AM"]).args(flags), words);
    }
    let model = folder.path().join("target.json");
    let spec = Target::custom("tiny", Dims::new(8, 24, 2).unwrap(), 10, true, 1).unwrap().baseline_model();
    fs::write(&model, serde_json::to_string(&spec).unwrap()).unwrap();
    refuse(program("latency").arg(&model).args(["--baseline-blocks", HUGE]), "1..=32768");

    for (flags, words) in [
        (["--flops", "inf"], "at most 1e30"),
        (["--flops", "nan"], "at most 1e30"),
        (["--flops", "1e308"], "at most 1e30"),
        (["--flops", "1e29"], "at most 100000000"),
        (["--width", HUGE], "at most 16777216"),
        (["--blocks", HUGE], "between 1 and"),
    ] {
        let run = folder.path().join("pretrain");
        let mut command = program("pretrain");
        refuse(command.args(text).arg("--run").arg(&run).args(["--devices", "flex"]).args(flags), words);
        assert!(!run.exists(), "{flags:?}");
    }
    for (flags, words) in [
        (["--budgets", "1e11,inf"], "at most 1e30"),
        (["--budgets", "nan"], "at most 1e30"),
        (["--seeds", HUGE], "at most 1048576"),
        (["--widths", HUGE], "at most 16777216"),
        (["--blocks", HUGE], "1..=32768"),
    ] {
        refuse(program("isoflop").args(text).arg("--plan").args(flags), words);
    }
}

#[test]
fn work_is_said_before_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus(folder.path());
    let text = succeed(&mut search(folder.path(), &[]));
    assert!(text.lines().nth(1).unwrap().contains("FLOPs") && text.contains("CPU core"), "{text}");
    let mut command = program("calibrate");
    command.arg(folder.path().join("table.csv")).args(TINY).args(["--layers", "1", "--seeds", "0..1"]);
    let text = succeed(&mut command);
    assert!(
        text.lines().next().unwrap().starts_with("2 evaluations to do on flex: ") && text.contains("FLOPs"),
        "{text}"
    );
    let mut command = program("pretrain");
    command.arg("--corpus").arg(corpus).arg("--run").arg(folder.path().join("run"));
    command.args(["--width", "32", "--blocks", "1", "--flops", "1e9", "--seq-len", "16", "--batch-size", "2"]);
    let text = succeed(command.args(["--devices", "flex"]));
    assert!(text.contains("two trainings: 2.0e9 FLOPs, some seconds of one CPU core"), "{text}");
}

/// Nobody reads what it prints: the program ends, without panic.
fn unread(command: &mut Command) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&stderr);
    assert!(status.success() && !text.contains("panicked"), "{command:?}: {status} {text}");
}

#[test]
fn closed_pipes_end_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path();
    succeed(&mut search(runs, &["--run", "tiny"]));
    let run = runs.join("tiny");
    let table = runs.join("table.csv");
    let calibrate = |flags: &[&str]| {
        let mut command = program("calibrate");
        command.arg(&table).args(TINY).args(["--layers", "3", "--seeds", "0..2"]).args(flags);
        command
    };
    succeed(&mut calibrate(&[]));
    unread(&mut search(runs, &["--run", "tiny", "--show"]));
    unread(&mut search(runs, &["--run", "other"]));
    unread(&mut calibrate(&[]));
    unread(&mut calibrate(&["--analyse"]));
    unread(program("report").arg(&run));
    unread(program("export").arg(&run));
    unread(program("search").arg("--help"));
    let model = runs.join("target.json");
    let spec = Target::custom("tiny", Dims::new(8, 24, 2).unwrap(), 10, true, 1).unwrap().baseline_model();
    fs::write(&model, serde_json::to_string(&spec).unwrap()).unwrap();
    unread(program("latency").arg(&model).args(["--seq-len", "8", "--repeats", "1", "--baseline-blocks", "1"]));
    unread(&mut program("ask_tell"));
    unread(&mut program("resume"));
    let corpus = corpus(runs);
    let budgets = ["--budgets", "1e10", "--widths", "8", "--plan"];
    unread(program("isoflop").arg("--corpus").arg(&corpus).args(budgets));
    let small = ["--width", "32", "--blocks", "1", "--flops", "1e9", "--seq-len", "16", "--batch-size", "2"];
    let mut pretrain = program("pretrain");
    unread(pretrain.arg("--corpus").arg(&corpus).arg("--run").arg(runs.join("run")).args(small));

    // Progress goes to standard error: a search goes on without a reader of it.
    let mut child = search(runs, &["--run", "deaf"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(journal::read(runs.join("deaf/journal.jsonl")).unwrap().1.valid_trials(), 2);
}

#[test]
fn letters_are_explained_where_a_user_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    let read = "read AAM as attention x2, swiglu x1 (M is swiglu; Mamba-2 is B)";
    let told = |command: &mut Command| String::from_utf8(command.output().unwrap().stderr).unwrap();
    let text = told(&mut search(folder.path(), &["--add", "AAM"]));
    assert!(text.contains(read), "{text}");
    let mut command = program("calibrate");
    command.arg(folder.path().join("table.csv")).args(TINY).args(["--architectures", "AAM", "--seeds", "0..1"]);
    let text = told(&mut command);
    assert!(text.contains(read), "{text}");
    // Nothing is said where nothing can be read otherwise.
    let text = told(&mut search(folder.path(), &["--run", "attention", "--add", "AAA"]));
    assert!(!text.contains("read AAA"), "{text}");
}

#[test]
fn the_places_of_three_attention_layers_are_searched_alone() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path();
    let flags = ["--layers", "12", "--count", "attention=3"];
    let text = succeed(&mut search(runs, &flags));
    // 12 choose 3.
    assert!(text.starts_with("220 architectures"), "{text}");
    let name = "tiny_protocol-12xattention-swiglu-attention3-seed0";
    let study = || journal::read(runs.join(name).join("journal.jsonl")).unwrap().1;
    let first = study();
    // The same command with more trials goes on in the same space.
    succeed(&mut search(runs, &[&flags[..], &["--trials", "4"]].concat()));
    let second = study();
    assert_eq!((first.trials().len(), second.trials().len()), (2, 4));
    assert!(second.trials().iter().all(|trial| trial.architecture.count(Symbol::ATTENTION) == 3));
    assert_eq!(first.trials(), &second.trials()[..2]);
    // Another count in the same folder is another search.
    let other = ["--layers", "12", "--count", "attention=1..=3", "--run", name];
    refuse(&mut search(runs, &other), "space");
    let text = succeed(&mut search(runs, &["--layers", "4", "--count", "A=1..=2", "--count", "swiglu=2"]));
    assert!(text.starts_with("6 architectures"), "{text}");
}
