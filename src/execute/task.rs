//! The folder of one task: what is asked, what came of it, and what happens in between.
//!
//! Every file is written under another name first and appears whole. `docs/cluster.md` lists them.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    evaluate::{EvalError, Progress},
    seed::Seed,
    space::Architecture,
    study::{Bar, Origin, Report, Trial, TrialId},
};

/// The version of the crate, which driver and worker must share.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a worker is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Spec {
    /// Crate version of the driver.
    pub version: String,
    /// Fingerprint of the evaluator.
    pub evaluator: String,
    /// Computing threads.
    pub threads: usize,
    /// Seconds between two signs of life.
    pub beat: f64,
    /// Seconds for which a result that cannot be written is tried again.
    pub patience: f64,
    /// Seconds after which the evaluation is called off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// What is evaluated; nothing where the worker is only to show that it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Asked>,
}

/// A trial, as far as an evaluator may look at it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Asked {
    id: TrialId,
    architecture: Architecture,
    seed: Seed,
    origin: Origin,
    failed_attempts: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stop_below: Vec<(usize, f64)>,
}

impl From<&Trial> for Asked {
    fn from(trial: &Trial) -> Self {
        let Trial { id, architecture, seed, origin, failed_attempts, stop_below, .. } = trial.clone();
        // JSON has no infinities, and a running value cannot tell them from the largest numbers.
        let finite = |value: f64| value.max(f64::MIN).min(f64::MAX);
        let stop_below = stop_below.points().iter().map(|&(step, value)| (step, finite(value))).collect();
        Self { id, architecture, seed, origin, failed_attempts, stop_below }
    }
}

impl Asked {
    pub(super) fn trial(&self) -> Trial {
        Trial {
            failed_attempts: self.failed_attempts,
            stop_below: Bar::new(self.stop_below.iter().copied()),
            ..Trial::new(self.id, self.architecture.clone(), self.seed, self.origin)
        }
    }
}

impl Spec {
    /// The name of the task: the same for all that a report depends on, and another one after a failed attempt, whose result
    /// stands. How long to wait and when to stop are no part of it, so that they may change.
    pub(super) fn name(&self) -> String {
        let digest = |text: &str, index| Seed(0).derive(text, index).0;
        match &self.trial {
            Some(Asked { id, architecture, seed, failed_attempts, .. }) => {
                let letters = architecture.letters();
                let text = format!("{}\n{}\n{letters}\n{failed_attempts}\n{}", self.version, self.evaluator, seed.0);
                format!("trial-{:05}-{:016x}", id.0, digest(&text, id.0))
            }
            None => format!("probe-{:016x}", digest(&format!("{}\n{}", self.version, self.evaluator), 0)),
        }
    }
}

/// What came of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(super) enum Outcome {
    /// The worker is there, and has the evaluator.
    Ready,
    /// The trial was evaluated.
    Completed {
        report: Box<Report>,
        /// Scores that JSON cannot hold, in words: the study refuses them, with a reason.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        not_finite: BTreeMap<String, String>,
    },
    Infeasible {
        reason: String,
    },
    Transient {
        reason: String,
    },
    Fatal {
        reason: String,
    },
    Stopped {
        reason: String,
    },
    Panicked {
        reason: String,
    },
}

impl Outcome {
    /// The outcome as it can be written; `None` for an evaluation that was called off, which leaves none.
    pub(super) fn new(outcome: Result<Report, EvalError>) -> Option<Self> {
        Some(match outcome {
            Ok(mut report) => {
                let bad = report.scores.extract_if(.., |_, score| !score.is_finite());
                let not_finite = bad.map(|(name, score)| (name, score.to_string())).collect();
                Outcome::Completed { report: Box::new(report), not_finite }
            }
            Err(EvalError::Infeasible(reason)) => Outcome::Infeasible { reason },
            Err(EvalError::Transient(reason)) => Outcome::Transient { reason },
            Err(EvalError::Fatal(reason)) => Outcome::Fatal { reason },
            Err(EvalError::Stopped(reason)) => Outcome::Stopped { reason },
            Err(EvalError::Panicked(reason) | EvalError::Crashed(reason)) => Outcome::Panicked { reason },
            Err(EvalError::Cancelled) => return None,
        })
    }

    /// What the driver is told.
    pub(super) fn told(self) -> Result<Report, EvalError> {
        Err(match self {
            Outcome::Ready => EvalError::Fatal("the worker was asked for a trial and only answered".into()),
            Outcome::Completed { mut report, not_finite } => {
                let numbers = not_finite.into_iter().map(|(name, text)| (name, text.parse().unwrap_or(f64::NAN)));
                report.scores.extend(numbers);
                return Ok(*report);
            }
            Outcome::Infeasible { reason } => EvalError::Infeasible(reason),
            Outcome::Transient { reason } => EvalError::Transient(reason),
            Outcome::Fatal { reason } => EvalError::Fatal(reason),
            Outcome::Stopped { reason } => EvalError::Stopped(reason),
            Outcome::Panicked { reason } => EvalError::Panicked(reason),
        })
    }
}

/// A sign of life.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pulse {
    /// Which attempt it comes from.
    pub attempt: u32,
    /// The worker's process, on whatever machine.
    #[serde(default)]
    pub pid: u32,
    /// Grows with every sign: clocks of two machines need not agree.
    pub beat: u64,
    /// How far the evaluation is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The attempt ended at its time limit and left a checkpoint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub to_be_continued: bool,
}

/// The folder of one task.
#[derive(Clone, Debug)]
pub(super) struct Task {
    folder: PathBuf,
}

impl Task {
    pub(super) fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Asks: makes the folder and writes the spec. `true` where there was no such task before.
    pub(super) fn ask(&self, spec: &Spec) -> io::Result<bool> {
        let new = !self.folder.exists();
        fs::create_dir_all(&self.folder)?;
        remove(&self.file("cancel"))?;
        write(&self.file("spec.json"), spec)?;
        Ok(new)
    }

    /// What is asked.
    pub(super) fn asked(&self) -> io::Result<Spec> {
        /// A spec of another version may hold anything else.
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        let path = self.file("spec.json");
        let Version { version } = read(&path)?;
        if version != VERSION {
            let (evaluator, trial) = (String::new(), None);
            return Ok(Spec { version, evaluator, threads: 1, beat: 1.0, patience: 60.0, limit: None, trial });
        }
        read(&path)
    }

    /// What came of it, where something has.
    pub(super) fn outcome(&self) -> io::Result<Option<Outcome>> {
        present(read(&self.file("result.json")))
    }

    /// Writes what came of it. The first to finish wins; whoever comes later changes nothing.
    pub(super) fn finish(&self, attempt: &Path, outcome: &Outcome) -> io::Result<()> {
        let own = attempt.join("result.json");
        write(&own, outcome)?;
        match fs::hard_link(&own, self.file("result.json")) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    }

    /// Puts a result aside that shall not stand.
    pub(super) fn put_aside(&self) -> io::Result<()> {
        match fs::rename(self.file("result.json"), self.file("aside.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The last sign of life.
    pub(super) fn pulse(&self) -> Option<Pulse> {
        read(&self.file("progress.json")).ok()
    }

    pub(super) fn beat(&self, attempt: &Path, pulse: &Pulse) -> io::Result<()> {
        let own = attempt.join("progress.json");
        fs::write(&own, json(pulse)?)?;
        fs::rename(own, self.file("progress.json"))
    }

    /// Asks the workers to stop.
    pub(super) fn call_off(&self) -> io::Result<()> {
        fs::write(self.file("cancel"), "")
    }

    pub(super) fn called_off(&self) -> bool {
        self.file("cancel").exists()
    }

    /// Claims the next attempt: its number from one, and its folder. No two workers get the same.
    pub(super) fn claim(&self) -> io::Result<(u32, PathBuf)> {
        let attempts = self.file("attempts");
        fs::create_dir_all(&attempts)?;
        for number in self.attempts() + 1.. {
            let folder = attempts.join(number.to_string());
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                claimed => return claimed.map(|()| (number, folder)),
            }
        }
        Err(io::Error::other("all attempts are claimed"))
    }

    /// How many attempts were begun. Reading the folder also makes shared file systems look again.
    pub(super) fn attempts(&self) -> u32 {
        let _ = fs::read_dir(&self.folder).map(Iterator::count);
        fs::read_dir(self.file("attempts")).map_or(0, |entries| entries.count() as u32)
    }

    /// The folder in which an attempt keeps what it has done, begun with what the last one before it has kept. A copy: an
    /// attempt that was believed dead may still write.
    pub(super) fn checkpoint(&self, number: u32, attempt: &Path) -> io::Result<PathBuf> {
        let own = attempt.join("checkpoint");
        let of = |number: u32| self.file("attempts").join(number.to_string()).join("checkpoint");
        if let Some(last) = (1..number).rev().map(of).find(|folder| folder.exists()) {
            let part = attempt.join("checkpoint.part");
            copy(&last, &part)?;
            fs::rename(part, &own)?;
        }
        Ok(own)
    }

    /// Shows to this machine that a worker is alive, for as long as the file is open.
    pub(super) fn show_alive(&self) -> io::Result<File> {
        let file = File::create(self.file("alive"))?;
        file.lock_shared()?;
        Ok(file)
    }

    /// Whether a worker of this machine is alive.
    pub(super) fn is_alive(&self) -> bool {
        let locked = File::open(self.file("alive")).map(|file| file.try_lock());
        matches!(locked, Ok(Err(TryLockError::WouldBlock)))
    }

    /// The end of what the jobs printed.
    pub(super) fn log_tail(&self) -> String {
        const LINES: usize = 4;
        let bytes = fs::read(self.file("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(LINES)..].join(" | ")
    }
}

/// Writes a file that appears whole, and is on disk when this returns.
fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(&json(value)?)?;
    file.sync_all()?;
    fs::rename(&part, path)
}

fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::other)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&fs::read(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// `None` where there is no such file.
fn present<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    present(fs::remove_file(path)).map(drop)
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
