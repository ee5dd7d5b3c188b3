//! Pareto fronts.

use rand::RngExt;
use rand_distr::StandardNormal;

use super::{
    Direction, Goal, Measure, Objective, Observation, Study,
    hypervolume::{dominates, hypervolume, non_dominated},
};
use crate::{
    seed::Seed,
    statistics::{Estimate, mean},
};

/// The hypervolume of a front: the volume of the objective space that it dominates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Volume {
    /// The volume for the observed values.
    pub value: f64,
    /// The 95 % interval of the volume if the scores were measured again, or `None` if no standard errors are known.
    pub interval: Option<[f64; 2]>,
}

/// Number of draws for an interval.
const DRAWS: u64 = 1000;

/// Distance of the reference from the worst value, as a fraction of the range.
const MARGIN: f64 = 0.1;

impl Study {
    /// Returns the Pareto front: the observations that no other observation dominates, in order of proposal.
    ///
    /// Only observations within the goal's bounds are considered. Equal observations are all included. With one
    /// objective, the front consists of the best observations.
    ///
    /// Repeated observations of one architecture are treated separately. To treat them as one, by their mean, use the
    /// front of the [pooled](Self::pooled) study.
    pub fn front(&self) -> Vec<Observation<'_>> {
        let inside = self.feasible();
        let points: Vec<_> = inside.iter().map(|(_, values)| values.clone()).collect();
        non_dominated(&points).into_iter().map(|at| inside[at].0).collect()
    }

    /// Returns the study without observations that violate the goal's bounds.
    pub(crate) fn within_bounds(&self) -> Study {
        let goal = self.goal();
        self.filtered(|trial| trial.report().is_none_or(|report| report.excess(goal) <= 0.0))
    }

    /// Returns the observation that violates the goal's bounds least; on ties, the earliest. Use it for messages when
    /// no observation satisfies the bounds.
    pub(crate) fn nearest(&self) -> Option<Observation<'_>> {
        let goal = self.goal();
        let nearer = |best: Observation<'_>, next: Observation<'_>| next.report.excess(goal) < best.report.excess(goal);
        self.observations().reduce(|best, next| if nearer(best, next) { next } else { best })
    }

    /// Returns a reference point that is worse than all observations: beyond the worst value of each objective by a
    /// tenth of its range. `None` without observations.
    ///
    /// Values are oriented so that larger is better.
    pub fn reference(&self) -> Option<Vec<f64>> {
        let seen: Vec<_> = self.observations().filter_map(|seen| seen.report.values(self.goal()).ok()).collect();
        reference(&seen)
    }

    /// Returns the volume that the front dominates above `reference`, whose values are oriented so that larger is
    /// better.
    ///
    /// For the interval, every score of every sequence is redrawn within its standard error; known costs stay the same.
    /// Without any standard errors, there is no interval.
    pub fn hypervolume(&self, reference: &[f64]) -> Volume {
        let inside = self.feasible();
        let points: Vec<_> = inside.iter().map(|(_, values)| values.clone()).collect();
        let value = hypervolume(&points, reference);
        let errors: Vec<_> = inside.iter().map(|(seen, _)| self.errors(seen)).collect();
        if errors.iter().flatten().all(Option::is_none) {
            return Volume { value, interval: None };
        }
        let again = |draw: u64| {
            let mut rng = Seed(0).rng("study/hypervolume", draw);
            let mut drawn = |value: f64, error: Option<f64>| {
                error.map_or(value, |error| value + error * rng.sample::<f64, _>(StandardNormal))
            };
            let moved = points.iter().zip(&errors).map(|(point, errors)| {
                point.iter().zip(errors).map(|(&value, &error)| drawn(value, error)).collect::<Vec<_>>()
            });
            hypervolume(&moved.collect::<Vec<_>>(), reference)
        };
        // The best of noisy values is optimistic by chance. Redrawing around them adds the same bias again; remove it.
        let draws: Vec<_> = (0..DRAWS).map(again).collect();
        let shift = mean(&draws) - value;
        let Estimate { low, high, .. } = Estimate::from_draws(value, draws);
        Volume { value, interval: Some([(low - shift).max(0.0), high - shift]) }
    }

    /// Returns the standard errors of an observation's objectives, if known.
    fn errors(&self, seen: &Observation<'_>) -> Vec<Option<f64>> {
        let error = |objective: Objective| match &objective.of {
            Measure::Score(score) => seen.report.error_of(score, self.goal()),
            Measure::Cost(_) => None,
        };
        self.goal().objectives().map(error).collect()
    }

    /// Returns the volume that the front dominates above `reference`, without an interval.
    pub(crate) fn hypervolume_value(&self, reference: &[f64]) -> f64 {
        hypervolume(&self.feasible().into_iter().map(|(_, values)| values).collect::<Vec<_>>(), reference)
    }

    /// Returns the study with only its first objective: no others, no bounds, no known costs.
    pub(crate) fn simplified(&self) -> Study {
        let goal = match self.goal().direction {
            Direction::Maximize => Goal::maximize(self.goal().score.clone()),
            Direction::Minimize => Goal::minimize(self.goal().score.clone()),
        };
        self.with_goal(goal)
    }

    /// Returns the observations within the bounds, with their objectives.
    fn feasible(&self) -> Vec<(Observation<'_>, Vec<f64>)> {
        let within = self.observations().filter(|seen| seen.report.excess(self.goal()) <= 0.0);
        within.filter_map(|seen| Some((seen, seen.report.values(self.goal()).ok()?))).collect()
    }
}

/// Returns a point that is worse than all of these. See [`Study::reference`].
pub(crate) fn reference(points: &[Vec<f64>]) -> Option<Vec<f64>> {
    let first = points.first()?;
    let of = |at: usize| {
        let worst = points.iter().map(|point| point[at]).fold(f64::INFINITY, f64::min);
        let best = points.iter().map(|point| point[at]).fold(f64::NEG_INFINITY, f64::max);
        let range = best - worst;
        worst - MARGIN * if range > 0.0 { range } else { worst.abs().max(1.0) }
    };
    Some((0..first.len()).map(of).collect())
}

/// Returns the `most` best observations, ranked as in NSGA-II (Deb et al. 2002, IEEE Transactions on Evolutionary
/// Computation 6(2)).
///
/// Observations within the goal's bounds come first, front by front; within a front, by descending crowding distance.
/// Then come the others, by ascending violation. With one objective and no bounds, observations are ranked by value.
/// Ties keep the order of `seen`.
pub(crate) fn ranked<'a>(study: &Study, mut seen: Vec<Observation<'a>>, most: usize) -> Vec<Observation<'a>> {
    let goal = study.goal();
    if goal.is_simple() {
        seen.sort_by(|a, b| b.value.total_cmp(&a.value));
        seen.truncate(most);
        return seen;
    }
    let values: Vec<_> = seen.iter().map(|seen| seen.report.values(goal).unwrap_or_default()).collect();
    let excess: Vec<_> = seen.iter().map(|seen| seen.report.excess(goal)).collect();
    let mut order: Vec<usize> = (0..seen.len()).filter(|&at| excess[at] > 0.0).collect();
    order.sort_by(|&a, &b| excess[a].total_cmp(&excess[b]));
    let mut left: Vec<usize> = (0..seen.len()).filter(|&at| excess[at] <= 0.0).collect();
    let mut fronts = Vec::new();
    while !left.is_empty() && fronts.len() < most {
        let best = |&at: &usize| !left.iter().any(|&other| dominates(&values[other], &values[at]));
        let front: Vec<usize> = left.iter().copied().filter(best).collect();
        left.retain(|at| !front.contains(at));
        fronts.extend(by_room(&front, &values));
    }
    fronts.into_iter().chain(order).take(most).map(|at| seen[at]).collect()
}

/// Returns the points of a front by descending crowding distance.
pub(crate) fn by_room(front: &[usize], values: &[Vec<f64>]) -> Vec<usize> {
    let mut room = vec![0.0; front.len()];
    let objectives = front.first().map_or(0, |&at| values[at].len());
    let column = |objective| front.iter().map(|&at| values[at][objective]).collect::<Vec<f64>>();
    for column in (0..objectives).map(column) {
        let value = |at: usize| column[at];
        let mut order: Vec<_> = (0..front.len()).collect();
        order.sort_by(|&a, &b| value(a).total_cmp(&value(b)));
        let last = order.len() - 1;
        let range = value(order[last]) - value(order[0]);
        room[order[0]] = f64::INFINITY;
        room[order[last]] = f64::INFINITY;
        for place in 1..last {
            let around = value(order[place + 1]) - value(order[place - 1]);
            room[order[place]] += if range > 0.0 { around / range } else { 0.0 };
        }
    }
    let mut order: Vec<_> = (0..front.len()).collect();
    order.sort_by(|&a, &b| room[b].total_cmp(&room[a]));
    order.into_iter().map(|at| front[at]).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        primitive::Symbol,
        space::{Architecture, SearchSpace},
        study::{Event, FnCost, Goal, Measure, Objective, Origin, Report},
    };

    fn attention(architecture: &Architecture) -> f64 {
        architecture.count(Symbol::ATTENTION) as f64
    }

    fn study(goal: Goal, seen: &[(&str, f64)]) -> Study {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 3).unwrap();
        let mut study = Study::new(space, goal).with_costs(Arc::new(FnCost::new("cache", "", attention))).unwrap();
        for &(text, accuracy) in seen {
            let id = study.next_id();
            let architecture: Architecture = text.parse().unwrap();
            let report = study.priced(&architecture, Report::score("accuracy", accuracy)).unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Manual }).unwrap();
            study.apply(Event::Completed { id, report }).unwrap();
        }
        study
    }

    fn two() -> Goal {
        Goal::default().and(Objective::minimize(Measure::cost("cache"))).unwrap()
    }

    fn texts(seen: &[Observation<'_>]) -> Vec<String> {
        seen.iter().map(|seen| seen.trial.architecture.letters()).collect()
    }

    const SEEN: [(&str, f64); 5] = [("AAA", 0.9), ("AMM", 0.5), ("MMM", 0.2), ("MAM", 0.5), ("AAM", 0.4)];

    #[test]
    fn the_front_holds_what_nothing_beats() {
        let study = study(two(), &SEEN);
        assert_eq!(texts(&study.front()), ["AAA", "AMM", "MMM", "MAM"]);
        let reference = study.reference().unwrap();
        assert!((reference[0] - 0.13).abs() < 1e-12 && (reference[1] + 3.3).abs() < 1e-12, "{reference:?}");
        let volume = study.hypervolume(&reference);
        let expected = 0.77 * 0.3 + 0.37 * 2.0 + 0.07;
        assert!((volume.value - expected).abs() < 1e-12 && volume.interval.is_none(), "{volume:?}");
        let one = super::tests::study(Goal::default(), &SEEN);
        assert_eq!(texts(&one.front()), ["AAA"]);
    }

    #[test]
    fn bounds_leave_out_and_name_the_nearest() {
        let study = study(two().at_most(Measure::cost("cache"), 2.0).unwrap(), &SEEN);
        assert_eq!(texts(&study.front()), ["AMM", "MMM", "MAM"]);
        assert_eq!(study.best().unwrap().trial.architecture.letters(), "AMM");
        assert!(!study.admits(&"AAA".parse().unwrap()) && study.admits(&"AAM".parse().unwrap()));
        let nothing = two().at_least(Measure::score("accuracy"), 2.0).unwrap();
        let study = super::tests::study(nothing, &SEEN);
        assert!(study.front().is_empty() && study.best().is_none());
        assert_eq!(study.nearest().unwrap().trial.architecture.letters(), "AAA");
        assert_eq!(study.hypervolume(&study.reference().unwrap()).value, 0.0);
    }

    #[test]
    fn ranks_are_fronts_and_then_room() {
        let study = study(two().at_most(Measure::cost("cache"), 2.0).unwrap(), &SEEN);
        let order = ranked(&study, study.observations().collect(), usize::MAX);
        assert_eq!(texts(&order), ["AMM", "MMM", "MAM", "AAM", "AAA"]);
        for most in 0..5 {
            assert_eq!(texts(&ranked(&study, study.observations().collect(), most)), texts(&order[..most]));
        }
        let one = super::tests::study(Goal::default(), &SEEN);
        let order = ranked(&one, one.observations().collect(), usize::MAX);
        assert_eq!(texts(&order), ["AAA", "AMM", "MAM", "AAM", "MMM"]);
    }

    #[test]
    fn an_interval_needs_standard_errors() {
        let mut study = study(two(), &SEEN);
        let reference = study.reference().unwrap();
        let id = study.next_id();
        let architecture: Architecture = "MMA".parse().unwrap();
        let report = Report { standard_error: Some(0.1), ..Report::score("accuracy", 0.7) };
        let report = study.priced(&architecture, report).unwrap();
        study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Manual }).unwrap();
        study.apply(Event::Completed { id, report }).unwrap();
        let Volume { value, interval } = study.hypervolume(&reference);
        let [low, high] = interval.unwrap();
        assert!(low < value && value < high && high - low > 0.1, "{low} {value} {high}");
    }

    #[test]
    fn every_score_is_redrawn_within_its_own_standard_error() {
        let loss = Measure::score("loss");
        let width = |accuracy: Option<f64>, other: Option<f64>| {
            let goal = Goal::default().and(Objective::minimize(loss.clone())).unwrap();
            let mut study = study(goal, &[]);
            for (text, at) in [("AAA", 0.9), ("AMM", 0.5), ("MMM", 0.2)] {
                let mut report = Report { standard_error: accuracy, ..Report::score("accuracy", at) };
                report.scores.insert("loss".into(), at);
                report.standard_errors.extend(other.map(|error| ("loss".to_owned(), error)));
                let id = study.next_id();
                let architecture: Architecture = text.parse().unwrap();
                study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Manual }).unwrap();
                study.apply(Event::Completed { id, report }).unwrap();
            }
            let reference = study.reference().unwrap();
            study.hypervolume(&reference).interval.map(|[low, high]| high - low)
        };
        assert_eq!(width(None, None), None);
        let first = width(Some(0.05), None).unwrap();
        let second = width(None, Some(0.05)).unwrap();
        let both = width(Some(0.05), Some(0.05)).unwrap();
        assert!(both > 1.1 * first.max(second) && first > 0.01 && second > 0.01, "{first} {second} {both}");
    }

    #[test]
    fn a_cost_that_nobody_states_is_refused() {
        let study = study(two(), &[]);
        let space = study.space().clone();
        let unknown = Goal::default().and(Objective::minimize(Measure::cost("work"))).unwrap();
        let costs = Arc::new(FnCost::new("cache", "", attention));
        let error = Study::new(space.clone(), unknown).with_costs(costs).unwrap_err();
        assert!(error.to_string().contains("only [cache]"), "{error}");
        let error = Study::new(space, two()).costs(&"AAA".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("TargetCosts"), "{error}");
    }
}
