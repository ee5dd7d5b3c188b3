//! What the tests of executors in other processes share: a real, tiny evaluator with faults, a search with it, and the
//! test binary as its driver and worker.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use composer_nas::{
    evaluate::{
        Repeated,
        mad::{Mad, Protocol},
    },
    execute::{self, Executor},
    journal,
    pipeline::PipelineError,
    prelude::*,
};

/// Names a fault per word: `slow=MS` for all trials, `crash=TRIAL` at each attempt, `crash_once=TRIAL` at the first,
/// `pause=TRIAL` leaves a checkpoint and waits for the end of the first attempt, `hang=TRIAL` waits for that of each,
/// `slow_once=TRIAL` for a minute and a half at the first attempt, `grab=TRIAL` takes a gigabyte at each,
/// `panic=TRIAL`, `nan=TRIAL`.
pub const FAULTS: &str = "COMPOSER_TEST_FAULTS";
/// The folder of the run that a child drives.
pub const FOLDER: &str = "COMPOSER_TEST_FOLDER";

pub const TRIALS: usize = 24;
pub const WORKERS: usize = 2;

/// Trains on MAD tasks, for four steps each.
pub fn mad() -> Mad {
    let protocol: Protocol = serde_json::from_str(include_str!("../fixtures/tiny_protocol.json")).unwrap();
    Mad::new(protocol, &Primitives::standard(), &Device::flex()).unwrap()
}

/// The same 8 times, so that trials can lose a race.
pub fn repeated() -> Repeated<Mad> {
    Repeated::new(mad(), 8).unwrap()
}

/// An evaluator to which things happen.
pub struct Faulty(pub Mad);

impl Evaluator for Faulty {
    fn fingerprint(&self) -> String {
        self.0.fingerprint()
    }

    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        let faults = env::var(FAULTS).unwrap_or_default();
        let first = context.checkpoint().is_none_or(|folder| folder.parent().unwrap().ends_with("1"));
        for fault in faults.split_whitespace() {
            let (kind, number) = fault.split_once('=').unwrap();
            let number: u64 = number.parse().unwrap();
            let hit = number == trial.id.0;
            match kind {
                "slow" => wait(Duration::from_millis(number), context),
                "slow_once" if hit && first => wait(Duration::from_secs(90), context),
                "crash" if hit => process::abort(),
                "crash_once" if hit && first => process::abort(),
                "pause" if hit && first => {
                    let folder = context.checkpoint().unwrap();
                    fs::create_dir_all(folder).unwrap();
                    fs::write(folder.join("half"), "").unwrap();
                    wait(FOREVER, context);
                }
                "hang" if hit => wait(FOREVER, context),
                "grab" if hit => {
                    // Held, as Slurm looks only now and then.
                    let held = std::hint::black_box(vec![1_u8; 1 << 30]);
                    wait(FOREVER, context);
                    drop(held);
                }
                "panic" if hit => panic!("a defect"),
                "nan" if hit => return Ok(Report::score("accuracy", f64::NAN)),
                _ => {}
            }
        }
        let mut report = self.0.evaluate(trial, context)?;
        if let Some(device) = env::var("CUDA_VISIBLE_DEVICES").ok().and_then(|device| device.parse().ok()) {
            report.scores.insert("device".into(), device);
        }
        Ok(report)
    }
}

const FOREVER: Duration = Duration::from_secs(600);

fn wait(time: Duration, context: &Context) {
    let end = Instant::now() + time;
    while Instant::now() < end && !context.cancelled() {
        thread::sleep(Duration::from_millis(2));
    }
}

/// Everything of the search but where it runs.
pub fn pipeline() -> Pipeline<Faulty> {
    pipeline_of(Faulty(mad()))
}

/// The same search by another evaluator.
pub fn pipeline_of<E: Evaluator + 'static>(evaluator: E) -> Pipeline<E> {
    let primitives = Primitives::standard();
    let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu"]).unwrap(), 5).unwrap();
    Pipeline::new(&primitives, space, evaluator).trials(TRIALS).seed(11).workers(WORKERS)
}

pub fn run(folder: &Path, executor: impl Executor + 'static) -> Result<Found, PipelineError> {
    pipeline().executor(executor).journal(folder.join("journal.jsonl")).run(&Target::llama_350m())
}

/// What the same search finds on threads of this process.
pub fn expected() -> &'static Found {
    static FOUND: OnceLock<Found> = OnceLock::new();
    FOUND.get_or_init(|| pipeline().run(&Target::llama_350m()).unwrap())
}

/// Asserts that a search found what threads find, and told each trial once.
pub fn assert_expected(folder: &Path, found: &Found) {
    assert_eq!(outcomes(&found.study), outcomes(&expected().study));
    assert_eq!(found.aggregated, expected().aggregated);
    assert_told_once(folder);
}

/// Asserts that the journal has one outcome per trial.
pub fn assert_told_once(folder: &Path) {
    let text = fs::read_to_string(folder.join("journal.jsonl")).unwrap();
    let study = journal::read(folder.join("journal.jsonl")).unwrap().1;
    for trial in study.trials() {
        let told = |line: &&str| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            let ends = ["completed", "failed", "retried"].iter().any(|end| event["event"] == *end);
            ends && event["id"] == trial.id.0
        };
        assert_eq!(text.lines().filter(told).count(), 1, "{}", trial.id);
    }
}

/// Trials without the times they took and the devices they saw.
pub fn outcomes(study: &Study) -> Vec<(Architecture, Option<Report>)> {
    let plain = |report: &Report| {
        let mut report = Report { wall_seconds: 0.0, ..report.clone() };
        report.scores.remove("device");
        report
    };
    study.trials().iter().map(|trial| (trial.architecture.clone(), trial.report().map(plain))).collect()
}

/// This test binary, running one of its ignored tests; `--worker FOLDER` may follow.
pub fn command(test: &str) -> Vec<String> {
    let exe = env::current_exe().unwrap().display().to_string();
    [&exe, "--ignored", "--exact", test, "--nocapture", "--"].map(str::to_owned).to_vec()
}

/// Called by the test that the command of the workers runs; it does not come back.
pub fn worker() {
    execute::worker(&[&Faulty(mad()), &repeated()]);
    panic!("--worker FOLDER is missing");
}

/// Starts a driver: the test that this command runs reads [`FOLDER`].
pub fn driver(folder: &Path, faults: &str) -> Command {
    let words = command("child_driver");
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(FOLDER, folder).env(FAULTS, faults);
    command.stdout(Stdio::null());
    command
}

/// The folder that a child drives, in such a child.
pub fn driven() -> PathBuf {
    env::var_os(FOLDER).expect("the variable names a folder").into()
}

/// Waits until `condition` holds, for as long as a slow machine may need.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Lines of the journal that hold outcomes.
pub fn told(folder: &Path) -> usize {
    let text = fs::read_to_string(folder.join("journal.jsonl")).unwrap_or_default();
    text.lines().filter(|line| line.contains(r#""event":"completed""#)).count()
}

pub fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The folders of the tasks of trials.
pub fn tasks(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("tasks")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut tasks: Vec<_> =
        entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("trial")).collect();
    tasks.sort();
    tasks
}

/// The process that works on a task, as far as one has shown up.
pub fn pid(task: &Path) -> Option<String> {
    let text = fs::read_to_string(task.join("progress.json")).ok()?;
    let pulse: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(pulse["pid"].to_string())
}

pub fn attempts(task: &Path) -> usize {
    fs::read_dir(task.join("attempts")).map_or(0, Iterator::count)
}
