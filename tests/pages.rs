//! Pages, pictures and tables of studies that hold anything: absurd numbers, and texts made to break out of their
//! place.

use std::{path::Path, sync::mpsc, thread, time::Duration};

use composer_nas::{
    journal,
    prelude::*,
    report::Page,
    study::{Event, Failure, FailureKind, Origin, TrialId},
};
use proptest::prelude::*;

/// So long no page may take, however slow the machine.
const WATCHDOG: Duration = Duration::from_secs(120);

/// Elements whose attributes are coordinates.
const SHAPES: [&str; 9] = ["svg", "rect", "circle", "line", "polyline", "polygon", "path", "text", "ellipse"];

/// The page of a study; fails where it does not come back.
fn page(study: &Study) -> String {
    let (sender, receiver) = mpsc::channel();
    let study = study.clone();
    thread::spawn(move || sender.send(Page::new(&study).html().unwrap()));
    receiver.recv_timeout(WATCHDOG).expect("the page comes back")
}

/// No coordinate of a picture is NaN or infinite.
fn check_coordinates(html: &str) {
    for tag in html.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        if SHAPES.contains(&tag.split(' ').next().unwrap_or_default()) {
            assert!(!tag.contains("NaN") && !tag.contains("inf"), "<{tag}>");
        }
    }
}

fn tell(study: &mut Study, number: u128, event: impl FnOnce(TrialId) -> Event) {
    let id = study.next_id();
    let architecture = study.space().nth(number % 16).unwrap();
    study.apply(Event::Proposed { id, architecture, seed: Seed(id.0), origin: Origin::Manual }).unwrap();
    study.apply(event(id)).unwrap();
}

fn study(seen: &[(u128, f64, f64)]) -> Study {
    let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4).unwrap();
    let mut study = Study::new(space, Goal::default());
    let score = study.goal().score.clone();
    for &(number, value, other) in seen {
        let report = Report {
            curve: vec![(1, other), (2, value)],
            standard_error: Some(other.abs()),
            train_flops: Some(other),
            wall_seconds: other,
            ..Report::score(score.clone(), value)
        };
        tell(&mut study, number, |id| Event::Completed { id, report });
    }
    study
}

fn finite() -> impl Strategy<Value = f64> {
    let odd = vec![0.0, -0.0, 0.5, 1e308, -1e308, f64::MAX, f64::MIN, 1e-320, 5e-324, 1e154];
    prop_oneof![proptest::sample::select(odd), any::<f64>().prop_filter("finite", |value| value.is_finite()), 0.0..1.0,]
}

#[test]
fn journals_with_absurd_numbers_have_a_page() {
    for name in ["score_1e308_hangs.jsonl", "standard_error_1e308_hangs.jsonl"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cases/journal").join(name);
        let html = page(&journal::read(path).unwrap().1);
        assert!(html.contains("<svg") && html.trim_end().ends_with("</html>"), "{name}");
        check_coordinates(&html);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_finite_study_has_a_page(seen in proptest::collection::vec((0u128..16, finite(), finite()), 1..14)) {
        let html = page(&study(&seen));
        prop_assert!(html.contains("<svg"));
        check_coordinates(&html);
    }
}

/// Texts that break out of the page, a cell or the terminal where nobody escapes them.
const NASTY: [&str; 7] = [
    "<script>alert('x')</script>",
    "\" onload=\"alert(1)",
    "</title></svg><img src=x onerror=alert(1)>",
    "=cmd|' /C calc'!A0",
    "@SUM(A1)\u{1b}[2J\u{7}",
    "abc\u{202e}fed\0",
    "-2+3,\"a\"\r\n=1+1",
];

/// A study whose score and reasons are such texts.
fn nasty(score: &str) -> Study {
    let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4).unwrap();
    let mut study = Study::new(space, Goal::maximize(score));
    for (number, reason) in (0u128..).zip(NASTY) {
        let failure = Failure { kind: FailureKind::Infeasible, reason: reason.into() };
        tell(&mut study, number, |id| Event::Failed { id, failure });
        let report = Report::score(score, number as f64);
        tell(&mut study, number + 8, |id| Event::Completed { id, report });
    }
    study
}

/// No markup of a text is left, and nothing that commands.
fn check_markup(text: &str) {
    for left in ["<script>alert", "<img", " onload=\"alert", "onerror=alert(1)>"] {
        assert!(!text.contains(left), "{left}");
    }
    check_letters(text);
}

fn check_letters(text: &str) {
    let command = |c: char| (c.is_control() && !"\n\t".contains(c)) || c == '\u{202e}';
    assert!(!text.contains(command), "{:?}", text.chars().find(|&c| command(c)));
}

#[test]
fn texts_stay_texts_on_pages() {
    for text in NASTY {
        let html = Page::new(&nasty(text)).title(text).html().unwrap();
        assert!(html.contains("alert(&#39;x&#39;)"), "the reason is shown, escaped");
        check_markup(&html);
    }
}

#[test]
fn texts_stay_texts_in_pictures_and_tables() {
    for text in NASTY {
        for figure in Page::new(&nasty(text)).title(text).figures().unwrap() {
            check_markup(&figure.svg);
            check_letters(&figure.csv);
            for cell in figure.csv.lines().flat_map(|line| line.split(',')) {
                let cell = cell.trim_start_matches('"').trim_start();
                let formula = cell.starts_with(['=', '+', '-', '@']) && cell.parse::<f64>().is_err();
                assert!(!formula, "{}: {cell}", figure.name);
            }
        }
    }
}

#[test]
fn many_trials_are_a_small_page() {
    let seen: Vec<_> = (0..10_000).map(|n| (n, (n * 7919 % 1000) as f64 / 1000.0, 0.01)).collect();
    let html = page(&study(&seen));
    assert!(html.len() < 1_500_000, "{} bytes", html.len());
    check_coordinates(&html);
}

#[test]
fn texts_stay_texts_in_the_terminal() {
    // A search whose evaluator says such things, as its person sees it afterwards.
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("nasty/journal.jsonl");
    std::fs::create_dir(folder.path().join("nasty")).unwrap();
    let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4).unwrap();
    let evaluator = from_fn("nasty\u{1b}[2J", |trial: &Trial, _: &Context| match trial.id.0 {
        odd if odd % 2 == 1 => Err(EvalError::Infeasible(NASTY[trial.id.0 as usize % NASTY.len()].into())),
        _ => Ok(Report::score("accuracy", 0.5)),
    });
    let pipeline = Pipeline::new(&Primitives::standard(), space, evaluator).searcher(RandomSearch).trials(15);
    pipeline.journal(&journal).run(&Target::llama_1b()).unwrap();

    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("examples").join("search");
    assert!(program.exists(), "{} is not there: run cargo test without naming single tests", program.display());
    let shown = std::process::Command::new(program)
        .args(["--show", "--run", "nasty", "--runs"])
        .arg(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success() && text.contains("alert('x')") && text.contains("failed: "), "{text}");
    check_letters(&text);
    // A reason is one line.
    assert_eq!(text.lines().count(), 2 + 15, "{text}");
}
