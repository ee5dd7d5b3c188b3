//! One architecture per range of a cost.

use super::{AggregateError, Aggregator};
use crate::{
    space::Architecture,
    study::{Measure, Study},
};

/// The default number of bands of a front.
pub(crate) const BANDS: usize = 5;

/// A range of a measure, with the architecture aggregated from its observations.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// The smallest value of the measure in the range.
    pub low: f64,
    /// The largest value of the measure in the range.
    pub high: f64,
    /// The number of observations in the range.
    pub observations: usize,
    /// The aggregated architecture, or the best observed one if the aggregated one lies outside the range.
    pub architecture: Architecture,
}

/// Returns one architecture for each of `bands` ranges of a measure, in ascending order.
///
/// Each architecture is aggregated from the observations of its range alone. The ranges contain about equally many
/// distinct values. If there are fewer distinct values than ranges, each value is a range. Observations that violate
/// the goal's bounds are left out.
///
/// # Errors
/// Returns [`AggregateError`] if no observation satisfies the bounds, or if the aggregator fails.
pub fn along_front(
    study: &Study,
    measure: &Measure,
    bands: usize,
    aggregator: &impl Aggregator,
) -> Result<Vec<Band>, AggregateError> {
    let within = study.within_bounds();
    let mut values: Vec<_> = within.observations().filter_map(|seen| seen.report.measured(measure).ok()).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    if values.is_empty() {
        return Err(AggregateError::no_observations(study));
    }
    let bands = bands.clamp(1, values.len());
    let edges = (0..bands).map(|band| {
        let from = band * values.len() / bands;
        let to = (band + 1) * values.len() / bands;
        (values[from], values[to - 1])
    });
    edges.map(|(low, high)| of_band(&within, measure, (low, high), aggregator)).collect()
}

fn of_band(
    study: &Study,
    measure: &Measure,
    (low, high): (f64, f64),
    aggregator: &impl Aggregator,
) -> Result<Band, AggregateError> {
    let inside = |value: f64| (low..=high).contains(&value);
    let view = study.filtered(|trial| trial.report().is_some_and(|report| report.measured(measure).is_ok_and(inside)));
    let aggregated = aggregator.aggregate(&view)?;
    // A study that was read from a journal has only the costs of evaluated sequences.
    let seen = study.observations().find(|seen| seen.trial.architecture == aggregated);
    let known = || match measure {
        Measure::Cost(name) => study.costs(&aggregated).ok()?.get(name).copied(),
        Measure::Score(_) => None,
    };
    let stays = seen.and_then(|seen| seen.report.measured(measure).ok()).or_else(known);
    let best = || view.pooled().best().map(|best| best.trial.architecture.clone());
    let architecture = if stays.is_some_and(inside) { aggregated } else { best().unwrap_or(aggregated) };
    Ok(Band { low, high, observations: view.observations().count(), architecture })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        aggregate::{Best, NcClustering},
        primitive::Symbol,
        seed::Seed,
        space::SearchSpace,
        study::{Event, FnCost, Goal, Objective, Origin, Report},
    };

    #[test]
    fn every_band_has_an_architecture_of_its_cost() {
        let attention = |architecture: &Architecture| architecture.count(Symbol::ATTENTION) as f64;
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 5).unwrap();
        let cache = Measure::cost("cache");
        let goal = Goal::default().and(Objective::minimize(cache.clone())).unwrap();
        let mut study = Study::new(space, goal).with_costs(Arc::new(FnCost::new("cache", "", attention))).unwrap();
        assert!(along_front(&study, &cache, 3, &Best).is_err());
        for architecture in study.space().iter().collect::<Vec<_>>() {
            let early = architecture.layers().iter().take(3).filter(|&&layer| layer == Symbol::ATTENTION).count();
            let report = study.priced(&architecture, Report::score("accuracy", early as f64)).unwrap();
            let id = study.next_id();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Manual }).unwrap();
            study.apply(Event::Completed { id, report }).unwrap();
        }
        for aggregator in [&NcClustering::n0() as &dyn Aggregator, &Best] {
            let bands = along_front(&study, &cache, 3, &aggregator).unwrap();
            let edges: Vec<_> = bands.iter().map(|band| (band.low, band.high, band.observations)).collect();
            assert_eq!(edges, [(0.0, 1.0, 6), (2.0, 3.0, 20), (4.0, 5.0, 6)]);
            for band in &bands {
                assert!((band.low..=band.high).contains(&attention(&band.architecture)), "{band:?}");
            }
        }
        assert_eq!(along_front(&study, &cache, 99, &Best).unwrap().len(), 6);
        let mut read = Study::new(study.space().clone(), study.goal().clone());
        for seen in study.observations() {
            let id = seen.trial.id;
            let architecture = seen.trial.architecture.clone();
            read.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Manual }).unwrap();
            read.apply(Event::Completed { id, report: seen.report.clone() }).unwrap();
        }
        let n0 = NcClustering::n0();
        assert_eq!(along_front(&read, &cache, 3, &n0).unwrap(), along_front(&study, &cache, 3, &n0).unwrap());
    }
}
