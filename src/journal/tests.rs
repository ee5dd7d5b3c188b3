//! The journal survives cuts at every byte, other processes, other versions and other setups.

use std::{fs, path::Path};

use crate::{
    journal::{self, Journal, JournalError, Setup},
    prelude::*,
    primitive::PrimitiveId,
    study::{Event, Failure, FailureKind, Origin, TaskReport, TrialId},
    text,
};

fn space() -> SearchSpace {
    SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 6).unwrap()
}

fn setup() -> Setup {
    Setup {
        space: space(),
        primitives: [(Symbol::ATTENTION, PrimitiveId::new("attention").unwrap())].into(),
        goal: Goal::default(),
        costs: None,
        seed: Seed(7),
        searcher: "random".into(),
        evaluator: "toy".into(),
        stopping: None,
        workers: None,
        eager: false,
        aggregator: None,
        extrapolator: None,
    }
}

/// Every kind of event, in an order that makes sense.
fn events() -> Vec<Event> {
    let proposed = |id: u64, text: &str, origin| Event::Proposed {
        id: TrialId(id),
        architecture: text.parse().unwrap(),
        seed: Seed(u64::MAX - id),
        origin,
    };
    let task = TaskReport {
        name: "recall".into(),
        score: Some(0.1 + 0.2),
        accuracy: Some(1.0 / 3.0),
        loss: None,
        steps: 3,
        curve: vec![(1, 0.5), (3, 1e-300)],
        diverged: Some("loss is \"NaN\"\nat step 2".into()),
    };
    let report = Report {
        standard_error: Some(0.01),
        curve: vec![(1, 0.25), (3, 1e-300)],
        tasks: vec![task],
        parameters: 1 << 60,
        train_flops: Some(1e30),
        wall_seconds: 0.25,
        ..Report::score("accuracy", 0.1 + 0.2)
    };
    let failure = Failure { kind: FailureKind::Panicked, reason: "ü\u{2028}\"}".into() };
    vec![
        proposed(0, "AAMMMM", Origin::Searcher),
        proposed(1, "MMMMMM", Origin::Manual),
        Event::Retried { id: TrialId(1), reason: "node lost".into() },
        Event::Completed { id: TrialId(0), report },
        Event::Failed { id: TrialId(1), failure },
        Event::Invalidated { id: TrialId(0), reason: "wrong data".into() },
        proposed(2, "AMAMAM", Origin::Searcher),
    ]
}

/// Writes all events; returns the studies after each of them, the empty one first.
fn write(path: &Path) -> Vec<Study> {
    let (mut journal, mut study) = Journal::open(path, &setup()).unwrap();
    let mut studies = vec![study.clone()];
    for event in events() {
        journal.append(&event).unwrap();
        study.apply(event).unwrap();
        studies.push(study.clone());
    }
    studies
}

#[test]
fn replay_reproduces_the_study() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/journal.jsonl");
    let study = write(&path).pop().unwrap();
    assert_eq!(Journal::open(&path, &setup()).unwrap().1, study);
    assert_eq!(journal::read(&path).unwrap(), (setup(), study));
}

#[test]
fn a_cut_at_any_byte_loses_at_most_the_line_it_falls_in() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.jsonl");
    let studies = write(&whole);
    let bytes = fs::read(&whole).unwrap();
    let path = folder.path().join("cut.jsonl");
    for cut in 0..=bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        // A line is whole without its line feed.
        let complete = bytes[..bytes.len().min(cut + 1)].iter().filter(|&&byte| byte == b'\n').count();
        let survivors = complete.saturating_sub(1);
        let (mut journal, study) = Journal::open(&path, &setup()).unwrap();
        assert_eq!(study, studies[survivors], "cut at byte {cut}");
        // And the search goes on: the next event follows the last complete line.
        if let Some(next) = events().get(survivors) {
            journal.append(next).unwrap();
            drop(journal);
            assert_eq!(journal::read(&path).unwrap().1, studies[survivors + 1], "cut at byte {cut}");
        }
    }
}

#[test]
fn a_last_line_without_its_line_feed_counts_and_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let studies = write(&path);
    let whole = fs::read_to_string(&path).unwrap();
    let stripped = whole.trim_end();
    fs::write(&path, stripped).unwrap();
    let last = studies.last().unwrap();
    assert_eq!(journal::read(&path).unwrap().1, *last);
    let (mut journal, study) = Journal::open(&path, &setup()).unwrap();
    assert_eq!((&study, fs::read_to_string(&path).unwrap().as_str()), (last, stripped));
    journal.append(&Event::Retried { id: TrialId(2), reason: "node lost".into() }).unwrap();
    assert!(fs::read_to_string(&path).unwrap().starts_with(&whole));
    assert!(journal::read(&path).is_ok());
}

#[test]
fn a_tail_of_zeros_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let studies = write(&path);
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend([0; 4096]);
    fs::write(&path, bytes).unwrap();
    assert_eq!(Journal::open(&path, &setup()).unwrap().1, *studies.last().unwrap());
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let (_first, _) = Journal::open(&path, &setup()).unwrap();
    assert!(matches!(Journal::open(&path, &setup()), Err(JournalError::Locked { .. })));
    assert!(journal::read(&path).is_ok());
}

/// A pipe would be waited for, a device read for ever.
#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/full", at("device")).unwrap();
    write(&at("file"));
    std::os::unix::fs::symlink("file", at("link")).unwrap();
    for name in ["pipe", "device"] {
        let opened = Journal::open(at(name), &setup()).map(drop);
        let read = journal::read(at(name)).map(drop);
        let told = journal::notices(at(name)).map(drop);
        for refused in [opened, read, told, journal::written_by(at(name)).map(drop)] {
            assert!(text::causes(&refused.unwrap_err()).contains("not a regular file"), "{name}");
        }
    }
    assert!(Journal::open(at("link"), &setup()).is_ok());
}

#[test]
fn another_setup_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    write(&path);
    let changed = Setup { seed: Seed(8), evaluator: "toy, longer".into(), ..setup() };
    let error = Journal::open(&path, &changed).unwrap_err();
    let JournalError::Changed { changes, .. } = &error else { panic!("{error}") };
    assert_eq!(changes.iter().map(|change| change.part).collect::<Vec<_>>(), ["seed", "evaluator"]);
    let text = error.to_string();
    assert!(text.contains("seed was 7, is 8") && text.contains("toy, longer"), "{text}");
    let stopping = Some("median".into());
    let error = Journal::open(&path, &Setup { stopping, ..setup() }).unwrap_err().to_string();
    assert!(error.contains("stopping was none, is median"), "{error}");
    let space = space().pin(0, Symbol::ATTENTION).unwrap();
    let error = Journal::open(&path, &Setup { space, ..setup() }).unwrap_err().to_string();
    assert!(error.contains("space"), "{error}");
    let primitives = [(Symbol::ATTENTION, PrimitiveId::new("other_attention").unwrap())].into();
    let error = Journal::open(&path, &Setup { primitives, ..setup() }).unwrap_err().to_string();
    assert!(error.contains("primitives was") && error.contains("other_attention"), "{error}");
}

#[test]
fn another_number_of_workers_goes_on_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let with = |workers, aggregator: &str| Setup { workers, aggregator: Some(aggregator.into()), ..setup() };
    drop(Journal::open(&path, &with(Some(2), "best")).unwrap());
    let (kept, _) = journal::read(&path).unwrap();
    assert_eq!(kept, with(Some(2), "best"));
    let notices = |setup: &Setup| Journal::open(&path, setup).unwrap().0.notices().to_vec();
    assert_eq!(notices(&with(Some(2), "other")), Vec::<String>::new());
    assert_eq!(notices(&with(None, "best")), Vec::<String>::new());
    let told = notices(&with(Some(3), "best"));
    assert!(told.len() == 1 && told[0].contains("began with 2 workers and continues with 3"), "{told:?}");
    let told = notices(&Setup { eager: true, ..with(Some(2), "best") });
    assert!(told.len() == 1 && told[0].contains("each outcome used at once"), "{told:?}");
    // Where it began is kept, and old journals say nothing.
    assert_eq!(journal::read(&path).unwrap().0.workers, Some(2));
    let old = folder.path().join("old.jsonl");
    write(&old);
    let (journal, _) = Journal::open(&old, &with(Some(4), "best")).unwrap();
    assert!(journal.notices().is_empty());
}

#[test]
fn other_files_and_versions_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    write(&path);
    let whole = fs::read_to_string(&path).unwrap();
    let (header, records) = whole.split_at(whole.find('\n').unwrap() + 1);
    let newer = header.replace("\"version\":2", "\"version\":3");
    assert_ne!(newer, header);
    for (text, expected) in [
        ("Dear diary\n", "not a composer-nas journal"),
        ("Dear diary", "not a composer-nas journal"),
        ("{\"mine\":", "not a composer-nas journal"),
        (&whole.replace('\n', "\r"), "not a composer-nas journal"),
        (&format!("{whole}Dear diary"), "line 9"),
        (&format!("{header}{}", records.replace('\n', "\r")), "line 2"),
        ("{\"format\":\"other\",\"version\":1}\n", "not a composer-nas journal"),
        (newer.as_str(), "version 3"),
        (&header.replace("\"space\"", "\"room\""), "line 1"),
    ] {
        fs::write(&path, text).unwrap();
        let error = Journal::open(&path, &setup()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "the file must not change");
    }
}

#[test]
fn a_damaged_line_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    write(&path);
    let good = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = good.lines().collect();
    for (at, bad) in [(2, "{\"unix_ms\":0,\"event\":\"completed\"}"), (3, "nonsense"), (4, lines[4]), (1, lines[2])] {
        let mut damaged = lines.clone();
        damaged[at] = bad;
        if at == 4 {
            damaged.insert(at, bad); // told twice
        }
        fs::write(&path, damaged.join("\n") + "\n").unwrap();
        match journal::read(&path) {
            Err(JournalError::Damaged { line, .. }) => assert_eq!(line, if at == 4 { 6 } else { at + 1 }),
            other => panic!("line {at}: {other:?}"),
        }
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Journal::open(file.join("journal.jsonl"), &setup()).unwrap_err();
    assert!(matches!(error, JournalError::Open { .. }), "{error}");
    assert!(matches!(journal::read(folder.path().join("none")), Err(JournalError::Open { .. })));
}

/// Every seed is whole for readers that hold numbers as doubles, and architectures expand as docs/journal.md says.
#[test]
fn the_text_survives_readers_of_other_languages() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let (mut journal, _) = Journal::open(&path, &Setup { seed: Seed(u64::MAX), ..setup() }).unwrap();
    events().iter().for_each(|event| journal.append(event).unwrap());
    drop(journal);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["seed"], "0xffffffffffffffff");
    let (_, study) = journal::read(&path).unwrap();
    for line in lines.iter().filter(|line| line["event"] == "proposed") {
        let trial = study.trial(TrialId(line["id"].as_u64().unwrap())).unwrap();
        assert_eq!(line["seed"], format!("{:#x}", trial.seed.0));
        let runs = line["architecture"].as_str().unwrap().split('+');
        let expanded = runs.map(|run| {
            let (count, letter) = run.split_at(run.len() - 1);
            letter.repeat(count.parse().unwrap())
        });
        assert_eq!(expanded.collect::<String>(), trial.architecture.letters());
    }
}

#[test]
fn a_journal_of_an_earlier_release_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/old_files/plain.jsonl");
    fs::copy(&stored, &path).unwrap();
    let (setup, study) = journal::read(&stored).unwrap();
    let (journal, opened) = Journal::open(&path, &setup).unwrap();
    let notices = journal.notices();
    assert!(notices.len() == 1 && notices[0].contains("began with composer-nas 0.1.0"), "{notices:?}");
    assert_eq!(opened, study);
}
