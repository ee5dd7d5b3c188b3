//! Ending the repetitions of a trial that cannot lead any more.

use crate::{
    aggregate::{NcClustering, kmeans::kmeans},
    space::Architecture,
    study::{Race, Study},
};

/// Ends the repetitions of a trial when its mean is worse than the best cluster of the trials so far by more than its
/// standard error explains.
///
/// If a score is the mean of many short trainings, a poor candidate can be recognised after a third of them. Such a
/// trial reports what it has measured, with its standard error and a [mark](crate::study::Raced). The searcher learns
/// from it, but it is neither a leader nor a vote. A trial that runs to its end has the same score as without a race.
///
/// The threshold is the lowest value of the best cluster. There are as many clusters as [`NcClustering`] makes, of the
/// trials within the goal's bounds. The threshold is fixed when a trial is handed out and depends only on the results
/// that the searcher may know, like the threshold of a [`Pruner`](super::Pruner). The evaluator must repeat its
/// measurement and check [`Trial::race`](crate::study::Trial::race), as [`Mad`](crate::evaluate::mad::Mad) and
/// [`Repeated`](crate::evaluate::Repeated) do; with other evaluators, every trial runs to its end. The following trials
/// also run to their end: those of a goal with several objectives, because a poor score may come with a low cost; those
/// that the user or the search itself adds; and repeated evaluations of an architecture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Racing {
    trials: usize,
    repetitions: usize,
    errors: f64,
    clusters: usize,
}

impl Default for Racing {
    /// Races after 4 trials that ran to their end and from 3 repetitions on, and stops beyond one standard error. See
    /// `docs/benchmarks.md` for what other settings save and cost.
    fn default() -> Self {
        Self { trials: 4, repetitions: 3, errors: 1.0, clusters: NcClustering::CLUSTERS }
    }
}

impl Racing {
    /// Sets how many trials must have run to their end before any is stopped; at least 1.
    #[must_use]
    pub fn after_trials(self, trials: usize) -> Self {
        Self { trials: trials.max(1), ..self }
    }

    /// Sets how often a trial must have repeated each of its trainings before it is stopped; at least 2.
    #[must_use]
    pub fn after_repetitions(self, repetitions: usize) -> Self {
        Self { repetitions: repetitions.max(2), ..self }
    }

    /// Returns the number of repetitions before which no trial is stopped.
    pub fn repetitions(&self) -> usize {
        self.repetitions
    }

    /// Sets by how many standard errors the score must be worse than the threshold. Negative numbers, NaN and
    /// infinities count as 0.
    #[must_use]
    pub fn standard_errors(self, errors: f64) -> Self {
        Self { errors: if errors.is_finite() { errors.max(0.0) } else { 0.0 }, ..self }
    }

    /// Returns the name and settings, such as `racing(trials=4, repetitions=3, errors=1)`. A journal can be continued
    /// only with the same fingerprint.
    pub fn fingerprint(&self) -> String {
        let Self { trials, repetitions, errors, clusters: _ } = self;
        format!("racing(trials={trials}, repetitions={repetitions}, errors={errors})")
    }

    /// Returns the race for the next trial of this architecture. It has no threshold if too little is known.
    pub fn race(&self, study: &Study, architecture: &Architecture) -> Race {
        Race::new(study.goal(), self.threshold(study, architecture), self.errors, self.repetitions)
    }

    /// Returns the lowest value of the best cluster, oriented so that larger is better.
    fn threshold(&self, study: &Study, architecture: &Architecture) -> Option<f64> {
        if study.goal().has_several() {
            return None;
        }
        let goal = study.goal();
        let reports = study.trials().iter().filter_map(|trial| Some((trial, trial.report()?)));
        let mut values = Vec::new();
        let mut whole = 0;
        for (trial, report) in reports.filter(|(trial, _)| trial.architecture.len() == architecture.len()) {
            if trial.architecture == *architecture {
                return None;
            }
            // A trial beyond the bounds cannot be the result, however good its score.
            if report.excess(goal) > 0.0 {
                continue;
            }
            values.extend(report.value(goal));
            whole += usize::from(report.raced.is_none());
        }
        values.sort_by(f64::total_cmp);
        let best = kmeans(&values, self.clusters).pop().filter(|_| whole >= self.trials)?;
        values.get(best.start).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::Symbol,
        seed::Seed,
        space::SearchSpace,
        study::{Event, Failure, FailureKind, Goal, Measure, Objective, Origin, Raced, Report},
    };

    fn study(goal: Goal, seen: &[(&str, Option<f64>, bool)]) -> Study {
        let mut study = Study::new(SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 3).unwrap(), goal);
        for &(text, score, whole) in seen {
            let id = study.next_id();
            let architecture = text.parse().unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
            let raced = (!whole).then_some(Raced { done: 8, planned: 30 });
            let event = match score {
                Some(score) => {
                    let name = study.goal().score.clone();
                    Event::Completed { id, report: Report { raced, ..Report::score(name, score) } }
                }
                None => Event::Failed { id, failure: Failure { kind: FailureKind::Infeasible, reason: String::new() } },
            };
            study.apply(event).unwrap();
        }
        study
    }

    const SEEN: [(&str, Option<f64>, bool); 7] = [
        ("AAA", Some(0.91), true),
        ("AAM", Some(0.9), true),
        ("AMA", Some(0.5), true),
        ("MMM", Some(0.3), false),
        ("MMA", Some(0.2), true),
        ("MAM", Some(0.1), true),
        ("MAA", None, true),
    ];

    #[test]
    fn the_threshold_is_the_foot_of_the_best_cluster() {
        let study = study(Goal::default(), &SEEN);
        let threshold = |trials, text: &str| {
            Racing::default().after_trials(trials).race(&study, &text.parse().unwrap()).threshold()
        };
        assert_eq!(threshold(5, "AMM"), Some(0.9));
        // What lost a race and what failed are not among those that ran to their end.
        assert_eq!(threshold(6, "AMM"), None);
        // A second look, and another length.
        assert_eq!((threshold(5, "MMM"), threshold(1, "AM")), (None, None));
    }

    #[test]
    fn goals_of_every_kind_have_a_fitting_threshold() {
        let worse = study(Goal::minimize("loss"), &SEEN);
        let race = Racing::default().after_trials(1).race(&worse, &"AMM".parse().unwrap());
        assert_eq!((race.score(), race.threshold()), ("loss", Some(0.1)));
        assert!(race.is_lost(0.2, Some(0.01), 4) && !race.is_lost(0.05, Some(0.01), 4));
        let several = Goal::default().and(Objective::minimize(Measure::score("loss"))).unwrap();
        let failed = [("AAA", None, true), ("AAM", None, true)];
        for study in [study(several, &[]), study(Goal::default(), &failed)] {
            assert_eq!(Racing::default().after_trials(0).race(&study, &"AMM".parse().unwrap()).threshold(), None);
        }
    }

    #[test]
    fn trials_beyond_the_bounds_set_no_threshold() {
        let bounded = Goal::default().at_most(Measure::score("accuracy"), 0.6).unwrap();
        let study = study(bounded, &SEEN);
        let threshold =
            |trials| Racing::default().after_trials(trials).race(&study, &"AMM".parse().unwrap()).threshold();
        assert_eq!((threshold(3), threshold(4)), (Some(0.5), None));
    }

    #[test]
    fn settings_that_make_no_sense_are_the_nearest_that_do() {
        let racing = Racing::default().after_trials(0).after_repetitions(0).standard_errors(f64::NAN);
        assert_eq!(racing.fingerprint(), "racing(trials=1, repetitions=2, errors=0)");
    }
}
