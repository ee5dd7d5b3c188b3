//! The calibration from outside, as its user runs it, with trainings of four steps.
#![cfg(all(feature = "flex", feature = "tokenizers"))]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use composer_nas::{
    data::{Importer, TextReader},
    evaluate::Table,
    prelude::*,
    study::{Origin, TrialId},
};

/// The program, which cargo builds beside the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("examples").join("calibrate");
    assert!(program.exists(), "{} is not there: run cargo test without naming single tests", program.display());
    program
}

fn calibrate(table: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.arg(table).args(["--device", "flex", "--protocol", "tests/fixtures/tiny_protocol.json", "--layers", "3"]);
    command.args(arguments);
    command
}

fn succeed(table: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = calibrate(table, arguments).output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// The table without the times that it took.
fn measured(path: &Path) -> Vec<(String, u64, Vec<f64>)> {
    let table = Table::read(path).unwrap();
    let untimed = |values: Vec<f64>| {
        let columns = table.columns().iter().zip(values);
        columns.filter(|(column, _)| !column.contains("seconds")).map(|(_, value)| value).collect()
    };
    table.rows().map(|row| (row.architecture.letters(), row.seed, untimed(row.values))).collect()
}

#[test]
fn a_killed_measurement_goes_on_and_can_be_analysed() {
    let folder = tempfile::tempdir().unwrap();
    let killed = folder.path().join("killed.csv");
    let whole = folder.path().join("whole.csv");
    for lines in [4, 12] {
        let mut process = calibrate(&killed, &["--seeds", "0..4"]).stdout(Stdio::null()).spawn().unwrap();
        while fs::read_to_string(&killed).unwrap_or_default().lines().count() < lines {
            thread::sleep(Duration::from_millis(1));
        }
        process.kill().unwrap();
        process.wait().unwrap();
    }
    let mut torn = fs::read(&killed).unwrap();
    torn.extend(b"AMA,3,0.5,0.");
    fs::write(&killed, torn).unwrap();
    succeed(&killed, &["--seeds", "0..4", "--workers", "1"]);
    succeed(&whole, &["--seeds", "0..2"]);
    succeed(&whole, &["--seeds", "0..4"]);
    assert_eq!(measured(&killed), measured(&whole));
    assert!(succeed(&whole, &["--seeds", "0..4"]).contains("0 evaluations to do"));

    let table = Table::read(&whole).unwrap();
    let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 3).unwrap();
    table.complete(&space).unwrap();
    assert_eq!(table.seeds(), [0, 1, 2, 3]);
    // Each architecture draws on its own, and a row is the trial of the seed that it names.
    let architecture: Architecture = "AMM".parse().unwrap();
    let seed = Seed(2).derive("AMM", 0);
    let protocol = serde_json::from_str(include_str!("fixtures/tiny_protocol.json")).unwrap();
    let mad = Mad::new(protocol, &Primitives::standard(), &Device::flex()).unwrap();
    let trial = Trial::new(TrialId(0), architecture.clone(), seed, Origin::Manual);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let report = pool.install(|| mad.evaluate(&trial, &Context::default())).unwrap();
    assert_eq!(table.scores(&architecture)[2], report.scores["accuracy"]);

    let text = succeed(&whole, &["--analyse", "--splits", "4", "--against", killed.to_str().unwrap()]);
    for words in
        ["8 architectures of 3 layers", "mean of curve_mean", "Spearman with", "1.000", "MLP only | MMM", "N_0"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn scores_are_judged_by_comparisons_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let comparisons = r#"{"groups": [{"name": "ours", "paper": "our ablation", "metric": "loss", "lower_is_better": true, "gap": 0.01,
        "layouts": [{"name": "interleaved", "layers": "AM", "value": 3.0}, {"name": "reversed", "layers": "MA", "value": 3.1},
                    {"name": "strange", "layers": "AZ", "value": 3.2}, {"name": "secret", "value": 3.3}]}]}"#;
    fs::write(path("ours.json"), comparisons).unwrap();
    let table = folder.path().join("table.csv");
    let text = succeed(&table, &["--evidence", &path("ours.json"), "--seeds", "0..2"]);
    for words in [
        "1 layouts have letters without a primitive",
        "4 evaluations to do",
        "| ours | 6 | ",
        "ours: no score of strange, secret",
        "| number of attention layers | 0.50 |",
        "the picture is",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(fs::read_to_string(table.with_extension("svg")).unwrap().contains("interleaved"));
    assert_eq!(Table::read(&table).unwrap().rows().count(), 4);

    fs::write(path("broken.json"), comparisons.replace("3.1", "null").replace("\"MA\"", "\"M-A\"")).unwrap();
    let refused = calibrate(&table, &["--evidence", &path("broken.json"), "--analyse"]).output().unwrap();
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && error.contains("\"M-A\" is not an architecture"), "{error}");
}

#[test]
fn text_is_measured_by_the_likelihood_of_its_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = fs::read_to_string("tests/fixtures/text/harbour.txt").unwrap();
    fs::write(path("text.txt"), text.repeat(20)).unwrap();
    let reader = || TextReader::new([path("text.txt")]);
    Importer::train(reader(), 300).unwrap().import(reader(), path("tokens")).unwrap();
    let run = |corpus: &str| {
        let mut command = Command::new(program());
        command.arg(path("text.csv")).args(["--device", "flex", "--seeds", "0..1", "--architectures", "AM,MA"]);
        command.args(["--tokens", "8192", "--width", "16"]).arg("--corpus").arg(path(corpus)).output().unwrap()
    };
    let refused = run("elsewhere");
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && error.contains("run examples/fetch_corpus.sh"), "{error}");
    let output = run("tokens");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = Table::read(path("text.csv")).unwrap();
    assert_eq!(table.rows().count(), 2);
    let losses = table.column("loss").unwrap();
    for (architecture, loss) in table.architectures().zip(losses) {
        assert_eq!(table.scores(architecture), [(-loss).exp()]);
        assert!(loss > 1.0 && loss < 300f64.ln(), "{architecture}: {loss}");
    }
}

#[test]
fn bad_input_gets_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("table.csv");
    let ragged = folder.path().join("ragged.csv");
    succeed(&table, &["--seeds", "0..1", "--architectures", "AMM,MMM"]);
    let good = fs::read_to_string(&table).unwrap();
    fs::write(&ragged, good + "AMA,0,1\n").unwrap();
    let protocol = |name: &str, from: &str, to: &str| {
        let text = fs::read_to_string("tests/fixtures/tiny_protocol.json").unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let changed = protocol("changed.json", "0.006", "0.005");
    let scoring = protocol("scoring.json", "\"scoring\": \"accuracy\"", "\"scoring\": \"luck\"");
    let short = protocol("short.json", "\"seq_len\": 8", "\"seq_len\": 2");
    let small = protocol("small.json", "\"vocab_size\": 8", "\"vocab_size\": 1");
    let still = protocol("still.json", "\"steps\": 4", "\"steps\": 0");
    let none = folder.path().join("none.csv");
    let bad: &[(&Path, &[&str], &str)] = &[
        (&table, &["--protocol", &changed], "another evaluator"),
        (&table, &["--common-seeds"], "another evaluator"),
        (&ragged, &[], "3 fields where the header has"),
        (&ragged, &["--analyse"], "3 fields where the header has"),
        (&none, &["--analyse"], "cannot read the table"),
        (&table, &["--analyse", "--layers", "5"], "no row of 5 layers"),
        (&none, &["--seeds", "4..4"], "from..to"),
        (&none, &["--architectures", "A-M"], "not an architecture"),
        (&none, &["--protocol", &scoring], "unknown variant `luck`"),
        (&none, &["--protocol", &short], "raise seq_len"),
        (&none, &["--protocol", &small], "raise vocab_size"),
        (&none, &["--protocol", &still], "steps is 0"),
        (&none, &["--workers", "0"], "at least one"),
        (&none, &["--layers", "40"], "name --architectures"),
    ];
    for (table, arguments, words) in bad {
        let output = calibrate(table, &[]).args(*arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(words) && !text.contains("panicked"), "{words}: {text}");
    }
    let text = succeed(&table, &["--analyse"]);
    assert!(text.contains("note: the table is incomplete; missing are"), "{text}");
}
