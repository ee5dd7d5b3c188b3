//! The trials of one search.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use thiserror::Error;

use super::{Event, Goal, Origin, Report, ReportError, Trial, TrialId, TrialState, known_costs::Attached};
use crate::space::{Architecture, SearchSpace};

/// The trials of one search over one space with one goal. A plain value: searchers and aggregators are functions of it.
/// Clones and views share the trials, so that they cost a pointer for each.
///
/// A searcher may also evaluate [parts](SearchSpace::is_part) of sequences on its way, as
/// [`Incremental`](crate::search::Incremental) does. Their trials are history and cost budget, but they are no answers:
/// [`observations`](Self::observations) and [`best`](Self::best) speak of whole sequences of the space alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    space: SearchSpace,
    goal: Goal,
    pub(super) costs: Option<Attached>,
    /// By ascending id; complete except in a view on another space.
    trials: Vec<Arc<Trial>>,
    next: TrialId,
}

/// A completed, valid trial and its value.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The trial.
    pub trial: &'a Trial,
    /// Its report.
    pub report: &'a Report,
    /// The goal's score, turned so that larger is better.
    pub value: f64,
}

impl Observation<'_> {
    /// Whether the trial ran to its end, rather than losing a [race](crate::study::Race).
    pub fn is_whole(&self) -> bool {
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
    /// A study without trials.
    pub fn new(space: SearchSpace, goal: Goal) -> Self {
        Self { space, goal, costs: None, trials: Vec::new(), next: TrialId(0) }
    }

    /// Where is searched.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// What is optimised.
    pub fn goal(&self) -> &Goal {
        &self.goal
    }

    /// All trials, those of parts of sequences included, in order of proposal. The id of a trial is its index, except
    /// in a view [within](Self::within) another space.
    pub fn trials(&self) -> &[Arc<Trial>] {
        &self.trials
    }

    /// The trial with this number.
    ///
    /// # Errors
    /// [`StudyError::Unknown`] when there is none.
    pub fn trial(&self, id: TrialId) -> Result<&Trial, StudyError> {
        self.index(id).map(|at| &*self.trials[at])
    }

    /// The number that the next trial will have.
    pub fn next_id(&self) -> TrialId {
        self.next
    }

    /// The completed, valid trials of whole sequences, in order of proposal.
    pub fn observations(&self) -> impl Iterator<Item = Observation<'_>> {
        self.candidates().filter_map(|trial| {
            let report = trial.report()?;
            Some(Observation { trial, report, value: report.value(&self.goal).ok()? })
        })
    }

    /// The trials of whole sequences that are not set aside, in order of proposal, whether they have an outcome or not.
    pub fn candidates(&self) -> impl Iterator<Item = &Trial> {
        // What is no part of a sequence lies in the space: `check` has seen to that.
        let layers = self.space.layers();
        let trials = self.trials.iter().map(AsRef::as_ref);
        trials.filter(move |trial: &&Trial| trial.architecture.len() == layers && !trial.is_invalid())
    }

    /// The trials that wait for their evaluation, those of parts of sequences included, in order of proposal.
    pub fn pending(&self) -> impl Iterator<Item = &Trial> {
        self.trials.iter().map(AsRef::as_ref).filter(|trial: &&Trial| trial.is_pending())
    }

    /// How many trials count against a budget: all, those of parts of sequences included, but those set aside and those
    /// of what was [merged](Origin::Merged).
    pub fn valid_trials(&self) -> usize {
        self.trials.iter().filter(|trial| !trial.is_invalid() && trial.origin != Origin::Merged).count()
    }

    /// The best observation by the goal's score, within its bounds; among equals the earliest. Trials that ran to their
    /// end come before those that lost a [race](crate::study::Race).
    pub fn best(&self) -> Option<Observation<'_>> {
        let within = self.observations().filter(|seen| seen.report.excess(&self.goal) <= 0.0);
        within.reduce(|best, next| if next.rank() > best.rank() { next } else { best })
    }

    /// Whether the architecture is pending, completed or failed, so that proposing it again would repeat work.
    pub fn knows(&self, architecture: &Architecture) -> bool {
        self.trials.iter().any(|trial| !trial.is_invalid() && trial.architecture == *architecture)
    }

    /// The study as it looks when the outcomes of the trials from number `from` on are not known yet.
    pub fn before(&self, from: TrialId) -> Study {
        let mut view = self.clone();
        let told = |trial: &Trial| trial.id >= from && !trial.is_invalid() && !trial.is_pending();
        for trial in view.trials.iter_mut().filter(|trial| told(trial)) {
            Arc::make_mut(trial).state = TrialState::Pending;
        }
        view
    }

    /// The study as it looks from another space: the trials of its sequences, under their numbers. A searcher or
    /// aggregator asked about this view answers for that space.
    pub fn within(&self, space: &SearchSpace) -> Study {
        let inside = self.trials.iter().filter(|trial| space.contains(&trial.architecture));
        let trials = inside.cloned().collect();
        Study { space: space.clone(), goal: self.goal.clone(), costs: self.costs.clone(), trials, next: self.next }
    }

    /// The study without the trials of what was [merged](Origin::Merged): what an aggregator is asked about, so that
    /// its answer does not depend on whether it was evaluated.
    pub fn searched(&self) -> Study {
        self.filtered(|trial| trial.origin != Origin::Merged)
    }

    /// The study with another goal, without known costs.
    pub(super) fn with_goal(&self, goal: Goal) -> Study {
        Study { goal, costs: None, ..self.clone() }
    }

    /// The study with these of its trials, under their numbers.
    pub(crate) fn filtered(&self, keep: impl Fn(&Trial) -> bool) -> Study {
        let mut view = self.clone();
        view.trials.retain(|trial| keep(trial));
        view
    }

    /// The study as it looks when all observations of an architecture are one: [`Report::pooled`], under the number of
    /// the first. Trials without a value stay as they are.
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
            // The first of an architecture takes all of it.
            let Some(mut all) = seen.remove(&trial.architecture) else { return false };
            // In an order that does not depend on that of the trials, as sums are rounded.
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            let reports: Vec<_> = all.into_iter().map(|(_, report)| report).collect();
            Arc::make_mut(trial).state = TrialState::Completed(Report::pooled(&reports, &self.goal));
            true
        });
        view
    }

    /// Whether `event` may happen now. A searcher may propose parts of sequences, a person only whole ones.
    ///
    /// # Errors
    /// [`StudyError`] says why not.
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

    /// Lets `event` happen; the only way a study changes. Of a report it keeps what is [finite](Report::finite).
    ///
    /// # Errors
    /// As [`Study::check`]; the study is unchanged then.
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

    /// Where the trial with this number stands.
    fn index(&self, id: TrialId) -> Result<usize, StudyError> {
        let at = self.trials.binary_search_by_key(&id, |trial| trial.id);
        at.map_err(|_| StudyError::Unknown { id, known: self.trials.len() })
    }
}

/// A change that a study refuses.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum StudyError {
    /// No trial of this number.
    #[error("there is no {id} among the {known} trials of the study: ids count from 0")]
    Unknown {
        /// The number asked for.
        id: TrialId,
        /// How many trials there are.
        known: usize,
    },
    /// A proposal with a wrong number.
    #[error("{id} is proposed where {expected} must come next")]
    OutOfOrder {
        /// The number given.
        id: TrialId,
        /// The number that is due.
        expected: TrialId,
    },
    /// A proposal that the space does not contain, and that is no part of a sequence on a searcher's way.
    #[error("{0} is not in the search space: check its length, its primitives and the constraints")]
    OutsideSpace(Architecture),
    /// A second outcome.
    #[error("{0} has been told already: a trial has one outcome")]
    AlreadyTold(TrialId),
    /// A change of a trial that was set aside.
    #[error("{0} is marked invalid: nothing can be told about it any more")]
    AlreadyInvalid(TrialId),
    /// A trial that has no outcome yet cannot be set aside.
    #[error("{0} is still pending: mark it invalid once it has finished")]
    StillPending(TrialId),
    /// A report that cannot be used.
    #[error("the report of {id} cannot be used")]
    Report {
        /// Which trial.
        id: TrialId,
        /// What is wrong with it.
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
        assert_eq!((study.trials().len(), study.valid_trials(), study.candidates().count()), (5, 5, 4));
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
