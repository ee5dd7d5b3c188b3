//! The trainings of a trial that are done, for the next attempt.

use std::{path::Path, vec};

use serde::{Deserialize, Serialize};

use crate::{
    line_file::json::{JsonFile, lines},
    study::TaskReport,
};

/// One training that is done, and what it told on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Done {
    pub task: TaskReport,
    pub parameters: u64,
    pub train_flops: f64,
    pub told: Vec<(usize, f64)>,
}

/// What an earlier attempt has done, and where this one keeps what it does. A line per training, in their order.
pub(super) struct Kept {
    file: Option<JsonFile<Done>>,
    done: vec::IntoIter<Done>,
}

impl Kept {
    /// A folder that cannot be used keeps nothing: the evaluation does not need it.
    pub(super) fn in_folder(folder: Option<&Path>) -> Self {
        let opened = folder.and_then(|folder| JsonFile::open(folder.join("trainings.jsonl")).ok());
        let Some((file, bytes)) = opened else { return Self { file: None, done: Vec::new().into_iter() } };
        let done: Vec<Done> = lines(&bytes).map_while(|line| line.parse().ok()).collect();
        // After a line that makes no sense nothing can be added.
        let whole = done.len() == lines(&bytes).count();
        Self { file: whole.then_some(file), done: done.into_iter() }
    }

    /// The next training, where an earlier attempt has done it.
    pub(super) fn next(&mut self) -> Option<Done> {
        self.done.next()
    }

    pub(super) fn keep(&mut self, done: &Done) {
        if let Some(file) = &mut self.file
            && file.append(done).is_err()
        {
            // A gap would put later trainings in the wrong place.
            self.file = None;
        }
    }
}
