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

/// An error from the file of a cache.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The file cannot be opened, or its first line cannot be written.
    #[error(transparent)]
    File(#[from] LineFileError),
    /// The file is not a cache, or was written by another version.
    #[error("{} is not a cache of this version of composer-nas: choose another path", .path.display())]
    NotACache {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by another evaluator.
    #[error("the cache {} belongs to another evaluator: {was}; choose another path", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The fingerprint of the evaluator that wrote it.
        was: String,
    },
    /// A complete line is invalid.
    #[error("line {line} of the cache {} is damaged: {reason}; delete this line or the file", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The number of the line, starting at 1.
        line: usize,
        /// What is wrong with it.
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

/// Any line after the first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub architecture: Architecture,
    pub seed: Seed,
    pub report: Report,
}

const FORMAT: &str = "composer-nas cache";
const VERSION: u64 = 1;

/// Opens the file at `path` for the evaluator with this fingerprint and returns its entries.
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
            // Earlier versions also stored invalid reports, with `null` for numbers that are not finite.
            Err(_) if lacks_scores(line.text) => {}
            Err(BadLine { number, reason }) => {
                return Err(CacheError::Damaged { path: path(), line: number, reason });
            }
        }
    }
    Ok((file, entries))
}

/// Whether a line is valid apart from missing scores.
fn lacks_scores(line: &[u8]) -> bool {
    let line: Value = serde_json::from_slice(line).unwrap_or_default();
    line["report"]["scores"].as_object().is_some_and(|scores| scores.values().any(Value::is_null))
}
