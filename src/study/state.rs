//! The trials of a search.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use thiserror::Error;

use super::{Event, Goal, Origin, Report, ReportError, Trial, TrialId, TrialState, known_costs::Attached};
use crate::space::{Architecture, SearchSpace};

/// The trials of a search over one space with one goal.
///
/// A study is a plain value, and searchers and aggregators are functions of it. Clones and views share the trials, so
/// they are cheap.
///
/// A searcher may also evaluate [partial](SearchSpace::is_part) architectures, as
/// [`Incremental`](crate::search::Incremental) does. These trials belong to the history and count against the budget,
/// but they cannot be the result: [`observations`](Self::observations) and [`best`](Self::best) include only complete
/// sequences of the space.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    space: SearchSpace,
    goal: Goal,
    pub(super) costs: Option<Attached>,
    /// By ascending id. Ids are consecutive, except in a view within another space.
    trials: Vec<Arc<Trial>>,
    next: TrialId,
}

/// A completed, valid trial with its value.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The trial.
    pub trial: &'a Trial,
    /// Its report.
    pub report: &'a Report,
    /// The score of the goal, oriented so that larger is better.
    pub value: f64,
}

impl Observation<'_> {
    /// Whether the trial ran to its end, rather than losing a [race](crate::study::Race).
    pub(crate) fn is_whole(&self) -> bool {
        self.report.raced.is_none()
    }

    /// What ran to its end is above the rest, then by value.
    pub(crate) fn rank(&self) -> (bool, f64) {
        (self.is_whole(), self.value)
    }

    /// The order of leaders, best first.
    pub(crate) fn best_first(&self, other: &Self) -> Ordering {
        other.is_whole().cmp(&self.is_whole()).then(other.value.total_cmp(&self.value))
    }
}

impl Study {
    /// Creates a study without trials.
    pub fn new(space: SearchSpace, goal: Goal) -> Self {
        Self { space, goal, costs: None, trials: Vec::new(), next: TrialId(0) }
    }

    /// Returns the search space.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// Returns the goal.
    pub fn goal(&self) -> &Goal {
        &self.goal
    }

    /// Returns all trials in order of proposal, including those of partial architectures.
    ///
    /// The id of a trial is its index, except in a view [within](Self::within) another space.
    pub fn trials(&self) -> &[Arc<Trial>] {
        &self.trials
    }

    /// Returns the trial with this id.
    ///
    /// # Errors
    /// Returns [`StudyError::Unknown`] if there is none.
    pub fn trial(&self, id: TrialId) -> Result<&Trial, StudyError> {
        self.index(id).map(|at| &*self.trials[at])
    }

    /// Returns the id of the next trial.
    pub fn next_id(&self) -> TrialId {
        self.next
    }

    /// Iterates over the completed, valid trials of complete sequences, in order of proposal.
    pub fn observations(&self) -> impl Iterator<Item = Observation<'_>> {
        self.full_length_trials().filter_map(|trial| {
            let report = trial.report()?;
            Some(Observation { trial, report, value: report.value(&self.goal).ok()? })
        })
    }

    /// Iterates over the valid trials of complete sequences, with or without a result, in order of proposal.
    pub fn full_length_trials(&self) -> impl Iterator<Item = &Trial> {
        // Only partial architectures may lie outside the space, see `check`.
        let layers = self.space.layers();
        let trials = self.trials.iter().map(AsRef::as_ref);
        trials.filter(move |trial: &&Trial| trial.architecture.len() == layers && !trial.is_invalid())
    }

    /// Iterates over the trials without a result, in order of proposal, including those of partial architectures.
    pub fn pending(&self) -> impl Iterator<Item = &Trial> {
        self.trials.iter().map(AsRef::as_ref).filter(|trial: &&Trial| trial.is_pending())
    }

    /// Returns the number of trials that count against a budget: all except invalid trials and those of
    /// [aggregated](Origin::Aggregated) architectures. Trials of partial architectures count.
    pub fn valid_trials(&self) -> usize {
        self.trials.iter().filter(|trial| !trial.is_invalid() && trial.origin != Origin::Aggregated).count()
    }

    /// Returns the number of [valid trials](Self::valid_trials) that are not pending.
    pub fn finished_trials(&self) -> usize {
        let counts =
            |trial: &&Arc<Trial>| !trial.is_pending() && !trial.is_invalid() && trial.origin != Origin::Aggregated;
        self.trials.iter().filter(counts).count()
    }

    /// Returns the best observation by the goal's score that satisfies the goal's bounds; on ties, the earliest. Trials
    /// that ran to their end come before those that lost a [race](crate::study::Race).
    pub fn best(&self) -> Option<Observation<'_>> {
        let within = self.observations().filter(|seen| seen.report.excess(&self.goal) <= 0.0);
        within.reduce(|best, next| if next.rank() > best.rank() { next } else { best })
    }

    /// Returns whether the architecture has a pending, completed or failed trial, so that proposing it again would
    /// repeat work.
    pub fn knows(&self, architecture: &Architecture) -> bool {
        self.trials.iter().any(|trial| !trial.is_invalid() && trial.architecture == *architecture)
    }

    /// Returns a view of the study in which trials with id `from` or higher have no results yet.
    pub fn before(&self, from: TrialId) -> Study {
        let mut view = self.clone();
        let told = |trial: &Trial| trial.id >= from && !trial.is_invalid() && !trial.is_pending();
        for trial in view.trials.iter_mut().filter(|trial| told(trial)) {
            Arc::make_mut(trial).state = TrialState::Pending;
        }
        view
    }

    /// Returns a view of the study restricted to the trials whose architectures lie in `space`; they keep their ids.
    ///
    /// A searcher or aggregator that is given this view answers for that space.
    pub fn within(&self, space: &SearchSpace) -> Study {
        let inside = self.trials.iter().filter(|trial| space.contains(&trial.architecture));
        let trials = inside.cloned().collect();
        Study { space: space.clone(), goal: self.goal.clone(), costs: self.costs.clone(), trials, next: self.next }
    }

    /// Returns the study without the trials of [aggregated](Origin::Aggregated) architectures.
    ///
    /// Aggregators use this view, so their result does not depend on whether it was evaluated.
    pub fn searched(&self) -> Study {
        self.filtered(|trial| trial.origin != Origin::Aggregated)
    }

    /// Returns the study with another goal and without known costs.
    pub(super) fn with_goal(&self, goal: Goal) -> Study {
        Study { goal, costs: None, ..self.clone() }
    }

    /// Returns the study with only the trials that `keep` accepts; they keep their ids.
    pub(crate) fn filtered(&self, keep: impl Fn(&Trial) -> bool) -> Study {
        let mut view = self.clone();
        view.trials.retain(|trial| keep(trial));
        view
    }

    /// Replaces the reports of completed trials by a score alone, where `score` gives one.
    pub(crate) fn rescore(&mut self, mut score: impl FnMut(TrialId) -> Option<f64>) {
        for trial in &mut self.trials {
            if matches!(trial.state, TrialState::Completed(_))
                && let Some(score) = score(trial.id)
            {
                let trial = Arc::make_mut(trial);
                trial.state = TrialState::Completed(Report::score(self.goal.score.clone(), score));
            }
        }
    }

    /// Returns a view of the study in which all observations of an architecture are combined into one.
    ///
    /// The first trial of each architecture gets one report of all: means with their standard error, of whole trials
    /// alone if any ran to its end. Trials without a value are unchanged.
    pub fn pooled(&self) -> Study {
        let mut seen: BTreeMap<&Architecture, Vec<(f64, &Report)>> = BTreeMap::new();
        for Observation { trial, report, value } in self.observations() {
            seen.entry(&trial.architecture).or_default().push((value, report));
        }
        let mut view = self.clone();
        view.trials.retain_mut(|trial| {
            let observed = trial.report().is_some_and(|report| report.value(&self.goal).is_ok());
            if !observed || trial.architecture.len() != self.space.layers() {
                return true;
            }
            // The first trial of an architecture takes all its reports.
            let Some(mut all) = seen.remove(&trial.architecture) else { return false };
            // Sums are rounded, so the order must not depend on the order of the trials.
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            let reports: Vec<_> = all.into_iter().map(|(_, report)| report).collect();
            Arc::make_mut(trial).state = TrialState::Completed(Report::pooled(&reports, &self.goal));
            true
        });
        view
    }

    /// Checks whether `event` is valid now. Searchers may propose partial architectures, users only complete ones.
    ///
    /// # Errors
    /// Returns [`StudyError`] with the reason if it is not.
    pub fn check(&self, event: &Event) -> Result<(), StudyError> {
        let id = event.id();
        if let Event::Proposed { architecture, origin, .. } = event {
            let part = *origin == Origin::Searcher && self.space.is_part(architecture);
            return match () {
                () if id != self.next => Err(StudyError::OutOfOrder { id, expected: self.next }),
                () if part || self.space.contains(architecture) => Ok(()),
                () => Err(StudyError::OutsideSpace(architecture.clone())),
            };
        }
        let trial = self.trial(id)?;
        match (event, &trial.state) {
            (Event::Completed { report, .. }, TrialState::Pending) => {
                report.values(&self.goal).map(drop).map_err(|source| StudyError::Report { id, source })
            }
            (Event::Retried { .. } | Event::Failed { .. }, TrialState::Pending) => Ok(()),
            (Event::Invalidated { .. }, TrialState::Pending) => Err(StudyError::StillPending(id)),
            (Event::Invalidated { .. }, TrialState::Completed(_) | TrialState::Failed(_)) => Ok(()),
            (_, TrialState::Invalid { .. }) => Err(StudyError::AlreadyInvalid(id)),
            (_, TrialState::Completed(_) | TrialState::Failed(_)) => Err(StudyError::AlreadyTold(id)),
            (Event::Proposed { .. }, TrialState::Pending) => Ok(()),
        }
    }

    /// Applies an event. This is the only way to change a study.
    ///
    /// Values of a report that are not [finite](Report::finite) are dropped.
    ///
    /// # Errors
    /// Returns the same errors as [`Study::check`] and leaves the study unchanged.
    pub fn apply(&mut self, event: Event) -> Result<(), StudyError> {
        self.check(&event)?;
        if let Event::Proposed { id, architecture, seed, origin } = event {
            self.trials.push(Arc::new(Trial::new(id, architecture, seed, origin)));
            self.next = TrialId(id.0 + 1);
            return Ok(());
        }
        let at = self.index(event.id())?;
        let trial = Arc::make_mut(&mut self.trials[at]);
        match event {
            Event::Retried { .. } => trial.failed_attempts += 1,
            Event::Completed { report, .. } => trial.state = TrialState::Completed(report.finite()),
            Event::Failed { failure, .. } => trial.state = TrialState::Failed(failure),
            Event::Invalidated { reason, .. } => {
                let report = trial.report().cloned();
                trial.state = TrialState::Invalid { reason, report };
            }
            Event::Proposed { .. } => {}
        }
        Ok(())
    }

    /// Returns the index of the trial with this id.
    fn index(&self, id: TrialId) -> Result<usize, StudyError> {
        let at = self.trials.binary_search_by_key(&id, |trial| trial.id);
        at.map_err(|_| StudyError::Unknown { id, known: self.trials.len() })
    }
}

/// The error of an event that a study does not accept.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum StudyError {
    /// There is no trial with this id.
    #[error("there is no {id}: the study has {known} trials, counted from 0")]
    Unknown {
        /// The requested id.
        id: TrialId,
        /// The number of trials.
        known: usize,
    },
    /// A proposal has the wrong id.
    #[error("{id} was proposed, but the next trial must be {expected}")]
    OutOfOrder {
        /// The given id.
        id: TrialId,
        /// The expected id.
        expected: TrialId,
    },
    /// The proposed architecture is not in the space, and not a partial architecture proposed by a searcher.
    #[error("{0} is not in the search space: check its length, its primitives and the constraints")]
    OutsideSpace(Architecture),
    /// The trial already has a result.
    #[error("{0} already has a result: report each trial once")]
    AlreadyTold(TrialId),
    /// The trial is marked invalid and cannot change.
    #[error("{0} is marked invalid: it cannot change any more")]
    AlreadyInvalid(TrialId),
    /// The trial has no result yet and cannot be marked invalid.
    #[error("{0} is still pending: mark it invalid once it has finished")]
    StillPending(TrialId),
    /// The report is invalid.
    #[error("the report of {id} is invalid")]
    Report {
        /// Which trial.
        id: TrialId,
        /// The reason.
        source: ReportError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::Symbol,
        seed::Seed,
        study::{Failure, FailureKind, Raced},
    };

    fn propose(study: &Study, text: &str) -> Event {
        let id = study.next_id();
        let architecture = text.parse().unwrap();
        Event::Proposed { id, architecture, seed: Seed(id.0), origin: Origin::Searcher }
    }

    fn by_hand(study: &Study, text: &str) -> Event {
        let id = study.next_id();
        let architecture = text.parse().unwrap();
        Event::Proposed { id, architecture, seed: Seed(id.0), origin: Origin::Manual }
    }

    fn study() -> Study {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 3).unwrap();
        let mut study = Study::new(space, Goal::default());
        for text in ["AAM", "AMM", "MMM"] {
            study.apply(propose(&study, text)).unwrap();
        }
        study
    }

    fn completed(id: u64, accuracy: f64) -> Event {
        Event::Completed { id: TrialId(id), report: Report::score("accuracy", accuracy) }
    }

    #[test]
    fn a_study_is_the_fold_of_its_events() {
        let mut study = study();
        study.apply(completed(1, 0.5)).unwrap();
        study.apply(completed(0, 0.5)).unwrap();
        let failure = Failure { kind: FailureKind::Infeasible, reason: "no".into() };
        study.apply(Event::Failed { id: TrialId(2), failure }).unwrap();
        assert_eq!(study.best().unwrap().trial.id, TrialId(0));
        assert_eq!(study.observations().count(), 2);
        study.apply(Event::Invalidated { id: TrialId(0), reason: "disk".into() }).unwrap();
        assert_eq!(study.best().unwrap().trial.id, TrialId(1));
        assert!(!study.knows(&"AAM".parse().unwrap()) && study.knows(&"MMM".parse().unwrap()));
        assert_eq!(study.valid_trials(), 2);
    }

    #[test]
    fn impossible_events_are_refused_and_change_nothing() {
        let mut study = study();
        study.apply(completed(1, 0.5)).unwrap();
        let before = study.clone();
        let invalidate = |id| Event::Invalidated { id: TrialId(id), reason: String::new() };
        let refused = [
            (completed(1, 0.6), StudyError::AlreadyTold(TrialId(1))),
            (completed(9, 0.6), StudyError::Unknown { id: TrialId(9), known: 3 }),
            (invalidate(0), StudyError::StillPending(TrialId(0))),
            (propose(&study, "AAMM"), StudyError::OutsideSpace("AAMM".parse().unwrap())),
            (propose(&study, "AF"), StudyError::OutsideSpace("AF".parse().unwrap())),
            (by_hand(&study, "AA"), StudyError::OutsideSpace("AA".parse().unwrap())),
            (
                propose(&Study::new(study.space().clone(), Goal::default()), "AAA"),
                StudyError::OutOfOrder { id: TrialId(0), expected: TrialId(3) },
            ),
        ];
        for (event, error) in refused {
            assert_eq!(study.apply(event), Err(error));
        }
        for bad in [f64::NAN, f64::INFINITY] {
            assert!(matches!(study.apply(completed(0, bad)), Err(StudyError::Report { .. })));
        }
        let other = Event::Completed { id: TrialId(0), report: Report::score("loss", 1.0) };
        assert!(matches!(study.apply(other), Err(StudyError::Report { source: ReportError::Missing { .. }, .. })));
        assert_eq!(study, before);
    }

    #[test]
    fn a_view_hides_later_outcomes() {
        let mut study = study();
        for id in 0..3 {
            study.apply(completed(id, 0.1 * id as f64)).unwrap();
        }
        let view = study.before(TrialId(1));
        assert_eq!(view.observations().count(), 1);
        assert_eq!(view.pending().count(), 2);
        assert_eq!(study.before(TrialId(3)), study);
    }

    #[test]
    fn parts_of_sequences_are_history_and_no_answers() {
        let mut study = study();
        study.apply(propose(&study, "AM")).unwrap();
        study.apply(by_hand(&study, "AAA")).unwrap();
        for (id, accuracy) in [(1, 0.2), (3, 0.9), (4, 0.1)] {
            study.apply(completed(id, accuracy)).unwrap();
        }
        assert_eq!((study.trials().len(), study.valid_trials(), study.full_length_trials().count()), (5, 5, 4));
        assert_eq!(study.observations().map(|seen| seen.trial.id.0).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(study.best().unwrap().trial.id, TrialId(1));
        assert!(study.knows(&"AM".parse().unwrap()));
    }

    #[test]
    fn a_view_within_another_space_keeps_numbers() {
        let mut study = study();
        for text in ["AM", "MA", "AAA"] {
            study.apply(propose(&study, text)).unwrap();
        }
        for id in 0..6 {
            study.apply(completed(id, 0.1 * id as f64)).unwrap();
        }
        let seen = |view: &Study| view.observations().map(|seen| seen.trial.id.0).collect::<Vec<_>>();
        let pairs = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 2).unwrap();
        let mut view = study.within(&pairs);
        assert_eq!((seen(&view), view.next_id(), view.space()), (vec![3, 4], TrialId(6), &pairs));
        assert_eq!(view.trial(TrialId(4)), study.trial(TrialId(4)));
        assert!(matches!(view.trial(TrialId(5)), Err(StudyError::Unknown { .. })));
        view.apply(Event::Invalidated { id: TrialId(4), reason: String::new() }).unwrap();
        view.apply(propose(&view, "MM")).unwrap();
        assert_eq!((seen(&view), view.next_id()), (vec![3], TrialId(7)));
        let attention_first = study.space().clone().pin(0, Symbol::ATTENTION).unwrap();
        assert_eq!(seen(&study.within(&attention_first)), [0, 1, 5]);
        assert_eq!(seen(&study.before(TrialId(4)).within(&pairs)), [3]);
        assert_eq!(study.within(study.space()).trials().len(), 4);
    }

    #[test]
    fn a_pooled_view_has_one_observation_per_architecture() {
        let mut study = study();
        study.apply(propose(&study, "AMM")).unwrap();
        study.apply(propose(&study, "AM")).unwrap();
        for (id, accuracy) in [(3, 0.75), (0, 0.5), (1, 0.25), (4, 0.9)] {
            study.apply(completed(id, accuracy)).unwrap();
        }
        let pooled = study.pooled();
        let seen: Vec<_> = pooled.observations().map(|o| (o.trial.id.0, o.value, o.report.standard_error)).collect();
        assert_eq!(seen, [(0, 0.5, None), (1, 0.5, Some(0.25))]);
        assert_eq!((pooled.trials().len(), pooled.pending().count(), pooled.next_id()), (4, 1, TrialId(5)));
        assert_eq!(pooled.pooled(), pooled);
        // What lost a race adds nothing to what ran to its end, and does not lead.
        study.apply(propose(&study, "AAM")).unwrap();
        let raced = Some(Raced { done: 8, planned: 30 });
        let report = Report { raced, ..Report::score("accuracy", 0.9) };
        study.apply(Event::Completed { id: TrialId(5), report }).unwrap();
        let pooled = study.pooled();
        assert_eq!(pooled.observations().map(|seen| seen.value).collect::<Vec<_>>(), [0.5, 0.5]);
        assert_eq!(study.best().unwrap().value, 0.75);
    }

    #[test]
    fn minimising_turns_the_sign() {
        let mut study = Study::new(study().space().clone(), Goal::minimize("loss"));
        for (text, loss) in [("AAA", 2.0), ("AAM", 1.0)] {
            let event = propose(&study, text);
            let id = event.id();
            study.apply(event).unwrap();
            study.apply(Event::Completed { id, report: Report::score("loss", loss) }).unwrap();
        }
        assert_eq!(study.best().unwrap().value, -1.0);
    }
}
