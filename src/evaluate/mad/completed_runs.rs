//! The finished trainings of a trial, kept for the next attempt.

use std::{path::Path, vec};

use serde::{Deserialize, Serialize};

use crate::{
    line_file::json::{JsonFile, lines},
    study::TaskReport,
};

/// A finished training and the intermediate values that it reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CompletedRun {
    pub task: TaskReport,
    pub parameters: u64,
    pub train_flops: f64,
    pub told: Vec<(usize, f64)>,
}

/// The trainings that an earlier attempt has finished, and the file to which this one adds its own, one per line in
/// order.
pub(super) struct CompletedRuns {
    file: Option<JsonFile<CompletedRun>>,
    done: vec::IntoIter<CompletedRun>,
}

impl CompletedRuns {
    /// If the folder cannot be used, nothing is kept: the evaluation does not depend on it.
    pub(super) fn in_folder(folder: Option<&Path>) -> Self {
        let opened = folder.and_then(|folder| JsonFile::open(folder.join("trainings.jsonl")).ok());
        let Some((file, bytes)) = opened else { return Self { file: None, done: Vec::new().into_iter() } };
        let done: Vec<CompletedRun> = lines(&bytes).map_while(|line| line.parse().ok()).collect();
        // Nothing can be appended after an invalid line.
        let whole = done.len() == lines(&bytes).count();
        Self { file: whole.then_some(file), done: done.into_iter() }
    }

    /// Returns the next training if an earlier attempt has finished it.
    pub(super) fn next(&mut self) -> Option<CompletedRun> {
        self.done.next()
    }

    pub(super) fn keep(&mut self, done: &CompletedRun) {
        if let Some(file) = &mut self.file
            && file.append(done).is_err()
        {
            // A gap would assign later trainings to the wrong place.
            self.file = None;
        }
    }
}
