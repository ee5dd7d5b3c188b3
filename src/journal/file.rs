//! Reading and writing the journal file.

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

/// A journal that is open for writing. The file stays locked until this value is dropped.
#[derive(Debug)]
pub(crate) struct Journal {
    file: JsonFile<Record>,
    notices: Vec<String>,
}

impl Journal {
    /// Opens the journal at `path` for a search with this setup, and returns it with the study that it holds.
    ///
    /// If the file does not exist, it is created, together with its folder. An incomplete last line, left by a crash,
    /// is overwritten by the next event.
    ///
    /// # Errors
    /// [`JournalError`] if the file cannot be opened, is in use, is not a journal, is damaged, or belongs to another
    /// setup. The file is then unchanged.
    pub fn open(path: impl AsRef<Path>, setup: &Setup) -> Result<(Journal, Study), JournalError> {
        let (file, bytes) = JsonFile::open_with_header(path, &Header::new(setup.clone()))?;
        let contents = Contents::parse(file.path(), &bytes)?;
        let changes = contents.setup.changes(setup);
        if !changes.is_empty() {
            return Err(JournalError::Changed { path: file.path().into(), changes });
        }
        let mut notices = contents.notices;
        notices.extend(contents.setup.notice(setup));
        notices.extend(release_notice(&bytes));
        Ok((Journal { file, notices }, contents.study))
    }

    /// Writes one event. When this returns, the event is on disk.
    ///
    /// # Errors
    /// [`JournalError::Write`] or [`JournalError::Gone`]. The file is then as before, and you can write the same event
    /// again.
    pub fn append(&mut self, event: &Event) -> Result<(), JournalError> {
        Ok(self.file.append(&Record::new(event.clone()))?)
    }

    /// Returns notices about the file that was opened; see [`notices`].
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Saves a journal that was removed while it was open: writes it again to the same path, followed by the line
    /// `unsaved`, unless the path is taken. Returns whether it was written.
    ///
    /// # Errors
    /// The I/O error.
    pub(crate) fn restore(&mut self, unsaved: &str) -> io::Result<bool> {
        self.file.file().restore(unsaved)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

/// Reads the setup and the study from a journal, without locking or changing it. A search may be writing it.
///
/// # Errors
/// [`JournalError`] if the file cannot be read, is not a journal, or is damaged.
pub fn read(path: impl AsRef<Path>) -> Result<(Setup, Study), JournalError> {
    let path = path.as_ref();
    let contents = Contents::parse(path, &bytes(path)?)?;
    Ok((contents.setup, contents.study))
}

/// Returns one notice for every line of a journal in which a number is missing.
///
/// Earlier versions wrote `null` for numbers that are not finite. These are treated as missing.
///
/// # Errors
/// See [`read`].
pub fn notices(path: impl AsRef<Path>) -> Result<Vec<String>, JournalError> {
    let path = path.as_ref();
    Ok(Contents::parse(path, &bytes(path)?)?.notices)
}

/// Returns the version of composer-nas that started a journal.
///
/// # Errors
/// [`JournalError`] if the file cannot be read or is not a journal.
pub fn written_by(path: impl AsRef<Path>) -> Result<String, JournalError> {
    let path = path.as_ref();
    version(&bytes(path)?).ok_or_else(|| JournalError::NotAJournal { path: path.into() })
}

fn version(bytes: &[u8]) -> Option<String> {
    Header::written_by(lines(bytes).next()?.text)
}

/// Returns a notice if another release started the journal: equal fingerprints then do not mean equal proposals.
fn release_notice(bytes: &[u8]) -> Option<String> {
    let now = env!("CARGO_PKG_VERSION");
    let before = version(bytes)?;
    (before != now).then(|| {
        format!(
            "the search began with composer-nas {before} and continues with {now}: its trials may differ from those of \
             a search that one release makes from beginning to end"
        )
    })
}

fn bytes(path: &Path) -> Result<Vec<u8>, JournalError> {
    limits::read(path, limits::MAX_LINES).map_err(|source| JournalError::Open { path: path.into(), source })
}

/// The parsed contents of a file.
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
                notices.push(format!(
                    "line {number} of the journal {path} has no number for {absent}: treated as missing"
                ));
            }
        }
        Ok(Self { setup, study, notices })
    }
}
