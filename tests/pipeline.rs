//! The loop: budgets, failures, kills, resumption, several workers.

mod toy;

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use composer_nas::{
    journal::{self, Setup},
    pipeline::{Observer, PipelineError},
    prelude::*,
    study::{Event, Origin, StudyError, TrialId, TrialState},
};

fn pipeline() -> Pipeline<impl Evaluator + 'static> {
    Pipeline::new(&Primitives::standard(), toy::space(), toy::evaluator()).trials(20).seed(7)
}

fn run<E: Evaluator + 'static>(pipeline: Pipeline<E>) -> Result<Found, PipelineError> {
    pipeline.run(&Target::llama_1b())
}

#[test]
fn a_search_ends_with_a_model_of_the_targets_size() {
    let found = run(pipeline()).unwrap();
    assert_eq!(found.study.trials().len(), 20);
    assert_eq!(found.aggregated.len(), 6);
    assert_eq!(found.target.dims, Target::llama_1b().dims);
    assert!(found.target.architecture.len() > 20);
    let again = run(pipeline()).unwrap();
    assert_eq!(toy::outcomes(&again.study), toy::outcomes(&found.study));
    let other = run(pipeline().seed(8)).unwrap();
    assert_ne!(toy::outcomes(&other.study), toy::outcomes(&found.study));
}

#[test]
fn the_result_depends_on_the_number_of_workers_but_not_on_their_speed() {
    let uneven = |shift: u64| {
        let evaluator = from_fn("uneven", move |trial, _| {
            thread::sleep(Duration::from_millis((trial.id.0 * 7 + shift) % 5 * 4));
            Ok(Report::score("accuracy", toy::accuracy(trial)))
        });
        let pipeline = Pipeline::new(&Primitives::standard(), toy::space(), evaluator);
        toy::outcomes(&run(pipeline.trials(24).seed(3).workers(3)).unwrap().study)
    };
    let first = uneven(0);
    for shift in 1..5 {
        assert_eq!(uneven(shift), first);
    }
}

#[test]
fn a_larger_budget_continues() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    run(pipeline().trials(8).journal(&path)).unwrap();
    assert_eq!(run(pipeline().trials(3).journal(&path)).unwrap().study.trials().len(), 8);
    let continued = run(pipeline().trials(20).journal(&path)).unwrap();
    assert_eq!(toy::outcomes(&continued.study), toy::outcomes(&run(pipeline()).unwrap().study));
    assert_eq!(journal::read(&path).unwrap().1, continued.study);
}

#[test]
fn an_exhausted_space_ends_the_search() {
    let found = run(pipeline().trials(1000).workers(2)).unwrap();
    assert_eq!(found.study.trials().len(), 64);
    let known: BTreeSet<_> = found.study.trials().iter().map(|trial| trial.architecture.clone()).collect();
    assert_eq!(known.len(), 64);
}

#[test]
fn candidates_run_first_and_invalid_trials_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let llama: Architecture = "AMAMAM".parse().unwrap();
    let start = || pipeline().trials(6).journal(&path).enqueue([llama.clone()]);
    let found = run(start()).unwrap();
    assert_eq!((found.study.trials()[0].origin, &found.study.trials()[0].architecture), (Origin::Manual, &llama));
    // Running the same command again adds nothing.
    assert_eq!(run(start()).unwrap().study, found.study);

    let best = found.study.best().unwrap().trial.clone();
    let found = run(pipeline().trials(6).journal(&path).invalidate(best.id, "wrong data")).unwrap();
    assert_eq!((found.study.trials().len(), found.study.valid_trials()), (7, 6));
    assert!(found.study.observations().all(|observation| observation.trial.id != best.id));
    let TrialState::Invalid { reason, report } = &found.study.trials()[best.id.0 as usize].state else { panic!() };
    assert_eq!((reason.as_str(), report.is_some()), ("wrong data", true));

    let outside = pipeline().enqueue(["AMAM".parse().unwrap()]);
    assert!(matches!(run(outside), Err(PipelineError::Study(StudyError::OutsideSpace(_)))));
    let unknown = pipeline().invalidate(TrialId(99), "no such trial");
    assert!(matches!(run(unknown), Err(PipelineError::Study(StudyError::Unknown { .. }))));
}

#[test]
fn failures_are_recorded_and_the_search_goes_on() {
    let attempts = AtomicUsize::new(0);
    let evaluator = from_fn("failing", move |trial, _| match trial.id.0 {
        0 => Err(EvalError::Infeasible("too wide".into())),
        1 => panic!("index out of bounds"),
        2 => Ok(Report::score("accuracy", f64::NAN)),
        3 => Ok(Report::score("loss", 0.5)),
        4 => Err(EvalError::Transient("node lost".into())),
        5 if attempts.fetch_add(1, Ordering::Relaxed) < 2 => Err(EvalError::Transient("out of memory".into())),
        _ => Ok(Report::score("accuracy", toy::accuracy(trial))),
    });
    let pipeline = Pipeline::new(&Primitives::standard(), toy::space(), evaluator).trials(10).workers(2);
    let study = run(pipeline).unwrap().study;
    let kind = |id: usize| match &study.trials()[id].state {
        TrialState::Failed(failure) => Some(failure.kind),
        _ => None,
    };
    use composer_nas::study::FailureKind::*;
    assert_eq!(
        [kind(0), kind(1), kind(2), kind(3), kind(4), kind(5)],
        [Some(Infeasible), Some(Panicked), Some(BadReport), Some(BadReport), Some(OutOfAttempts), None]
    );
    assert_eq!((study.trials()[4].failed_attempts, study.trials()[5].failed_attempts), (2, 2));
    assert_eq!(study.observations().count(), 5);
}

#[test]
fn a_fatal_error_stops_the_search_and_keeps_what_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let evaluator = |broken: bool| {
        from_fn("sometimes broken", move |trial, _| match trial.id.0 {
            5 if broken => Err(EvalError::Fatal("the data set is gone".into())),
            _ => Ok(Report::score("accuracy", toy::accuracy(trial))),
        })
    };
    let pipeline = |broken| Pipeline::new(&Primitives::standard(), toy::space(), evaluator(broken)).journal(&path);
    let error = run(pipeline(true)).unwrap_err();
    assert!(matches!(&error, PipelineError::Fatal { id: TrialId(5), .. }), "{error}");
    let study = journal::read(&path).unwrap().1;
    assert_eq!((study.observations().count(), study.pending().count()), (5, 1));
    assert_eq!(run(pipeline(false)).unwrap().study.observations().count(), 24);
}

#[test]
fn impossible_searches_are_refused() {
    assert!(matches!(run(pipeline().trials(0)), Err(PipelineError::NoTrials)));
    assert!(matches!(run(pipeline().workers(0)), Err(PipelineError::Execute(_))));
    let space = SearchSpace::uniform(["Q".parse().unwrap(), Symbol::SWIGLU], 3).unwrap();
    let unknown = Pipeline::new(&Primitives::standard(), space, toy::evaluator());
    assert!(matches!(run(unknown), Err(PipelineError::Registry(_))));
    let all_fail = from_fn("none", |_, _| Err(EvalError::Infeasible("never".into())));
    let hopeless = Pipeline::new(&Primitives::standard(), toy::space(), all_fail).trials(4);
    assert!(matches!(run(hopeless), Err(PipelineError::Aggregate(_))));
}

#[test]
fn limits_and_cancellation_stop_new_trials() {
    let slow = || {
        from_fn("slow", |trial, context| {
            for _ in 0..20 {
                if context.cancelled() {
                    return Err(EvalError::Cancelled);
                }
                thread::sleep(Duration::from_millis(1));
            }
            Ok(Report::score("accuracy", toy::accuracy(trial)))
        })
    };
    let timed = Pipeline::new(&Primitives::standard(), toy::space(), slow()).time_limit(Duration::from_millis(70));
    let study = run(timed).unwrap().study;
    assert!((1..24).contains(&study.trials().len()) && study.pending().count() == 0);

    let cancelled = Pipeline::new(&Primitives::standard(), toy::space(), slow());
    let token = cancelled.cancel_token();
    let watcher = thread::spawn(move || {
        thread::sleep(Duration::from_millis(70));
        token.cancel();
    });
    let error = run(cancelled).unwrap_err();
    assert!(matches!(error, PipelineError::Cancelled { finished } if finished < 24), "{error}");
    watcher.join().unwrap();
}

/// Counts calls and checks that the study has the event when the observer hears of it.
#[derive(Default)]
struct Counter(Rc<RefCell<[usize; 4]>>);

impl Observer for Counter {
    fn started(&mut self, _: &Setup, _: &Study, budget: usize) {
        assert_eq!(budget, 20);
        self.0.borrow_mut()[0] += 1;
    }
    fn event(&mut self, event: &Event, study: &Study) {
        let trial = study.trial(event.id()).unwrap();
        assert_eq!(trial.is_pending(), matches!(event, Event::Proposed { .. }));
        self.0.borrow_mut()[1] += 1;
    }
    fn submitted(&mut self, id: TrialId, study: &Study) {
        assert!(study.trial(id).unwrap().is_pending());
        self.0.borrow_mut()[2] += 1;
    }
    fn finished(&mut self, _: &Study) {
        self.0.borrow_mut()[3] += 1;
    }
}

#[test]
fn observers_see_everything() {
    let counter = Counter::default();
    let counts = counter.0.clone();
    run(pipeline().workers(2).observer(counter)).unwrap();
    assert_eq!(*counts.borrow(), [1, 40, 20, 1]);
}

const CHILD_JOURNAL: &str = "COMPOSER_TEST_JOURNAL";

/// The search that the tests below kill; each trial takes a few milliseconds.
fn victim(path: &Path, workers: usize) -> Pipeline<impl Evaluator + 'static> {
    let evaluator = from_fn("victim", |trial, _| {
        thread::sleep(Duration::from_millis(2 + trial.id.0 % 3 * 5));
        Ok(Report::score("accuracy", toy::accuracy(trial)))
    });
    Pipeline::new(&Primitives::standard(), toy::space(), evaluator)
        .trials(40)
        .seed(11)
        .workers(workers)
        .journal(path)
        .write_timeout(Duration::ZERO)
}

/// Not a test of its own: the process that is killed.
#[test]
#[ignore = "started by other tests"]
fn child_process() {
    let path = std::env::var(CHILD_JOURNAL).unwrap();
    composer_nas::limits::outlive_file_size_limit();
    let workers = std::env::var("COMPOSER_TEST_WORKERS").unwrap().parse().unwrap();
    if let Err(error) = run(victim(Path::new(&path), workers)) {
        eprintln!("stopped: {}", composer_nas::text::causes(&error));
        std::process::exit(3);
    }
}

fn child(path: &Path, workers: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "child_process", "--nocapture"]);
    command.env(CHILD_JOURNAL, path).env("COMPOSER_TEST_WORKERS", workers.to_string());
    command.stdout(Stdio::null());
    command
}

#[test]
fn kill_9_at_any_moment_loses_nothing() {
    for workers in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut lines = 0;
        for kills in 0.. {
            let mut process = child(&path, workers).spawn().unwrap();
            // Longer every time, so that a slow machine gets on as well.
            thread::sleep(Duration::from_millis(40 + 6 * kills));
            process.kill().unwrap();
            if process.wait().unwrap().success() {
                assert!(kills > 1, "the search ended before it was killed twice");
                break;
            }
            // Whatever was on disk when the process died is still there for the next one.
            let complete = fs::read(&path).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count());
            assert!(complete >= lines);
            lines = complete;
        }
        let uninterrupted = folder.path().join("uninterrupted.jsonl");
        let expected = run(victim(&uninterrupted, workers)).unwrap();
        let resumed = run(victim(&path, workers)).unwrap();
        assert_eq!(toy::outcomes(&resumed.study), toy::outcomes(&expected.study), "{workers} workers");
        assert_eq!(resumed.aggregated, expected.aggregated);
    }
}

#[test]
fn two_processes_on_one_journal_the_second_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let mut first = child(&path, 1).spawn().unwrap();
    while !path.exists() || fs::read(&path).unwrap().is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
    // The second waits a moment for the lock: the first may not end meanwhile.
    let signal = |name: &str| {
        let sent = Command::new("kill").args(["-s", name, &first.id().to_string()]).status();
        assert!(sent.unwrap().success());
    };
    signal("STOP");
    let second = child(&path, 1).output().unwrap();
    signal("CONT");
    assert_eq!(second.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another process"));
    assert!(journal::read(&path).is_ok(), "reading is possible while it runs");
    assert!(first.wait().unwrap().success());
}

/// A limit on the size of files behaves like a full disk: the write fails half-way through a line.
#[cfg(unix)]
#[test]
fn a_full_disk_stops_the_search_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let mut command = Command::new("sh");
    let exe = std::env::current_exe().unwrap();
    command.args(["-c", "ulimit -f 4; exec \"$0\" --ignored --exact child_process --nocapture"]).arg(exe);
    command.env(CHILD_JOURNAL, &path).env("COMPOSER_TEST_WORKERS", "1").stdout(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.contains("cannot write to the journal")
            && text.contains("a line could not be written to the journal within 0 s: {"),
        "{text}"
    );
    let finished = journal::read(&path).unwrap().1.observations().count();
    assert!(finished > 3 && fs::read(&path).unwrap().ends_with(b"\n"));
    let resumed = run(victim(&path, 1)).unwrap();
    let expected = run(victim(&folder.path().join("other.jsonl"), 1)).unwrap();
    assert_eq!(toy::outcomes(&resumed.study), toy::outcomes(&expected.study));
}

#[test]
fn an_unwritable_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = run(pipeline().journal(folder.path().join("file/journal.jsonl"))).unwrap_err();
    assert!(matches!(error, PipelineError::Journal(_)), "{error}");
}
