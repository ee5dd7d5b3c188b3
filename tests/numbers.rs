//! Whatever an evaluator returns, the journal reads back to the study in memory: every kind of number, through every
//! executor, cache, repetition and table.
#![cfg(feature = "flex")]

#[cfg(unix)]
mod cluster;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use composer_nas::{
    aggregate::Best,
    evaluate::{Cached, Progress, Repeated, Row, Table, TableFile, TabularEvaluator},
    journal::{self, Setup},
    pipeline::{Ask, Observer, Told},
    prelude::*,
    seed::Rng,
    study::{TaskReport, TrialState},
};
use proptest::prelude::*;
use rand::{Rng as _, RngExt, seq::IndexedRandom};

/// Numbers of every kind; `finite` draws those that files can hold.
fn number(rng: &mut Rng, finite: bool) -> f64 {
    const ODD: [f64; 18] = [
        0.0,
        -0.0,
        5e-324,
        -1e-320,
        f64::MIN_POSITIVE,
        0.1,
        1.0 / 3.0,
        1e15,
        9_007_199_254_740_993.0,
        -1e22,
        1.234_567_890_123_456_7e20,
        1e300,
        -1e300,
        1e308,
        -1e308,
        f64::MAX,
        f64::MIN,
        3.2e9,
    ];
    match rng.random_range(0..8) {
        0 if !finite => [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY][rng.random_range(0..4)],
        0..3 => ODD[rng.random_range(0..ODD.len())],
        // Any bits that are a finite number.
        3..5 => Some(f64::from_bits(rng.next_u64())).filter(|number| number.is_finite()).unwrap_or(0.5),
        _ => rng.random(),
    }
}

fn text(rng: &mut Rng) -> String {
    let odd = ["", "accuracy", "a\0b", "\u{7f}\u{1b}[31m", "ü\u{2028}\u{feff}", "\"\\/\n\r\t", "=1+1", "𝄞", "null"];
    odd.choose(rng).map(|&text| text.to_owned()).unwrap_or_default()
}

fn maybe<T>(rng: &mut Rng, draw: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    if rng.random() { Some(draw(rng)) } else { None }
}

fn count(rng: &mut Rng) -> u64 {
    [0, 1, (1 << 53) + 1, u64::MAX, rng.next_u64()][rng.random_range(0..5)]
}

fn curve(rng: &mut Rng, finite: bool) -> Vec<(usize, f64)> {
    (0..rng.random_range(0..4)).map(|_| (count(rng) as usize, number(rng, finite))).collect()
}

/// A report of numbers of every kind, with a score `accuracy`; named scores are not finite now and then, unless
/// `finite`.
fn report(rng: &mut Rng, finite: bool) -> Report {
    let good_scores = finite || rng.random_range(0..4) > 0;
    let names = [0, 1, 3, 200][rng.random_range(0..4)];
    let mut scores: BTreeMap<_, _> =
        (0..names).map(|index| (format!("{}{index}", text(rng)), number(rng, good_scores))).collect();
    scores.insert("accuracy".into(), number(rng, good_scores));
    let task = |rng: &mut Rng| TaskReport {
        name: text(rng),
        score: maybe(rng, |rng| number(rng, finite)),
        accuracy: maybe(rng, |rng| number(rng, finite)),
        loss: maybe(rng, |rng| number(rng, finite)),
        steps: count(rng) as usize,
        curve: curve(rng, finite),
        diverged: maybe(rng, text),
    };
    Report {
        costs: Default::default(),
        scores,
        raced: None,
        standard_error: maybe(rng, |rng| number(rng, finite)),
        shared_error: rng.random_bool(0.5),
        standard_errors: (0..rng.random_range(0..3)).map(|_| (text(rng), number(rng, finite))).collect(),
        curve: curve(rng, finite),
        tasks: (0..rng.random_range(0..3)).map(|_| task(rng)).collect(),
        parameters: count(rng),
        train_flops: maybe(rng, |rng| number(rng, finite)),
        wall_seconds: number(rng, finite),
    }
}

/// Answers with a report that is drawn by the trial's seed; every fifth trial fails.
fn wild() -> impl Evaluator + 'static {
    from_fn("wild", |trial: &Trial, context: &Context| {
        if context.cancelled() {
            return Err(EvalError::Cancelled);
        }
        let mut rng = trial.seed.rng("wild", 0);
        match rng.random_range(0..5) {
            0 => Err(EvalError::Infeasible(text(&mut rng))),
            _ => {
                let report = report(&mut rng, false);
                // Executors make the curve of what is told.
                for &(step, value) in &report.curve {
                    let steps = count(&mut rng) as usize;
                    context.progress(Progress { stage: text(&mut rng), step, steps, value: Some(value) });
                }
                Ok(report)
            }
        }
    })
}

fn space() -> SearchSpace {
    SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 5).unwrap()
}

fn setup(seed: u64) -> Setup {
    let session = Session::in_memory(space(), Goal::default(), Seed(seed), RandomSearch);
    Setup { evaluator: "wild".into(), ..session.setup().clone() }
}

/// Bit for bit: texts tell -0 from 0.
fn same(a: &Study, b: &Study) -> bool {
    a == b && format!("{a:?}") == format!("{b:?}")
}

fn pipeline<E: Evaluator + 'static>(evaluator: E, seed: u64, folder: &Path) -> Pipeline<E, RandomSearch> {
    let pipeline = Pipeline::new(&Primitives::standard(), space(), evaluator).searcher(RandomSearch);
    pipeline.seed(seed).trials(12).workers(2).journal(folder.join("journal.jsonl"))
}

/// Asserts that the journal holds no `null` but for losses, and reads back to what was found, finite all over.
fn assert_reads_back(folder: &Path, study: &Study) {
    let path = folder.join("journal.jsonl");
    let (_, read) = journal::read(&path).unwrap();
    assert!(same(&read, study), "{read:?}\n{study:?}");
    assert_eq!(journal::notices(&path).unwrap(), [""; 0]);
    for trial in study.trials() {
        if let TrialState::Completed(report) = &trial.state {
            assert!(report.value(study.goal()).is_ok() && report.not_finite().is_empty(), "{report:?}");
        }
    }
}

/// A search needs something to aggregate: without, only what it recorded counts.
fn run<E: Evaluator + 'static>(pipeline: Pipeline<E, RandomSearch>, folder: &Path) -> Study {
    match pipeline.aggregator(Best).run(&Target::llama_350m()) {
        Ok(found) => found.study,
        Err(error) => {
            assert!(error.to_string().contains("has a value"), "{error}");
            journal::read(folder.join("journal.jsonl")).unwrap().1
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_by_hand_is_what_the_journal_holds(seed: u64) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let open = || Session::open(&path, setup(seed), RandomSearch).unwrap();
        let mut session = open();
        let mut rng = Seed(seed).rng("by hand", 0);
        for _ in 0..8 {
            let Ask::Trial(trial) = session.ask().unwrap() else { panic!() };
            let finite = rng.random();
            let report = report(&mut rng, finite);
            let told = session.tell(trial.id, Ok(report.clone())).unwrap();
            let recorded = session.study().trial(trial.id).unwrap().report();
            match report.value(&Goal::default()) {
                Ok(_) => prop_assert_eq!((told, recorded), (Told::Completed, Some(&report.clone().finite()))),
                Err(_) => prop_assert_eq!((told, recorded), (Told::Failed, None)),
            }
            if finite {
                prop_assert_eq!(format!("{recorded:?}"), format!("{:?}", Some(&report)));
            }
        }
        assert_reads_back(folder.path(), session.study());
        let before = session.study().clone();
        drop(session);
        prop_assert!(same(open().study(), &before));
    }

    #[test]
    fn threads_caches_and_repetitions_read_back(seed: u64) {
        let [plain, cached, repeated] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        assert_reads_back(plain.path(), &run(pipeline(wild(), seed, plain.path()), plain.path()));

        // The second run is answered from the file alone, where the report was a good one.
        let cache = cached.path().join("cache.jsonl");
        let journal = cached.path().join("journal.jsonl");
        let search = || {
            let _ = fs::remove_file(&journal);
            // The threads of the search before let go of the file when they end, a little later.
            let mut opened = Cached::on_disk(wild(), &cache);
            for _ in 0..1000 {
                if opened.is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
                opened = Cached::on_disk(wild(), &cache);
            }
            let evaluator = opened.unwrap();
            let study = run(pipeline(evaluator, seed, cached.path()), cached.path());
            assert_reads_back(cached.path(), &study);
            study
        };
        let first = search();
        let again = search();
        for (a, b) in first.trials().iter().zip(again.trials()) {
            match (&a.state, &b.state) {
                (TrialState::Completed(a), TrialState::Completed(b)) => prop_assert!(a.same_outcome(b), "{a:?} {b:?}"),
                (a, b) => prop_assert_eq!(a, b),
            }
        }

        let evaluator = Repeated::new(wild(), 3).unwrap();
        assert_reads_back(repeated.path(), &run(pipeline(evaluator, seed, repeated.path()), repeated.path()));
    }

    #[test]
    fn tables_read_back_and_make_studies(seed: u64) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        let empty = Table::new(["recall"]).unwrap();
        let mut rng = Seed(seed).rng("table", 0);
        let mut file = TableFile::open(&path, empty.clone()).unwrap();
        for architecture in space().iter() {
            for seed in [0, u64::MAX] {
                let values = vec![number(&mut rng, false), number(&mut rng, false)];
                let good = values.iter().all(|value| value.is_finite());
                let row = Row { architecture: architecture.clone(), seed, values };
                prop_assert_eq!(file.append(row).is_ok(), good);
            }
        }
        let table = file.table().clone();
        drop(file);
        let read = Table::read(&path).unwrap();
        prop_assert_eq!(format!("{read:?}"), format!("{table:?}"));
        let study = read.study(&space()).unwrap();
        prop_assert_eq!(study.observations().count(), read.architectures().count());

        let evaluator = TabularEvaluator::new(table);
        assert_reads_back(folder.path(), &run(pipeline(evaluator, seed, folder.path()), folder.path()));
    }
}

/// Says what it hears.
struct Listener(Arc<Mutex<Vec<String>>>);

impl Observer for Listener {
    fn notice(&mut self, text: &str) {
        self.0.lock().unwrap().push(text.into());
    }
}

#[test]
fn what_is_left_out_is_told() {
    let heard = Arc::default();
    let session = Session::in_memory(space(), Goal::default(), Seed(1), RandomSearch);
    let mut session = session.observer(Listener(Arc::clone(&heard)));
    let task = TaskReport { name: "recall".into(), score: Some(f64::NAN), ..TaskReport::default() };
    let train_flops = Some(f64::INFINITY);
    let bad = Report { tasks: vec![task], train_flops, curve: vec![(1, f64::NAN)], ..Report::score("accuracy", 0.5) };
    for report in [bad, Report::score("accuracy", 0.5)] {
        let Ask::Trial(trial) = session.ask().unwrap() else { panic!() };
        session.tell(trial.id, Ok(report)).unwrap();
    }
    let expected = "trial 0 is recorded without numbers that are not finite: curve, train_flops, score of \"recall\"";
    assert_eq!(*heard.lock().unwrap(), [expected]);
}

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cases/journal").join(name)
}

#[test]
fn poisoned_journals_are_read_and_resumed_with_a_notice() {
    for (name, place) in
        [("poisoned_by_nan_flops.jsonl", "train_flops"), ("poisoned_by_nan_in_curve.jsonl", "curve[1][1]")]
    {
        let (setup, study) = journal::read(case(name)).unwrap();
        let report = study.trials()[2].report().unwrap();
        assert_eq!((study.observations().count(), report.scores["accuracy"]), (5, 0.5));
        match place {
            "train_flops" => assert_eq!(report.train_flops, None),
            _ => assert_eq!((report.curve.as_slice(), report.train_flops), (&[(1, 0.5)][..], Some(0.0))),
        }
        let notices = journal::notices(case(name)).unwrap();
        assert!(notices.len() == 1 && notices[0].starts_with("line 7 ") && notices[0].contains(place), "{notices:?}");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        fs::copy(case(name), &path).unwrap();
        let heard = Arc::default();
        let session = Session::open(&path, setup, RandomSearch).unwrap();
        let mut session = session.observer(Listener(Arc::clone(&heard)));
        assert_eq!(session.study(), &study);
        let Ask::Trial(trial) = session.ask().unwrap() else { panic!() };
        session.tell(trial.id, Ok(Report::score("accuracy", 0.25))).unwrap();
        let heard = heard.lock().unwrap();
        assert!(heard.len() == 2 && heard[0].contains(place), "{heard:?}");
        assert!(heard[1].contains("began with composer-nas 0.1.0"), "{heard:?}");
        assert_eq!(&journal::read(&path).unwrap().1, session.study());
    }
}

#[test]
fn every_number_of_a_report_may_be_null_in_a_journal_but_a_score() {
    let text = fs::read_to_string(case("poisoned_by_nan_flops.jsonl")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let with = |rest: &str| {
        let poisoned = text.replace(r#""parameters":0,"train_flops":null,"wall_seconds":5.218e-6"#, rest);
        assert_ne!(poisoned, text);
        fs::write(&path, poisoned).unwrap();
        (journal::read(&path), journal::notices(&path))
    };
    let task = |fields: &str| format!(r#""tasks":[{{"name":"recall","steps":3,{fields}}}]"#);
    for (rest, place) in [
        (r#""standard_error":null"#.into(), "standard_error"),
        (r#""wall_seconds":null"#.into(), "wall_seconds"),
        (r#""curve":[[1,null],[2,0.5]]"#.into(), "curve[0][1]"),
        (task(r#""score":null,"accuracy":0.5,"loss":0.1"#), "tasks[0].score"),
        (task(r#""score":0.5,"accuracy":null,"loss":0.1"#), "tasks[0].accuracy"),
        (task(r#""score":0.5,"accuracy":0.5,"loss":0.1,"curve":[[1,null]]"#), "tasks[0].curve[0][1]"),
    ] {
        let (read, notices) = with(&rest);
        assert_eq!(read.unwrap().1.observations().count(), 5, "{rest}");
        let notices = notices.unwrap();
        assert!(notices.len() == 1 && notices[0].contains(place), "{notices:?}");
    }
    // A training that diverged has no loss, and nobody is told.
    let (read, notices) = with(&task(r#""score":0.0,"accuracy":0.0,"loss":null,"diverged":"at step 3""#));
    assert_eq!((read.unwrap().1.observations().count(), notices.unwrap().len()), (5, 0));
    fs::write(&path, text.replace(r#"{"accuracy":0.5}"#, r#"{"accuracy":null}"#)).unwrap();
    assert!(journal::read(&path).unwrap_err().to_string().contains("line 7"));
}

/// Workers run this test.
#[cfg(unix)]
#[test]
#[ignore = "started by other tests"]
fn child_worker() {
    composer_nas::execute::worker(&[&wild()]);
    panic!("--worker FOLDER is missing");
}

#[cfg(unix)]
#[test]
fn result_files_read_back_and_say_what_threads_say() {
    use composer_nas::execute::Process;

    let [here, there] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let executor = Process::new(2, there.path()).unwrap().command(cluster::command("child_worker"));
    let executor = executor.poll(std::time::Duration::from_millis(20));
    let trials = 32;
    let heard: [Arc<Mutex<Vec<String>>>; 2] = Default::default();
    let search = |folder: &Path, heard: &Arc<Mutex<Vec<String>>>| {
        pipeline(wild(), 5, folder).trials(trials).observer(Listener(Arc::clone(heard)))
    };
    let threads = run(search(here.path(), &heard[0]), here.path());
    let processes = run(search(there.path(), &heard[1]).executor(executor), there.path());
    assert_reads_back(here.path(), &threads);
    assert_reads_back(there.path(), &processes);
    for (a, b) in threads.trials().iter().zip(processes.trials()) {
        match (&a.state, &b.state) {
            (TrialState::Completed(a), TrialState::Completed(b)) => assert!(a.same_outcome(b), "{a:?} {b:?}"),
            (a, b) => assert_eq!(a, b),
        }
    }
    let [a, b] = heard.map(|heard| {
        let mut heard = heard.lock().unwrap().clone();
        heard.sort();
        heard
    });
    assert_eq!(a.len(), b.len(), "{a:?} {b:?}");
    assert!(a.len() > 5 && a == b, "{a:?} {b:?}");
}
