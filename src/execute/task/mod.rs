//! The folder of a task: the request, the result, and everything in between.
//!
//! Every file is first written under another name, so it is always complete. `docs/cluster.md` lists the files. Links
//! in the folder are not followed, because anyone who can write there could make them point anywhere.

mod outcome;
mod spec;

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(super) use outcome::Outcome;
pub(super) use spec::{Spec, TrialRequest, VERSION};

use super::Threads;
use crate::{durable, evaluate::Progress};

/// A heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::execute) struct Heartbeat {
    /// The attempt that wrote it.
    pub attempt: u32,
    /// The process id of the worker on its machine.
    #[serde(default)]
    pub pid: u32,
    /// Increases with every heartbeat. Clocks are not compared, because those of two machines may differ.
    pub beat: u64,
    /// The progress of the evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Whether the attempt reached its time limit after changing the checkpoint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub to_be_continued: bool,
}

/// The folder of one task.
#[derive(Clone, Debug)]
pub(in crate::execute) struct Task {
    folder: PathBuf,
}

impl Task {
    pub(in crate::execute) fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    pub(in crate::execute) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(in crate::execute) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Requests the task: creates its folder and writes the spec. Returns whether the task is new.
    pub(in crate::execute) fn ask(&self, spec: &Spec) -> io::Result<bool> {
        let new = !self.folder.exists();
        match self.folder.parent().map(fs::create_dir) {
            // The parent may be a link to another disk, made by the user.
            Some(Err(error)) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        durable::make_folder(&self.folder)?;
        remove(&self.file("cancel"))?;
        write(&self.file("spec.json"), spec)?;
        Ok(new)
    }

    /// Reads the request.
    pub(in crate::execute) fn spec(&self) -> io::Result<Spec> {
        /// The only field that all versions have in common.
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        let path = self.file("spec.json");
        let Version { version } = read(&path)?;
        if version != VERSION {
            let evaluator = String::new();
            let trial = None;
            return Ok(Spec {
                version,
                evaluator,
                threads: 1,
                heartbeat_interval: 1.0,
                write_timeout: 60.0,
                limit: None,
                trial,
            });
        }
        let spec: Spec = read(&path)?;
        if spec.threads > Threads::MOST {
            let words =
                format!("{} requests {} threads; the maximum is {}", path.display(), spec.threads, Threads::MOST);
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        Ok(spec)
    }

    /// Reads the result, if there is one.
    pub(in crate::execute) fn outcome(&self) -> io::Result<Option<Outcome>> {
        let outcome = present(read(&self.file("result.json")));
        if matches!(outcome, Ok(None)) || is_folder(&self.folder) {
            return outcome;
        }
        match self.folder.ancestors().find_map(|path| Some((path, fs::symlink_metadata(path).ok()?))) {
            Some((path, found)) if path == self.folder && found.is_symlink() => {
                let words = "the folder of the task is a link, and links are not followed here";
                Err(io::Error::new(io::ErrorKind::NotADirectory, words))
            }
            Some((path, found)) if !found.is_dir() => {
                let words = format!("{} is not a folder: remove it", path.display());
                Err(io::Error::new(io::ErrorKind::NotADirectory, words))
            }
            _ => outcome,
        }
    }

    /// Writes the result. The first writer wins; later ones change nothing.
    pub(in crate::execute) fn finish(&self, attempt: &Path, outcome: &Outcome) -> io::Result<()> {
        let own = attempt.join("result.json");
        write(&own, outcome)?;
        match fs::hard_link(&own, self.file("result.json")) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    }

    /// Sets aside a result that is not valid.
    pub(in crate::execute) fn put_aside(&self) -> io::Result<()> {
        match fs::rename(self.file("result.json"), self.file("aside.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads the last heartbeat.
    pub(in crate::execute) fn heartbeat(&self) -> Option<Heartbeat> {
        read(&self.file("progress.json")).ok()
    }

    pub(in crate::execute) fn write_heartbeat(&self, attempt: &Path, heartbeat: &Heartbeat) -> io::Result<()> {
        // Not synced, since it is of no use after a crash of the machine.
        let own = attempt.join("progress.json");
        durable::create_new(&own)?.write_all(&json(heartbeat)?)?;
        fs::rename(own, self.file("progress.json"))
    }

    /// Asks the workers to stop.
    pub(in crate::execute) fn call_off(&self) -> io::Result<()> {
        if !is_folder(&self.folder) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        durable::write_in(&self.file("cancel"), b"")
    }

    pub(in crate::execute) fn called_off(&self) -> bool {
        self.file("cancel").exists()
    }

    /// Claims the next attempt. Returns its number, starting at 1, and its folder. Every worker gets another one.
    pub(in crate::execute) fn claim(&self) -> io::Result<(u32, PathBuf)> {
        let attempts = self.file("attempts");
        durable::make_folder(&attempts)?;
        for number in self.attempts() + 1.. {
            let folder = attempts.join(number.to_string());
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                claimed => return claimed.map(|()| (number, folder)),
            }
        }
        Err(io::Error::other("there are too many attempts"))
    }

    /// Returns the number of attempts that were started. Reading the folder also refreshes shared file systems.
    pub(in crate::execute) fn attempts(&self) -> u32 {
        let _ = fs::read_dir(&self.folder).map(Iterator::count);
        fs::read_dir(self.file("attempts")).map_or(0, |entries| entries.count() as u32)
    }

    /// Creates the checkpoint folder of an attempt, with a copy of the last checkpoint before it. It must be a copy,
    /// since an attempt that seems dead may still write.
    pub(in crate::execute) fn checkpoint(&self, number: u32, attempt: &Path) -> io::Result<PathBuf> {
        let own = attempt.join("checkpoint");
        let of = |number: u32| self.file("attempts").join(number.to_string()).join("checkpoint");
        if let Some(last) = (1..number).rev().map(of).find(|folder| is_folder(folder)) {
            let part = attempt.join("checkpoint.part");
            copy(&last, &part)?;
            fs::rename(part, &own)?;
        }
        Ok(own)
    }

    /// Marks a worker as alive on this machine while the returned file is open.
    pub(in crate::execute) fn show_alive(&self) -> io::Result<File> {
        let file = durable::open(&self.file("alive"))?;
        file.lock_shared()?;
        Ok(file)
    }

    /// Whether a worker on this machine is alive.
    pub(in crate::execute) fn is_alive(&self) -> bool {
        let locked = durable::open_to_read(&self.file("alive")).map(|file| file.try_lock());
        matches!(locked, Ok(Err(TryLockError::WouldBlock)))
    }

    /// Opens the log, to which the jobs print.
    pub(in crate::execute) fn log(&self) -> io::Result<File> {
        durable::open(&self.file("log"))
    }

    /// Returns the end of the log.
    pub(in crate::execute) fn log_tail(&self) -> String {
        durable::open_to_read(&self.file("log")).map_or_else(|_| String::new(), |log| durable::last_lines(&log))
    }
}

/// Writes a file atomically. It is on disk when this returns.
fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    durable::write_in(path, &json(value)?)
}

fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::other)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&durable::read(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Returns `None` if the file does not exist.
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

/// Lists the files that are not empty, with length and time, to detect changes.
pub(in crate::execute) fn contents(folder: &Path) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => files.extend(contents(&entry.path())),
            Ok(metadata) if metadata.len() > 0 => {
                files.push((entry.path(), metadata.len(), metadata.modified().ok()));
            }
            _ => {}
        }
    }
    files.sort();
    files
}

/// Copies a folder recursively.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Whether this is a folder and not a link to one.
fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::{spec::tests::spec, *};
    use crate::{seed::Seed, study::Origin};

    fn task() -> (tempfile::TempDir, Task) {
        let folder = tempfile::tempdir().unwrap();
        let task = Task::at(folder.path().join("task"));
        (folder, task)
    }

    #[test]
    fn what_is_asked_arrives() {
        let (_folder, task) = task();
        assert!(task.ask(&spec()).unwrap());
        assert_eq!(task.spec().unwrap(), spec());
        let trial = spec().trial.unwrap().trial();
        assert_eq!((trial.seed, trial.origin, trial.failed_attempts), (Seed(u64::MAX), Origin::Manual, 1));
        assert_eq!(trial.threshold.points(), [(2, 0.1), (4, f64::NEG_INFINITY)]);
        assert_eq!(trial.race.and_then(|race| race.threshold()), Some(0.1));
        task.call_off().unwrap();
        assert!(task.called_off() && !task.ask(&spec()).unwrap() && !task.called_off());
        fs::write(task.file("spec.json"), r#"{"version": "99.0.0", "everything": "else"}"#).unwrap();
        assert_eq!(task.spec().unwrap().version, "99.0.0");
        fs::write(task.file("spec.json"), r#"{"version": "0.1"#).unwrap();
        assert_eq!(task.spec().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn of_many_finishers_one_wins() {
        let (_folder, task) = task();
        task.ask(&spec()).unwrap();
        let attempts: Vec<_> = thread::scope(|scope| {
            let run = |_| {
                scope.spawn(|| {
                    let (number, folder) = task.claim().unwrap();
                    let outcome = Outcome::Infeasible { reason: number.to_string() };
                    task.finish(&folder, &outcome).unwrap();
                    let seen = task.outcome().unwrap().unwrap();
                    (number, seen)
                })
            };
            let running: Vec<_> = (0..8).map(run).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut numbers: Vec<_> = attempts.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=8).collect::<Vec<_>>());
        assert!(attempts.iter().all(|(_, seen)| *seen == attempts[0].1), "{attempts:?}");
        task.put_aside().unwrap();
        task.put_aside().unwrap();
        assert_eq!(task.outcome().unwrap(), None);
    }

    #[test]
    fn an_attempt_begins_with_a_copy_of_the_last_checkpoint() {
        let (_folder, task) = task();
        task.ask(&spec()).unwrap();
        let begin = || {
            let (number, folder) = task.claim().unwrap();
            task.checkpoint(number, &folder).unwrap()
        };
        let first = begin();
        assert!(!first.exists());
        fs::create_dir_all(first.join("deep")).unwrap();
        fs::write(first.join("deep/state"), "one").unwrap();
        let second = begin();
        fs::write(first.join("deep/state"), "late").unwrap();
        assert_eq!(fs::read(second.join("deep/state")).unwrap(), b"one");
        // The third attempt leaves no checkpoint: the fourth continues from the second.
        fs::remove_dir_all(begin()).unwrap();
        fs::write(second.join("deep/state"), "two").unwrap();
        assert_eq!(fs::read(begin().join("deep/state")).unwrap(), b"two");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        use std::os::unix::fs::symlink;

        let (root, task) = task();
        let outside = root.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "theirs").unwrap();
        task.ask(&spec()).unwrap();
        let (number, attempt) = task.claim().unwrap();
        let checkpoint = task.checkpoint(number, &attempt).unwrap();
        fs::create_dir(&checkpoint).unwrap();
        fs::write(checkpoint.join("state"), "ours").unwrap();
        symlink(&outside, checkpoint.join("folder")).unwrap();
        symlink(outside.join("file"), checkpoint.join("file")).unwrap();
        let (number, attempt) = task.claim().unwrap();
        let copied = task.checkpoint(number, &attempt).unwrap();
        assert_eq!(contents(&copied).iter().map(|(path, ..)| path.clone()).collect::<Vec<_>>(), [copied.join("state")]);
        assert_eq!(fs::read_dir(&copied).unwrap().count(), 1);

        for name in ["result.json", "progress.json", "spec.json", "cancel", "alive", "log"] {
            let _ = fs::remove_file(task.file(name));
            symlink(outside.join("file"), task.file(name)).unwrap();
        }
        let refused = |error: io::Error| error.kind() == io::ErrorKind::InvalidData;
        assert!(
            refused(task.outcome().unwrap_err()) && task.heartbeat().is_none() && refused(task.spec().unwrap_err())
        );
        assert!(refused(task.show_alive().unwrap_err()) && !task.is_alive());
        assert!(refused(task.log().unwrap_err()) && task.log_tail().is_empty());
        task.call_off().unwrap();
        task.ask(&spec()).unwrap();
        task.put_aside().unwrap();
        task.finish(&attempt, &Outcome::Ready).unwrap();
        assert_eq!((task.spec().unwrap(), task.outcome().unwrap()), (spec(), Some(Outcome::Ready)));
        fs::remove_dir_all(task.file("attempts")).unwrap();
        symlink(&outside, task.file("attempts")).unwrap();
        assert!(refused(task.claim().unwrap_err()));
        let linked = Task::at(root.path().join("linked"));
        symlink(&outside, linked.folder()).unwrap();
        assert!(refused(linked.ask(&spec()).unwrap_err()));
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"theirs");
    }

    #[test]
    fn a_lock_shows_that_a_worker_is_alive() {
        let (_folder, task) = task();
        assert!(!task.is_alive());
        task.ask(&spec()).unwrap();
        let one = task.show_alive().unwrap();
        let two = task.show_alive().unwrap();
        drop(one);
        assert!(task.is_alive());
        drop(two);
        assert!(!task.is_alive());
    }
}
