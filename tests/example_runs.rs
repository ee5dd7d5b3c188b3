//! The examples that go on from a run: with layers that they do not know, and in folders that are not theirs to write.
#![cfg(feature = "flex")]

#[path = "../examples/plug_in_primitive/layer.rs"]
mod layer;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use composer_nas::{
    layer::WeightInit,
    pipeline::{RunFolder, read_model},
    prelude::*,
    primitive::{BuildError, FnPrimitive, LayerCost, Role},
    report::Page,
};
use layer::running_mean;

/// A program, which cargo builds beside the tests.
fn program(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("examples").join(name);
    assert!(program.exists(), "{} is not there: run cargo test without naming single tests", program.display());
    Command::new(program)
}

/// What a command prints on both streams; whether it succeeds.
fn told(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

/// A run of this name in the folder, of layers that begin with `first`.
fn searched(folder: &Path, name: &str, first: &str, primitives: &Primitives) -> PathBuf {
    let run = folder.join(name);
    let symbols = primitives.symbols(["attention", "swiglu", first]).unwrap();
    let space = SearchSpace::uniform(symbols.clone(), 3).unwrap().pin(0, symbols[2]).unwrap();
    let evaluator = from_fn("runs", |trial: &Trial, _: &Context| {
        Ok(Report::score("accuracy", trial.architecture.runs().count() as f64))
    });
    let target = Target::custom("tiny", Dims::new(8, 24, 2).unwrap(), 300, true, 2).unwrap();
    let pipeline = Pipeline::new(primitives, space, evaluator).trials(6).journal(run.join("journal.jsonl"));
    pipeline.run(&target).unwrap().write(&run, &target).unwrap();
    run
}

fn with_own_layer() -> Primitives {
    Primitives::standard().with(running_mean().unwrap()).unwrap()
}

#[test]
fn a_program_that_knows_the_layer_draws_the_result_and_others_say_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let primitives = with_own_layer();
    let path = searched(folder.path(), "own", "running_mean", &primitives);
    let run = RunFolder::read(&path).unwrap();
    let html = Page::of(&run, &primitives).html().unwrap();
    for part in ["<h1>Search own</h1>", "id=\"models\"", "id=\"costs\"", "running_mean", "<dt>target</dt><dd>tiny</dd>"]
    {
        assert!(html.contains(part), "{part}");
    }
    assert_eq!(read_model(&path, &primitives).unwrap(), run.model.clone().unwrap());

    let standard = Primitives::standard();
    let html = Page::of(&run, &standard).html().unwrap();
    assert!(!html.contains("id=\"models\""));
    assert!(html.contains("K stands for no layer here and for running_mean in the run"), "{html}");
    let cost = |_: &Dims, _| LayerCost::default();
    let build = |_: &Dims, _: &mut WeightInit, _: &Device| Err(BuildError::EmptyArchitecture);
    let impostor = FnPrimitive::new("other_mean", 'K', Role::Sequence, cost, build).unwrap();
    let error = read_model(path.join("target.json"), &standard.with(impostor).unwrap()).unwrap_err().to_string();
    assert!(error.contains("K stands for other_mean here and for running_mean"), "{error}");
}

#[test]
fn examples_name_the_layer_that_they_lack() {
    let folder = tempfile::tempdir().unwrap();
    let run = searched(folder.path(), "own", "running_mean", &with_own_layer());
    let words = "K stands for no layer here and for running_mean in the run";
    let (good, text) = told(program("report").arg(&run));
    assert!(good && text.contains(words), "{text}");
    assert!(fs::read_to_string(run.join("report.html")).unwrap().contains("id=\"leaders\""));
    let out = folder.path().join("out");
    let corpus = folder.path().join("corpus");
    let text = "tests/fixtures/text/harbour.txt";
    let pretrain = |model: &Path| {
        let mut command = program("pretrain");
        command.arg("--model").arg(model).arg("--corpus").arg(&corpus).args(["--text", text, "--vocabulary", "280"]);
        command.arg("--runs").arg(&out).args(["--devices", "flex", "--flops", "1e7"]);
        command
    };
    let mut export = program("export");
    let mut latency = program("latency");
    for command in [export.arg(&run).arg(&out), latency.arg(&run), &mut pretrain(&run.join("target.json"))] {
        let (good, text) = told(command);
        assert!(!good && text.contains(words) && text.contains("docs/plug_in.md"), "{command:?}: {text}");
        assert!(!out.exists(), "{command:?}");
    }
}

/// Names and contents of a folder's files.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn runs_that_may_not_be_written_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let run = searched(folder.path(), "read only", "mamba2", &Primitives::standard());
    let before = contents(&run);
    let mut rights = fs::metadata(&run).unwrap().permissions();
    rights.set_readonly(true);
    fs::set_permissions(&run, rights).unwrap();
    let at = |name: &str| folder.path().join(name);

    let mut latency = program("latency");
    latency.arg(&run).args(["--device", "flex", "--seq-len", "8", "--repeats", "1", "--baseline-blocks", "1"]);
    let (good, text) = told(latency.arg("--latency").arg(at("times")));
    assert!(good && at("times/latency.json").exists(), "{text}");
    let mut report = program("report");
    report.arg(&run).arg("--output").arg(at("page.html")).arg("--latency").arg(at("times"));
    let (good, text) = told(report.arg("--figures").arg(at("figures")));
    assert!(good && text.contains("page.html"), "{text}");
    let html = fs::read_to_string(at("page.html")).unwrap();
    assert!(html.contains("id=\"models\"") && html.contains("id=\"latency\"") && html.contains("Search read only"));
    assert!(at("figures/models.svg").exists() && at("figures/trials.csv").exists());
    let (good, text) = told(program("export").arg(&run).arg(at("exported")));
    assert!(good && at("exported/config.json").exists(), "{text}");
    assert!(text.contains("possible values of --format: flat\n") && !text.contains("Format::"), "{text}");
    assert!(text.contains("not nemotron-h: attention without positions"), "{text}");
    let (good, text) = told(program("export").arg(&run).arg(at("exported")));
    assert!(!good && text.contains("add --overwrite"), "{text}");
    let (good, text) = told(program("export").arg(&run).arg(at("mamba2")).args(["--format", "mamba2"]));
    assert!(!good && text.contains("--format mamba2 cannot") && text.contains("--format flat"), "{text}");
    let card = fs::read_to_string(at("exported/README.md")).unwrap();
    assert!(card.contains("nc_clustering(clusters=5, context=0)") && card.contains("small architecture"), "{card}");
    let (good, text) = told(program("export").arg(&run).arg(at("others")).args(["--attention", "no-positions"]));
    assert!(good && at("others/config.json").exists(), "{text}");
    assert_eq!(contents(&run), before);

    // Where the system refuses to write, the remedy is named. Whoever may write everywhere is not refused.
    let (good, text) = told(program("report").arg(&run));
    assert!(good || text.contains("name another place with --output"), "{text}");
    let (good, text) = told(program("report").arg(&run).arg("--output").arg(at("none/page.html")));
    assert!(!good && text.contains("--output") && text.contains("page.html"), "{text}");
    let group = format!("a={}", run.display());
    let (good, text) = told(program("report").arg(group).arg("--figures").arg(at("figures")));
    assert!(!good && text.contains("--figures is for the page of one run"), "{text}");
}

#[test]
fn only_runs_of_one_kind_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let standard = Primitives::standard();
    let mamba = searched(folder.path(), "mamba", "mamba2", &standard);
    let other = searched(folder.path(), "convolution", "gated_conv", &standard);
    let page = folder.path().join("compare.html");
    let compare = |groups: &[String]| told(program("report").args(groups).arg("--output").arg(&page));
    let group = |name: &str, runs: &[&Path]| {
        let runs: Vec<_> = runs.iter().map(|run| run.display().to_string()).collect();
        format!("{name}={}", runs.join(","))
    };
    let (good, text) = compare(&[group("a", &[&mamba]), group("b", &[&other])]);
    let words = ["mamba and ", "convolution are not to be compared: space is ", "primitives is "];
    assert!(!good && words.iter().all(|word| text.contains(word)), "{text}");
    let (good, text) = compare(&[group("a", &[&mamba, &mamba])]);
    assert!(!good && text.contains("of group a have the same seed 0"), "{text}");
    let (good, text) = compare(&[group("a", &[&mamba]), group("a", &[&mamba])]);
    assert!(!good && text.contains("two groups are named a"), "{text}");
    assert!(!page.exists());
    let (good, text) = compare(&[group("a", &[&mamba]), group("b", &[&mamba])]);
    assert!(good && page.exists(), "{text}");
}
