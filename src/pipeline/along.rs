//! The models along a front: one per band of cost.

use crate::{
    aggregate::{Aggregator, BANDS, Band, along_front},
    extrapolate::{ExtrapolateError, Extrapolator, Target},
    model::ModelSpec,
    primitive::Primitives,
    study::Study,
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
    let bands = along_front(&study.searched().pooled(), &second.of, BANDS, aggregator).unwrap_or_default();
    let model = |band: Band| {
        let model = extrapolator.extrapolate(&band.architecture, target, primitives)?;
        Ok(FrontModel { band, model })
    };
    bands.into_iter().map(model).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        aggregate::Best,
        extrapolate::Stack,
        primitive::Symbol,
        seed::Seed,
        space::{Architecture, SearchSpace},
        study::{Event, FnCost, Goal, Measure, Objective, Origin, Report},
    };

    #[test]
    fn an_aggregated_architecture_that_the_searcher_repeats_counts_as_its_own_trial() {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 2).unwrap();
        let goal = Goal::default().and(Objective::minimize(Measure::cost("cache"))).unwrap();
        let cache = |architecture: &Architecture| architecture.count(Symbol::ATTENTION) as f64;
        let mut study = Study::new(space, goal).with_costs(Arc::new(FnCost::new("cache", "", cache))).unwrap();
        for (text, score, origin) in
            [("AM", 0.9, Origin::Aggregated), ("MM", 0.1, Origin::Searcher), ("AM", 0.3, Origin::Searcher)]
        {
            let id = study.next_id();
            let architecture: Architecture = text.parse().unwrap();
            let report = study.priced(&architecture, Report::score("accuracy", score)).unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin }).unwrap();
            study.apply(Event::Completed { id, report }).unwrap();
        }
        let models = models(&study, &Best, &Stack, &Target::llama_1b(), &Primitives::standard()).unwrap();
        let found: Vec<_> = models.iter().map(|model| model.band.architecture.letters()).collect();
        assert_eq!(found, ["MM", "AM"]);
    }
}
