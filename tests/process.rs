//! Trials in processes of their own: they crash, they are killed, disks fill up, and the search ends as on threads.
#![cfg(feature = "flex")]
#![cfg(unix)]

mod cluster;
mod toy;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use cluster::{FAULTS, WORKERS, assert_expected, attempts, command, driver, kill, pid, run, tasks, told, until};
use composer_nas::{
    execute::{ExecuteError, Executor, Process, Resources},
    pipeline::PipelineError,
    prelude::*,
    stopping::{MedianPruner, Racing},
    study::{FailureKind, Origin, Threshold, TrialId, TrialState},
    testkit,
};

/// Workers run this test.
#[test]
#[ignore = "started by other tests"]
fn child_worker() {
    cluster::worker();
}

/// Drivers run this one.
#[test]
#[ignore = "started by other tests"]
fn child_driver() {
    let folder = cluster::driven();
    let executor = match process(&folder) {
        Ok(executor) => executor,
        Err(error) => {
            eprintln!("{}", composer_nas::text::causes(&error));
            std::process::exit(3);
        }
    };
    if let Err(error) = run(&folder, executor) {
        eprintln!("{}", composer_nas::text::causes(&error));
        std::process::exit(3);
    }
}

fn process(folder: &Path) -> Result<Process, ExecuteError> {
    let executor = Process::new(WORKERS, folder)?.command(command("child_worker"));
    Ok(executor.poll(Duration::from_millis(20)).write_timeout(Duration::from_secs(10)))
}

/// Runs the whole search in a driver of its own, so that its workers see the faults.
fn drive(folder: &Path, faults: &str) {
    let output = driver(folder, faults).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn study(folder: &Path) -> Study {
    composer_nas::journal::read(folder.join("journal.jsonl")).unwrap().1
}

/// Runs the finished search again: it only aggregates.
fn found(folder: &Path) -> Found {
    run(folder, process(folder).unwrap()).unwrap()
}

#[test]
fn processes_find_what_threads_find() {
    let folder = tempfile::tempdir().unwrap();
    let found = run(folder.path(), process(folder.path()).unwrap()).unwrap();
    assert_expected(folder.path(), &found);
    assert!(tasks(folder.path()).iter().all(|task| attempts(task) == 1));
}

#[test]
fn a_killed_driver_finds_its_workers_and_their_results() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for wanted in [2, 8, 16] {
        let mut child = driver(folder, "slow=150").spawn().unwrap();
        until("some trials are told", || {
            // A driver that has stopped by itself says why on standard error.
            assert_eq!(child.try_wait().unwrap(), None, "{wanted}");
            told(folder) >= wanted
        });
        kill(child);
    }
    drive(folder, "");
    assert_expected(folder, &found(folder));
    // Workers went on while no driver was there: no trial was begun twice.
    assert!(tasks(folder).iter().all(|task| attempts(task) == 1));
}

#[test]
fn a_killed_worker_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let child = driver(folder, "slow=300").spawn().unwrap();
    let mut killed = 0;
    for number in [0, 5] {
        let mut worker = None;
        until("the worker shows up", || {
            worker = tasks(folder).get(number).and_then(|task| pid(task));
            worker.is_some()
        });
        let kill = Command::new("kill").args(["-9", &worker.unwrap()]).status().unwrap();
        killed += usize::from(kill.success());
    }
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(killed, 2);
    assert_expected(folder, &found(folder));
    assert_eq!(tasks(folder).iter().map(|task| attempts(task)).sum::<usize>(), cluster::TRIALS + 2);
}

#[test]
fn crashes_panics_and_bad_numbers_are_recorded_and_the_search_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    drive(folder, "crash=3 crash_once=5 panic=6 nan=7");
    let study = study(folder);
    let kind = |id: usize| match &study.trials()[id].state {
        TrialState::Failed(failure) => Some((failure.kind, failure.reason.clone())),
        _ => None,
    };
    let (crashed, words) = kind(3).unwrap();
    assert!(
        crashed == FailureKind::OutOfAttempts && words.contains("3 workers") && words.contains("signal: 6"),
        "{words}"
    );
    assert_eq!(attempts(&tasks(folder)[3]), 3);
    assert_eq!((kind(5), attempts(&tasks(folder)[5])), (None, 2));
    assert_eq!(kind(6), Some((FailureKind::Panicked, "a defect".into())));
    let (bad, words) = kind(7).unwrap();
    assert!(bad == FailureKind::BadReport && words.contains("NaN"), "{words}");
    assert_eq!(study.observations().count(), cluster::TRIALS - 3);
    cluster::assert_told_once(folder);
}

/// One task, asked for by a driver that was then killed.
fn abandoned_task(folder: &Path) -> std::path::PathBuf {
    let child = driver(folder, "slow=60000").spawn().unwrap();
    until("two workers show up", || tasks(folder).iter().filter_map(|task| pid(task)).count() == WORKERS);
    kill(child);
    for task in tasks(folder) {
        assert!(Command::new("kill").args(["-9", &pid(&task).unwrap()]).status().unwrap().success());
    }
    tasks(folder).swap_remove(0)
}

fn worker(task: &Path, faults: &str) -> Command {
    let words = command("child_worker");
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg("--worker").arg(task).env(FAULTS, faults).stdout(Stdio::null());
    command
}

#[test]
fn the_first_of_two_finishers_wins() {
    let folder = tempfile::tempdir().unwrap();
    let task = abandoned_task(folder.path());
    let workers: Vec<_> = [200, 210, 220].map(|time| worker(&task, &format!("slow={time}")).spawn().unwrap()).into();
    for worker in workers {
        assert!(worker.wait_with_output().unwrap().status.success());
    }
    assert_eq!(attempts(&task), 4);
    let result = fs::read(task.join("result.json")).unwrap();
    // Whoever comes later begins nothing.
    assert!(worker(&task, "crash=0").status().unwrap().success());
    assert_eq!((attempts(&task), fs::read(task.join("result.json")).unwrap()), (4, result));
    drive(folder.path(), "");
    assert_expected(folder.path(), &found(folder.path()));
}

#[test]
fn workers_say_by_their_exit_code_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let task = abandoned_task(folder.path());
    let spec = fs::read_to_string(task.join("spec.json")).unwrap();
    let exit = |task: &Path| {
        let output = worker(task, "").output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(exit(&folder.path().join("nowhere")).0, 66);
    fs::write(task.join("spec.json"), "{}").unwrap();
    assert_eq!(exit(&task).0, 65);
    let version = format!(r#""version":"{}""#, env!("CARGO_PKG_VERSION"));
    fs::write(task.join("spec.json"), spec.replace(&version, r#""version":"0.0.9""#)).unwrap();
    let (code, words) = exit(&task);
    let both = [r#"driver uses composer-nas 0.0.9"#, &format!("worker {}", env!("CARGO_PKG_VERSION"))];
    assert!(code == 78 && both.iter().all(|part| words.contains(part)), "{code} {words}");
    fs::remove_file(task.join("result.json")).unwrap();
    fs::write(task.join("spec.json"), spec.replace("mad {", "mad3 {")).unwrap();
    let (code, words) = exit(&task);
    assert!(code == 78 && words.contains("mad3 {") && words.contains("the worker has [\"mad {"), "{code} {words}");
    fs::remove_file(task.join("result.json")).unwrap();
    fs::write(task.join("spec.json"), &spec).unwrap();
    fs::write(task.join("cancel"), "").unwrap();
    assert_eq!(exit(&task).0, 75);
    assert!(!task.join("result.json").exists());
}

#[test]
fn workers_with_other_evaluators_stop_the_search() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = Pipeline::new(&Primitives::standard(), toy::space(), toy::evaluator());
    let executor = process(folder.path()).unwrap();
    let error = pipeline.executor(executor).run(&Target::llama_350m()).unwrap_err();
    let PipelineError::Execute(ExecuteError::Refused(words)) = &error else { panic!("{error}") };
    assert!(words.contains(r#"for the evaluator "toy""#) && words.contains("mad {"), "{words}");
}

#[test]
fn programs_that_are_no_workers_stop_the_search() {
    let folder = tempfile::tempdir().unwrap();
    let start = |command: &[&str]| {
        let executor = process(folder.path()).unwrap().command(command.iter().copied());
        run(folder.path(), executor).unwrap_err()
    };
    let error = start(&["sh", "-c", "echo I search; exit 4"]);
    let PipelineError::Execute(ExecuteError::NotStarted { tries: 3, words, .. }) = &error else { panic!("{error}") };
    assert!(words.contains("exit status: 4") && words.contains("I search"), "{words}");
    assert!(start(&["no-such-program"]).to_string().contains("cannot run no-such-program"));
    // Nothing was told: the search goes on once the command is right.
    drive(folder.path(), "");
    assert_expected(folder.path(), &found(folder.path()));
}

#[test]
fn two_drivers_in_one_folder_the_second_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = process(folder.path()).unwrap();
    assert!(matches!(process(folder.path()), Err(ExecuteError::Locked { .. })));
    let output = driver(folder.path(), "").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use by another driver"));
    drop(first);
    process(folder.path()).unwrap();
    assert!(matches!(Process::new(0, folder.path()), Err(ExecuteError::NoWorkers)));
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(matches!(process(&folder.path().join("file")), Err(ExecuteError::Folder { .. })));
}

/// A limit on the size of files behaves like a full disk. The first workers hit it, later ones find room.
#[test]
fn a_full_disk_costs_an_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let script = format!("n=$(ls -d {}/tasks/trial*/attempts/* 2>/dev/null | wc -l); ", folder.display())
        + "case \"$*\" in *trial-*) [ $n -lt 4 ] && ulimit -f 0;; esac; exec \"$0\" \"$@\" >/dev/null";
    let words = ["sh".into(), "-c".into(), script].into_iter().chain(command("child_worker"));
    let executor = process(folder).unwrap().command(words).write_timeout(Duration::from_millis(200)).attempts(9);
    let found = run(folder, executor).unwrap();
    assert_expected(folder, &found);
    assert!(tasks(folder).iter().map(|task| attempts(task)).sum::<usize>() > cluster::TRIALS);
}

#[test]
fn a_driver_without_room_says_so_and_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("tasks"), "in the way").unwrap();
    let executor = process(folder).unwrap().write_timeout(Duration::from_millis(100));
    let error = run(folder, executor).unwrap_err();
    assert!(matches!(&error, PipelineError::Execute(ExecuteError::Folder { .. })), "{error}");
    fs::remove_file(folder.join("tasks")).unwrap();
    assert_expected(folder, &found(folder));
}

#[test]
fn a_cancelled_search_ends_its_workers_or_leaves_them() {
    for leave in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let slow = ["env".into(), format!("{FAULTS}=slow=1500")].into_iter().chain(command("child_worker"));
        let executor = process(folder).unwrap().command(slow);
        let executor = if leave { executor.leave_jobs() } else { executor };
        let pipeline = cluster::pipeline().executor(executor).journal(folder.join("journal.jsonl"));
        let token = pipeline.cancel_token();
        let place = folder.to_owned();
        let watcher = std::thread::spawn(move || {
            until("two workers show up", || tasks(&place).iter().filter_map(|task| pid(task)).count() == WORKERS);
            token.cancel();
        });
        let error = pipeline.run(&Target::llama_350m()).unwrap_err();
        assert!(matches!(error, PipelineError::Cancelled { finished: 0 }), "{error}");
        watcher.join().unwrap();
        assert!(tasks(folder).iter().all(|task| !task.join("result.json").exists()));
        if leave {
            until("they finish", || tasks(folder).iter().all(|task| task.join("result.json").exists()));
        }
        drive(folder, "");
        assert_expected(folder, &found(folder));
        let begun: usize = tasks(folder).iter().map(|task| attempts(task)).sum();
        assert_eq!(begun, if leave { cluster::TRIALS } else { cluster::TRIALS + WORKERS });
    }
}

#[test]
fn each_worker_has_a_device() {
    let folder = tempfile::tempdir().unwrap();
    let executor = process(folder.path()).unwrap().devices(["4", "7"]);
    assert_eq!(executor.capacity(), 2);
    let found = run(folder.path(), executor).unwrap();
    assert_expected(folder.path(), &found);
    let mut devices: Vec<_> = found.study.observations().map(|seen| seen.report.scores["device"] as u32).collect();
    devices.sort_unstable();
    devices.dedup();
    assert_eq!(devices, [4, 7]);
}

/// Evaluates as [`Faulty`](cluster::Faulty) does, with a defect and a refusal.
fn law_trials() -> Vec<Trial> {
    let texts = ["AMAMA", "AAMMM", "Q", "AMMMM", "AM"];
    let trial = |(id, text): (u64, &str)| Trial::new(TrialId(id), text.parse().unwrap(), Seed(id), Origin::Searcher);
    let mut trials: Vec<_> = (0..).zip(texts).map(trial).collect();
    trials[3].threshold = Threshold::new([(3, f64::INFINITY)]);
    trials
}

#[test]
fn processes_keep_the_law_of_executors() {
    let folder = tempfile::tempdir().unwrap();
    let mut runs = 0..;
    let executor = || process(&folder.path().join(runs.next().unwrap_or(0).to_string()));
    testkit::executor::check(executor, &cluster::Faulty(cluster::mad()), &law_trials(), Duration::from_secs(120))
        .unwrap();
}

#[test]
fn a_trial_that_reaches_its_time_limit_goes_on_from_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let faults = ["env".into(), format!("{FAULTS}=pause=1 hang=2")].into_iter().chain(command("child_worker"));
    let limit = |trial: &Trial| Resources {
        time: [1, 2].contains(&trial.id.0).then_some(Duration::from_secs(3)),
        ..Resources::default()
    };
    let executor = process(folder).unwrap().command(faults).attempts(2).resources_by(limit);
    let study = cluster::pipeline().trials(4).executor(executor).run(&Target::llama_350m()).unwrap().study;
    assert_eq!(cluster::outcomes(&study)[..2], cluster::outcomes(&cluster::expected().study)[..2]);
    assert!(attempts(&tasks(folder)[1]) > 1);
    assert!(tasks(folder)[1].join("attempts/2/checkpoint/half").exists(), "the second has the first one's checkpoint");
    // Without a checkpoint each attempt would end the same.
    let TrialState::Failed(failure) = &study.trials()[2].state else { panic!() };
    assert!(failure.kind == FailureKind::OutOfAttempts && failure.reason.contains("2 workers"), "{failure:?}");
    assert_eq!(attempts(&tasks(folder)[2]), 2);
}

#[test]
fn stopping_rules_reach_into_processes() {
    let search = |pipeline: Pipeline<cluster::Faulty>| {
        let pipeline = pipeline.searcher(RandomSearch).stop_early(MedianPruner::after(3, 4)).trials(12);
        let study = pipeline.run(&Target::llama_350m()).unwrap().study;
        study
            .trials()
            .iter()
            .map(|trial| (trial.state.clone(), trial.report().map(|report| report.scores.clone())))
            .map(|(state, scores)| match state {
                TrialState::Failed(failure) => (Some(failure), scores),
                _ => (None, scores),
            })
            .collect::<Vec<_>>()
    };
    let folder = tempfile::tempdir().unwrap();
    let there = search(cluster::pipeline().executor(process(folder.path()).unwrap()));
    assert_eq!(there, search(cluster::pipeline()));
    assert!(there.iter().any(|(failure, _)| failure.as_ref().is_some_and(|it| it.kind == FailureKind::Stopped)));
}

#[test]
fn races_reach_into_processes() {
    let folder = tempfile::tempdir().unwrap();
    let search = || cluster::pipeline_of(cluster::repeated()).racing(Racing::default());
    let there = search().executor(process(folder.path()).unwrap()).run(&Target::llama_350m()).unwrap();
    let here = search().run(&Target::llama_350m()).unwrap();
    assert_eq!(cluster::outcomes(&there.study), cluster::outcomes(&here.study));
    assert_eq!(there.aggregated, here.aggregated);
    assert!(there.study.trials().iter().any(|trial| trial.report().is_some_and(|report| report.raced.is_some())));
}
