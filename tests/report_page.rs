//! The page of a search in a real browser.

use std::process::{Command, Stdio};

use composer_nas::{
    prelude::*,
    report::{Page, write_comparison},
    study::TaskReport,
};

/// A search among so many layers over a made-up score, with a failed trial.
fn found(layers: usize) -> Found {
    let primitives = Primitives::standard();
    let space = SearchSpace::uniform(primitives.symbols(["A", "M"]).unwrap(), layers).unwrap();
    let evaluator = from_fn("made up", |trial: &Trial, _: &Context| {
        let layers = trial.architecture.letters();
        if !layers.contains('A') {
            return Err(EvalError::Infeasible("no attention <at all>".into()));
        }
        let score =
            layers.bytes().enumerate().map(|(at, layer)| if layer == b'A' { 1.0 / (at + 1) as f64 } else { 0.3 });
        let score = score.sum::<f64>() / 3.0;
        let curve = (1..=10).map(|step| (20 * step, score * (step as f64 / 10.0).sqrt())).collect();
        let task = TaskReport { name: "made-up size=3".into(), curve, ..TaskReport::default() };
        Ok(Report { standard_error: Some(0.01), tasks: vec![task], ..Report::score("accuracy", score) })
    });
    let candidate = Architecture::new([Symbol::SWIGLU].repeat(layers));
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
        .args(["--allow-file-access-from-files", "--virtual-time-budget=20000"])
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
    let found = found(6);
    let target = Target::llama_1b();
    let primitives = Primitives::standard();
    let page = folder.path().join("report.html");
    Page::new(&found.study).target(&target, &found.target, &primitives).write(&page).unwrap();
    let (document, console) = open(&page);
    assert_eq!(console, "");
    for part in [
        "trials",
        "curves",
        "leaders",
        "predictions",
        "importance",
        "layers",
        "clusters",
        "votes",
        "models",
        "unfinished",
    ] {
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

/// Measures the page beside it in frames of several widths: a line per frame with what does not fit.
const FRAMES: &str = r#"<!doctype html><body><pre id="said"></pre><script>
const said = document.getElementById("said");
for (const width of [390, 800, 1440]) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement, faults = [];
    if (root.scrollWidth > width) faults.push(`the page is ${root.scrollWidth} wide`);
    let pictures = 0;
    for (const figure of page.querySelectorAll("figure")) {
      const style = frame.contentWindow.getComputedStyle(figure);
      const room = figure.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
      const shown = [...figure.querySelectorAll(":scope > svg")].filter((picture) => picture.clientWidth > 0);
      pictures += shown.length;
      if (shown.length !== 1) faults.push(`${figure.id} shows ${shown.length} pictures`);
      for (const picture of shown) {
        const own = picture.getBoundingClientRect().width;
        if (Math.abs(own - room) > 2) faults.push(`${figure.id} is ${own} wide in ${room}`);
        const letters = [...picture.querySelectorAll("text")].map((text) => text.getBoundingClientRect().height);
        if (Math.min(...letters) < 7) faults.push(`${figure.id} has text ${Math.min(...letters)} high`);
      }
    }
    said.textContent += `${width}: ${pictures} pictures ${faults.join("; ")}\n`;
  };
  frame.src = "report.html";
  document.body.append(frame);
}
</script></body>"#;

#[test]
#[ignore = "needs Chromium"]
fn pictures_fill_their_cards_at_every_width() {
    let target = Target::llama_1b();
    let primitives = Primitives::standard();
    for layers in [6, 40] {
        let folder = tempfile::tempdir().unwrap();
        let found = found(layers);
        let page = Page::new(&found.study).target(&target, &found.target, &primitives);
        page.write(folder.path().join("report.html")).unwrap();
        let frames = folder.path().join("frames.html");
        std::fs::write(&frames, FRAMES).unwrap();
        let (document, console) = open(&frames);
        assert_eq!(console, "");
        let said = document.split("<pre id=\"said\">").nth(1).unwrap().split("</pre>").next().unwrap();
        let mut lines: Vec<_> = said.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["1440: 8 pictures ", "390: 8 pictures ", "800: 8 pictures "], "{layers} layers");
    }
}
