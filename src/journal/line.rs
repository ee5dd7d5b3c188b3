//! The lines of a journal.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Setup;
use crate::study::Event;

/// Identifies the file type in the first line.
pub(super) const FORMAT: &str = "composer-nas journal";
/// The format version that this program writes. It reads all versions from [`OLDEST`]. Version 1 had seeds as numbers.
pub(super) const VERSION: u64 = 2;
/// The oldest format version that this program reads.
const OLDEST: u64 = 1;

/// The first line of a journal.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    format: String,
    version: u64,
    written_by: String,
    #[serde(flatten)]
    setup: Setup,
}

/// Why a first line is not a valid header.
#[derive(Debug)]
pub(super) enum HeaderError {
    Format,
    Version { found: u64, written_by: String },
    Setup(String),
}

/// Any line after the first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Milliseconds since 1970. Informative only.
    unix_ms: u64,
    #[serde(flatten)]
    pub event: Event,
}

impl Header {
    pub(super) fn new(setup: Setup) -> Self {
        Self { format: FORMAT.into(), version: VERSION, written_by: env!("CARGO_PKG_VERSION").into(), setup }
    }

    /// Parses a complete first line. Format and version are checked first, because other versions may change the rest.
    pub(super) fn parse(line: &[u8]) -> Result<Setup, HeaderError> {
        #[derive(Deserialize)]
        struct Kind {
            format: String,
            version: u64,
            #[serde(default)]
            written_by: String,
        }
        let kind: Kind = serde_json::from_slice(line).map_err(|_| HeaderError::Format)?;
        if kind.format != FORMAT {
            return Err(HeaderError::Format);
        }
        if !(OLDEST..=VERSION).contains(&kind.version) {
            return Err(HeaderError::Version { found: kind.version, written_by: kind.written_by });
        }
        let header: Header = serde_json::from_slice(line).map_err(|error| HeaderError::Setup(error.to_string()))?;
        Ok(header.setup)
    }

    /// Returns the crate version in a complete first line.
    pub(super) fn written_by(line: &[u8]) -> Option<String> {
        serde_json::from_slice::<Header>(line)
            .ok()
            .filter(|header| header.format == FORMAT)
            .map(|header| header.written_by)
    }
}

impl Record {
    pub(super) fn new(event: Event) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { unix_ms: since_1970.as_millis() as u64, event }
    }
}

/// Returns the fields of a valid line that are `null` instead of a number, which earlier versions wrote for NaN and
/// infinities. The loss is left out: it may be missing, because a training can diverge.
pub(super) fn absent(line: &[u8]) -> Vec<String> {
    // A quick check: almost all lines contain no `null`.
    if !line.windows(NULL.len()).any(|word| word == NULL) {
        return Vec::new();
    }
    let mut found = Vec::new();
    if let Ok(Value::Object(mut record)) = serde_json::from_slice(line)
        && let Some(report) = record.remove("report")
    {
        collect(&report, "", &mut found);
    }
    found
}

const NULL: &[u8] = b"null";

/// Adds the paths of all `null` values below `place`.
fn collect(value: &Value, place: &str, found: &mut Vec<String>) {
    let inside = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    match value {
        Value::Null => found.push(place.into()),
        Value::Object(fields) => {
            let told = fields.iter().filter(|(name, value)| !(*name == "loss" && value.is_null()));
            told.for_each(|(name, value)| collect(value, &inside(name), found));
        }
        Value::Array(items) => (0..).zip(items).for_each(|(at, item)| collect(item, &format!("{place}[{at}]"), found)),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
