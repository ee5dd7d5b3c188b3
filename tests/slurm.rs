//! Searches on a private Slurm of two nodes, and what happens to them: killed drivers, workers, nodes, daemons and
//! controllers, held jobs, stopped workers and those that take too much memory, folders that are removed, renamed, full
//! or hold links. Whatever it is, the search ends as on threads. Needs Slurm and root, and is
//! ignored unless it is asked for, as `.ci/run` does.
#![cfg(feature = "flex")]
#![cfg(target_os = "linux")]

#[path = "cluster/slurm.rs"]
mod private;
mod cluster;

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use cluster::{FAULTS, TRIALS, WORKERS, assert_expected, attempts, command, kill, pid, tasks, told, until};
use composer_nas::{
    execute::{ExecuteError, Resources, Slurm, SlurmOptions},
    prelude::*,
    study::{FailureKind, TrialState},
};
use private::{Cluster, parent};

/// Workers run this test.
#[test]
#[ignore = "started by other tests"]
fn child_worker() {
    cluster::worker();
}

/// Further options of `sbatch` for a child, by words.
const EXTRA: &str = "COMPOSER_TEST_EXTRA";
/// How many GPUs the jobs of a child ask for.
const GPUS: &str = "COMPOSER_TEST_GPUS";

/// How long drivers and workers try again what the system refuses.
const PATIENCE: Duration = Duration::from_secs(2);

/// Drivers run this one.
#[test]
#[ignore = "started by other tests"]
fn child_driver() {
    let folder = cluster::driven();
    let search = |executor| {
        let pipeline =
            cluster::pipeline().write_timeout(PATIENCE).executor(executor).journal(folder.join("journal.jsonl"));
        pipeline.run(&Target::llama_350m()).map_err(|error| composer_nas::text::causes(&error))
    };
    let result = slurm(&folder).map_err(|error| composer_nas::text::causes(&error)).and_then(search);
    if let Err(error) = result {
        eprintln!("{error}");
        std::process::exit(3);
    }
}

fn slurm(folder: &Path) -> Result<Slurm, ExecuteError> {
    let words = |name| std::env::var(name).unwrap_or_default();
    let options = SlurmOptions {
        jobs: WORKERS,
        poll: Duration::from_millis(200),
        extra: words(EXTRA).split_whitespace().map(str::to_owned).collect(),
        resources: Resources { gpus: words(GPUS).parse().unwrap_or(0), ..Resources::default() },
        ..SlurmOptions::default()
    };
    // The first attempt at a trial finds no room for its files; the task's folder is the seventh argument.
    let limit = "case \"$7\" in *trial-00003*) [ -e \"$7/attempts\" ] || ulimit -f 0 ;; esac";
    let small_disk = ["sh".into(), "-c".into(), format!("{limit}; exec \"$0\" \"$@\" >/dev/null")];
    let full = words(FAULTS).contains("full_disk");
    let wrapper = if full { small_disk.to_vec() } else { vec![] };
    let executor = Slurm::new(options, folder)?.command([wrapper, command("child_worker")].concat());
    Ok(executor.grace(Duration::from_secs(2)).write_timeout(PATIENCE))
}

fn driver(cluster: &Cluster, folder: &Path, faults: &str) -> Command {
    let mut command = cluster::driver(folder, faults);
    command.env("SLURM_CONF", cluster.configuration()).stderr(Stdio::piped());
    command
}

/// Waits for a driver that must succeed; its words.
fn succeed(child: Child) -> String {
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&stderr).into_owned();
    assert!(status.success(), "{words}");
    words
}

/// The words of a driver that must fail.
fn fail(command: &mut Command) -> String {
    stop(command.spawn().unwrap())
}

/// Waits for a driver that must fail; its words.
fn stop(child: Child) -> String {
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&stderr).into_owned();
    assert!(status.code() == Some(3) && !words.contains("panicked"), "{words}");
    words
}

/// Asserts that the search in the folder found what threads find.
fn assert_ended_well(folder: &Path) {
    let found = cluster::pipeline().journal(folder.join("journal.jsonl")).run(&Target::llama_350m()).unwrap();
    assert_expected(folder, &found);
}

/// A worker that runs now: its task, process, and the number and node of its job.
fn running(cluster: &Cluster, folder: &Path) -> (PathBuf, String, String, String) {
    let mut found = None;
    until("a worker shows up", || {
        let jobs = cluster.jobs();
        found = tasks(folder).into_iter().find_map(|task| {
            let name = task.file_name()?.to_str()?;
            let [id, _, node, _] = jobs.iter().find(|[_, state, _, job]| state == "RUNNING" && job.ends_with(name))?;
            let pid = pid(&task).filter(|_| !task.join("result.json").exists())?;
            Some((task.clone(), pid, id.clone(), node.clone()))
        });
        found.is_some()
    });
    found.unwrap()
}

fn kill_9(pid: &str) {
    signal(pid, "-9");
}

fn signal(pid: &str, signal: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}

/// A small file system of its own, until it is dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(path: &Path) -> Self {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(path).status().unwrap();
        assert!(mounted.success());
        Self(path.to_owned())
    }

    /// Leaves no room but what a file's last page has.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
#[ignore = "needs Slurm and root"]
fn jobs_find_what_threads_find_on_their_gpus() {
    let cluster = Cluster::start(None);
    let folder = tempfile::tempdir().unwrap();
    succeed(driver(&cluster, folder.path(), "").env(GPUS, "1").spawn().unwrap());
    assert_ended_well(folder.path());
    assert!(tasks(folder.path()).iter().all(|task| attempts(task) == 1));
    // Each node has one GPU, and each worker saw its number.
    let study = composer_nas::journal::read(folder.path().join("journal.jsonl")).unwrap().1;
    assert!(study.observations().all(|seen| seen.report.scores["device"] == 0.0));
    let nodes = cluster.run("squeue", &["--noheader", "--states=all", "--format=%N"]);
    assert!(nodes.contains("n1") && nodes.contains("n2"));
}

#[test]
#[ignore = "needs Slurm and root"]
fn a_killed_driver_finds_its_jobs_and_their_results() {
    let cluster = Cluster::start(None);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for wanted in [1, 8] {
        let child = driver(&cluster, folder, "slow=400").stderr(Stdio::null()).spawn().unwrap();
        until("some trials are told", || told(folder) >= wanted);
        kill(child);
    }
    succeed(driver(&cluster, folder, "").spawn().unwrap());
    assert_ended_well(folder);
    assert!(tasks(folder).iter().all(|task| attempts(task) == 1));
}

#[test]
#[ignore = "needs Slurm and root"]
fn killed_workers_and_held_jobs_are_replaced_and_poison_is_recorded() {
    let cluster = Cluster::start(None);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let child = driver(&cluster, folder, "slow=700 full_disk=1").spawn().unwrap();
    let (killed, pid, ..) = running(&cluster, folder);
    kill_9(&pid);
    until("it is replaced", || attempts(&killed) == 2);
    let (held, _, id, _) = running(&cluster, folder);
    cluster.run("scontrol", &["requeuehold", &id]);
    until("it is replaced", || attempts(&held) == 2 || held.join("result.json").exists());
    succeed(child);
    assert_ended_well(folder);
    // The disk was full for one more.
    assert!(tasks(folder).iter().map(|task| attempts(task)).sum::<usize>() >= TRIALS + 2);
    assert_eq!(attempts(&tasks(folder)[3]), 2);
    until("no job is left", || cluster.jobs().is_empty());

    let poisoned = tempfile::tempdir().unwrap();
    let child = driver(&cluster, poisoned.path(), "crash=2").spawn().unwrap();
    succeed(child);
    let study = composer_nas::journal::read(poisoned.path().join("journal.jsonl")).unwrap().1;
    let TrialState::Failed(failure) = &study.trials()[2].state else { panic!() };
    assert!(failure.kind == FailureKind::OutOfAttempts && failure.reason.contains("JobState=FAILED"), "{failure:?}");
    assert_eq!((study.observations().count(), attempts(&tasks(poisoned.path())[2])), (TRIALS - 1, 3));
    cluster::assert_told_once(poisoned.path());
}

#[test]
#[ignore = "needs Slurm and root"]
fn a_folder_that_is_removed_renamed_or_full_ends_the_search_in_time() {
    let cluster = Cluster::start(None);
    let root = tempfile::tempdir().unwrap();
    let removed = root.path().join("removed");
    let renamed = root.path().join("renamed");
    let full = root.path().join("full");
    let start = |folder: &Path| {
        let child = driver(&cluster, folder, "slow=300").spawn().unwrap();
        until("some trials are told", || told(folder) >= 2);
        child
    };
    let goes_on = |folder: &Path| {
        succeed(driver(&cluster, folder, "").spawn().unwrap());
        assert_ended_well(folder);
        // A job stays in the list for a while after its process has ended.
        until("no job is left", || cluster.jobs().is_empty());
    };

    let child = start(&removed);
    let before = told(&removed);
    // Jobs write into it meanwhile.
    until("it is removed", || fs::remove_dir_all(&removed).is_ok() && !removed.exists());
    let words = stop(child);
    assert!(words.contains("is not there") && words.contains("trials are finished: 0 to"), "{words}");
    assert!(words.contains("was written to") && told(&removed) >= before, "{words}");
    goes_on(&removed);

    let child = start(&renamed);
    let away = root.path().join("away");
    fs::rename(&renamed, &away).unwrap();
    let words = stop(child);
    assert!(words.contains("is not there") && words.contains("trials are finished: 0 to"), "{words}");
    assert!(!words.contains("was written to") && !renamed.exists(), "{words}");
    goes_on(&away);

    fs::create_dir(&full).unwrap();
    let mount = Mount::new(&full);
    let child = start(&full);
    let filler = mount.fill();
    let before = told(&full);
    let words = stop(child);
    assert!(words.contains("No space left on device"), "{words}");
    assert!(told(&full) >= before);
    fs::remove_file(filler).unwrap();
    goes_on(&full);
}

#[test]
#[ignore = "needs Slurm and root"]
fn stopped_workers_are_waited_for_and_those_that_take_too_much_memory_are_replaced() {
    let cluster = Cluster::start(None);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let child = driver(&cluster, folder, "slow=500 grab=5").spawn().unwrap();
    let (stopped, pid, ..) = running(&cluster, folder);
    signal(&pid, "-STOP");
    // Longer than any limit of this test's drivers.
    std::thread::sleep(2 * PATIENCE);
    assert!(!stopped.join("result.json").exists());
    signal(&pid, "-CONT");
    succeed(child);
    assert_eq!(attempts(&stopped), 1);
    let study = composer_nas::journal::read(folder.join("journal.jsonl")).unwrap().1;
    let TrialState::Failed(failure) = &study.trials()[5].state else { panic!() };
    assert!(failure.kind == FailureKind::OutOfAttempts && failure.reason.contains("ExitCode=0:9"), "{failure:?}");
    assert_eq!((study.observations().count(), attempts(&tasks(folder)[5])), (TRIALS - 1, 3));
    cluster::assert_told_once(folder);
}

#[test]
#[ignore = "needs Slurm and root"]
fn a_log_that_is_a_link_is_not_written_to() {
    let cluster = Cluster::start(None);
    let root = tempfile::tempdir().unwrap();
    let known = root.path().join("known");
    let folder = root.path().join("run");
    let outside = root.path().join("outside");
    let child = driver(&cluster, &known, "").spawn().unwrap();
    until("the name of the first task is known", || !tasks(&known).is_empty());
    kill(child);
    let task = folder.join("tasks").join(tasks(&known)[0].file_name().unwrap());
    fs::create_dir_all(&task).unwrap();
    fs::write(&outside, "theirs").unwrap();
    symlink(&outside, task.join("log")).unwrap();
    let words = fail(&mut driver(&cluster, &folder, ""));
    assert!(words.contains("ExitCode=65:0"), "{words}");
    assert_eq!(fs::read_to_string(&outside).unwrap(), "theirs");
    fs::remove_file(task.join("log")).unwrap();
    succeed(driver(&cluster, &folder, "").spawn().unwrap());
    assert_ended_well(&folder);
}

#[test]
#[ignore = "needs Slurm and root"]
fn a_crashed_node_is_survived() {
    let mut cluster = Cluster::start(None);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let child = driver(&cluster, folder, "slow=500").spawn().unwrap();
    until("some trials are told", || told(folder) >= 2);
    let (task, pid, _, node) = running(&cluster, folder);
    let step = parent(&pid);
    cluster.kill_daemon(&node);
    kill_9(&step);
    kill_9(&pid);
    succeed(child);
    assert_ended_well(folder);
    assert_eq!(attempts(&task), 2);
}

#[test]
#[ignore = "needs Slurm and root"]
fn a_worker_that_outlives_its_daemon_and_its_replacement_give_one_result() {
    let mut cluster = Cluster::start(None);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let child = driver(&cluster, folder, "slow=500 slow_once=4").spawn().unwrap();
    let mut slow = None;
    until("the slow trial runs", || {
        slow = tasks(folder).into_iter().nth(4).filter(|task| pid(task).is_some());
        slow.is_some()
    });
    let task = slow.clone().unwrap();
    let pid = pid(&slow.unwrap()).unwrap();
    let name = task.file_name().unwrap().to_str().unwrap().to_owned();
    let node = cluster.jobs().into_iter().find(|[_, _, _, job]| job.ends_with(&name)).unwrap()[2].clone();
    cluster.kill_daemon(&node);
    succeed(child);
    assert!(attempts(&task) >= 2, "Slurm starts a second one");
    // The first one hears that it was beaten.
    until("it ends", || !Path::new(&format!("/proc/{pid}")).exists());
    assert_ended_well(folder);
}

#[test]
#[ignore = "needs Slurm and root"]
fn a_controller_may_die_while_jobs_are_submitted() {
    let mut cluster = Cluster::start(None);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let child = driver(&cluster, folder, "slow=300").spawn().unwrap();
    for wanted in [1, 8] {
        until("some trials are told", || told(folder) >= wanted);
        cluster.kill_controller();
        std::thread::sleep(Duration::from_secs(2));
        cluster.start_controller();
    }
    succeed(child);
    assert_ended_well(folder);
}

#[test]
#[ignore = "needs Slurm and root"]
fn what_slurm_refuses_is_said_in_its_words() {
    let cluster = Cluster::start(None);
    let folder = tempfile::tempdir().unwrap();
    let refused = |extra: &str| fail(driver(&cluster, folder.path(), "").env(EXTRA, extra));
    assert!(refused("--partition=nowhere").contains("invalid partition specified: nowhere"));
    assert!(refused("--constraint=h100").contains("Invalid feature specification"));
    assert!(refused("--no-such-option").contains("unrecognized option '--no-such-option'"));
    let missing = fail(driver(&cluster, folder.path(), "").env("PATH", "/nowhere"));
    assert!(missing.contains("cannot run sbatch") && missing.contains("where it is installed"), "{missing}");
    // A queue that knows no JSON.
    let old = folder.path().join("old");
    fs::create_dir(&old).unwrap();
    fs::write(old.join("squeue"), "#!/bin/sh\ncase \"$*\" in *--json*) echo \"unrecognized option\" >&2; exit 1;; esac\nexec /usr/bin/squeue \"$@\"\n").unwrap();
    assert!(Command::new("chmod").arg("755").arg(old.join("squeue")).status().unwrap().success());
    let path = format!("{}:{}", old.display(), std::env::var("PATH").unwrap());
    succeed(driver(&cluster, folder.path(), "").env("PATH", path).spawn().unwrap());
    assert_ended_well(folder.path());
}

/// The last lines that the main job prints: what it found.
fn main_job(cluster: &Cluster, runs: &Path, executor: &str) -> String {
    let tests = std::env::current_exe().unwrap();
    let mut command = Command::new(tests.parent().unwrap().with_file_name("examples").join("search"));
    command.arg("--runs").arg(runs).args(["--run", executor, "--executor", executor, "--layers", "2", "--trials", "3"]);
    command.args(["--device", "flex", "--protocol", "tests/fixtures/tiny_protocol.json"]);
    let Output { status, stdout, stderr } = command.env("SLURM_CONF", cluster.configuration()).output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let found = String::from_utf8(stdout).unwrap();
    found[found.find("best trial").unwrap()..found.find("written to").unwrap()].to_owned()
}

#[test]
#[ignore = "needs Slurm and root"]
fn the_main_job_runs_as_jobs() {
    let cluster = Cluster::start(None);
    let runs = tempfile::tempdir().unwrap();
    assert_eq!(main_job(&cluster, runs.path(), "slurm"), main_job(&cluster, runs.path(), "threads"));
    assert_eq!(tasks(&runs.path().join("slurm")).len(), 3);
}

#[test]
#[ignore = "needs Slurm and root"]
fn a_folder_that_nodes_do_not_see_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(Some(folder.path()));
    let words = fail(&mut driver(&cluster, folder.path(), ""));
    assert!(words.contains("is this folder shared with the machines") && words.contains("ExitCode=66:0"), "{words}");
    assert!(!folder.path().join("journal.jsonl").exists() || told(folder.path()) == 0);
}
