//! The pages in a real browser. That of a conversion needs the feature `model`.
#![cfg(feature = "model")]

use std::{
    path::Path,
    process::{Command, Stdio},
};

use composer_nas::{
    convert::Choice,
    cost::{LayerTimes, Seconds, Timing, Workload},
    extrapolate::{Cycle, TargetCosts},
    journal,
    prelude::*,
    report::{self, Latency, Page, write_comparison},
    study::{Measure, Objective, TaskReport},
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
    let pipeline = Pipeline::new(&primitives, space, evaluator).trials(20).workers(1).enqueue([candidate]);
    pipeline.run(&Target::llama_1b()).unwrap()
}

/// The document after its scripts have run, and what the browser's console said.
fn open(path: &Path) -> (String, String) {
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

/// Measures pages beside it in frames of several widths: a line per frame with what does not fit.
const FRAMES: &str = r#"<!doctype html><body><pre id="said"></pre><script>
const said = document.getElementById("said");
for (const name of NAMES) for (const width of [390, 800, 1440]) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement, faults = [];
    if (root.scrollWidth > width) faults.push(`the page is ${root.scrollWidth} wide`);
    // On small screens nothing is wider than the page, and nothing scrolls sideways.
    if (width < 1000) {
      for (const element of page.body.querySelectorAll("*:not(svg *)")) {
        const box = element.getBoundingClientRect(), name = `${element.tagName} ${element.textContent.slice(0, 40)}`;
        if (box.width > 0 && box.right > width + 1) faults.push(`${name} ends at ${box.right}`);
        if (element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1) faults.push(`${name} scrolls`);
      }
    }
    let pictures = 0;
    for (const figure of page.querySelectorAll("figure")) {
      const style = frame.contentWindow.getComputedStyle(figure);
      const room = figure.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
      const shown = [...figure.querySelectorAll(":scope > svg")].filter((picture) => picture.clientWidth > 0);
      pictures += shown.length;
      if (shown.length !== 1) faults.push(`${figure.id} shows ${shown.length} pictures`);
      for (const picture of shown) {
        const own = picture.getBoundingClientRect();
        if (Math.abs(own.width - room) > 2) faults.push(`${figure.id} is ${own.width} wide in ${room}`);
        const scale = own.width / picture.viewBox.baseVal.width;
        for (const text of picture.querySelectorAll("text")) {
          const box = text.getBoundingClientRect();
          const height = scale * parseFloat(frame.contentWindow.getComputedStyle(text).fontSize);
          if (height < 7.5) faults.push(`${figure.id} has letters ${height} high`);
          const inside = box.left > own.left - 2 && box.right < own.right + 2 && box.top > own.top - 2;
          if (!inside) faults.push(`${figure.id} cuts ${text.textContent}`);
        }
      }
    }
    said.textContent += `${name} ${width}: ${pictures} pictures ${faults.join("; ")}\n`;
  };
  frame.src = `${name}.html`;
  document.body.append(frame);
}
</script></body>"#;

/// What the frames say about the pages of these names in the folder, sorted.
fn measured(folder: &Path, names: &[&str]) -> Vec<String> {
    let frames = folder.join("frames.html");
    std::fs::write(&frames, FRAMES.replace("NAMES", &format!("{names:?}"))).unwrap();
    let (document, console) = open(&frames);
    assert_eq!(console, "");
    let said = document.split("<pre id=\"said\">").nth(1).unwrap().split("</pre>").next().unwrap();
    let mut lines: Vec<_> = said.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// The page of a search with two objectives, its costs those of a target, and times of its layers.
fn write_front(path: &Path) {
    let primitives = Primitives::standard();
    let target = Target::llama_1b();
    let space = SearchSpace::uniform(primitives.symbols(["A", "B", "M"]).unwrap(), 12).unwrap();
    let evaluator = from_fn("made up", |trial: &Trial, _: &Context| {
        let layers = trial.architecture.layers();
        let score =
            layers.iter().enumerate().map(|(at, &layer)| (layer == Symbol::MAMBA2) as u8 as f64 / (at + 2) as f64);
        let score: f64 = score.sum();
        let mut report = Report { standard_error: Some(0.01), ..Report::score("accuracy", score) };
        for task in ["in-context-recall", "selective-copying", "a-task-with-a-long-name-without-a-space"] {
            report.scores.insert(task.into(), 0.5 * score);
        }
        Ok(Report { parameters: 1_234_567, ..report })
    });
    let goal = Goal::maximize("accuracy").and(Objective::minimize(Measure::cost("cache"))).unwrap();
    let costs = TargetCosts::new(Cycle, &target, &primitives, Workload::bf16(4096)).unwrap();
    let journal = path.with_extension("jsonl");
    let pipeline = Pipeline::new(&primitives, space, evaluator).goal(goal).costs(costs).extrapolator(Cycle);
    let found = pipeline.trials(16).workers(1).journal(&journal).run(&target).unwrap();
    let (setup, study) = journal::read(&journal).unwrap();
    let seconds = |prefill, decode| Seconds { prefill, decode };
    let layers = ["A", "B", "M"].map(|letter| (letter.parse().unwrap(), seconds(0.012, 0.0007)));
    let timing = Timing { batch: 1, seq_len: 4096, repeats: 9 };
    let times = LayerTimes { timing, layers: layers.into(), ends: Seconds::default() };
    let latency = Latency { device: "a device".into(), dims: target.dims.clone(), times };
    let page = Page::new(&study).setup(&setup).target(&target, &found.target, &primitives);
    page.latency(&latency).command("cargo run --release --example search -- --name x").write(path).unwrap();
}

/// The page of a conversion of a model of 60 layers.
fn write_conversion(path: &Path) {
    let methods = ["search 0", "search 1", "greedy", "kl-guided", "first S", "uniform S"];
    let choice = |budget: u64, at: usize| {
        // Another of the 30 attention layers becomes a window.
        let layers = "AM".repeat(at) + "SM" + &"AM".repeat(29 - at);
        let kl = (1 + at) as f64 / budget as f64;
        Choice {
            method: methods[at].into(),
            budget: budget << 20,
            architecture: layers.parse().unwrap(),
            cost: (budget << 20) - 12_345,
            kl,
            standard_error: Some(0.02),
            loss: 3.0 + kl,
        }
    };
    let choices: Vec<_> =
        [22, 45, 67].into_iter().flat_map(|budget| (0..methods.len()).map(move |at| choice(budget, at))).collect();
    let damages = (0..60).step_by(2).map(|layer| ((layer, Symbol::SLIDING_WINDOW), 0.1 / (1.0 + layer as f64)));
    let primitives = Primitives::standard();
    let cost = "bytes of cache at 4096 tokens";
    report::write_conversion(path, "SmolLM2-135M-Instruct", &damages.collect(), &choices, cost, &primitives).unwrap();
}

#[test]
#[ignore = "needs Chromium"]
fn pages_and_pictures_fit_at_every_width() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::llama_1b();
    let primitives = Primitives::standard();
    let path = |name: &str| folder.path().join(name).with_extension("html");
    for (name, layers) in [("short", 6), ("long", 40)] {
        let found = found(layers);
        Page::new(&found.study).target(&target, &found.target, &primitives).write(path(name)).unwrap();
    }
    write_front(&path("front"));
    write_conversion(&path("conversion"));
    let groups =
        ["default", "a group whose name is long", "a_group_whose_name_has_no_space_and_is_longer_than_a_phone"];
    let groups = groups.map(|name| (name.to_owned(), vec![found(6).study, found(6).study]));
    write_comparison(&groups, path("comparison")).unwrap();

    let said = measured(folder.path(), &["short", "long", "front", "conversion", "comparison"]);
    let pictures = [("comparison", 1), ("conversion", 2), ("front", 9), ("long", 8), ("short", 8)];
    let widths = [1440, 390, 800];
    let fits =
        pictures.iter().flat_map(|(name, count)| widths.map(|width| format!("{name} {width}: {count} pictures ")));
    assert_eq!(said, fits.collect::<Vec<_>>());
}
