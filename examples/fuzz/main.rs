//! Fuzzing: tries mutated inputs on all parsers and on the code that uses what was read.
//!
//! `cargo run --release --example fuzz` runs each target for ten seconds; `-- journal search --seconds 3600` runs two
//! of them for an hour. A finding is an input that violates a guarantee. Findings are written to `fuzz-findings/`, and
//! the exit status is then 1. `docs/fuzzing.md` has details.
//!
//! Inputs are tried in separate processes, one target per process, so a stack overflow, an out-of-memory error or an
//! endless loop affects one input, not the run.

mod mutate;
#[macro_use]
#[path = "../shared/mod.rs"]
mod shared;
mod targets;
mod worker;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use serde::{Deserialize, Serialize};
use targets::Target;

/// Counts the memory that an input allocates.
#[global_allocator]
pub static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// Tries mutated inputs on the parsers of the crate and on the code that uses what was read.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// The targets to run; all by default.
    targets: Vec<String>,
    /// List the targets and exit.
    #[arg(long)]
    list: bool,
    /// Seconds per target. All stored inputs are tried, however long that takes.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Folder of stored inputs, with one folder per target.
    #[arg(long, value_name = "FOLDER", default_value = "tests/fixtures/fuzz")]
    inputs: PathBuf,
    /// Folder for findings.
    #[arg(long, default_value = "fuzz-findings")]
    findings: PathBuf,
    /// Only try these files, on the one target that is given.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Seed of all mutations. Input N of a target is the same for the same seed and inputs.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of targets to run in parallel; by default the number of cores.
    #[arg(long)]
    jobs: Option<usize>,
    /// Maximum time per input, in seconds.
    #[arg(long, default_value_t = 10.0)]
    patience: f64,
    /// Maximum memory that an input may allocate, in MiB.
    #[arg(long, default_value_t = 256)]
    memory: usize,
    /// For internal use: the working folder of a worker process and the number of its first input.
    #[arg(long, hide = true, num_args = 2)]
    worker: Vec<String>,
}

/// The exit code of a worker if an input takes too long.
const HANGS: i32 = 86;
/// The number of worker deaths of one kind after which a target is abandoned.
const DEATHS: u64 = 10;
/// The address space of a worker, in KiB. A worker that needs more dies.
const ADDRESS_SPACE: u64 = 6 << 20;

/// The statistics of a target. A worker keeps them in a file that outlives it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Tally {
    /// The number of inputs tried.
    tried: u64,
    /// The number of inputs that were accepted.
    read: u64,
    /// The number of inputs available for mutation.
    known: usize,
    /// For every kind of finding, the number of inputs and the file of the first one.
    found: BTreeMap<String, (u64, PathBuf)>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.tried += other.tried;
        self.read += other.read;
        self.known = self.known.max(other.known);
        for (kind, (count, file)) in other.found {
            self.found.entry(kind).or_insert((0, file)).0 += count;
        }
    }
}

/// The files in the folder of a worker.
const INPUT: &str = "input";
const NUMBER: &str = "number";
const TALLY: &str = "tally.json";
const STDERR: &str = "stderr";

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let [folder, from] = &args.worker[..] {
        worker::run(&args, Path::new(folder), from.parse()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.list {
        targets::ALL.iter().for_each(|target| println!("{:<16} {}", target.name, target.what));
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = wanted(&args.targets)?;
    ensure!(args.files.is_empty() || wanted.len() == 1, "name the target that --files is for");
    let jobs = args.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).clamp(1, 64);
    let waiting = Mutex::new(wanted.iter().rev().collect::<Vec<_>>());
    let tallies = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(target) = pop(&waiting) {
                    let tally = try_target(&args, target);
                    if let Ok(mut tallies) = tallies.lock() {
                        tallies.push(tally.with_context(|| target.name));
                    }
                }
            });
        }
    });
    let tallies = tallies.into_inner()?.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let (tried, kinds) = tallies.iter().fold((0, 0), |(n, k), tally| (n + tally.tried, k + tally.found.len()));
    println!("{} targets, {tried} inputs, {kinds} kinds of findings", tallies.len());
    if kinds == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    println!("the findings are in {}", args.findings.display());
    Ok(ExitCode::FAILURE)
}

fn pop<'a>(waiting: &Mutex<Vec<&'a &'static Target>>) -> Option<&'a Target> {
    waiting.lock().ok()?.pop().copied()
}

fn wanted(names: &[String]) -> anyhow::Result<Vec<&'static Target>> {
    let named = |name: &String| {
        let known = targets::ALL.iter().find(|target| target.name == name);
        known.with_context(|| format!("there is no target {name:?}: --list shows those there are"))
    };
    if names.is_empty() { Ok(targets::ALL.iter().collect()) } else { names.iter().map(named).collect() }
}

/// Runs a target until its time is over, and restarts the worker whenever it dies.
fn try_target(args: &Args, target: &Target) -> anyhow::Result<Tally> {
    // In memory if the system has such a folder.
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    let begun = Instant::now();
    let mut tally = Tally::default();
    let mut from = 0;
    loop {
        let left = (args.seconds - begun.elapsed().as_secs_f64()).max(0.0);
        fs::write(scratch.path().join(TALLY), "{\"tried\":0,\"read\":0,\"known\":0,\"found\":{}}")?;
        let status = start(args, target, scratch.path(), from, left)?;
        tally.add(serde_json::from_slice(&fs::read(scratch.path().join(TALLY))?)?);
        if status.success() {
            break;
        }
        let number = fs::read(scratch.path().join(NUMBER)).unwrap_or_default();
        let Ok(number) = number.try_into().map(u64::from_le_bytes) else {
            bail!("the worker does not start: {}", last_words(scratch.path()));
        };
        let input = fs::read(scratch.path().join(INPUT))?;
        tally.tried = tally.tried.max(number + 1);
        let kind = death(status, scratch.path());
        let file = worker::keep(&args.findings, target, &kind, &input)?;
        let seen = tally.found.entry(kind.clone()).or_insert((0, file.clone()));
        seen.0 += 1;
        if seen.0 == 1 {
            worker::announce(target, &kind, &file);
        }
        if seen.0 == DEATHS {
            println!("{}: given up after {DEATHS} workers died of the same", target.name);
            break;
        }
        from = number + 1;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let Tally { tried, read, known, found } = &tally;
    println!(
        "{:<16} {tried:>9} inputs, {:>8.0} per second, {:>3.0} % read, corpus {known}, {} kinds of findings",
        target.name,
        *tried as f64 / seconds,
        100.0 * *read as f64 / (*tried).max(1) as f64,
        found.len(),
    );
    Ok(tally)
}

/// Runs a worker until it exits.
fn start(args: &Args, target: &Target, scratch: &Path, from: u64, left: f64) -> anyhow::Result<ExitStatus> {
    let program = std::env::current_exe()?;
    let mut command = if cfg!(unix) {
        let mut shell = Command::new("sh");
        // The shell sets the limit and becomes the worker. On a system without such limits, there is none.
        shell.args(["-c", &format!("ulimit -v {ADDRESS_SPACE} 2> /dev/null; exec \"$@\""), "sh"]).arg(program);
        shell
    } else {
        Command::new(program)
    };
    command.arg(target.name).arg("--worker").arg(scratch).arg(from.to_string());
    command.arg("--inputs").arg(&args.inputs).arg("--findings").arg(&args.findings);
    for (flag, value) in [
        ("--seconds", left),
        ("--seed", args.seed as f64),
        ("--patience", args.patience),
        ("--memory", args.memory as f64),
    ] {
        command.arg(flag).arg(value.to_string());
    }
    if !args.files.is_empty() {
        command.arg("--files").args(&args.files);
    }
    let stderr = File::options().create(true).append(true).open(scratch.join(STDERR))?;
    Ok(command.env_remove("RUST_BACKTRACE").stdin(Stdio::null()).stderr(stderr).status()?)
}

/// Describes the death of a worker.
fn death(status: ExitStatus, scratch: &Path) -> String {
    if status.code() == Some(HANGS) {
        return "hang: an input takes too long".into();
    }
    format!("death: {status}: {}", last_words(scratch))
}

fn last_words(scratch: &Path) -> String {
    let text = fs::read(scratch.join(STDERR)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let told = text.trim_end().lines().rfind(|line| !line.starts_with("note:"));
    told.unwrap_or_default().chars().filter(|c| !c.is_ascii_digit()).take(200).collect()
}

/// Returns the maximum time per input.
fn patience(args: &Args) -> Duration {
    Duration::try_from_secs_f64(args.patience).unwrap_or(Duration::MAX)
}
