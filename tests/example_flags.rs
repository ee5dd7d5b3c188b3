//! The examples from outside: absurd flags, closed pipes, letters, counts.
#![cfg(all(feature = "flex", feature = "tokenizers"))]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use composer_nas::{
    data::{Importer, TextReader},
    evaluate::mad::Protocol,
    journal,
    prelude::*,
    primitive::Symbol,
};
use serde_json::{Value, json};

const TINY: [&str; 4] = ["--device", "flex", "--protocol", "tests/fixtures/tiny_protocol.json"];

/// A program, which cargo builds beside the tests.
fn program(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("examples").join(name);
    assert!(program.exists(), "{} is not there: run cargo test without naming single tests", program.display());
    Command::new(program)
}

/// The names of all examples.
fn examples() -> Vec<String> {
    let entries = fs::read_dir("examples").unwrap().map(|entry| entry.unwrap().path());
    let programs = entries.filter(|path| path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").exists());
    let mut names: Vec<_> = programs.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
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

#[test]
fn every_example_has_help_and_flags_of_one_name_take_the_same() {
    let mut flags: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for name in examples() {
        let help = succeed(program(&name).arg("--help"));
        assert!(help.contains("Usage:") && help.lines().next().unwrap().len() > 20, "{name}: {help}");
        refuse(program(&name).arg("--no-such-flag"), "--no-such-flag");
        for line in help.lines().map(str::trim).filter(|line| line.starts_with("--")) {
            let (flag, value) = line.split_once(' ').unwrap_or((line, ""));
            let value = if value.starts_with('<') { value.split_once('>').unwrap().0 } else { "" };
            flags.entry(flag.into()).or_default().insert(name.clone(), value.into());
        }
    }
    assert!(examples().len() > 12 && flags["--runs"].len() > 4 && flags["--devices"].len() == 2, "{flags:?}");
    for (flag, uses) in &flags {
        let values: BTreeSet<_> = uses.values().collect();
        assert_eq!(values.len(), 1, "{flag} is not the same everywhere: {uses:?}");
    }
}

/// `println!` of the standard library panics where nobody reads.
#[test]
fn every_example_prints_as_closed_pipes_want() {
    for name in examples() {
        let file = Path::new("examples").join(&name);
        let [single, folder] = [file.with_extension("rs"), file.join("main.rs")];
        let text = fs::read_to_string(if single.exists() { single } else { folder }).unwrap();
        let (before, _) = text.split_once("mod shared;").unwrap_or_else(|| panic!("{name} prints on its own"));
        assert!(before.contains("#[macro_use]") && !before.contains("println!"), "{name}");
        // Modules see the macros that are defined before them.
        let earlier = before.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
        for module in earlier {
            let text = fs::read_to_string(file.join(module).with_extension("rs")).unwrap();
            assert!(!text.contains("println!"), "{name}: {module}");
        }
    }
}

/// What a search refuses, whatever it is, leaves nothing behind.
#[test]
fn refused_flags_leave_no_run_folder() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    for (flags, words) in [
        (&["--trials", "0"][..], "at least one"),
        (&["--workers", "0"], "0"),
        (&["--executor", "process", "--workers", "0"], "0"),
        (&["--devices", "cuda:0"], "--devices is for --executor process"),
        (&["--executor", "process", "--devices", "0,1"], "such as cuda:0,cuda:1"),
        (&["--stage-trials", "2"], "are for --searcher end-layer"),
        (&["--searcher", "end-layer", "--stage-layers", "0"], "step"),
        (&["--searcher", "middle-layer", "--stage-layers", "1", "--stage-trials", "1"], "need up to 2 trials"),
        (&["--sbatch=--partition=gpu"], "--sbatch is for --executor slurm"),
        (&["--gpus", "1"], "--gpus is for --executor slurm"),
        (&["--trial-minutes", "3"], "--trial-minutes is for --evaluator, --executor process or slurm"),
        (&["--target", "llama_2b"], "llama_1b"),
        (&["--device", "tpu"], "tpu"),
        (&["--protocol", "none"], "--protocol none"),
        (&["--primitives", "mamba9"], "mamba9"),
        (&["--repeat", "0"], "0"),
        (&["--searcher", "oracle"], "oracle"),
        (&["--invalidate", "0", "--reason", "x"], "there is none"),
        (&["--run", ".."], "is not a folder name"),
        (&["--show"], "there is no run at"),
    ] {
        refuse(&mut search(&runs, flags), words);
        assert!(!runs.exists(), "{flags:?}");
    }
    refuse(program("hybrid_search").arg("0").arg("--runs").arg(&runs), "at least one");
    refuse(program("hello_search").arg("0"), "at least one");
    let corpus = corpus(folder.path());
    for flags in [["--devices", "tpu"], ["--seq-len", "0"], ["--batch-size", "0"], ["--learning-rate", "nan"]] {
        let mut pretrain = program("pretrain");
        pretrain.arg("--corpus").arg(&corpus).arg("--runs").arg(&runs).args(["--flops", "1e9", "--width", "32"]);
        refuse(pretrain.args(flags), "");
        assert!(!runs.exists(), "pretrain {flags:?}");
        let mut isoflop = program("isoflop");
        isoflop.arg("--corpus").arg(&corpus).arg("--runs").arg(&runs).args(["--budgets", "1e9", "--widths", "8"]);
        let flag = if flags[0] == "--devices" { "--device" } else { flags[0] };
        refuse(isoflop.args([flag, flags[1]]), "");
        assert!(!runs.exists(), "isoflop {flags:?}");
    }
}

fn corpus(folder: &Path) -> PathBuf {
    let text = || TextReader::new([PathBuf::from("tests/fixtures/text/harbour.txt")]);
    let corpus = folder.join("corpus");
    Importer::train(text(), 280).unwrap().import(text(), &corpus).unwrap();
    corpus
}

/// Most of it is one table.
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
        (vec!["--exactly", "attention=4"], "there are 3 layers"),
        (vec!["--at-least", "attention=2", "--at-most", "attention=1"], "no sequence of 3 layers"),
        (vec!["--first", "attention", "--exactly", "attention=0"], "no sequence of 3 layers"),
        (vec!["--at-most", "attention=1..=3"], "write PRIMITIVE=NUMBER"),
        (vec!["--at-most", "mamba2=1"], "not among --primitives"),
        (vec!["--last", "mamba2"], "not among --primitives"),
        (vec!["--budget", "memory=1"], "parameters=NUMBER"),
        (vec!["--budget", "cache=1", "--exactly", "attention=3"], "no sequence of 3 layers"),
        (vec!["--score", "loss"], "--evaluator"),
        (vec!["--print-protocol", "odd"], "neither quick"),
        (vec!["--print-target", "odd"], "neither small"),
        (vec!["--at-most", "mamba9=1"], "unknown primitive"),
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
        refuse(command.args(text).arg("--runs").arg(folder.path()).args(["--devices", "flex"]).args(flags), words);
        assert!(!run.exists(), "{flags:?}");
    }
    for (flags, words) in [
        (["--budgets", "1e11,inf"], "at most 1e30"),
        (["--budgets", "nan"], "at most 1e30"),
        (["--repeat", HUGE], "at most 1048576"),
        (["--widths", HUGE], "at most 16777216"),
        (["--blocks", HUGE], "1..=32768"),
    ] {
        refuse(program("isoflop").args(text).arg("--plan").args(flags), words);
    }
}

/// A tiny protocol with sizes changed, by their places in it.
fn protocol(folder: &Path, changes: &[(&str, u64)]) -> PathBuf {
    let mut value: Value = serde_json::from_slice(&fs::read(TINY[3]).unwrap()).unwrap();
    for (place, size) in changes {
        *value.pointer_mut(place).unwrap() = json!(size);
    }
    let path = folder.join("protocol.json");
    fs::write(&path, value.to_string()).unwrap();
    path
}

#[test]
fn protocols_that_no_candidate_fits_are_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let table = folder.path().join("table.csv");
    let task = "/trainings/0/task";
    for (changes, primitives, words) in [
        (vec![("/dims/d_model", 1)], "A,M", "no candidate with attention (A)"),
        (vec![("/dims/d_model", 3)], "A,M", "use an even width of at least 4"),
        (vec![("/dims/d_ff", 1)], "A,E", "no candidate with moe (E)"),
        (vec![(&*format!("{task}/seq_len"), 0)], "A,M", "seq_len is 0"),
        (vec![(&*format!("{task}/seq_len"), 1 << 63)], "A,M", "seq_len is 9223372036854775808"),
        (vec![(&*format!("{task}/vocab_size"), 1 << 63)], "A,M", "vocab_size is 9223372036854775808"),
    ] {
        let path = protocol(folder.path(), &changes);
        let flags = ["--protocol", path.to_str().unwrap(), "--primitives", primitives];
        refuse(&mut search(&runs, &flags), words);
        let mut command = program("calibrate");
        refuse(command.arg(&table).args(["--device", "flex", "--layers", "2"]).args(flags), words);
    }
    assert!(!runs.exists() && !table.exists());
    // One kind of layer that does not fit is no matter where it is not searched.
    let path = protocol(folder.path(), &[("/dims/d_ff", 1)]);
    succeed(&mut search(&runs, &["--protocol", path.to_str().unwrap(), "--primitives", "A,M"]));
}

/// What a limit of the process allows is less than what the machine has.
#[cfg(target_os = "linux")]
#[test]
fn limits_on_the_memory_of_the_process_are_heeded() {
    let folder = tempfile::tempdir().unwrap();
    let limited = |kilobytes: u64, command: &Command| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -v {kilobytes}; exec \"$@\""), "sh"]);
        shell.arg(command.get_program()).args(command.get_args());
        shell
    };
    let task = "/trainings/0/task";
    for changes in [
        vec![("/dims/d_model", 16384), ("/dims/d_ff", 65536)],
        vec![("/trainings/0/train/batch_size", 1 << 24)],
        vec![(&*format!("{task}/vocab_size"), 1 << 20), ("/dims/d_model", 1024)],
        vec![("/trainings/1/data/fixed", 16_000_000), ("/trainings/1/task/seq_len", 16)],
    ] {
        let path = protocol(folder.path(), &changes);
        let command = search(folder.path(), &["--protocol", path.to_str().unwrap()]);
        refuse(&mut limited(3_000_000, &command), "this process may use 3.1 GB");
    }
    let model = |change: fn(&mut ModelSpec)| {
        let mut spec = Target::custom("tiny", Dims::new(8, 24, 2).unwrap(), 10, true, 1).unwrap().baseline_model();
        change(&mut spec);
        fs::write(folder.path().join("target.json"), serde_json::to_string(&spec).unwrap()).unwrap();
    };
    model(|spec| spec.dims.d_model = 1 << 24);
    let mut export = program("export");
    refuse(&mut limited(4_000_000, export.arg(folder.path()).args(["--draw", "1"])), "this process may use 4.1 GB");
    let mut latency = program("latency");
    latency.arg(folder.path().join("target.json"));
    latency.args(["--device", "flex", "--seq-len", "16", "--baseline-blocks", "1"]);
    refuse(&mut limited(4_000_000, &latency), "this process may use 4.1 GB");
    model(|spec| spec.dims.head_dim = 1 << 20);
    refuse(&mut limited(4_000_000, &latency), "this process may use 4.1 GB");
    // What fits is not refused.
    let tiny = search(&folder.path().join("runs"), &["--workers", "1"]);
    succeed(&mut limited(4_000_000, &tiny));
}

#[test]
fn folders_that_cannot_be_made_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path();
    fs::write(runs.join("file"), "").unwrap();
    refuse(&mut search(runs, &["--run", "file"]), "file is not a folder");
    refuse(&mut search(&runs.join("file"), &["--run", "in"]), "file is not a folder");
    refuse(&mut search(runs, &["--run", "a\nb\u{1b}[31m"]), r#""a\nb\u{1b}[31m" is not a folder name"#);
    for name in ["pretrain", "isoflop", "hybrid_search", "plug_in_primitive"] {
        refuse(program(name).arg("--runs").arg(runs).args(["--run", "file"]), "file is not a folder");
        refuse(program(name).args(["--run", "../x"]), "is not a folder name");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/nowhere", runs.join("dangling")).unwrap();
        std::os::unix::fs::symlink("loop", runs.join("loop")).unwrap();
        refuse(&mut search(runs, &["--run", "dangling"]), "a link, but not to a folder");
        refuse(&mut search(runs, &["--run", "loop"]), "a link, but not to a folder");
    }
    succeed(&mut search(runs, &["--run", "tiny"]));
    let mut report = program("report");
    refuse(report.arg(runs.join("tiny")).arg("--pictures").arg(runs.join("file")), "file is not a folder");
}

#[cfg(unix)]
#[test]
fn a_working_directory_that_was_removed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = fs::canonicalize(TINY[3]).unwrap();
    let here = folder.path().join("here");
    fs::create_dir(&here).unwrap();
    let search = search(folder.path(), &["--executor", "process", "--protocol", tiny.to_str().unwrap()]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "rmdir \"$PWD\"; exec \"$@\"", "sh"]).arg(search.get_program()).args(search.get_args());
    refuse(shell.current_dir(here), "the working directory");
}

/// Words of the command line that are no text, and paths with commands to a terminal in them.
#[cfg(unix)]
#[test]
fn arguments_may_hold_any_bytes() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join(OsStr::from_bytes(b"r\xff\x1b[31m"));
    let text = succeed(&mut search(&runs, &["--run", "x"]));
    assert!(runs.join("x/report.html").exists() && !text.contains('\u{1b}'), "{text}");
    for name in ["hybrid_search", "hello_search"] {
        refuse(program(name).arg(OsStr::from_bytes(b"\xff")), "");
        refuse(program(name).arg("abc"), "invalid digit");
    }
    let help = succeed(program("hybrid_search").arg("--help"));
    assert!(["--seed", "--run", "[TRIALS]"].iter().all(|flag| help.contains(flag)), "{help}");
}

#[test]
fn comparisons_without_pairs_and_studies_without_trainings_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let evidence = folder.path().join("ours.json");
    let table = folder.path().join("table.csv");
    let layouts = r#"[{"name": "a", "layers": "AM", "value": 1}, {"name": "b", "layers": "MA", "value": 1}]"#;
    fs::write(&evidence, format!(r#"{{"groups": [{{"name": "g", "gap": 1, "layouts": {layouts}}}]}}"#)).unwrap();
    let mut calibrate = program("calibrate");
    calibrate.arg(&table).args(TINY).arg("--evidence").arg(&evidence);
    refuse(&mut calibrate, "ours.json: no group has a pair to judge");
    fs::write(&evidence, "{").unwrap();
    refuse(&mut calibrate, "because: not a file of comparisons");
    assert!(!table.exists());
    let corpus = corpus(folder.path());
    let mut isoflop = program("isoflop");
    isoflop.arg("--corpus").arg(corpus).args(["--plan", "--widths", "8,8", "--budgets", "1e9,1e9"]);
    refuse(&mut isoflop, "no budget allows 50 steps");
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
    command.arg("--corpus").arg(corpus).arg("--runs").arg(folder.path());
    command.args(["--width", "32", "--blocks", "1", "--flops", "1e9", "--seq-len", "16", "--batch-size", "2"]);
    let text = succeed(command.args(["--devices", "flex"]));
    assert!(text.contains("two trainings: 2.0e9 FLOPs, a few seconds of one CPU core"), "{text}");
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
    unread(program("fuzz").arg("--list"));
    unread(program("soak").args(["--trials", "100", "--asks", "1"]));
    for name in examples() {
        unread(program(&name).arg("--help"));
    }
    let corpus = corpus(runs);
    let budgets = ["--budgets", "1e10", "--widths", "8", "--plan"];
    unread(program("isoflop").arg("--corpus").arg(&corpus).args(budgets));
    let small = ["--width", "32", "--blocks", "1", "--flops", "1e9", "--seq-len", "16", "--batch-size", "2"];
    let mut pretrain = program("pretrain");
    unread(pretrain.arg("--corpus").arg(&corpus).arg("--runs").arg(runs).args(small));

    // Progress goes to standard error: a search goes on without a reader of it.
    let mut child = search(runs, &["--run", "deaf"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(journal::read(runs.join("deaf/journal.jsonl")).unwrap().1.valid_trials(), 2);
}

#[test]
fn letters_are_explained_where_a_user_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    let read = "read AAM as attention x2, swiglu x1 (M is swiglu; Mamba-2 is B;";
    let told = |command: &mut Command| String::from_utf8(command.output().unwrap().stderr).unwrap();
    let text = told(&mut search(folder.path(), &["--add", "AAM"]));
    assert!(text.contains(read), "{text}");
    let mut command = program("calibrate");
    command.arg(folder.path().join("table.csv")).args(TINY).args(["--architectures", "AAM", "--seeds", "0..1"]);
    let text = told(&mut command);
    assert!(text.contains(read), "{text}");
    // Other alphabets mean other layers, and letters without a meaning are refused.
    let mamba = ["--primitives", "attention,swiglu,mamba2", "--letters", "megatron", "--run", "mamba", "--add"];
    let text = succeed(search(folder.path(), &mamba).arg("M-*"));
    assert!(text.contains("1B+1M+1A"), "{text}");
    refuse(search(folder.path(), &mamba).arg("M-A"), "'A' at position 2");
    refuse(&mut search(folder.path(), &["--letters", "M", "--add", "AAA"]), "not an alphabet");
    // Nothing is said where nothing can be read otherwise.
    let text = told(&mut search(folder.path(), &["--run", "attention", "--add", "AAA"]));
    assert!(!text.contains("read AAA"), "{text}");
}

#[test]
fn the_places_of_three_attention_layers_are_searched_alone() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path();
    let flags = ["--layers", "12", "--exactly", "attention=3"];
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
    let other = ["--layers", "12", "--at-most", "attention=3", "--run", name];
    refuse(&mut search(runs, &other), "space");
    let text = succeed(&mut search(
        runs,
        &["--layers", "4", "--at-least", "A=1", "--at-most", "A=2", "--exactly", "swiglu=2"],
    ));
    assert!(text.starts_with("6 architectures"), "{text}");
}

#[test]
fn sequences_grow_in_stages() {
    let folder = tempfile::tempdir().unwrap();
    for side in ["end-layer", "middle-layer"] {
        let stages = ["--run", side, "--searcher", side, "--stage-layers", "1", "--stage-trials", "2", "--trials", "6"];
        succeed(&mut search(folder.path(), &stages));
        let (_, study) = journal::read(folder.path().join(side).join("journal.jsonl")).unwrap();
        let lengths: Vec<_> = study.trials().iter().map(|trial| trial.architecture.len()).collect();
        assert_eq!(lengths[..6], [1, 1, 2, 2, 3, 3], "{side}");
    }
    // By default, 15 trials of 4 layers.
    let stages = ["--run", "default", "--searcher", "end-layer", "--layers", "5", "--trials", "16"];
    succeed(&mut search(folder.path(), &stages));
    let (_, study) = journal::read(folder.path().join("default/journal.jsonl")).unwrap();
    let lengths: Vec<_> = study.trials().iter().map(|trial| trial.architecture.len()).collect();
    assert_eq!(lengths[..16], [[4; 15].as_slice(), &[5]].concat());
}

#[test]
fn sequences_are_ruled_by_flags() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path();
    let sizes = [
        (vec!["--first", "attention", "--last", "M"], 4),
        (vec!["--max-run", "attention=1"], 8),
        (vec!["--max-run", "attention=1", "--max-run", "swiglu=1"], 2),
        (vec!["--at-most", "attention=1"], 5),
        // The cache of one layer of attention of Llama 1B at 4,096 tokens: 2 x 8 heads x 64 channels x 2 bytes.
        (vec!["--budget", "cache=8388608"], 5),
    ];
    for (flags, size) in sizes {
        let text = succeed(&mut search(runs, &[&["--layers", "4"], &flags[..]].concat()));
        assert!(text.starts_with(&format!("{size} architectures")), "{flags:?}: {text}");
    }
}

#[test]
fn protocols_and_targets_are_printed_to_be_edited() {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let protocol = succeed(&mut search(&runs, &["--print-protocol", "quick"]));
    assert_eq!(serde_json::from_str::<Protocol>(&protocol).unwrap(), Protocol::quick());
    let target = succeed(&mut search(&runs, &["--print-target", "llama_350m"]));
    let mut target: Target = serde_json::from_str(&target).unwrap();
    assert_eq!(target, Target::llama_350m());
    assert!(!runs.exists());
    target.name = "mine".into();
    target.non_embedding_parameters /= 2;
    let file = folder.path().join("mine.json");
    fs::write(&file, serde_json::to_string(&target).unwrap()).unwrap();
    let text = succeed(&mut search(&runs, &["--target", file.to_str().unwrap()]));
    assert!(text.contains("at mine"), "{text}");
    fs::write(&file, r#"{"name": "mine"}"#).unwrap();
    refuse(&mut search(&runs, &["--target", file.to_str().unwrap()]), "holds no target");
}
