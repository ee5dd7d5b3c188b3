//! The page of a search in a real browser.

use std::process::{Command, Stdio};

use composer_nas::{
    prelude::*,
    report::{Page, write_comparison},
};

/// A search over a made-up score, with a failed trial.
fn found() -> Found {
    let primitives = Primitives::standard();
    let space = SearchSpace::uniform(primitives.symbols(["A", "M"]).unwrap(), 6).unwrap();
    let evaluator = from_fn("made up", |trial: &Trial, _: &Context| {
        let layers = trial.architecture.letters();
        if layers == "MMMMMM" {
            return Err(EvalError::Infeasible("no attention <at all>".into()));
        }
        let score =
            layers.bytes().enumerate().map(|(at, layer)| if layer == b'A' { 1.0 / (at + 1) as f64 } else { 0.3 });
        Ok(Report { standard_error: Some(0.01), ..Report::score("accuracy", score.sum::<f64>() / 3.0) })
    });
    let candidate: Architecture = "MMMMMM".parse().unwrap();
    let pipeline = Pipeline::new(&primitives, space, evaluator).trials(20).workers(1).candidates([candidate]);
    pipeline.run(&Target::llama_1b()).unwrap()
}

/// The document after its scripts have run, and what the browser's console said.
fn open(path: &std::path::Path) -> (String, String) {
    let browser = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|browser| Command::new(browser).arg("--version").stdout(Stdio::null()).status().is_ok())
        .expect("Chromium is not installed");
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"])
        .arg(format!("file://{}", path.display()))
        .output()
        .unwrap();
    let console = String::from_utf8_lossy(&output.stderr).lines().filter(|line| line.contains("CONSOLE")).collect();
    (String::from_utf8(output.stdout).unwrap(), console)
}

#[test]
#[ignore = "needs Chromium"]
fn pages_open_without_errors_and_their_scripts_run() {
    let folder = tempfile::tempdir().unwrap();
    let found = found();
    let target = Target::llama_1b();
    let primitives = Primitives::standard();
    let page = folder.path().join("report.html");
    Page::new(&found.study).target(&target, &found.target, &primitives).write(&page).unwrap();
    let (document, console) = open(&page);
    assert_eq!(console, "");
    for part in
        ["trials", "leaders", "predictions", "importance", "layers", "clusters", "votes", "models", "unfinished"]
    {
        assert!(document.contains(&format!("id=\"{part}\"")), "{part}");
    }
    // The script turned titles of figures into hints.
    assert!(document.contains("data-hint=\"layer 1") && document.contains("no attention &lt;at all&gt;"));

    let compared = folder.path().join("compare.html");
    write_comparison(&[("default".into(), vec![found.study])], &compared).unwrap();
    let (document, console) = open(&compared);
    assert_eq!(console, "");
    assert!(document.contains("data-hint=\"default, 1 evaluations"));
}
