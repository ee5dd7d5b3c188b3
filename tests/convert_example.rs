//! The example `convert` from outside: its files, kill -9 at any moment, what it refuses.
#![cfg(all(feature = "flex", feature = "tokenizers"))]

#[cfg(target_os = "linux")]
mod mount;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use composer_nas::{
    convert::Choice,
    data::{Importer, TextReader},
    dims::InitScheme,
    export, import,
    model::HybridLm,
    prelude::*,
    primitive::SlidingWindow,
};

/// A parent with random weights and a tokenizer of its own.
fn parent(root: &Path) -> PathBuf {
    let text = PathBuf::from("tests/fixtures/text/harbour.txt");
    let tokenizer = Importer::train(TextReader::new([text.clone()]), 280).unwrap();
    let info = tokenizer.import(TextReader::new([text]), root.join("tokenizer")).unwrap();
    let dims = Dims { kv_heads: 2, ..Dims::new(16, 256, 4).unwrap() };
    let target = Target::custom("tiny", dims, info.vocab_size, true, 4).unwrap();
    let spec = ModelSpec { init: InitScheme::FanIn, ..target.model("AMAMAMAM".parse().unwrap()) };
    let model = HybridLm::new(&spec, &Primitives::paper(), Seed(3), &Device::flex()).unwrap();
    let options = export::Options {
        format: export::Format::Llama,
        tokenizer: Some(root.join("tokenizer")),
        ..export::Options::default()
    };
    let folder = root.join("parent");
    export::hugging_face(&spec, Some(&model), &Primitives::paper(), &folder, &options).unwrap();
    folder
}

fn convert(root: &Path, run: &str, arguments: &[&str]) -> Command {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("examples").join("convert");
    assert!(program.exists(), "{} is not there: run cargo test without naming single tests", program.display());
    let mut command = Command::new(program);
    command.arg("--parent").arg(root.join("parent")).args(["--run", run]);
    let runs = root.to_str().unwrap();
    let usual = [
        ("--runs", runs),
        ("--text", "tests/fixtures/text/harbour.txt"),
        ("--window", "4"),
        ("--recurrent", "mamba2"),
        ("--keep", "40,70"),
        ("--length", "64"),
        ("--seq-len", "10"),
        ("--choose-windows", "2"),
        ("--decide-windows", "4"),
        ("--test-windows", "3"),
        ("--trials", "6"),
        ("--block-windows", "4"),
        ("--block-steps", "6"),
        ("--gate-steps", "3"),
        ("--heal-steps", "4"),
    ];
    for (flag, value) in usual.into_iter().filter(|(flag, _)| !arguments.contains(flag)) {
        command.args([flag, value]);
    }
    command.args(arguments);
    command
}

fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn choices(root: &Path, run: &str) -> Vec<Choice> {
    serde_json::from_slice(&fs::read(root.join(run).join("choices.json")).unwrap()).unwrap()
}

#[test]
fn a_conversion_killed_again_and_again_ends_like_an_undisturbed_one() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let folder = parent(root);
    let told = succeed(&mut convert(root, "whole", &[]));
    assert!(told.contains("healed: KL"), "{told}");
    let whole = choices(root, "whole");
    let methods: Vec<&str> = whole.iter().map(|choice| choice.method.as_str()).collect();
    for method in ["uniform S", "first B", "last S", "gates B", "kl-guided", "greedy", "search 0"] {
        assert_eq!(methods.iter().filter(|&&known| known == method).count(), 2, "{method} {methods:?}");
    }
    assert!(whole.iter().all(|choice| choice.cost <= choice.budget && choice.kl > 0.0));
    let page = fs::read_to_string(root.join("whole/convert.html")).unwrap();
    assert!(page.contains("id=\"quality\"") && page.contains("id=\"damages\""));
    // What was healed is a folder of transformers that is read back.
    let windows = Primitives::paper().with(SlidingWindow::new(4).unwrap()).unwrap();
    let known = windows
        .with(composer_nas::convert::mamba2_like(&import::spec(&folder, &Primitives::paper()).unwrap().dims).unwrap());
    let exported =
        import::hugging_face(root.join("whole/export"), &known.unwrap(), &Device::flex(), import::Rope::Halves);
    assert_eq!(exported.unwrap().spec.architecture.len(), 8);

    // The same again changes nothing and evaluates nothing.
    let evaluations = || fs::read(root.join("whole/choosing.jsonl")).unwrap();
    let before = evaluations();
    succeed(&mut convert(root, "whole", &[]));
    assert_eq!((choices(root, "whole"), evaluations()), (whole.clone(), before));

    for round in 1..8 {
        let mut child =
            convert(root, "killed", &["--threads", "1"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(60 * round));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    succeed(&mut convert(root, "killed", &[]));
    assert_eq!(choices(root, "killed"), whole);
}

/// Goes on with room for one more page each time, from nothing on and from a finished library on, whose making leaves
/// free what it needed on its way.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs root, to mount"]
fn a_disk_that_is_full_in_any_phase_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    parent(root);
    succeed(&mut convert(root, "whole", &[]));
    let known = root.join("known");
    fs::create_dir_all(known.join("run")).unwrap();
    fill_up(root, &known, 3);
    succeed(
        Command::new("cp")
            .arg("-r")
            .args(["tokens", "library"].map(|part| root.join("whole").join(part)))
            .arg(known.join("run")),
    );
    fill_up(root, &known, 2);
}

/// Begins with the folder `known`; so many phases at least find the disk full.
#[cfg(target_os = "linux")]
fn fill_up(root: &Path, known: &Path, least: usize) {
    let runs = root.join("disk");
    fs::create_dir(&runs).unwrap();
    let mount = mount::Mount::full_at(&runs, "size=1m");
    succeed(Command::new("cp").arg("-r").arg(known.join("run")).arg(&runs));
    let used = succeed(Command::new("du").arg("-sk").arg(&runs));
    let used: usize = used.split_whitespace().next().unwrap().parse().unwrap();
    // The last file of each phase. What is there once stays.
    let phases = ["tokens/corpus.json", "library/library.json", "choosing.jsonl", "choices.json", "convert.html"];
    let mut stops = vec![0; phases.len() + 1];
    for size in (used + 4..).step_by(4) {
        mount.change(&format!("size={size}k"));
        let mut command = convert(root, "run", &["--runs", runs.to_str().unwrap()]);
        let Output { status, stderr, .. } = command.output().unwrap();
        let words = String::from_utf8_lossy(&stderr);
        if status.success() {
            break;
        }
        assert!(words.contains("No space left on device") && !words.contains("panicked"), "{size}: {words}");
        let done = phases.iter().filter(|phase| runs.join("run").join(phase).exists()).count();
        assert!(stops[done + 1..].iter().all(|&later| later == 0), "{size}: something is lost: {words}");
        stops[done] += 1;
    }
    assert!(stops.iter().filter(|&&stops| stops > 0).count() >= least, "{stops:?}");
    assert_eq!(choices(&runs, "run"), choices(root, "whole"));
    drop(mount);
    fs::remove_dir(runs).unwrap();
}

#[test]
fn what_cannot_be_converted_is_refused_with_a_remedy() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let folder = parent(root);
    let refused = |run: &str, arguments: &[&str], words: &str| {
        let Output { status, stderr, .. } = convert(root, run, arguments).output().unwrap();
        let text = String::from_utf8_lossy(&stderr);
        assert!(!status.success() && text.contains(words) && !text.contains("panicked"), "{arguments:?}: {text}");
    };
    refused("least", &["--keep", "1"], "the least is");
    refused("long", &["--seq-len", "100000"], "100000");
    refused("many", &["--test-windows", "10000"], "use more text");
    refused("none", &["--trials", "0"], "use at least 1");
    refused("many", &["--test-windows", "18446744073709551615"], "use more text");
    // What is made once is not made of something else.
    let other = root.join("other.txt");
    fs::write(&other, "Nothing of the harbour. ".repeat(400)).unwrap();
    refused("least", &["--text", other.to_str().unwrap()], "choose another --run");
    // The parent itself is not healed.
    let whole = ["--keep", "100", "--searches", "0", "--no-greedy"];
    assert!(!succeed(&mut convert(root, "parent-itself", &whole)).contains("healing"));
    // Windows of another length are no candidates of before.
    succeed(&mut convert(root, "window", &["--searches", "0", "--no-greedy", "--heal-steps", "0"]));
    refused("window", &["--window", "3", "--searches", "0", "--no-greedy", "--heal-steps", "0"], "choosing.jsonl");
    // The library is of other settings.
    refused("least", &["--block-steps", "7"], "settings was");
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    refused("no-tokenizer", &[], "parent's own tokenizer");
    let config = folder.join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"silu\"", "\"gelu\"")).unwrap();
    refused("act", &[], "hidden_act");
    fs::write(&config, text.replace("\"llama\"", "\"qwen3\"")).unwrap();
    refused("qwen3", &[], "no plain attention");
}
