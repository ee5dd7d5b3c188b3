//! What is tried.
//!
//! A target reads an input, checks what was promised of whatever was read, and says what it saw. A panic, an error of
//! [`run`](Target::run) and a process that dies are findings; that an input is refused is none.

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

/// Inputs that are right, made by the crate's own writers. The folder is the worker's.
pub type Seeds = anyhow::Result<Vec<Vec<u8>>>;

/// One thing that reads inputs.
pub struct Target {
    /// Its name, and that of the folder of its stored inputs.
    pub name: &'static str,
    /// What is tried, in a line.
    pub what: &'static str,
    /// Inputs to begin with, beside the stored ones.
    pub seeds: fn(&Path) -> Seeds,
    /// Tries an input, which also is the file `input` in the folder. An error is a broken promise.
    pub run: fn(&[u8], &Path) -> anyhow::Result<Seen>,
}

/// What a target saw.
pub struct Seen {
    /// Whether the input was read, not refused.
    pub read: bool,
    /// In words: an input with which something new is seen is mutated further.
    pub what: String,
}

impl Seen {
    /// It was read; `what` tells apart what came of it.
    pub fn read(what: impl Into<String>) -> anyhow::Result<Self> {
        Ok(Self { read: true, what: what.into() })
    }

    /// It was refused, for these causes.
    pub fn refused(error: impl Error + 'static) -> anyhow::Result<Self> {
        Self::refused_as(causes(&error))
    }

    /// It was refused, in these words.
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

/// The stored inputs in a folder, by name; none where there is no such folder.
pub fn fixtures(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// The seeds of a target that reads one JSON value.
pub fn json(values: impl IntoIterator<Item = impl Serialize>) -> Seeds {
    values.into_iter().map(|value| Ok(serde_json::to_vec(&value)?)).collect()
}

/// Reads a JSON value that must come back the same when it is written, and looks at it.
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
