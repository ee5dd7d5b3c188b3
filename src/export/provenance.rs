//! The provenance of an architecture.

use std::path::Path;

use crate::{
    journal::{self, Setup},
    pipeline::{RunFolder, RunFolderError},
    space::Architecture,
    study::Study,
};

/// How an architecture was found. It is written into the model card.
#[derive(Clone, Debug, PartialEq)]
pub struct Provenance {
    /// The setup of the search: space, goal, seed, searcher and evaluator.
    pub setup: Setup,
    /// The number of trials.
    pub trials: usize,
    /// The best trial and its score.
    pub best: Option<(Architecture, f64)>,
    /// The small architecture that was scaled up.
    pub small: Option<Architecture>,
    /// The aggregator of the search, which gave the small architecture.
    pub aggregator: Option<String>,
    /// The version of this crate that ran the search.
    pub version: Option<String>,
}

impl Provenance {
    /// Collects the provenance from a finished search.
    pub(crate) fn new(setup: Setup, study: &Study) -> Self {
        let best = study.best().map(|best| (best.trial.architecture.clone(), study.goal().orient(best.value)));
        let aggregator = setup.aggregator.clone();
        Self { setup, trials: study.valid_trials(), best, small: None, aggregator, version: None }
    }

    /// Reads the provenance from the journal of a search, and from `architecture.json` beside it if it exists.
    ///
    /// # Errors
    /// Returns a [`RunFolderError`] if there is no journal or a file is damaged.
    pub fn read(journal: impl AsRef<Path>) -> Result<Self, RunFolderError> {
        let run = RunFolder::read(&journal)?;
        let version = Some(journal::written_by(journal)?);
        let small = run.summary.map(|summary| summary.architecture);
        Ok(Self { version, small, ..Self::new(run.setup, &run.study) })
    }
}
