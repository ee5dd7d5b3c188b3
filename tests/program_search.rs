//! Searches with a command as the evaluator, as their user runs them: killed, resumed, in processes.
#![cfg(feature = "flex")]
#![cfg(target_os = "linux")]

mod cluster;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "cluster/slurm.rs"]
mod private;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use cluster::until;
use composer_nas::{journal, prelude::*};
use private::Cluster;

/// The program, which cargo builds beside the tests.
fn program() -> PathBuf {
    let tests = env::current_exe().unwrap();
    let program = tests.parent().unwrap().with_file_name("examples").join("search");
    assert!(program.exists(), "{} is not there: run cargo test without naming single tests", program.display());
    program
}

/// A search of the letters with the fewest runs. The script notes each of its starts in `starts`.
struct Search {
    folder: tempfile::TempDir,
}

impl Search {
    fn new(extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            r#"letters=$(sed -n 's/.*"letters": "\(.*\)".*/\1/p' "$1")
            trial=$(sed -n 's/.*"trial": \([0-9]*\),/\1/p' "$1")
            folder=$(dirname "$0")
            echo "$trial $$ $CUDA_VISIBLE_DEVICES" >> "$folder/starts"
            {extra}
            rest=$(printf %s "$letters" | sed 's/A*M*//')
            echo "{{\"result\": {{\"scores\": {{\"loss\": ${{#rest}}}}}}}}""#
        );
        fs::write(folder.path().join("script.sh"), script).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--runs").arg(self.folder.path()).args(["--run", "run", "--searcher", "random"]);
        command.args(["--evaluator", &format!("sh {}", self.path("script.sh").display())]);
        command.args(["--score", "loss", "--minimize"]).args(arguments).env_remove("CUDA_VISIBLE_DEVICES");
        command
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str]) -> String {
        let Output { status, stderr, .. } = self.command(arguments).output().unwrap();
        assert!(!status.success());
        String::from_utf8(stderr).unwrap()
    }

    fn study(&self) -> Study {
        journal::read(self.path("run/journal.jsonl")).unwrap().1
    }

    /// The starts of the script: trial and process.
    fn starts(&self) -> Vec<(u64, String, String)> {
        let text = fs::read_to_string(self.path("starts")).unwrap_or_default();
        let start = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            let mut word = || words.next().unwrap_or_default();
            Some((word().parse().ok()?, word(), word()))
        };
        text.lines().filter_map(start).collect()
    }
}

fn is_alive(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

/// How often each trial was told, by the lines of the journal.
fn told(journal: &Path) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for line in fs::read_to_string(journal).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line["event"] == "completed" {
            *told.entry(line["id"].to_string()).or_default() += 1;
        }
    }
    told
}

#[test]
fn a_search_is_run_resumed_and_kept_apart_from_others() {
    let search = Search::new("");
    let text = search.succeed(&["--trials", "4"]);
    assert!(text.contains("script.sh trains candidates at the widths of small") && text.contains("loss"), "{text}");
    search.succeed(&["--trials", "6"]);
    assert_eq!((search.study().trials().len(), search.starts().len()), (6, 6));
    let study = search.study();
    assert_eq!(study.goal(), &Goal::minimize("loss"));
    let version = search.refused(&["--trials", "6", "--evaluator-version", "2"]);
    assert!(version.contains("evaluator was") && version.contains("version"), "{version}");
    let score = search.refused(&["--trials", "6", "--score", "accuracy"]);
    assert!(score.contains("goal"), "{score}");
}

#[test]
fn a_script_that_is_wrong_stops_the_search_and_loses_nothing() {
    for executor in ["threads", "process"] {
        let search =
            Search::new("if [ $trial = 2 ] && [ ! -e \"$folder/mended\" ]; then echo Traceback >&2; exit 78; fi");
        let flags = ["--trials", "5", "--workers", "1", "--executor", executor];
        let error = search.refused(&flags);
        assert!(
            error.contains("trial 2") && error.contains("Traceback") && error.contains("exit status: 78"),
            "{error}"
        );
        assert_eq!(search.study().observations().count(), 2);
        fs::write(search.path("mended"), "").unwrap();
        search.succeed(&flags);
        assert_eq!(search.starts().iter().map(|start| start.0).collect::<Vec<_>>(), [0, 1, 2, 2, 3, 4]);
    }
}

#[test]
fn each_process_has_a_device_of_its_own() {
    let search = Search::new("sleep 0.3");
    search.succeed(&["--trials", "4", "--executor", "process", "--workers", "2", "--devices", "cuda:3,cuda:5"]);
    let mut devices: Vec<_> = search.starts().into_iter().map(|start| start.2).collect();
    devices.sort();
    devices.dedup();
    assert_eq!(devices, ["3", "5"]);
    assert_eq!(search.study().observations().count(), 4);
}

#[test]
fn devices_are_those_that_the_search_may_use() {
    let search = Search::new("sleep 0.3");
    let flags = ["--trials", "4", "--executor", "process", "--workers", "2", "--devices"];
    let restricted = |devices: &str| {
        let mut command = search.command(&flags);
        command.arg(devices).env("CUDA_VISIBLE_DEVICES", "4,GPU-6").output().unwrap()
    };
    let few = restricted("cuda:0,cuda:2");
    assert!(!few.status.success() && String::from_utf8_lossy(&few.stderr).contains("has 2 devices"), "{few:?}");
    assert!(restricted("cuda:0,cuda:1").status.success());
    let mut devices: Vec<_> = search.starts().into_iter().map(|start| start.2).collect();
    devices.sort();
    devices.dedup();
    assert_eq!(devices, ["4", "GPU-6"]);
}

#[test]
fn a_command_is_repeated_and_judged_by_its_own_score() {
    let search = Search::new("");
    search.succeed(&["--trials", "3", "--repeat", "2"]);
    assert_eq!((search.study().observations().count(), search.starts().len()), (3, 6));
}

#[test]
fn a_mistyped_command_does_not_stand_in_the_way_of_the_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let run = |command: &str| {
        let mut search = Command::new(program());
        search.arg("--runs").arg(folder.path()).args(["--score", "loss", "--trials", "1", "--evaluator", command]);
        search.output().unwrap()
    };
    let wrong = run("no-such-command 1");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no-such-command"), "{wrong:?}");
    let right = run(r#"echo '{"result": {"scores": {"loss": 1}}}' #"#);
    assert!(right.status.success(), "{right:?}");
    run("./no-such-script.sh");
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.collect();
    assert!(names.len() == 3 && names.iter().all(|name| !name.starts_with(['.', '-'])), "{names:?}");
}

#[test]
fn nothing_runs_on_when_the_driver_dies() {
    // Whoever starts tests in the background may have them ignore interrupts, and so their children.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let interrupts = u64::from_str_radix(ignored.trim(), 16).unwrap() & 0b10 == 0;
    for signal in ["KILL", "TERM", "INT"] {
        if signal == "INT" && !interrupts {
            continue;
        }
        // A script that asks to be waited for.
        let search = Search::new(
            r#"trap 'touch "$folder/asked"; exit 1' TERM; while [ ! -e "$folder/go" ]; do sleep 0.05; done"#,
        );
        let mut driver = search.start(&["--trials", "2"]);
        until("two scripts run", || search.starts().len() == 2);
        let scripts: Vec<_> = search.starts().into_iter().map(|start| start.1).collect();
        assert!(scripts.iter().all(|pid| is_alive(pid)));
        let pid = driver.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        driver.wait().unwrap();
        until("the scripts have ended", || !scripts.iter().any(|pid| is_alive(pid)));
        assert!(search.path("asked").exists(), "they were asked first");
        fs::write(search.path("go"), "").unwrap();
        search.succeed(&["--trials", "2"]);
        assert_eq!(search.study().observations().count(), 2);
    }
}

#[test]
#[ignore = "needs Slurm and root"]
fn a_script_runs_inside_a_job_of_slurm() {
    let cluster = Cluster::start(None);
    let search = Search::new(r#"echo "$SLURM_JOB_ID $SLURMD_NODENAME" >> "$folder/jobs""#);
    let mut command = search.command(&["--trials", "3", "--executor", "slurm", "--workers", "2", "--merged-unseen"]);
    let Output { status, stderr, .. } = command.env("SLURM_CONF", cluster.configuration()).output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    assert_eq!(search.study().observations().count(), 3);
    let jobs = fs::read_to_string(search.path("jobs")).unwrap();
    assert!(
        jobs.lines().count() == 3 && jobs.lines().all(|job| job.ends_with(" n1") || job.ends_with(" n2")),
        "{jobs}"
    );
}

/// Runs a search of so many trials with 8 workers and kills its driver so often on the way.
fn kill_the_driver(trials: usize, kills: usize, executor: &str) {
    // No trial is evaluated twice at the same time.
    let search = Search::new(
        r#"trap 'rmdir "$folder/now-$trial"; exit 1' TERM
        mkdir "$folder/now-$trial" || exit 78
        sleep 0.05; rmdir "$folder/now-$trial""#,
    );
    let count = trials.to_string();
    let arguments = ["--trials", &count, "--workers", "8", "--layers", "12", "--executor", executor, "--merged-unseen"];
    let journal = search.path("run/journal.jsonl");
    let told_by_now = || told_lines(&journal);
    for kill in 1..=kills {
        let mut driver = search.start(&arguments);
        until("the search has got further", || {
            told_by_now() >= kill * trials / (kills + 1) || driver.try_wait().unwrap().is_some()
        });
        driver.kill().unwrap();
        driver.wait().unwrap();
    }
    search.succeed(&arguments);
    let told = told(&journal);
    assert_eq!((told.len(), told.values().max()), (trials, Some(&1)));
    assert_eq!(search.study().observations().count(), trials);
    let starts = search.starts().len();
    assert!((trials..=trials + 8 * kills).contains(&starts), "{starts}");
    println!("{trials} trials, {kills} kills, {starts} starts of the script");
}

fn told_lines(journal: &Path) -> usize {
    fs::read_to_string(journal).unwrap_or_default().matches("\"completed\"").count()
}

#[test]
fn every_trial_is_told_once_however_often_the_driver_is_killed() {
    kill_the_driver(60, 3, "threads");
    kill_the_driver(24, 2, "process");
}

/// `cargo test --release --test program_search -- --ignored thousand`
#[test]
#[ignore = "takes some minutes"]
fn a_thousand_trials_are_told_once() {
    kill_the_driver(1000, 20, "threads");
}
