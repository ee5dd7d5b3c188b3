//! The journal of a search: an append-only file of [`Event`](crate::study::Event)s, from which a search resumes.
//!
//! The file has one JSON object per line. The first line is the [`Setup`]. Every other line is an event with the time
//! at which it was written. A line is on disk before anything depends on it. Only one process writes; any number may
//! read. `docs/journal.md` describes the format.

mod file;
mod line;
mod setup;

pub(crate) use file::Journal;
pub use file::{notices, read, written_by};
pub use setup::{Change, Setup};

#[cfg(test)]
mod tests;

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{line_file::LineFileError, study::StudyError};

/// An error from a journal. Every message names the file.
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
    /// A line cannot be written. The file ends with the last complete line, and you can record the same event again.
    #[error("cannot write to the journal {}; all earlier lines are kept: free some disk space and run again",
        .path.display())]
    Write {
        /// The journal.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
        /// The line that could not be written.
        line: String,
    },
    /// The journal was removed or renamed while the search ran, or one of its parent folders was.
    #[error("the journal {} is not there any more: it or its folder was removed or renamed; put it back and run again",
        .path.display())]
    Gone {
        /// The former path of the journal.
        path: PathBuf,
        /// The line that could not be written.
        line: String,
    },
    /// Another process is writing the journal.
    #[error("the journal {} is in use by another process: wait for it or stop it", .path.display())]
    Locked {
        /// The journal.
        path: PathBuf,
    },
    /// The file is not a journal.
    #[error("{} is not a composer-nas journal: choose another path", .path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
    },
    /// The format version is not supported.
    #[error("the journal {} has format version {found}, this program reads versions up to {supported}: use the composer-nas \
        release that wrote it ({written_by})", .path.display())]
    Version {
        /// The journal.
        path: PathBuf,
        /// The format version of the file.
        found: u64,
        /// The newest version that this program reads.
        supported: u64,
        /// The version of composer-nas that wrote the file.
        written_by: String,
    },
    /// A complete line is invalid.
    #[error("line {line} of the journal {} is damaged: {reason}; restore the file, or remove this line and all after it",
        .path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// The number of the line, starting at 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The journal belongs to a search with another setup.
    #[error("the journal {} belongs to a search with another setup: {}; choose another run name or restore the old setup",
        .path.display(), .changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Changed {
        /// The journal.
        path: PathBuf,
        /// The differences.
        changes: Vec<Change>,
    },
    /// The study rejected an event.
    #[error(transparent)]
    Study(#[from] StudyError),
}

impl JournalError {
    /// Returns the line that could not be written, if any.
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
