//! The files of a search in its folder, for the programs that use its result.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    durable,
    extrapolate::Target,
    journal::{self, JournalError, Setup},
    limits,
    model::ModelSpec,
    primitive::{PrimitiveId, Primitives, Symbol},
    space::Architecture,
    study::Study,
};

/// The folder of a search: `journal.jsonl` and, once the search has ended and
/// [`Found::write`](super::Found::write) was called, `architecture.json` and `target.json`.
///
/// ```no_run
/// use composer_nas::{pipeline::RunFolder, prelude::*, report::Page};
/// let primitives = Primitives::standard(); // .with(a layer of your own)?
/// let run = RunFolder::read("runs/hello")?;
/// Page::of(&run, &primitives).write("runs/hello/report.html")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RunFolder {
    /// The path of the folder.
    pub folder: PathBuf,
    /// The configuration of the search. If there is a result, the aggregator and the extrapolator are those of the
    /// result.
    pub setup: Setup,
    /// The trials.
    pub study: Study,
    /// The small architecture and how it was made; `None` before the search has ended.
    pub summary: Option<Summary>,
    /// The model at full size; `None` before the search has ended.
    pub model: Option<ModelSpec>,
}

/// The contents of `architecture.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The small architecture, aggregated from the best trials.
    pub architecture: Architecture,
    /// The same, as one letter per layer.
    pub layers: String,
    /// The fingerprint of its aggregator.
    pub aggregator: String,
    /// The fingerprint of the extrapolator that scaled it; absent in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extrapolator: Option<String>,
    /// The size it was scaled to; absent in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The architecture of the best trial.
    pub best_trial: Option<Architecture>,
    /// Its score.
    pub best_score: Option<f64>,
    /// The number of valid trials.
    pub trials: usize,
}

/// An error from reading or writing a run folder, or a model that these primitives cannot build.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunFolderError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// There is neither a model nor a folder with one.
    #[error("there is no model in {}: name a file with one, the folder of a search that has ended (with target.json), \
        or that of a pre-training (with run.json)", .path.display())]
    NoModel {
        /// The file or folder.
        path: PathBuf,
    },
    /// A file has the wrong contents.
    #[error("{} holds no {what}: if a search wrote it, run the search again to rewrite it", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// A letter of the model stands for another layer in this program, or for none.
    #[error("{symbol} stands for {} here and for {there} in the run: use a program that registers these layers \
        (docs/plug_in.md)", .here.as_ref().map_or("no layer", PrimitiveId::as_str))]
    Layer {
        /// The letter.
        symbol: Symbol,
        /// The layer that the search used; `unknown` if the run does not record it.
        there: String,
        /// The layer of this program, if any.
        here: Option<PrimitiveId>,
    },
}

const JOURNAL: &str = "journal.jsonl";
pub(super) const SUMMARY: &str = "architecture.json";
pub(super) const MODEL: &str = "target.json";
/// What a pre-training writes into its folder.
const PRETRAINING: &str = "run.json";

impl RunFolder {
    /// Reads a run, given its folder or its journal. A running search can be read too. Nothing is changed.
    ///
    /// # Errors
    /// [`RunFolderError`] if there is no journal or a file has the wrong contents.
    pub fn read(run: impl AsRef<Path>) -> Result<Self, RunFolderError> {
        let run = run.as_ref();
        let journal = if run.is_dir() { run.join(JOURNAL) } else { run.into() };
        let folder = journal.parent().unwrap_or(Path::new("")).to_owned();
        let (mut setup, study) = journal::read(&journal)?;
        let summary: Option<Summary> = read(&folder.join(SUMMARY), "result of a search")?;
        if let Some(Summary { aggregator, extrapolator, .. }) = &summary {
            setup.aggregator = Some(aggregator.clone());
            setup.extrapolator = extrapolator.clone().or(setup.extrapolator);
        }
        let model = read(&folder.join(MODEL), "model")?;
        Ok(Self { folder, setup, study, summary, model })
    }

    /// Returns the size that the model was scaled to.
    ///
    /// Earlier versions did not record it. For their runs, this is the named target with the widths of the model, if
    /// there is one.
    pub fn target(&self) -> Option<Target> {
        let model = self.model.as_ref()?;
        let kept = self.summary.as_ref().and_then(|summary| summary.target.clone());
        let named = || Target::names().filter_map(|name| Target::named(name).ok());
        kept.or_else(|| named().find(|target| target.dims == model.dims))
    }

    /// Checks that the letters of the model stand for the same layers in `primitives`.
    ///
    /// # Errors
    /// [`RunFolderError::Layer`] for the first letter that stands for another layer.
    pub fn check(&self, primitives: &Primitives) -> Result<(), RunFolderError> {
        self.model.as_ref().map_or(Ok(()), |model| check(&model.architecture, Some(&self.setup.primitives), primitives))
    }
}

/// Reads the model of a run, given the run folder or a file such as `target.json`; or that of a pre-training, given its
/// folder or the `run.json` in it.
///
/// If there is a journal beside the file, or if the file is that of a pre-training, the letters of the model must stand
/// for the same layers in `primitives` as there.
///
/// # Errors
/// [`RunFolderError`] if there is no model, the journal cannot be read, or `primitives` lacks a layer.
pub fn read_model(path: impl AsRef<Path>, primitives: &Primitives) -> Result<ModelSpec, RunFolderError> {
    let path = path.as_ref();
    let file = if path.is_dir() { path.join(MODEL) } else { path.into() };
    if let Some(Pretraining { model, primitives: letters }) = pretraining(path)? {
        check(&model.architecture, Some(&letters), primitives)?;
        return Ok(model);
    }
    let missing = || RunFolderError::NoModel { path: path.into() };
    let model: ModelSpec = read(&file, "model")?.ok_or_else(missing)?;
    let journal = file.with_file_name(JOURNAL);
    let letters = if journal.is_file() { Some(journal::read(journal)?.0.primitives) } else { None };
    check(&model.architecture, letters.as_ref(), primitives)?;
    Ok(model)
}

/// What the file of a pre-training says about its model.
#[derive(Deserialize)]
struct Pretraining {
    model: ModelSpec,
    primitives: BTreeMap<Symbol, PrimitiveId>,
}

/// Reads the file of a pre-training, if the path is that file or a folder with it and without the result of a search.
fn pretraining(path: &Path) -> Result<Option<Pretraining>, RunFolderError> {
    let file = if path.is_dir() && !path.join(MODEL).exists() { path.join(PRETRAINING) } else { path.into() };
    if file.ends_with(PRETRAINING) { read(&file, "pre-training") } else { Ok(None) }
}

/// Compares the layers that the letters of an architecture stand for.
fn check(
    architecture: &Architecture,
    letters: Option<&BTreeMap<Symbol, PrimitiveId>>,
    primitives: &Primitives,
) -> Result<(), RunFolderError> {
    for (symbol, _) in architecture.runs() {
        let there = letters.and_then(|letters| letters.get(&symbol));
        let here = primitives.get(symbol).ok().map(|primitive| primitive.id());
        if here.is_none() || there.is_some_and(|there| here.as_ref() != Some(there)) {
            let there = there.map_or("unknown", PrimitiveId::as_str).to_owned();
            return Err(RunFolderError::Layer { symbol, there, here });
        }
    }
    Ok(())
}

/// Reads a file; `None` if it does not exist.
fn read<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<Option<T>, RunFolderError> {
    let text = match limits::read_text(path, limits::MAX_DESCRIPTION) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RunFolderError::Read { path: path.into(), source }),
    };
    let content = |source| RunFolderError::Content { path: path.into(), what, source };
    serde_json::from_str(&text).map(Some).map_err(content)
}

pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<(), RunFolderError> {
    let failed = |source| RunFolderError::Write { path: path.into(), source };
    let text = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
    durable::write_in(path, &text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        aggregate::Best,
        pipeline::{Found, Pipeline},
        space::SearchSpace,
        study,
    };

    fn found(folder: &Path, target: &Target) -> Found {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 3).unwrap();
        let score = |trial: &study::Trial, _: &crate::evaluate::Context| {
            Ok(study::Report::score("accuracy", trial.architecture.runs().count() as f64))
        };
        let evaluator = crate::evaluate::from_fn("runs", score);
        let pipeline = Pipeline::new(&Primitives::standard(), space, evaluator).aggregator(Best).trials(5);
        pipeline.journal(folder.join(JOURNAL)).run(target).unwrap()
    }

    #[test]
    fn what_a_search_leaves_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let target = Target::llama_350m();
        let found = found(folder, &target);
        // There is no result while the search runs.
        let run = RunFolder::read(folder).unwrap();
        assert!(run.summary.is_none() && run.model.is_none() && run.target().is_none());
        run.check(&Primitives::empty()).unwrap();

        found.write(folder, &target).unwrap();
        let run = RunFolder::read(folder.join(JOURNAL)).unwrap();
        assert_eq!((&run.setup, &run.study, run.model.as_ref()), (&found.setup, &found.study, Some(&found.target)));
        let summary = run.summary.as_ref().unwrap();
        assert_eq!((&summary.architecture, summary.aggregator.as_str()), (&found.aggregated, "best"));
        assert_eq!(run.target().unwrap(), target);
        run.check(&Primitives::standard()).unwrap();
        assert_eq!(read_model(folder, &Primitives::standard()).unwrap(), found.target);
    }

    #[test]
    fn the_model_of_a_pretraining_is_read_with_its_letters() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let model = Target::llama_350m().baseline_model();
        let write = |attention: &str| {
            let letters = serde_json::json!({"A": attention, "M": "swiglu"});
            let text = serde_json::json!({"model": model, "primitives": letters, "config": {}}).to_string();
            fs::write(folder.join(PRETRAINING), text).unwrap();
        };
        write("attention");
        let primitives = Primitives::standard();
        assert_eq!(read_model(folder, &primitives).unwrap(), model);
        assert_eq!(read_model(folder.join(PRETRAINING), &primitives).unwrap(), model);
        write("other");
        assert!(matches!(read_model(folder, &primitives), Err(RunFolderError::Layer { .. })));
        // The result of a search goes first.
        let found = found(folder, &Target::llama_1b());
        found.write(folder, &Target::llama_1b()).unwrap();
        assert_eq!(read_model(folder, &primitives).unwrap(), found.target);
    }

    #[test]
    fn files_of_earlier_versions_and_other_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let found = found(folder, &Target::llama_1b());
        found.write(folder, &Target::llama_1b()).unwrap();
        let old = r#"{"architecture": "2A+1M", "layers": "AAM", "aggregator": "mine", "best_trial": null,
            "best_score": null, "trials": 5, "seed": 0, "protocol": "quick"}"#;
        fs::write(folder.join(SUMMARY), old).unwrap();
        let run = RunFolder::read(folder).unwrap();
        assert_eq!((run.setup.aggregator.as_deref(), run.setup.extrapolator), (Some("mine"), found.setup.extrapolator));
        let run = RunFolder::read(folder).unwrap();
        assert_eq!(run.target().unwrap(), Target::llama_1b());
        fs::write(folder.join(MODEL), "{}").unwrap();
        let error = RunFolder::read(folder).unwrap_err().to_string();
        assert!(error.contains("target.json holds no model"), "{error}");
        fs::remove_file(folder.join(MODEL)).unwrap();
        let error = read_model(folder, &Primitives::standard()).unwrap_err().to_string();
        assert!(error.contains("there is no model in") && error.contains("target.json"), "{error}");
        assert!(matches!(RunFolder::read(folder.join("none")), Err(RunFolderError::Journal(_))));
    }
}
