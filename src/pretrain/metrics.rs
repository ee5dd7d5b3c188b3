//! The metrics of a run, stored as JSON lines.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{PretrainError, Validation};
use crate::line_file::json::{BadLine, JsonFile, lines};

/// One measurement: a line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The number of steps so far.
    pub step: usize,
    /// The number of training tokens so far.
    pub tokens: u64,
    /// The measured values.
    #[serde(flatten)]
    pub measured: Measured,
}

/// The measured values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Measured {
    /// Training metrics since the previous line.
    Training {
        /// The mean loss, in nats.
        loss: f64,
        /// The mean gradient norm, before clipping.
        gradient_norm: f64,
        /// The learning rate of the last step.
        learning_rate: f64,
        /// The speed of this process, in tokens per second.
        tokens_per_second: f64,
    },
    /// The validation of the model after these steps.
    Validation(Validation),
}

/// The metrics file, open for one run.
pub(super) struct Metrics {
    file: JsonFile<Record>,
    /// Each record with the offset of the next one in the file.
    records: Vec<(Record, u64)>,
}

impl Metrics {
    /// Opens and locks the file and reads its records.
    pub(super) fn open(path: &Path) -> Result<Self, PretrainError> {
        let (file, bytes) = JsonFile::open(path)?;
        let damaged = |BadLine { number, reason }| PretrainError::Damaged {
            path: path.into(),
            reason: format!("line {number}: {reason}"),
        };
        let records = lines(&bytes).map(|line| Ok((line.parse().map_err(damaged)?, line.end)));
        let records = records.collect::<Result<_, PretrainError>>()?;
        Ok(Self { file, records })
    }

    /// Drops the records after step `step`; these steps will be measured again.
    pub(super) fn rewind(&mut self, step: usize) {
        let keep = self.records.partition_point(|(record, _)| record.step <= step);
        self.records.truncate(keep);
        self.file.file().cut(self.records.last().map_or(0, |&(_, end)| end));
    }

    pub(super) fn append(&mut self, record: Record) -> Result<(), PretrainError> {
        self.file.append(&record)?;
        self.records.push((record, self.file.file().end()));
        Ok(())
    }

    pub(super) fn into_records(self) -> Vec<Record> {
        self.records.into_iter().map(|(record, _)| record).collect()
    }
}
