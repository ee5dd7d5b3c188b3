//! What the result of a search leaves in the folder of the run.

use std::path::Path;

use serde::Serialize;

use super::{
    Found, RunFolderError, Summary,
    along::FrontModel,
    run_folder::{MODEL, SUMMARY, write},
};
use crate::{
    aggregate::BANDS,
    extrapolate::Target,
    space::Architecture,
    study::{Measure, Study},
};

impl Found {
    /// Writes the result into the folder of the run, where the other programs find it: `architecture.json`, a
    /// [`Summary`], and `target.json`, the model. With several objectives also `front1.json`, `front2.json` and so on,
    /// the models of [`Found::front`], and `front.json`, a table of them. `target` is the one that was passed to
    /// [`run`](super::Pipeline::run). The journal should be `journal.jsonl` in the same folder.
    ///
    /// # Errors
    /// [`RunFolderError::Write`] if a file cannot be written. Earlier files are then complete.
    pub fn write(&self, folder: impl AsRef<Path>, target: &Target) -> Result<(), RunFolderError> {
        let folder = folder.as_ref();
        let best = self.study.best();
        let summary = Summary {
            architecture: self.aggregated.clone(),
            layers: self.aggregated.letters(),
            aggregator: self.setup.aggregator.clone().unwrap_or_default(),
            extrapolator: self.setup.extrapolator.clone(),
            target: Some(target.clone()),
            best_trial: best.as_ref().map(|best| best.trial.architecture.clone()),
            best_score: best.as_ref().map(|best| self.study.goal().orient(best.value)),
            trials: self.study.valid_trials(),
        };
        write(&folder.join(SUMMARY), &summary)?;
        write_front(self, folder)?;
        write(&folder.join(MODEL), &self.target)
    }
}

/// An entry of `front.json`.
#[derive(Serialize)]
struct Entry {
    /// The file with the model.
    file: String,
    /// The small architecture of the band.
    architecture: Architecture,
    /// The same, a letter per layer.
    layers: String,
    /// The second objective.
    objective: String,
    /// Its smallest value in the band.
    from: f64,
    /// Its largest.
    to: f64,
    /// Sequences of the band.
    sequences: usize,
    /// The scores and costs of the goal that the architecture has, as far as it was evaluated or they are known.
    #[serde(flatten)]
    numbers: serde_json::Map<String, serde_json::Value>,
}

const FRONT: &str = "front.json";

/// The name of the file with the model of a band, from 1 on.
fn file(band: usize) -> String {
    format!("front{band}.json")
}

/// Writes the models of the bands and the table of them; files of more bands than there are now are removed.
///
/// # Errors
/// [`RunFolderError::Write`] if a file cannot be written or removed.
fn write_front(found: &Found, folder: &Path) -> Result<(), RunFolderError> {
    let remove = |name: &str| {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(RunFolderError::Write { path, source: error })
            }
            _ => Ok(()),
        }
    };
    (found.front.len() + 1..=BANDS).try_for_each(|band| remove(&file(band)))?;
    let Some(second) = found.study.goal().objectives().nth(1) else { return remove(FRONT) };
    for (at, FrontModel { model, .. }) in found.front.iter().enumerate() {
        write(&folder.join(file(at + 1)), model)?;
    }
    let pooled = found.study.pooled();
    let entry = |(at, FrontModel { band, .. }): (usize, &FrontModel)| Entry {
        file: file(at + 1),
        architecture: band.architecture.clone(),
        layers: band.architecture.letters(),
        objective: second.of.name().into(),
        from: band.low,
        to: band.high,
        sequences: band.observations,
        numbers: numbers(&pooled, &band.architecture),
    };
    write(&folder.join(FRONT), &found.front.iter().enumerate().map(entry).collect::<Vec<_>>())
}

/// `scores`, `standard_error` and `costs` of an architecture.
fn numbers(pooled: &Study, architecture: &Architecture) -> serde_json::Map<String, serde_json::Value> {
    let mut numbers = serde_json::Map::new();
    let seen = pooled.observations().find(|seen| seen.trial.architecture == *architecture);
    if let Some(seen) = &seen {
        let scores = pooled.goal().objectives().filter_map(|objective| match objective.of {
            Measure::Score(name) => Some((name.clone(), (*seen.report.scores.get(&name)?).into())),
            Measure::Cost(_) => None,
        });
        numbers.insert("scores".into(), scores.collect::<serde_json::Map<_, _>>().into());
        numbers.extend(seen.report.standard_error.map(|error| ("standard_error".into(), error.into())));
    }
    let costs = seen.map(|seen| seen.report.costs.clone()).or_else(|| pooled.costs(architecture).ok());
    let costs = costs.filter(|costs| !costs.is_empty()).unwrap_or_default();
    if !costs.is_empty() {
        let costs = costs.into_iter().map(|(name, value)| (name, value.into()));
        numbers.insert("costs".into(), costs.collect::<serde_json::Map<_, _>>().into());
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::Best,
        evaluate::Context,
        pipeline::{Pipeline, RunFolder, read_model},
        primitive::{Primitives, Symbol},
        space::SearchSpace,
        study::{FnCost, Goal, Objective, Report, Trial},
    };

    fn found(folder: &Path, goal: Goal) -> Found {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4).unwrap();
        let attention = |architecture: &Architecture| architecture.count(Symbol::ATTENTION) as f64;
        let score =
            move |trial: &Trial, _: &Context| Ok(Report::score("accuracy", attention(&trial.architecture).sqrt()));
        let evaluator = crate::evaluate::from_fn("attention", score);
        let pipeline = Pipeline::new(&Primitives::standard(), space, evaluator).goal(goal).aggregator(Best).trials(16);
        let pipeline = pipeline.costs(FnCost::new("cache", "attention", attention));
        pipeline.journal(folder.join("journal.jsonl")).run(&Target::llama_1b()).unwrap()
    }

    #[test]
    fn every_band_is_a_model_in_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let goal = Goal::default().and(Objective::minimize(Measure::cost("cache"))).unwrap();
        let found = found(folder, goal);
        found.write(folder, &Target::llama_1b()).unwrap();
        assert_eq!(found.front.len(), 5);
        let text = std::fs::read_to_string(folder.join("front.json")).unwrap();
        let entries: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        for (at, (entry, FrontModel { band, model })) in entries.iter().zip(&found.front).enumerate() {
            assert_eq!(band.architecture.count(Symbol::ATTENTION), at);
            assert_eq!(entry["layers"], band.architecture.letters());
            assert_eq!((&entry["costs"]["cache"], &entry["from"]), (&(at as f64).into(), &(at as f64).into()));
            assert_eq!(entry["scores"]["accuracy"], (at as f64).sqrt());
            let file = folder.join(entry["file"].as_str().unwrap());
            assert_eq!(read_model(&file, &Primitives::standard()).unwrap(), *model);
            // The journal beside it says what the letters mean.
            assert!(read_model(&file, &Primitives::empty()).is_err());
        }
        assert_eq!(entries.len(), 5);
        RunFolder::read(folder).unwrap();
    }

    #[test]
    fn one_objective_has_no_front_and_files_of_earlier_bands_go() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        ["front.json", "front1.json", "front5.json"]
            .iter()
            .for_each(|name| std::fs::write(folder.join(name), "").unwrap());
        let found = found(folder, Goal::default());
        assert!(found.front.is_empty());
        found.write(folder, &Target::llama_1b()).unwrap();
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.into_iter().all(|name| !name.starts_with("front")));
        assert!(folder.join("target.json").exists());
    }
}
