//! The only memory of a search: an append-only file of [`Event`](crate::study::Event)s.
//!
//! One JSON object per line. The first line is the [`Setup`]; every later one an event with the time it was written.
//! A line is on disk before anything acts on it, one process writes, anyone reads. `docs/journal.md` describes the
//! format.

mod file;
mod line;
mod setup;

pub use file::{Journal, notices, read, written_by};
pub use setup::{Change, Setup};

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{line_file::LineFileError, study::StudyError};

/// A journal that cannot be used. Every message names the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file or its folder cannot be opened, created or read.
    #[error("cannot open the journal {}", .path.display())]
    Open {
        /// The journal.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// A line cannot be written. The file ends with the last complete line; the same event may be recorded again.
    #[error("cannot write to the journal {}; free some space and run again, nothing before is lost",
        .path.display())]
    Write {
        /// The journal.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
        /// The line that is not in the file.
        line: String,
    },
    /// It was removed or renamed while the search ran, or a folder above it was.
    #[error("the journal {} is not there any more: it or its folder was removed or renamed; put it back and run again",
        .path.display())]
    Gone {
        /// Where the journal was.
        path: PathBuf,
        /// The line that is not in the file.
        line: String,
    },
    /// Another process writes it.
    #[error("the journal {} is in use by another process: wait for it or stop it", .path.display())]
    Locked {
        /// The journal.
        path: PathBuf,
    },
    /// Some other file.
    #[error("{} is not a composer-nas journal: choose another path", .path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// A format that this version cannot read.
    #[error("the journal {} has format version {found}, this program reads versions up to {supported}: use the composer-nas \
        release that wrote it ({written_by})", .path.display())]
    Version {
        /// The journal.
        path: PathBuf,
        /// Version of the file.
        found: u64,
        /// The newest version that this program reads.
        supported: u64,
        /// Crate version that wrote the file.
        written_by: String,
    },
    /// A complete line that makes no sense.
    #[error("line {line} of the journal {} is damaged: {reason}; restore the file or cut it before that line",
        .path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Number of the line, from one.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The search that wrote it was set up differently.
    #[error("the journal {} belongs to a search with another setup: {}; choose another run name, or the old setup",
        .path.display(), .changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Changed {
        /// The journal.
        path: PathBuf,
        /// What differs.
        changes: Vec<Change>,
    },
    /// An event that the study refuses.
    #[error(transparent)]
    Study(#[from] StudyError),
}

impl JournalError {
    /// The line that is not in the file, where one could not be written.
    pub(crate) fn unwritten(&self) -> &str {
        match self {
            Self::Write { line, .. } | Self::Gone { line, .. } => line,
            _ => "",
        }
    }
}

impl From<LineFileError> for JournalError {
    fn from(error: LineFileError) -> Self {
        match error {
            LineFileError::Open { path, source } => Self::Open { path, source },
            LineFileError::Write { path, source, line } => Self::Write { path, source, line },
            LineFileError::Gone { path, line } => Self::Gone { path, line },
            LineFileError::Locked { path } => Self::Locked { path },
        }
    }
}
