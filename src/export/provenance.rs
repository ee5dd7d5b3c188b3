//! How an architecture was found.

use std::path::Path;

use crate::{
    journal::{self, Setup},
    pipeline::{RunFolder, RunFolderError},
    space::Architecture,
    study::Study,
};

/// How an architecture was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Provenance {
    /// Space, goal, seed, searcher and evaluator.
    pub setup: Setup,
    /// How many trials the search had.
    pub trials: usize,
    /// The best trial with its score.
    pub best: Option<(Architecture, f64)>,
    /// The small architecture that was scaled.
    pub small: Option<Architecture>,
    /// Who merged the trials into it.
    pub aggregator: Option<String>,
    /// The crate's version that searched.
    pub version: Option<String>,
}

impl Provenance {
    /// What a finished search knows of itself.
    pub fn new(setup: Setup, study: &Study) -> Self {
        let best = study.best().map(|best| (best.trial.architecture.clone(), study.goal().orient(best.value)));
        let aggregator = setup.aggregator.clone();
        Self { setup, trials: study.valid_trials(), best, small: None, aggregator, version: None }
    }

    /// What the journal of a search says, and `architecture.json` beside it where there is one.
    ///
    /// # Errors
    /// [`RunFolderError`] when there is no journal, or a file is damaged.
    pub fn read(journal: impl AsRef<Path>) -> Result<Self, RunFolderError> {
        let run = RunFolder::read(&journal)?;
        let version = Some(journal::written_by(journal)?);
        let small = run.summary.map(|summary| summary.architecture);
        Ok(Self { version, small, ..Self::new(run.setup, &run.study) })
    }
}
