//! The fuzz targets.
//!
//! A target reads an input, checks the guarantees for whatever was read, and describes what it saw. A panic, an error
//! from [`run`](Target::run) and the death of the process are findings; rejecting an input is not.

mod data;
mod execute;
mod models;
mod protocols;
mod space;
mod study;
mod weights;

use std::{
    error::Error,
    fmt::Debug,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::ensure;
use composer_nas::text::causes;
use serde::{Serialize, de::DeserializeOwned};

/// Valid inputs, created by the crate's own writers. The folder is that of the worker.
pub type Seeds = anyhow::Result<Vec<Vec<u8>>>;

/// Code that reads inputs.
pub struct Target {
    /// The name, which is also that of the folder with stored inputs.
    pub name: &'static str,
    /// A short description.
    pub what: &'static str,
    /// Creates initial inputs, in addition to the stored ones.
    pub seeds: fn(&Path) -> Seeds,
    /// Tries an input, which is also in the folder as the file `input`. An error is a finding.
    pub run: fn(&[u8], &Path) -> anyhow::Result<Seen>,
}

/// What a target saw.
pub struct Seen {
    /// Whether the input was accepted.
    pub read: bool,
    /// A description. An input with a new description is used for further mutations.
    pub what: String,
}

impl Seen {
    /// The input was accepted; `what` describes the outcome.
    pub fn read(what: impl Into<String>) -> anyhow::Result<Self> {
        Ok(Self { read: true, what: what.into() })
    }

    /// The input was rejected with this error.
    pub fn refused(error: impl Error + 'static) -> anyhow::Result<Self> {
        Self::refused_as(causes(&error))
    }

    /// The input was rejected with this message.
    pub fn refused_as(words: impl Into<String>) -> anyhow::Result<Self> {
        Ok(Self { read: false, what: words.into() })
    }
}

/// All targets, in the order of the crate's modules.
pub const ALL: &[Target] = &[
    space::NAMES,
    space::ARCHITECTURE,
    space::SPACE,
    space::CONSTRAINTS,
    models::DIMS,
    models::BUDGET,
    models::SPEC,
    models::TARGET,
    models::LATENCY,
    models::MEGATRON,
    protocols::TASK,
    protocols::MAD,
    protocols::CORPUS,
    protocols::PRETRAIN,
    data::TOKEN_FILE,
    data::TOKEN_INDEX,
    data::CORPUS,
    data::TEXT,
    data::TOKENIZER,
    data::QUESTIONS,
    weights::WEIGHTS,
    weights::CHECKPOINT,
    weights::CONFIG,
    weights::IMPORT,
    weights::SHARDS,
    study::REPORT,
    study::TABLE,
    study::TABLE_FILE,
    study::CACHE,
    study::ISOFLOP,
    execute::TASK,
    execute::RESULT,
    study::JOURNAL,
    study::SEARCH,
];

/// Returns the stored inputs in a folder, sorted by name; none if the folder does not exist.
pub fn fixtures(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Returns the seeds of a target that reads one JSON value.
pub fn json(values: impl IntoIterator<Item = impl Serialize>) -> Seeds {
    values.into_iter().map(|value| Ok(serde_json::to_vec(&value)?)).collect()
}

/// Reads a JSON value, checks that it survives writing and reading, and passes it on.
pub fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    input: &[u8],
    look: impl FnOnce(T) -> anyhow::Result<Seen>,
) -> anyhow::Result<Seen> {
    match serde_json::from_slice::<T>(input) {
        Err(error) => Seen::refused(error),
        Ok(value) => {
            let text = serde_json::to_string(&value)?;
            let again: T = serde_json::from_str(&text)?;
            ensure!(again == value, "what was written reads back as something else");
            look(value)
        }
    }
}
