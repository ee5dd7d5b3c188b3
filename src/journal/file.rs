//! Reading and writing the file.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    JournalError, Setup,
    line::{Header, HeaderError, Record, VERSION},
};
use crate::study::{Event, Study};

/// A journal open for writing; the file is locked as long as it lives.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Length of the complete lines: where the next one goes.
    end: u64,
}

impl Journal {
    /// Opens the journal at `path` for a search with this setup, and replays what it holds; creates it, with its folder,
    /// where there is none. A last line that its process did not finish is cut off.
    ///
    /// # Errors
    /// [`JournalError`] when the file cannot be opened, is in use, is damaged, or belongs to another setup.
    pub fn open(path: impl AsRef<Path>, setup: &Setup) -> Result<(Journal, Study), JournalError> {
        let path = path.as_ref().to_owned();
        let open_error = |source| JournalError::Open { path: path.clone(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        fs::create_dir_all(&folder).map_err(open_error)?;
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let mut file = options.open(&path).map_err(open_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::Locked { path }),
            Err(TryLockError::Error(source)) => return Err(JournalError::Open { path, source }),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(open_error)?;
        let contents = Contents::parse(&path, &bytes)?;
        let mut journal = Journal { path, file, end: contents.as_ref().map_or(0, |contents| contents.end) };
        let study = match contents {
            Some(contents) => {
                let changes = contents.setup.changes(setup);
                if !changes.is_empty() {
                    return Err(JournalError::Changed { path: journal.path, changes });
                }
                contents.study
            }
            None => {
                journal.write(&Header::new(setup.clone()))?;
                // The file's name is durable only when its folder is. Some systems cannot sync folders: nothing is
                // lost there either, unless the power fails within the first seconds.
                let _ = File::open(&folder).and_then(|folder| folder.sync_all());
                Study::new(setup.space.clone(), setup.goal.clone())
            }
        };
        Ok((journal, study))
    }

    /// Writes one event; when this returns, it is on disk.
    ///
    /// # Errors
    /// [`JournalError::Write`]; the file then ends as it did before, and the same event may be written again.
    pub fn append(&mut self, event: &Event) -> Result<(), JournalError> {
        self.write(&Record::new(event.clone()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), JournalError> {
        let mut text = serde_json::to_string(line).map_err(|error| JournalError::Write {
            path: self.path.clone(),
            source: error.into(),
            line: String::new(),
        })?;
        text.push('\n');
        match self.write_at_end(text.as_bytes()) {
            Ok(()) => {
                self.end += text.len() as u64;
                Ok(())
            }
            Err(source) => {
                // Should this fail too, the next write or the next open cuts the torn line off.
                let _ = self.file.set_len(self.end);
                Err(JournalError::Write { path: self.path.clone(), source, line: text })
            }
        }
    }

    /// Cuts off whatever follows the complete lines, then writes and syncs.
    fn write_at_end(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(line)?;
        self.file.sync_data()
    }
}

/// Reads a journal without locking or changing it, also while a search writes it: its setup and the study so far.
///
/// # Errors
/// [`JournalError`] when the file cannot be read, is no journal, or is damaged.
pub fn read(path: impl AsRef<Path>) -> Result<(Setup, Study), JournalError> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|source| JournalError::Open { path: path.into(), source })?;
    let contents = Contents::parse(path, &bytes)?.ok_or_else(|| JournalError::NotAJournal { path: path.into() })?;
    Ok((contents.setup, contents.study))
}

/// What a file holds.
struct Contents {
    setup: Setup,
    study: Study,
    /// Length of the complete lines, in bytes.
    end: u64,
}

impl Contents {
    /// `None` for a file that is empty or whose header was never finished.
    fn parse(path: &Path, bytes: &[u8]) -> Result<Option<Self>, JournalError> {
        let damaged = |line, reason: String| JournalError::Damaged { path: path.into(), line, reason };
        let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
        let Some(first) = lines.next() else { return Ok(None) };
        let setup = match Header::parse(first) {
            Ok(setup) => setup,
            Err(HeaderError::Format) if Header::is_torn(bytes) => return Ok(None),
            Err(HeaderError::Format) => return Err(JournalError::NotAJournal { path: path.into() }),
            Err(HeaderError::Version { found, written_by }) => {
                let path = path.into();
                return Err(JournalError::Version { path, found, supported: VERSION, written_by });
            }
            Err(HeaderError::Setup(reason)) => return Err(damaged(1, reason)),
        };
        if !first.ends_with(b"\n") {
            // Complete but for its end: written again with it.
            return Ok(None);
        }
        let mut study = Study::new(setup.space.clone(), setup.goal.clone());
        let mut end = first.len();
        for (number, line) in (2..).zip(lines) {
            // A line without an end was never acknowledged.
            if !line.ends_with(b"\n") {
                break;
            }
            let record: Record = serde_json::from_slice(line).map_err(|error| damaged(number, error.to_string()))?;
            study.apply(record.event).map_err(|error| damaged(number, error.to_string()))?;
            end += line.len();
        }
        Ok(Some(Self { setup, study, end: end as u64 }))
    }
}
