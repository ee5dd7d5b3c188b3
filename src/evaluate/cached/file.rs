//! The file of a cache.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::{
    line_file::{
        LineFileError,
        json::{BadLine, JsonFile, lines},
    },
    seed::Seed,
    space::Architecture,
    study::Report,
};

/// A cache file that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The file cannot be opened, or its first line not be written.
    #[error(transparent)]
    File(#[from] LineFileError),
    /// Some other file, or one of another version.
    #[error("{} is no cache of this version of composer-nas: choose another path", .path.display())]
    NotACache {
        /// The file.
        path: PathBuf,
    },
    /// Another evaluator wrote it.
    #[error("the cache {} belongs to another evaluator: {was}; choose another path", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Fingerprint of the evaluator that wrote it.
        was: String,
    },
    /// A complete line that makes no sense.
    #[error("line {line} of the cache {} is damaged: {reason}; delete the file or that line", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Number of the line, from one.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// The first line of a cache file.
#[derive(Serialize, Deserialize, PartialEq)]
struct Header {
    format: String,
    version: u64,
    evaluator: String,
}

/// Every later line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub architecture: Architecture,
    pub seed: Seed,
    pub report: Report,
}

const FORMAT: &str = "composer-nas cache";
const VERSION: u64 = 1;

/// Opens the file at `path` for the evaluator with this fingerprint; what it holds.
pub(super) fn open(path: &Path, evaluator: String) -> Result<(JsonFile<Entry>, Vec<Entry>), CacheError> {
    let header = Header { format: FORMAT.into(), version: VERSION, evaluator };
    let (file, bytes) = JsonFile::open_with_header(path, &header)?;
    let path = || file.path().to_owned();
    let mut lines = lines(&bytes);
    match lines.next().map(|first| first.parse::<Header>()) {
        Some(Ok(found)) if found == header => {}
        Some(Ok(found)) if (&found.format, found.version) == (&header.format, VERSION) => {
            return Err(CacheError::Changed { path: path(), was: found.evaluator });
        }
        _ => return Err(CacheError::NotACache { path: path() }),
    }
    let mut entries = Vec::new();
    for line in lines {
        match line.parse() {
            Ok(entry) => entries.push(entry),
            // Earlier versions remembered bad reports as well, with `null` for what is no number.
            Err(_) if lacks_scores(line.text) => {}
            Err(BadLine { number, reason }) => {
                return Err(CacheError::Damaged { path: path(), line: number, reason });
            }
        }
    }
    Ok((file, entries))
}

/// Whether a line is whole but for scores that are no numbers.
fn lacks_scores(line: &[u8]) -> bool {
    let line: Value = serde_json::from_slice(line).unwrap_or_default();
    line["report"]["scores"].as_object().is_some_and(|scores| scores.values().any(Value::is_null))
}
