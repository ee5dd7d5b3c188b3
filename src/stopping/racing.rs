//! Repetitions that stop where a trial cannot lead any more.

use crate::{
    aggregate::{NcClustering, kmeans::kmeans},
    space::Architecture,
    study::{Race, Study},
};

/// Ends the repetitions of a trial when its mean is worse than the best cluster of the trials so far by more than its
/// standard error explains.
///
/// Where a score is the mean of many short trainings, a poor candidate is known after a third of them. Such a trial
/// reports what it has measured, with its standard error and a [mark](crate::study::Raced): the searcher learns from
/// it, but no leader and no vote comes of it. A trial that runs to its end has the score that it would have had without
/// a race.
///
/// The bar is the lowest value of the best of as many clusters as [`NcClustering`] makes. It is fixed when a trial is
/// handed out and made from those outcomes that the searcher may know, like that of a [`Pruner`](super::Pruner). The
/// evaluator must repeat its measurement and look at [`Trial::race`](crate::study::Trial::race), as
/// [`Mad`](crate::evaluate::mad::Mad) and [`Repeated`](crate::evaluate::Repeated) do; with others every trial runs to
/// its end. So do trials of goals with several objectives, for a poor score may come with a low cost, what a person or
/// the search itself adds, and the second look at an architecture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Racing {
    trials: usize,
    repetitions: usize,
    errors: f64,
    clusters: usize,
}

impl Default for Racing {
    /// After 4 trials that ran to their end; from 3 repetitions of everything on; beyond one standard error. What other
    /// settings save and cost is in `docs/benchmarks.md`.
    fn default() -> Self {
        Self { trials: 4, repetitions: 3, errors: 1.0, clusters: NcClustering::CLUSTERS }
    }
}

impl Racing {
    /// Stops nothing before so many trials have run to their end, at least 1.
    #[must_use]
    pub fn after_trials(self, trials: usize) -> Self {
        Self { trials: trials.max(1), ..self }
    }

    /// Stops no trial before so many repetitions of everything that it repeats, at least 2.
    #[must_use]
    pub fn after_repetitions(self, repetitions: usize) -> Self {
        Self { repetitions: repetitions.max(2), ..self }
    }

    /// The repetitions before which no trial is stopped.
    pub fn repetitions(&self) -> usize {
        self.repetitions
    }

    /// Stops where the score is worse than the bar by more than so many standard errors; 0 where the number is negative
    /// or none.
    #[must_use]
    pub fn standard_errors(self, errors: f64) -> Self {
        Self { errors: if errors.is_finite() { errors.max(0.0) } else { 0.0 }, ..self }
    }

    /// Name and settings, such as `racing(trials=4, repetitions=3, errors=1)`: what a resumed search compares.
    pub fn fingerprint(&self) -> String {
        let Self { trials, repetitions, errors, clusters: _ } = self;
        format!("racing(trials={trials}, repetitions={repetitions}, errors={errors})")
    }

    /// The race of the next trial of this architecture; without a bar where too little is known.
    pub fn race(&self, study: &Study, architecture: &Architecture) -> Race {
        Race::new(study.goal(), self.bar(study, architecture), self.errors, self.repetitions)
    }

    /// The lowest value of the best cluster, turned so that larger is better.
    fn bar(&self, study: &Study, architecture: &Architecture) -> Option<f64> {
        if study.goal().has_several() {
            return None;
        }
        let reports = study.trials().iter().filter_map(|trial| Some((trial, trial.report()?)));
        let mut values = Vec::new();
        let mut whole = 0;
        for (trial, report) in reports.filter(|(trial, _)| trial.architecture.len() == architecture.len()) {
            if trial.architecture == *architecture {
                return None;
            }
            values.extend(report.value(study.goal()));
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
    fn the_bar_is_the_foot_of_the_best_cluster() {
        let study = study(Goal::default(), &SEEN);
        let bar =
            |trials, text: &str| Racing::default().after_trials(trials).race(&study, &text.parse().unwrap()).bar();
        assert_eq!(bar(5, "AMM"), Some(0.9));
        // What lost a race and what failed are not among those that ran to their end.
        assert_eq!(bar(6, "AMM"), None);
        // A second look, and another length.
        assert_eq!((bar(5, "MMM"), bar(1, "AM")), (None, None));
    }

    #[test]
    fn goals_of_every_kind_have_a_fitting_bar() {
        let worse = study(Goal::minimize("loss"), &SEEN);
        let race = Racing::default().after_trials(1).race(&worse, &"AMM".parse().unwrap());
        assert_eq!((race.score(), race.bar()), ("loss", Some(0.1)));
        assert!(race.is_lost(0.2, Some(0.01), 4) && !race.is_lost(0.05, Some(0.01), 4));
        let several = Goal::default().and(Objective::minimize(Measure::score("loss"))).unwrap();
        let failed = [("AAA", None, true), ("AAM", None, true)];
        for study in [study(several, &[]), study(Goal::default(), &failed)] {
            assert_eq!(Racing::default().after_trials(0).race(&study, &"AMM".parse().unwrap()).bar(), None);
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_the_nearest_that_do() {
        let racing = Racing::default().after_trials(0).after_repetitions(0).standard_errors(f64::NAN);
        assert_eq!(racing.fingerprint(), "racing(trials=1, repetitions=2, errors=0)");
    }
}
