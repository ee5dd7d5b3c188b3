//! The trials that run.

use std::collections::BTreeMap;

use super::shell::{self, Cell, LISTED, SHOWN};
use crate::{
    evaluate::Progress,
    study::{Study, Trial, TrialId},
};

/// The data of a running search that are not in its study.
#[derive(Debug)]
pub(super) struct Running {
    /// The budget of valid trials.
    pub(super) budget: usize,
    /// Seconds between two pages.
    pub(super) reload: u64,
    /// The progress of the running trials.
    pub(super) progress: BTreeMap<TrialId, Progress>,
}

impl Running {
    /// Returns the table of the running and waiting trials. Empty if there are none.
    pub(super) fn table(&self, study: &Study) -> String {
        let row = |trial: &Trial| {
            let progress = self.progress.get(&trial.id);
            let (done, of) = progress.map_or((0, 0), |progress| (progress.step, progress.steps));
            let stage = progress.map_or("waiting or starting", |progress| &progress.stage);
            vec![
                Cell::number(trial.id.0 as f64, trial.id.0.to_string()),
                Cell::layers(&trial.architecture),
                Cell::text(stage),
                Cell::number(
                    done as f64 / of.max(1) as f64,
                    if of > 0 { format!("{done} of {of}") } else { String::new() },
                ),
            ]
        };
        let rows: Vec<_> = study.pending().take(LISTED).map(row).collect();
        if rows.is_empty() {
            return String::new();
        }
        let heads = ["trial", "architecture", "task", "steps"];
        let note = shell::note_of_rest("first", rows.len(), study.pending().count());
        format!("<h3>Running now</h3>\n{note}{}", shell::table("running", &heads, &rows, SHOWN))
    }
}
