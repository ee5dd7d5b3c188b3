//! The main job from outside, as its user runs it, with trainings of four steps.
#![cfg(feature = "flex")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use composer_nas::{journal, prelude::*, study::Origin};

/// The program, which cargo builds beside the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("examples").join("search");
    assert!(program.exists(), "{} is not there: run cargo test without naming single tests", program.display());
    program
}

fn search(runs: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.arg("--runs").arg(runs).args(["--run", "tiny", "--layers", "3", "--device", "flex"]);
    command.args(["--protocol", "tests/fixtures/tiny_protocol.json", "--no-final-evaluation"]).args(arguments);
    command
}

/// The program as it is by default, which evaluates what was aggregated.
fn whole_search(runs: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(program());
    command.arg("--runs").arg(runs).args(["--run", "tiny", "--layers", "3", "--device", "flex"]);
    command.args(["--protocol", "tests/fixtures/tiny_protocol.json"]).args(arguments);
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

#[test]
fn a_front_is_searched_by_costs_of_the_target() {
    let runs = tempfile::tempdir().unwrap();
    let runs = runs.path();
    let arguments = ["--trials", "4", "--objective", "accuracy", "--objective", "cache", "--at-most", "cache=1.2e8"];
    let text = whole_search(runs, &arguments);
    assert!(text.contains("front        maximize accuracy, minimize cache, with cache at most 120000000"), "{text}");
    assert!(text.contains("the aggregated architecture"), "{text}");
    let first = study(runs);
    assert_eq!(first.valid_trials(), 4);
    assert!(first.observations().all(|seen| seen.report.costs["cache"] <= 1.2e8));
    let aggregated = first.trials().iter().filter(|trial| trial.origin == Origin::Aggregated).count();
    assert_eq!(first.trials().len(), 4 + aggregated);
    let page = fs::read_to_string(runs.join("tiny/report.html")).unwrap();
    assert!(page.contains("id=\"front\"") && page.contains("id=\"hypervolume\""));
    // A model for every band, each of which can be exported.
    assert!(text.contains("front1.json") && text.contains("front.json and a model per band"), "{text}");
    let run = runs.join("tiny");
    let export = |arguments: &[&str]| {
        let mut command = Command::new(program().with_file_name("export"));
        let output = command.current_dir(&run).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (good, error) = export(&[".", "--front"]);
    assert!(good, "{error}");
    let bands = (1..).take_while(|band| run.join(format!("front{band}.json")).exists()).count();
    assert!(bands > 0 && (1..=bands).all(|band| run.join(format!("export-front{band}/config.json")).exists()));
    let (good, error) = export(&["front1.json", "--front"]);
    assert!(!good && error.contains("name the folder of a run"), "{error}");
    let (good, error) = export(&["front1.json", "one"]);
    assert!(good && run.join("one/config.json").exists(), "{error}");
    // Other sizes of the same result, by the same extrapolator.
    let (good, error) = export(&[".", "--target", "llama_3b", "--target", "llama_350m"]);
    assert!(good, "{error}");
    let width = |name: &str| -> usize {
        let text = fs::read_to_string(run.join(name)).unwrap();
        serde_json::from_str::<ModelSpec>(&text).unwrap().dims.d_model
    };
    let widths = |name: &str| Target::named(name).unwrap().dims.d_model;
    for name in ["llama_3b", "llama_350m"] {
        assert_eq!(width(&format!("{name}.json")), widths(name));
        assert!(run.join(format!("export-{name}/config.json")).exists());
    }
    let (good, error) = export(&[".", "--target", "none"]);
    assert!(!good && error.contains("--target none is neither"), "{error}");
    // The same command again changes nothing.
    whole_search(runs, &arguments);
    assert_eq!(study(runs), first);
    let refused = search(runs, &["--objective", "accuracy", "--objective", "accuracy:min"]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("maximized and minimized"));
}

fn succeed(runs: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = search(runs, arguments).output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn study(runs: &Path) -> Study {
    journal::read(runs.join("tiny/journal.jsonl")).unwrap().1
}

#[test]
fn a_run_can_be_resumed_extended_corrected_and_read() {
    let runs = tempfile::tempdir().unwrap();
    let runs = runs.path();
    let text = succeed(runs, &["--trials", "4"]);
    assert!(text.contains("best trial") && text.contains("aggregated") && text.contains("1,235,814,400"), "{text}");
    let first = study(runs);
    assert_eq!(first.trials().len(), 4);
    for observation in first.observations() {
        let report = observation.report;
        assert!(report.parameters > 0 && report.train_flops > Some(0.0) && report.wall_seconds > 0.0);
        let tasks: Vec<_> = report.tasks.iter().map(|task| task.name.as_str()).collect();
        let labels =
            ["in-context-recall seq_len=8 vocab_size=8", "compression seq_len=8 vocab_size=8 train_examples=8"];
        assert_eq!(tasks, labels);
    }
    let target: ModelSpec = serde_json::from_str(&fs::read_to_string(runs.join("tiny/target.json")).unwrap()).unwrap();
    assert_eq!(target.dims, Target::llama_1b().dims);
    let summary: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(runs.join("tiny/architecture.json")).unwrap()).unwrap();
    assert_eq!((summary["layers"].as_str().unwrap().len(), &summary["trials"]), (3, &4.into()));
    assert!(fs::read_to_string(runs.join("tiny/trials.svg")).unwrap().starts_with("<svg"));
    let page = fs::read_to_string(runs.join("tiny/report.html")).unwrap();
    assert!(page.contains("Search tiny") && page.contains("--trials 4") && page.contains("id=\"models\""));
    assert!(fs::read_to_string(runs.join("tiny/metrics.jsonl")).unwrap().contains("\"kind\":\"completed\""));

    // The same command again changes nothing; a larger budget, a candidate and a correction do.
    succeed(runs, &["--trials", "4"]);
    assert_eq!(study(runs), first);
    let known: Vec<_> = first.trials().iter().map(|trial| trial.architecture.clone()).collect();
    let candidate = first.space().iter().find(|a| !known.contains(a)).unwrap();
    let more = ["--trials", "6", "--add", &candidate.to_string(), "--invalidate", "1", "--reason", "bad node"];
    succeed(runs, &more);
    let extended = study(runs);
    assert_eq!((extended.trials().len(), extended.valid_trials()), (7, 6));
    assert_eq!((extended.trials()[4].origin, &extended.trials()[4].architecture), (Origin::Manual, &candidate));
    let again = search(runs, &more).output().unwrap();
    let notes = String::from_utf8(again.stderr).unwrap();
    assert!(again.status.success() && notes.contains(&format!("--add {candidate}: the run has")), "{notes}");
    assert_eq!(study(runs), extended);
    let shown = succeed(runs, &["--show"]);
    assert!(shown.contains("excluded: bad node"), "{shown}");
    assert!(shown.contains("trial  architecture                 accuracy, seconds"), "{shown}");
    assert_eq!(shown.lines().count(), 2 + 7);
}

#[test]
fn a_killed_run_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let killed = folder.path().join("killed");
    let whole = folder.path().join("whole");
    let arguments = ["--layers", "6", "--trials", "48"];
    for lines in [4, 16, 40] {
        let mut process = search(&killed, &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let path = killed.join("tiny/journal.jsonl");
        while fs::read_to_string(&path).unwrap_or_default().lines().count() < lines {
            thread::sleep(Duration::from_millis(1));
        }
        succeed(&killed, &["--show"]);
        process.kill().unwrap();
        process.wait().unwrap();
    }
    succeed(&killed, &arguments);
    succeed(&whole, &arguments);
    for (resumed, uninterrupted) in study(&killed).observations().zip(study(&whole).observations()) {
        assert_eq!(resumed.trial.architecture, uninterrupted.trial.architecture);
        assert!(resumed.report.same_outcome(uninterrupted.report));
    }
    let result = |runs: &Path| fs::read_to_string(runs.join("tiny/target.json")).unwrap();
    assert_eq!(result(&killed), result(&whole));
}

#[test]
fn processes_find_what_threads_find() {
    let folder = tempfile::tempdir().unwrap();
    let threads = folder.path().join("threads");
    let processes = folder.path().join("processes");
    succeed(&threads, &["--trials", "6"]);
    succeed(&processes, &["--trials", "6", "--executor", "process", "--trial-minutes", "10"]);
    assert!(study(&threads).observations().zip(study(&processes).observations()).all(|(here, there)| {
        here.trial.architecture == there.trial.architecture && here.report.same_outcome(there.report)
    }));
    assert_eq!(study(&processes).observations().count(), 6);
    assert!(processes.join("tiny/tasks").exists());
}

#[test]
fn a_search_that_has_no_more_to_try_says_so() {
    let runs = tempfile::tempdir().unwrap();
    let text = succeed(runs.path(), &["--trials", "2", "--at-most", "cache=1"]);
    assert!(text.contains("a whole search of 2 trials") && text.contains("the search ended after 1 trial: "), "{text}");
    let text = succeed(runs.path(), &["--trials", "1", "--at-most", "cache=1"]);
    assert!(text.contains("a whole search of 1 trial: ") && !text.contains("the search ended"), "{text}");
}

#[test]
fn bad_flags_get_a_clear_error() {
    let runs = tempfile::tempdir().unwrap();
    let runs = runs.path();
    fs::write(runs.join("file"), "").unwrap();
    let file = runs.join("file");
    let bad: &[(&[&str], &str)] = &[
        (&["--primitives", "attention,mamba9"], "unknown primitive \"mamba9\"; known primitives: attention (A)"),
        (&["--primitives", "A,attention"], "lists A twice"),
        (&["--layers", "0"], "no layers"),
        (&["--layers", "200"], "2^128"),
        (&["--trials", "0"], "at least one"),
        (&["--workers", "0"], "at least one"),
        (&["--executor", "process", "--workers", "0"], "at least one"),
        (&["--executor", "cloud"], "threads, process, slurm"),
        (&["--worker", "/no/such/task"], "cannot read the task in /no/such/task"),
        (&["--target", "llama_2b"], "llama_1b"),
        (&["--device", "tpu"], "there is no device \"tpu\""),
        (&["--protocol", "slow"], "neither quick, hybrid, reference, full nor a file of one"),
        (&["--protocol", "Cargo.toml"], "holds no protocol"),
        (&["--run", "../elsewhere"], "not a folder name"),
        (&["--runs", file.to_str().unwrap()], "file is not a folder"),
        (&["--add", "2A+"], "a layer is missing"),
        (&["--add", "AMAM"], "not in the search space"),
        (&["--invalidate", "0"], "--reason"),
        (&["--minutes=-1"], "positive"),
        (&["--trails", "4"], "--trials"),
        (&["--race"], "there are 1; ask for more with --repeat"),
        (&["--race", "--repeat", "3"], "there are 3; ask for more"),
        (&["--race", "--repeat", "6", "--objective", "accuracy", "--objective", "cache"], "for one objective"),
        (&["--race=maybe"], "invalid value"),
        (
            &["--objective", "acuracy"],
            "the scores of this protocol are accuracy, in-context-recall, compression; the costs",
        ),
        (&["--objective", "cache", "--objective", "loss:min"], "--objective loss: the scores of this protocol"),
        (&["--at-most", "cach=2e8"], "cach: neither a kind of layer nor a cost or score"),
    ];
    for (arguments, words) in bad {
        let output = search(runs, arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && text.contains(words) && !text.contains("panicked"),
            "{arguments:?}: {text}"
        );
    }
    // Nothing above has begun a search.
    assert!(!runs.join("tiny/journal.jsonl").exists() || study(runs).trials().is_empty());

    succeed(runs, &["--trials", "2"]);
    let output = search(runs, &["--seed", "1"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("seed was 0, is 1"), "{text}");
    let output = search(runs, &["--invalidate", "99", "--reason", "x"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no trial 99"));
}

#[test]
fn races_are_asked_for_or_come_with_length() {
    let runs = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.arg("--runs").arg(runs.path()).args(["--device", "flex", "--repeat", "6", "--no-final-evaluation"]);
        command.args(["--protocol", "tests/fixtures/tiny_protocol.json"]).args(arguments);
        let Output { status, stdout, stderr } = command.output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    };
    let stopping = |name: &str| journal::read(runs.path().join(name).join("journal.jsonl")).unwrap().0.stopping;
    let racing = |name: &str| stopping(name).is_some_and(|rules| rules.starts_with("racing("));
    assert!(run(&["--layers", "3", "--trials", "8", "--race"]).contains("less for those that lose a race"));
    assert!(racing("tiny_protocol-3xattention-swiglu-repeat6-race-seed0"));
    run(&["--layers", "16", "--trials", "1"]);
    assert!(racing("tiny_protocol-16xattention-swiglu-repeat6-race-seed0"));
    run(&["--layers", "16", "--trials", "1", "--race=false"]);
    assert_eq!(stopping("tiny_protocol-16xattention-swiglu-repeat6-seed0"), None);
    run(&["--layers", "15", "--trials", "1"]);
    assert_eq!(stopping("tiny_protocol-15xattention-swiglu-repeat6-seed0"), None);
}

/// A pipe is not waited for, and times that cannot be read cost no result.
#[cfg(unix)]
#[test]
fn files_that_cannot_be_read_are_named() {
    let root = tempfile::tempdir().unwrap();
    let runs = root.path();
    let pipe = runs.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let protocol = ["--protocol", pipe.to_str().unwrap()];
    let mut command = Command::new(program());
    let output = command.arg("--runs").arg(runs).args(["--executor", "process"]).args(protocol).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && words.contains("pipe") && words.contains("not a regular file"), "{words}");

    let latency = runs.join("tiny/latency.json");
    fs::create_dir(runs.join("tiny")).unwrap();
    fs::write(&latency, "{\"a\":").unwrap();
    let output = search(runs, &["--trials", "2"]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.contains(latency.to_str().unwrap()), "{words}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("aggregated"));
}
