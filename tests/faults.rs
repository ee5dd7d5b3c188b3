//! What happens to run folders, machines and clocks while a search runs, as `docs/cluster.md` lists it: each fault ends
//! in the way and within the time that is written there, and the search goes on afterwards as if nothing had been.
//!
//! Tests that need more than an ordinary user has are ignored unless they are asked for, as `.ci/run` does.
#![cfg(feature = "flex")]
#![cfg(target_os = "linux")]

mod cluster;
mod mount;
mod toy;

use std::{
    env, fs,
    io::{self, Read, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant, SystemTime},
};

use cluster::{FAULTS, FOLDER, WORKERS, assert_told_once, attempts, kill, pid, tasks, told, until};
use composer_nas::{
    aggregate::Best,
    data::{TokenFormat, TokenWidth, TokenWriter},
    evaluate::Cached,
    execute::{ExecuteError, Executor, Message, Process, Processes, Remote, Resources, Slurm, SlurmOptions, Threads},
    export, journal, limits,
    pipeline::{MetricsFile, Observer, PipelineError},
    prelude::*,
    report::{LivePage, Page},
    study::{FailureKind, TrialId, TrialState},
    text, weights,
};
use mount::Mount;
use rand::RngExt;

/// `threads`, or else processes.
const EXECUTOR: &str = "COMPOSER_TEST_EXECUTOR";
/// How long to try again, in milliseconds.
const PATIENCE: &str = "COMPOSER_TEST_PATIENCE";
/// Trials of the search.
const TRIALS: &str = "COMPOSER_TEST_TRIALS";
/// A time limit per trial, in milliseconds.
const LIMIT: &str = "COMPOSER_TEST_LIMIT";
/// What workers are started with, by words before their own command.
const WRAPPER: &str = "COMPOSER_TEST_WRAPPER";
/// How often the soak kills somebody.
const KILLS: &str = "COMPOSER_TEST_KILLS";

/// The exit code of a driver whose search stopped by an error.
const STOPPED: i32 = 3;

/// [`toy::accuracy`], with faults: `slow=MS` for all trials, `grab=TRIAL` takes more memory than there is.
fn evaluator() -> impl Evaluator + 'static {
    from_fn("toy", |trial, context| {
        for fault in env::var(FAULTS).unwrap_or_default().split_whitespace() {
            let (kind, number) = fault.split_once('=').unwrap();
            let number: u64 = number.parse().unwrap();
            let end = Instant::now() + Duration::from_millis(number);
            while kind == "slow" && Instant::now() < end && !context.cancelled() {
                thread::sleep(Duration::from_millis(2));
            }
            if kind == "grab" && number == trial.id.0 {
                std::hint::black_box(vec![1_u8; 16 << 30]);
            }
        }
        if context.cancelled() {
            Err(EvalError::Cancelled)
        } else {
            Ok(Report::score("accuracy", toy::accuracy(trial)))
        }
    })
}

fn pipeline(trials: usize) -> Pipeline<impl Evaluator + 'static, RandomSearch, Best> {
    let pipeline = Pipeline::new(&Primitives::standard(), toy::space(), evaluator()).trials(trials).seed(5);
    pipeline.searcher(RandomSearch).aggregator(Best).workers(WORKERS)
}

/// Workers run this test.
#[test]
#[ignore = "started by other tests"]
fn child_worker() {
    composer_nas::execute::worker(&[&evaluator()]);
    panic!("--worker FOLDER is missing");
}

/// Drivers run this one.
#[test]
#[ignore = "started by other tests"]
fn child_driver() {
    let folder = cluster::driven();
    limits::outlive_file_size_limit();
    if let Err(error) = search(&folder) {
        // Standard error of a test is shown as it is only when it is written to directly.
        let _ = writeln!(io::stderr(), "{}", text::causes(&error));
        std::process::exit(STOPPED);
    }
}

/// Whatever a driver has to say.
struct Notices;

impl Observer for Notices {
    fn notice(&mut self, text: &str) {
        let _ = writeln!(io::stderr(), "{text}");
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn search(folder: &Path) -> Result<Found, PipelineError> {
    let write_timeout = Duration::from_millis(number(PATIENCE).unwrap_or(10_000));
    let trials = number(TRIALS).unwrap_or(12) as usize;
    let journal = folder.join("journal.jsonl");
    let mut pipeline = pipeline(trials).write_timeout(write_timeout).journal(&journal).observer(Notices);
    if env::var(EXECUTOR).as_deref() != Ok("threads") {
        let wrapper = env::var(WRAPPER).unwrap_or_default();
        let wrapper = wrapper.split('\u{1f}').filter(|word| !word.is_empty()).map(str::to_owned);
        let time = number(LIMIT).map(Duration::from_millis);
        let executor = Process::new(WORKERS, folder)?.command(wrapper.chain(cluster::command("child_worker")));
        let executor = executor.poll(Duration::from_millis(10)).write_timeout(write_timeout);
        pipeline = pipeline.executor(executor.resources(Resources { time, ..Resources::default() }));
    }
    if env::var(FAULTS).is_ok_and(|faults| faults.is_empty()) {
        let metrics = MetricsFile::append(folder.join("metrics.jsonl"));
        pipeline = match metrics {
            Ok(metrics) => pipeline.observer(metrics),
            Err(_) => pipeline,
        };
        pipeline = pipeline.observer(LivePage::new(folder.join("report.html")));
    }
    pipeline.run(&Target::llama_350m())
}

/// A driver of a search in this folder.
fn driver(folder: &Path, executor: &str, faults: &str) -> Command {
    wrapped(&[], folder, executor, faults)
}

/// A driver that these words start.
fn wrapped(wrapper: &[&str], folder: &Path, executor: &str, faults: &str) -> Command {
    let words: Vec<String> =
        wrapper.iter().map(|word| (*word).to_owned()).chain(cluster::command("child_driver")).collect();
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .env(FOLDER, folder)
        .env(EXECUTOR, executor)
        .env(FAULTS, faults)
        .env(PATIENCE, "300")
        .env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Waits for a driver, for as long as a slow machine may need: whether it succeeded, and its words.
fn ended(mut child: Child) -> (bool, String) {
    let mut stderr = child.stderr.take().unwrap();
    let words = thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
    });
    let mut status = None;
    until("the driver ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let words = words.join().unwrap().unwrap();
    let status = status.unwrap();
    assert!(status.success() || status.code() == Some(STOPPED) && !words.contains("panicked"), "{status} {words}");
    (status.success(), words)
}

fn succeed(child: Child) {
    let (success, words) = ended(child);
    assert!(success, "{words}");
}

/// The words of a driver whose search stops by an error.
fn stop(child: Child) -> String {
    let (success, words) = ended(child);
    assert!(!success, "the search did not stop");
    words
}

/// Goes on with the search in the folder, and asserts that it finds what an undisturbed one does.
fn assert_ends_well(folder: &Path, executor: &str, trials: usize) {
    succeed(driver(folder, executor, "slow=0").env(TRIALS, trials.to_string()).spawn().unwrap());
    let study = journal::read(folder.join("journal.jsonl")).unwrap().1;
    let expected = pipeline(trials).run(&Target::llama_350m()).unwrap().study;
    assert_eq!(toy::outcomes(&study), toy::outcomes(&expected));
    assert_told_once(folder);
}

/// A mount of `path` on itself that nobody can write to.
fn read_only(path: &Path) -> Mount {
    let mount = Mount::new(path, &["--bind", path.to_str().unwrap()]);
    // Busy while somebody writes to a file that was opened through it.
    until("it is read-only", || mount.is_changed("bind,ro"));
    mount
}

#[test]
fn a_removed_folder_ends_the_search_in_time_and_its_journal_is_saved() {
    for executor in ["threads", "process"] {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        let child = driver(&folder, executor, "slow=60").spawn().unwrap();
        until("some trials are told", || told(&folder) >= 3);
        let before = told(&folder);
        // Workers write into it meanwhile.
        until("it is removed", || fs::remove_dir_all(&folder).is_ok() && !folder.exists());
        let words = stop(child);
        assert!(words.contains("is not there") && words.contains("trials are finished: 0 to"), "{executor}: {words}");
        assert!(words.contains("was written to") && told(&folder) >= before, "{executor}: {words}");
        assert_ends_well(&folder, executor, 12);
    }
}

#[test]
fn a_renamed_folder_ends_the_search_in_time_and_it_goes_on_where_it_is() {
    for executor in ["threads", "process"] {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        let away = root.path().join("away");
        let child = driver(&folder, executor, "slow=60").spawn().unwrap();
        until("some trials are told", || told(&folder) >= 3);
        fs::rename(&folder, &away).unwrap();
        let words = stop(child);
        assert!(words.contains("is not there") && words.contains("trials are finished: 0 to"), "{executor}: {words}");
        assert!(!words.contains("was written to") && !folder.exists(), "{executor}: {words}");
        assert_ends_well(&away, executor, 12);
    }
}

#[test]
fn a_folder_that_comes_back_in_time_is_waited_for() {
    for executor in ["threads", "process"] {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        let away = root.path().join("away");
        let child = driver(&folder, executor, "slow=30").env(PATIENCE, "60000").spawn().unwrap();
        until("some trials are told", || told(&folder) >= 3);
        fs::rename(&folder, &away).unwrap();
        thread::sleep(Duration::from_millis(300));
        fs::rename(&away, &folder).unwrap();
        succeed(child);
        assert_ends_well(&folder, executor, 12);
    }
}

#[test]
fn a_task_that_somebody_removes_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let child = driver(folder, "process", "slow=100").spawn().unwrap();
    until("some trials are told", || told(folder) >= 2);
    until("all tasks are gone", || fs::remove_dir_all(folder.join("tasks")).is_ok());
    succeed(child);
    assert_ends_well(folder, "process", 12);
}

#[test]
#[ignore = "needs root, to mount"]
fn a_folder_that_becomes_read_only_ends_the_search_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let child = driver(folder, "process", "slow=60").spawn().unwrap();
    until("some trials are told", || told(folder) >= 3);
    // Nobody new opens a file meanwhile.
    signal(&child.id().to_string(), "-STOP");
    let mount = read_only(folder);
    signal(&child.id().to_string(), "-CONT");
    let words = stop(child);
    assert!(words.contains("Read-only file system") && words.contains("no result is lost"), "{words}");
    // Nothing can begin there either.
    for executor in ["threads", "process"] {
        let words = stop(driver(folder, executor, "slow=0").spawn().unwrap());
        assert!(words.contains("Read-only file system"), "{words}");
    }
    drop(mount);
    assert_ends_well(folder, "process", 12);
}

#[test]
#[ignore = "needs root, to mount"]
fn threads_write_on_to_a_journal_in_a_folder_that_becomes_read_only() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let child = driver(folder, "threads", "slow=60").spawn().unwrap();
    until("some trials are told", || told(folder) >= 3);
    let mount = read_only(folder);
    succeed(child);
    drop(mount);
    assert_ends_well(folder, "threads", 12);
}

#[test]
fn a_folder_that_moves_to_another_machine_takes_its_search_along() {
    for executor in ["threads", "process"] {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        let copy = root.path().join("copy");
        let child = driver(&folder, executor, "slow=400").spawn().unwrap();
        until("some trials are told", || told(&folder) >= 2);
        // Pending trials come along, their workers do not.
        until("it is copied", || {
            let _ = fs::remove_dir_all(&copy);
            Command::new("cp").args(["-r", "--"]).args([&folder, &copy]).status().unwrap().success()
        });
        kill(child);
        fs::rename(&folder, root.path().join("elsewhere")).unwrap();
        let pending = journal::read(copy.join("journal.jsonl")).unwrap().1.pending().count();
        assert!(pending > 0, "nothing was pending");
        assert_ends_well(&copy, executor, 12);
    }
}

/// The journal is cut off at every length that is a multiple of 31 bytes: no write of it is spared.
#[test]
fn a_journal_that_may_not_grow_loses_nothing_at_any_byte() {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    assert_ends_well(&whole, "threads", 4);
    let length = fs::metadata(whole.join("journal.jsonl")).unwrap().len();
    let folder = root.path().join("run");
    let mut known = 0;
    let mut stops = 0;
    for limit in (0..length).step_by(31) {
        let mut command = wrapped(&["prlimit", &format!("--fsize={limit}")], &folder, "threads", "slow=0");
        let (success, words) = ended(command.env(PATIENCE, "0").env(TRIALS, "4").spawn().unwrap());
        assert!(success || words.contains("File too large"), "{words}");
        stops += usize::from(!success);
        let now = told(&folder);
        assert!(now >= known, "{now} trials are left of {known}");
        known = now;
    }
    assert!(stops > 10 && known > 0);
    assert_ends_well(&folder, "threads", 4);
}

/// A disk with room for one more file, or one more page, each time. Whoever finds it full stops with the reason. Begins
/// `anew` each time, or goes on where the last one stopped.
fn fill_up(limits: impl Iterator<Item = String>, anew: bool) {
    const ROOM: &str = "nr_inodes=1000";
    let root = tempfile::tempdir().unwrap();
    let mut limits = limits.peekable();
    let mount = Mount::full_at(root.path(), limits.peek().unwrap());
    let folder = root.path().join("run");
    let mut known = 0;
    let mut stops = 0;
    for limit in limits {
        mount.change(&limit);
        let mut command = driver(&folder, "process", "slow=0");
        // What a test prints would fill the disk as well.
        let quiet = ["sh", "-c", "exec \"$0\" \"$@\" >/dev/null"].join("\u{1f}");
        command.env(WRAPPER, quiet).env(PATIENCE, "40").env(TRIALS, "3");
        let (success, words) = ended(command.spawn().unwrap());
        let full = ["No space left on device", "could not write"];
        assert!(success || full.iter().any(|full| words.contains(full)), "{limit}: {words}");
        let now = told(&folder);
        assert!(now >= known, "{now} trials are left of {known}");
        known = now;
        stops += usize::from(!success);
        if success {
            break;
        }
        if anew {
            mount.change(ROOM);
            if stops % 4 == 0 {
                assert_ends_well(&folder, "process", 3);
            }
            fs::remove_dir_all(&folder).unwrap();
            known = 0;
        }
    }
    assert!(stops > 5 && known == 3, "{stops} stops, {known} trials");
    assert_ends_well(&folder, "process", 3);
}

#[test]
#[ignore = "needs root, to mount"]
fn a_disk_that_is_full_at_any_file_loses_nothing() {
    fill_up((2..120).map(|files| format!("nr_inodes={files}")), true);
}

#[test]
#[ignore = "needs root, to mount"]
fn a_disk_that_is_full_at_any_page_loses_nothing() {
    fill_up((1..120).map(|pages| format!("size={}k", 4 * pages)), false);
}

#[test]
fn a_driver_without_file_handles_says_so_and_loses_nothing() {
    for executor in ["threads", "process"] {
        let folder = tempfile::tempdir().unwrap();
        let mut stops = 0;
        let mut known = 0;
        for handles in 5..40 {
            let limit = format!("--nofile={handles}");
            let command = &mut wrapped(&["prlimit", &limit], folder.path(), executor, "slow=0");
            let mut child = command.env(PATIENCE, "100").env(TRIALS, "6").spawn().unwrap();
            let status = {
                let mut status = None;
                until("the driver ends", || {
                    status = child.try_wait().unwrap();
                    status.is_some()
                });
                status.unwrap()
            };
            let mut words = String::new();
            child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
            // With too few handles not even the program's libraries can be opened.
            assert!(!words.contains("panicked"), "{handles}: {words}");
            assert!(status.code() != Some(STOPPED) || words.contains("Too many open files"), "{handles}: {words}");
            stops += usize::from(status.code() == Some(STOPPED));
            let now = told(folder.path());
            assert!(now >= known);
            known = now;
            if status.success() && now == 6 {
                break;
            }
        }
        // Threads need hardly more than the program itself.
        assert!((stops > 0 || executor == "threads") && known == 6, "{executor}: {stops} stops, {known} trials");
        assert_ends_well(folder.path(), executor, 6);
    }
}

#[test]
fn a_worker_that_takes_too_much_memory_costs_its_trial_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let limited = ["sh", "-c", "ulimit -v 4000000; exec \"$0\" \"$@\""].join("\u{1f}");
    succeed(driver(folder, "process", "grab=3").env(WRAPPER, limited).spawn().unwrap());
    let study = journal::read(folder.join("journal.jsonl")).unwrap().1;
    let TrialState::Failed(failure) = &study.trials()[3].state else { panic!("{:?}", study.trials()[3]) };
    assert_eq!(failure.kind, FailureKind::OutOfAttempts);
    assert!(failure.reason.contains("3 workers") && failure.reason.contains("memory allocation of"), "{failure:?}");
    assert_eq!((study.observations().count(), attempts(&tasks(folder)[3])), (study.trials().len() - 1, 3));
    assert_told_once(folder);
}

fn signal(pid: &str, signal: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}

/// A worker that runs: its task and process.
fn worker(folder: &Path) -> (PathBuf, String) {
    let mut found = None;
    until("a worker shows up", || {
        let running = tasks(folder).into_iter().filter(|task| !task.join("result.json").exists());
        found = running.filter_map(|task| pid(&task).map(|pid| (task, pid))).next();
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn a_worker_or_driver_that_is_stopped_for_a_while_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let child = driver(folder, "process", "slow=150").spawn().unwrap();
    let (task, stopped) = worker(folder);
    signal(&stopped, "-STOP");
    let driver = child.id().to_string();
    signal(&driver, "-STOP");
    // Longer than anybody's write_timeout.
    thread::sleep(Duration::from_millis(900));
    signal(&driver, "-CONT");
    thread::sleep(Duration::from_millis(600));
    assert!(!task.join("result.json").exists());
    signal(&stopped, "-CONT");
    succeed(child);
    assert_ends_well(folder, "process", 12);
    assert!(tasks(folder).iter().all(|task| attempts(task) == 1));
}

#[test]
fn a_worker_that_stays_stopped_is_ended_at_its_time_limit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let child = driver(folder, "process", "slow=200").env(LIMIT, "2000").spawn().unwrap();
    let (task, stopped) = worker(folder);
    signal(&stopped, "-STOP");
    succeed(child);
    assert_ends_well(folder, "process", 12);
    assert_eq!(attempts(&task), 2);
}

/// The library that makes programs see another time.
fn faketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    folders
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
        .expect("libfaketime is not installed")
}

#[test]
#[ignore = "needs libfaketime"]
fn clocks_may_jump_back_and_forth() {
    let library = faketime();
    for executor in ["threads", "process"] {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        let clock = root.path().join("clock");
        let set = |hours: &str| {
            fs::write(root.path().join("next"), hours).unwrap();
            fs::rename(root.path().join("next"), &clock).unwrap();
        };
        set("+0");
        let mut command = driver(&folder, executor, "slow=80");
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &clock).env("FAKETIME_NO_CACHE", "1");
        let child = command.env("DONT_FAKE_MONOTONIC", "1").spawn().unwrap();
        for (wanted, hours) in [(2, "+1h"), (5, "-1h"), (8, "+1h")] {
            until("some trials are told", || told(&folder) >= wanted);
            set(hours);
            let hour = Duration::from_secs(3600);
            let now = if hours == "+1h" { SystemTime::now() + hour } else { SystemTime::now() - hour };
            let written = tasks(&folder).into_iter().map(|task| task.join("progress.json"));
            for file in written.filter_map(|path| fs::File::open(path).ok()) {
                file.set_modified(now).unwrap();
            }
        }
        succeed(child);
        let lines = fs::read_to_string(folder.join("journal.jsonl")).unwrap();
        let times = lines.lines().skip(1).map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let times: Vec<_> = times.map(|line| line["unix_ms"].as_i64().unwrap()).collect();
        let jumps: Vec<_> = times.windows(2).filter(|pair| (pair[1] - pair[0]).abs() > 1_800_000).collect();
        assert_eq!(jumps.len(), 3, "the clock did not jump: {times:?}");
        assert_ends_well(&folder, executor, 12);
        assert!(tasks(&folder).iter().all(|task| attempts(task) == 1));
    }
}

/// Runs one of the child tests under a umask, and asserts that all it leaves in the folder has the rights that follow
/// from it. The names of the files.
fn left_under(umask: &str, command: &mut Command, folder: &Path) -> Vec<String> {
    let rights = 0o666 & !u32::from_str_radix(umask, 8).unwrap();
    // Whoever may read a folder may enter it.
    let entered = rights | 0o100 | (rights & 0o044) >> 2;
    succeed(command.spawn().unwrap());
    let mut folders = vec![folder.to_owned()];
    let mut names = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            let path = entry.path();
            let wanted = if metadata.is_dir() { entered } else { rights };
            assert_eq!(metadata.permissions().mode() & 0o777, wanted, "{}", path.display());
            match metadata.is_dir() {
                true => folders.push(path),
                false => names.push(entry.file_name().into_string().unwrap()),
            }
        }
    }
    assert!(!names.iter().any(|name| name.contains("part")), "{names:?}");
    names
}

fn under(umask: &str, test: &str, folder: &Path) -> Command {
    let umask = format!("umask {umask}; exec \"$0\" \"$@\"");
    let mut command = wrapped(&["sh", "-c", &umask], folder, "process", "");
    if test != "child_driver" {
        command = Command::new("sh");
        command.args(["-c", &umask]).args(cluster::command(test)).env(FOLDER, folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    }
    command
}

const UMASKS: [&str; 3] = ["027", "077", "002"];

#[test]
fn files_of_a_run_have_the_rights_that_the_umask_gives() {
    for umask in UMASKS {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        let names = left_under(umask, &mut under(umask, "child_driver", &folder), &folder);
        for name in
            ["journal.jsonl", "metrics.jsonl", "report.html", "lock", "spec.json", "result.json", "log", "alive"]
        {
            assert!(names.iter().any(|found| found == name), "no {name} in {names:?}");
        }
    }
}

/// Writes what is written outside searches.
#[test]
#[ignore = "started by other tests"]
fn child_writer() {
    let folder = cluster::driven();
    let at = |name: &str| folder.join(name);
    let study = pipeline(4).run(&Target::llama_350m()).unwrap().study;
    Page::new(&study).write(at("page.html")).unwrap();
    Page::new(&study).write_figures(&folder).unwrap();
    let cached = Cached::on_disk(evaluator(), at("cache.jsonl")).unwrap();
    cached.evaluate(&study.trials()[0], &Context::default()).unwrap();
    let dims = Dims { kv_heads: 1, head_dim: 4, ..Dims::new(8, 256, 2).unwrap() };
    let spec = Target::custom("tiny", dims, 10, true, 1).unwrap().model("AM".parse().unwrap());
    let primitives = Primitives::standard();
    let model = HybridLm::new(&spec, &primitives, Seed(3), &Device::flex()).unwrap();
    export::hugging_face(&spec, Some(&model), &primitives, at("export"), &export::Options::default()).unwrap();
    weights::save(&model, &at("model.safetensors")).unwrap();
    let tokens = TokenWriter::create(at("tokens.bin"), TokenFormat::Plain, TokenWidth::U16);
    tokens.and_then(|mut tokens| tokens.document(&[1, 2]).and_then(|()| tokens.finish())).unwrap();
}

#[test]
fn other_files_have_the_rights_that_the_umask_gives() {
    for umask in UMASKS {
        let root = tempfile::tempdir().unwrap();
        let names = left_under(umask, &mut under(umask, "child_writer", root.path()), root.path());
        for name in ["page.html", "trials.svg", "trials.csv", "cache.jsonl", "config.json", "tokens.bin"] {
            assert!(names.iter().any(|found| found == name), "no {name} in {names:?}");
        }
        assert_eq!(names.iter().filter(|name| *name == "model.safetensors").count(), 2, "{names:?}");
    }
}

/// What somebody may have put into the folder of the first task, with what follows.
#[test]
fn links_in_task_folders_are_not_followed() {
    let root = tempfile::tempdir().unwrap();
    let known = root.path().join("known");
    succeed(driver(&known, "process", "slow=0").env(TRIALS, "2").spawn().unwrap());
    let name = tasks(&known)[0].file_name().unwrap().to_owned();
    let forged = fs::read_to_string(tasks(&known)[1].join("result.json")).unwrap();
    let kinds = [
        ("result.json", true),
        ("progress.json", true),
        ("spec.json", true),
        ("spec.json.partial", true),
        ("cancel", true),
        ("alive", true),
        ("log", false),
        ("attempts", false),
        ("", false),
    ];
    for (link, goes_on) in kinds {
        let folder = root.path().join(format!("run-{link}"));
        let outside = root.path().join("outside");
        let task = folder.join("tasks").join(&name);
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("result.json"), &forged).unwrap();
        fs::create_dir_all(if link.is_empty() { task.parent().unwrap() } else { &task }).unwrap();
        let is_folder = ["", "attempts"].contains(&link);
        let target = if is_folder { outside.clone() } else { outside.join("result.json") };
        symlink(target, if link.is_empty() { task.clone() } else { task.join(link) }).unwrap();
        let (success, words) = ended(driver(&folder, "process", "slow=0").spawn().unwrap());
        assert_eq!(success, goes_on, "{link}: {words}");
        assert!(success || words.contains("links are not followed here"), "{link}: {words}");
        assert_eq!(fs::read_to_string(outside.join("result.json")).unwrap(), forged, "{link}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{link}");
        if !success {
            // The other worker has told its trial, perhaps.
            assert!(told(&folder) <= WORKERS, "{link}");
            fs::remove_file(if link.is_empty() { task } else { task.join(link) }).unwrap();
        }
        fs::remove_dir_all(&outside).unwrap();
        assert_ends_well(&folder, "process", 12);
    }
}

/// Each reason is told once for each task, however often it is tried again.
fn assert_told_sparingly(words: &str) {
    let lines: Vec<_> = words.lines().filter(|line| line.contains("trying again")).collect();
    let mut different = lines.clone();
    different.sort_unstable();
    different.dedup();
    assert!(!lines.is_empty() && lines.len() == different.len(), "{words}");
}

#[test]
fn a_file_in_the_place_of_the_tasks_is_named_and_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("tasks"), "").unwrap();
    let words = stop(driver(folder, "process", "slow=0").env(PATIENCE, "500").spawn().unwrap());
    assert!(words.contains("tasks is not a folder") && !words.contains("link"), "{words}");
    assert_told_sparingly(&words);
    fs::remove_file(folder.join("tasks")).unwrap();
    assert_ends_well(folder, "process", 12);
}

#[test]
fn too_few_open_files_are_told_once() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("run");
    let few = "ulimit -n 8; exec \"$0\" \"$@\"";
    let child = wrapped(&["sh", "-c", few], &folder, "process", "slow=0").env(PATIENCE, "500").spawn().unwrap();
    let words = stop(child);
    assert!(words.contains("Too many open files"), "{words}");
    assert_told_sparingly(&words);
    assert_ends_well(&folder, "process", 12);
}

#[test]
fn absurd_numbers_of_workers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let too_many = |result: Result<(), ExecuteError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, ExecuteError::TooMany { .. }), "{error}");
        assert!(error.to_string().contains("at most"), "{error}");
    };
    let evaluator = || Arc::new(evaluator());
    for workers in [Threads::MOST + 1, 1_000_000_000, usize::MAX] {
        too_many(Threads::new(evaluator(), workers).map(drop));
        too_many(Threads::with_threads_per_worker(evaluator(), 2, workers).map(drop));
        too_many(Process::new(workers.max(Processes::MOST + 1), folder.path()).map(drop));
        let error = pipeline(4).workers(workers).run(&Target::llama_350m()).unwrap_err();
        assert!(matches!(error, PipelineError::Execute(ExecuteError::TooMany { .. })), "{error}");
    }
    let most = 100_000;
    let engine = Processes::default();
    too_many(Remote::with_engine(engine, most + 1, folder.path()).map(drop));
    too_many(Slurm::new(SlurmOptions { jobs: most + 1, ..SlurmOptions::default() }, folder.path()).map(drop));
    assert_eq!(Process::new(1, folder.path()).unwrap().capacity(), 1);
}

#[test]
fn as_many_workers_as_are_permitted_work_at_once() {
    let all_at_once = Arc::new(Barrier::new(Threads::MOST));
    let evaluator = from_fn("meets all others", move |_, _| {
        all_at_once.wait();
        Ok(Report::default())
    });
    let study = pipeline(1).run(&Target::llama_350m()).unwrap().study;
    let mut executor = Threads::new(Arc::new(evaluator), Threads::MOST).unwrap();
    for id in 0..Threads::MOST as u64 {
        executor.submit(Trial { id: TrialId(id), ..Trial::clone(&study.trials()[0]) }).unwrap();
    }
    assert!(matches!(executor.submit(Trial::clone(&study.trials()[0])), Err(ExecuteError::Busy)));
    let mut done = 0;
    until("all are done", || {
        let message = executor.recv(Duration::from_millis(10)).unwrap();
        done += usize::from(matches!(message, Some(Message::Done(..))));
        done == Threads::MOST
    });
    assert_eq!(executor.idle(), Threads::MOST);
}

/// Drivers run this one where threads are scarce.
#[test]
#[ignore = "started by other tests"]
fn child_crowd() {
    let error = Threads::new(Arc::new(evaluator()), Threads::MOST).unwrap_err();
    let _ = writeln!(io::stderr(), "{}", text::causes(&error));
    std::process::exit(STOPPED);
}

#[test]
#[ignore = "needs root, to become somebody else"]
fn threads_that_the_system_refuses_are_an_error() {
    let mut words = cluster::command("child_crowd");
    // Where somebody else may run it.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("tests");
    fs::copy(&words[0], &program).unwrap();
    words[0] = program.display().to_string();
    // Root has no such limit.
    let nobody = ["--reuid=65534", "--clear-groups", "prlimit", "--nproc=40"];
    let mut command = Command::new("setpriv");
    command.args(nobody).args(&words).stdin(Stdio::null()).stdout(Stdio::null());
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(STOPPED), "{words}");
    assert!(words.contains("a worker cannot be used") && !words.contains("panicked"), "{words}");
}

/// Kills drivers and workers at random moments. `COMPOSER_TEST_KILLS=100` makes a soak of it.
#[test]
fn kills_at_random_moments_lose_nothing_and_tell_nothing_twice() {
    let kills = number(KILLS).unwrap_or(8);
    let root = tempfile::tempdir().unwrap();
    let mut rng = Seed(number("PROPTEST_RNG_SEED").unwrap_or(1)).rng("kills", 0);
    let mut killed = (0, 0);
    for round in 0.. {
        let folder = root.path().join(round.to_string());
        let mut child = driver(&folder, "process", "slow=20").stderr(Stdio::null()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() && killed.0 + killed.1 < kills {
            thread::sleep(Duration::from_millis(rng.random_range(20..250)));
            if rng.random_bool(0.5) {
                let running = tasks(&folder).into_iter().filter(|task| !task.join("result.json").exists());
                let Some(pid) = running.filter_map(|task| pid(&task)).next() else { continue };
                killed.1 += u64::from(
                    Command::new("kill").args(["-9", &pid]).stderr(Stdio::null()).status().unwrap().success(),
                );
            } else {
                kill(child);
                killed.0 += 1;
                child = driver(&folder, "process", "slow=20").stderr(Stdio::null()).spawn().unwrap();
            }
        }
        child.wait().unwrap();
        // A trial whose workers were all killed counts as failed; every other one is as it would have been.
        assert_told_once(&folder);
        assert_undisturbed(&folder);
        if killed.0 + killed.1 >= kills {
            break;
        }
    }
}

/// Asserts that every trial of the search has come to what it comes to undisturbed, unless its workers were killed each
/// time.
fn assert_undisturbed(folder: &Path) {
    succeed(driver(folder, "process", "slow=0").spawn().unwrap());
    let study = journal::read(folder.join("journal.jsonl")).unwrap().1;
    assert_eq!(study.pending().count(), 0);
    for trial in study.trials() {
        match &trial.state {
            TrialState::Completed(report) => assert_eq!(report.scores["accuracy"], toy::accuracy(trial)),
            TrialState::Failed(failure) => assert_eq!(failure.kind, FailureKind::OutOfAttempts),
            other => panic!("{other:?}"),
        }
    }
}
