//! Reading and writing the file.

use std::{io, path::Path};

use super::{
    JournalError, Setup,
    line::{Header, HeaderError, Record, VERSION, absent},
};
use crate::{
    limits,
    line_file::json::{BadLine, JsonFile, lines},
    study::{Event, Study},
    text::causes,
};

/// A journal open for writing; the file is locked as long as it lives.
#[derive(Debug)]
pub struct Journal {
    file: JsonFile<Record>,
    notices: Vec<String>,
}

impl Journal {
    /// Opens the journal at `path` for a search with this setup, and replays what it holds; creates it, with its
    /// folder, where there is none. A last line that its process did not finish is cut off with the next event.
    ///
    /// # Errors
    /// [`JournalError`] when the file cannot be opened, is in use, is no journal, is damaged, or belongs to another
    /// setup. The file is unchanged then.
    pub fn open(path: impl AsRef<Path>, setup: &Setup) -> Result<(Journal, Study), JournalError> {
        let (file, bytes) = JsonFile::open_with_header(path, &Header::new(setup.clone()))?;
        let contents = Contents::parse(file.path(), &bytes)?;
        let changes = contents.setup.changes(setup);
        if !changes.is_empty() {
            return Err(JournalError::Changed { path: file.path().into(), changes });
        }
        let mut notices = contents.notices;
        notices.extend(contents.setup.notice(setup));
        Ok((Journal { file, notices }, contents.study))
    }

    /// Writes one event; when this returns, it is on disk.
    ///
    /// # Errors
    /// [`JournalError::Write`] or [`JournalError::Gone`]; the file then ends as it did before, and the same event may
    /// be written again.
    pub fn append(&mut self, event: &Event) -> Result<(), JournalError> {
        Ok(self.file.append(&Record::new(event.clone()))?)
    }

    /// What a person should know about what was read: see [`notices`].
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Saves a journal that was removed while it was open: writes it to its place, with the `unsaved` line behind it,
    /// unless something else is there. Whether it did.
    ///
    /// # Errors
    /// The I/O error.
    pub(crate) fn restore(&mut self, unsaved: &str) -> io::Result<bool> {
        self.file.file().restore(unsaved)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

/// Reads a journal without locking or changing it, also while a search writes it: its setup and the study so far.
///
/// # Errors
/// [`JournalError`] when the file cannot be read, is no journal, or is damaged.
pub fn read(path: impl AsRef<Path>) -> Result<(Setup, Study), JournalError> {
    let path = path.as_ref();
    let contents = Contents::parse(path, &bytes(path)?)?;
    Ok((contents.setup, contents.study))
}

/// What a person should know about a journal: a sentence for every line that lacks numbers. Earlier versions wrote
/// `null` for numbers that are not finite; they are read as absent.
///
/// # Errors
/// As [`read`].
pub fn notices(path: impl AsRef<Path>) -> Result<Vec<String>, JournalError> {
    let path = path.as_ref();
    Ok(Contents::parse(path, &bytes(path)?)?.notices)
}

/// The crate's version that started a journal.
///
/// # Errors
/// [`JournalError`] when the file cannot be read or is no journal.
pub fn written_by(path: impl AsRef<Path>) -> Result<String, JournalError> {
    let path = path.as_ref();
    let bytes = bytes(path)?;
    let first = lines(&bytes).next();
    first
        .and_then(|first| Header::written_by(first.text))
        .ok_or_else(|| JournalError::NotAJournal { path: path.into() })
}

fn bytes(path: &Path) -> Result<Vec<u8>, JournalError> {
    limits::read(path, limits::MAX_LINES).map_err(|source| JournalError::Open { path: path.into(), source })
}

/// What a file holds.
struct Contents {
    setup: Setup,
    study: Study,
    notices: Vec<String>,
}

impl Contents {
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, JournalError> {
        let damaged = |line, reason: String| JournalError::Damaged { path: path.into(), line, reason };
        let mut lines = lines(bytes);
        let setup = match Header::parse(lines.next().map_or(&[], |first| first.text)) {
            Ok(setup) => setup,
            Err(HeaderError::Format) => return Err(JournalError::NotAJournal { path: path.into() }),
            Err(HeaderError::Version { found, written_by }) => {
                let path = path.into();
                return Err(JournalError::Version { path, found, supported: VERSION, written_by });
            }
            Err(HeaderError::Setup(reason)) => return Err(damaged(1, reason)),
        };
        let mut study = Study::new(setup.space.clone(), setup.goal.clone());
        let mut notices = Vec::new();
        for line in lines {
            let record: Record = line.parse().map_err(|BadLine { number, reason }| damaged(number, reason))?;
            study.apply(record.event).map_err(|error| damaged(line.number, causes(&error)))?;
            let absent = absent(line.text);
            if !absent.is_empty() {
                let path = path.display();
                let number = line.number;
                let absent = absent.join(", ");
                notices.push(format!("line {number} of the journal {path} has no number for {absent}: read as absent"));
            }
        }
        Ok(Self { setup, study, notices })
    }
}
