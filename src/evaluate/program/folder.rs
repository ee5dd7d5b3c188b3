//! The folder of a trial, which all its attempts share.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{durable, evaluate::Context, retry::retry};

/// The folder of a trial.
#[derive(Clone, Debug)]
pub(super) struct TrialFolder {
    path: PathBuf,
}

/// Why a folder cannot be locked.
#[derive(Debug)]
pub(super) enum NotLocked {
    /// The evaluation was cancelled in the meantime.
    Cancelled,
    /// Processes of an earlier attempt are still running.
    Busy,
    /// An I/O error.
    System(io::Error),
}

impl TrialFolder {
    /// Creates the folder and its contents in `root`, unless it exists.
    pub(super) fn open(root: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let folder = Self { path: root.join(name) };
        durable::make_folder(&folder.path)?;
        durable::make_folder(&folder.checkpoint())?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn spec(&self) -> PathBuf {
        self.path.join("spec.json")
    }

    pub(super) fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    /// Returns the number of the next attempt, starting at 1, and its log.
    pub(super) fn next_log(&self) -> io::Result<(u32, File)> {
        let taken =
            fs::read_dir(&self.path)?.flatten().filter_map(|entry| number(&entry.file_name().to_string_lossy()));
        let attempt = taken.max().unwrap_or(0).saturating_add(1);
        durable::open(&self.path.join(format!("attempt-{attempt}.log"))).map(|log| (attempt, log))
    }

    /// Acquires the lock, which attempts hold and pass on to their processes. Waits up to `limit` for processes of an
    /// earlier attempt. On a file system without locks, the file is not locked.
    pub(super) fn lock(&self, context: &Context, limit: Duration) -> Result<File, NotLocked> {
        const POLL: Duration = Duration::from_millis(20);
        let file = durable::open(&self.path.join("lock")).map_err(NotLocked::System)?;
        let locked = retry(limit, POLL, || match file.try_lock() {
            Err(TryLockError::WouldBlock) if context.cancelled() => ControlFlow::Break(Err(NotLocked::Cancelled)),
            Err(TryLockError::WouldBlock) => ControlFlow::Continue(NotLocked::Busy),
            Ok(()) | Err(TryLockError::Error(_)) => ControlFlow::Break(Ok(())),
        });
        locked.unwrap_or_else(Err).map(|()| file)
    }

    /// Lists the checkpoint files. A change shows progress.
    pub(super) fn kept(&self) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
        let mut files = Vec::new();
        list(&self.checkpoint(), &mut files);
        files.sort();
        files
    }

    /// Returns the intermediate values of earlier attempts, (step, steps, value), if the program has a checkpoint from
    /// which it can continue, and a writer for further values.
    pub(super) fn values(&self) -> io::Result<(Vec<Value>, Values)> {
        let path = self.path.join("values.jsonl");
        let text = if self.kept().is_empty() { Vec::new() } else { durable::read(&path).unwrap_or_default() };
        let values: Vec<Value> =
            String::from_utf8_lossy(&text).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if values.is_empty() {
            return Ok((values, Values(durable::create_new(&path)?)));
        }
        let lines: String = values.iter().map(|value| json(value) + "\n").collect();
        durable::write_in(&path, lines.as_bytes())?;
        Ok((values, Values(durable::open(&path)?)))
    }
}

/// An intermediate value: (step, steps, value).
pub(super) type Value = (usize, usize, f64);

/// The file of intermediate values.
#[derive(Debug)]
pub(super) struct Values(File);

impl Values {
    pub(super) fn add(&mut self, value: Value) {
        // A lost value is only missing when a later attempt continues.
        let _ = writeln!(self.0, "{}", json(&value));
    }
}

fn json(&(step, steps, value): &Value) -> String {
    format!("[{step},{steps},{value:?}]")
}

/// Returns the number in the name of a log.
fn number(name: &str) -> Option<u32> {
    name.strip_prefix("attempt-")?.strip_suffix(".log")?.parse().ok()
}

/// Lists all files in a folder recursively; links are not followed.
fn list(folder: &Path, files: &mut Vec<(PathBuf, u64, Option<SystemTime>)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(found) if found.is_dir() => list(&entry.path(), files),
            Ok(found) => files.push((entry.path(), found.len(), found.modified().ok())),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::CancelToken;

    #[test]
    fn attempts_find_the_same_folder_and_follow_each_other() {
        let root = tempfile::tempdir().unwrap();
        let folder = TrialFolder::open(&root.path().join("deep/runs"), "trial").unwrap();
        assert_eq!(folder.next_log().unwrap().0, 1);
        assert_eq!(folder.next_log().unwrap().0, 2);
        let (values, mut writer) = folder.values().unwrap();
        assert!(values.is_empty() && folder.kept().is_empty());
        writer.add((5, 10, 0.1));
        // Without a checkpoint, the program starts again.
        assert!(folder.values().unwrap().0.is_empty());
        fs::create_dir(folder.checkpoint().join("deep")).unwrap();
        fs::write(folder.checkpoint().join("deep/state"), "5").unwrap();
        let (_, mut writer) = folder.values().unwrap();
        writer.add((5, 10, 0.1));
        writer.0.write_all(b"[6,10,0.").unwrap();
        let again = TrialFolder::open(&root.path().join("deep/runs"), "trial").unwrap();
        let (values, mut writer) = again.values().unwrap();
        assert_eq!(values, [(5, 10, 0.1)]);
        writer.add((7, 10, -1e300));
        assert_eq!(again.values().unwrap().0, [(5, 10, 0.1), (7, 10, -1e300)]);
        let before = again.kept();
        assert_eq!((again.next_log().unwrap().0, before.len()), (3, 1));
        fs::write(folder.checkpoint().join("deep/state"), "10").unwrap();
        assert_ne!(again.kept(), before);
    }

    #[test]
    fn one_attempt_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let folder = TrialFolder::open(root.path(), "trial").unwrap();
        let first = folder.lock(&Context::default(), Duration::ZERO).unwrap();
        let busy = folder.lock(&Context::default(), Duration::from_millis(1));
        assert!(matches!(busy, Err(NotLocked::Busy)));
        let cancel = CancelToken::default();
        cancel.cancel();
        let cancelled = folder.lock(&Context::new(cancel, |_| ()), Duration::MAX / 4);
        assert!(matches!(cancelled, Err(NotLocked::Cancelled)));
        drop(first);
        folder.lock(&Context::default(), Duration::ZERO).unwrap();
    }
}
