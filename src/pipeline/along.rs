//! The models along a front: one per band of cost.

use std::path::Path;

use serde::Serialize;

use super::{Found, RunFolderError, run_folder::write};
use crate::{
    aggregate::{Aggregator, BANDS, Band, along_front},
    extrapolate::{ExtrapolateError, Extrapolator, Target},
    model::ModelSpec,
    primitive::Primitives,
    space::Architecture,
    study::{Measure, Study},
};

/// What a band of the second objective speaks for, as a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FrontModel {
    /// The band and its small architecture.
    pub band: Band,
    /// The architecture at the target's size, ready to be built.
    pub model: ModelSpec,
}

/// The models along the front of a study of several objectives, by bands of the second one; none for one objective,
/// and where the aggregator refuses a band.
///
/// # Errors
/// [`ExtrapolateError`] where an architecture cannot be scaled.
pub(super) fn models(
    study: &Study,
    aggregator: &impl Aggregator,
    extrapolator: &impl Extrapolator,
    target: &Target,
    primitives: &Primitives,
) -> Result<Vec<FrontModel>, ExtrapolateError> {
    let Some(second) = study.goal().objectives().nth(1) else { return Ok(Vec::new()) };
    let bands = along_front(&study.pooled().searched(), &second.of, BANDS, aggregator).unwrap_or_default();
    let model = |band: Band| {
        let model = extrapolator.extrapolate(&band.architecture, target, primitives)?;
        Ok(FrontModel { band, model })
    };
    bands.into_iter().map(model).collect()
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
/// [`RunFolderError::Write`].
pub(super) fn write_front(found: &Found, folder: &Path) -> Result<(), RunFolderError> {
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
        primitive::Symbol,
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
