//! The trials of one search.

use thiserror::Error;

use super::{Event, Goal, Report, ReportError, Trial, TrialId, TrialState};
use crate::space::{Architecture, SearchSpace};

/// The trials of one search over one space with one goal. A plain value: searchers and aggregators are functions of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    space: SearchSpace,
    goal: Goal,
    /// In order of proposal: a trial's id is its index.
    trials: Vec<Trial>,
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

impl Study {
    /// A study without trials.
    pub fn new(space: SearchSpace, goal: Goal) -> Self {
        Self { space, goal, trials: Vec::new() }
    }

    /// Where is searched.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// What is optimised.
    pub fn goal(&self) -> &Goal {
        &self.goal
    }

    /// All trials, in order of proposal; the id of a trial is its index.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// The trial with this number.
    ///
    /// # Errors
    /// [`StudyError::Unknown`] when there is none.
    pub fn trial(&self, id: TrialId) -> Result<&Trial, StudyError> {
        let known = self.trials.len();
        usize::try_from(id.0).ok().and_then(|at| self.trials.get(at)).ok_or(StudyError::Unknown { id, known })
    }

    /// The number that the next trial will have.
    pub fn next_id(&self) -> TrialId {
        TrialId(self.trials.len() as u64)
    }

    /// The completed, valid trials, in order of proposal.
    pub fn observations(&self) -> impl Iterator<Item = Observation<'_>> {
        self.trials.iter().filter_map(|trial| {
            let report = trial.report()?;
            Some(Observation { trial, report, value: report.value(&self.goal).ok()? })
        })
    }

    /// The trials that wait for their evaluation, in order of proposal.
    pub fn pending(&self) -> impl Iterator<Item = &Trial> {
        self.trials.iter().filter(|trial| trial.is_pending())
    }

    /// The trials that count against a budget: all but those set aside.
    pub fn valid_trials(&self) -> usize {
        self.trials.iter().filter(|trial| !trial.is_invalid()).count()
    }

    /// The best observation; among equals the earliest.
    pub fn best(&self) -> Option<Observation<'_>> {
        self.observations().reduce(|best, next| if next.value > best.value { next } else { best })
    }

    /// Whether the architecture is pending, completed or failed, so that proposing it again would repeat work.
    pub fn knows(&self, architecture: &Architecture) -> bool {
        self.trials.iter().any(|trial| !trial.is_invalid() && trial.architecture == *architecture)
    }

    /// The study as it looks when the outcomes of the trials from number `from` on are not known yet.
    pub fn before(&self, from: TrialId) -> Study {
        let mut view = self.clone();
        for trial in view.trials.iter_mut().filter(|trial| trial.id >= from && !trial.is_invalid()) {
            trial.state = TrialState::Pending;
        }
        view
    }

    /// Whether `event` may happen now.
    ///
    /// # Errors
    /// [`StudyError`] says why not.
    pub fn check(&self, event: &Event) -> Result<(), StudyError> {
        let id = event.id();
        if let Event::Proposed { architecture, .. } = event {
            return match () {
                () if id != self.next_id() => Err(StudyError::OutOfOrder { id, expected: self.next_id() }),
                () if !self.space.contains(architecture) => Err(StudyError::OutsideSpace(architecture.clone())),
                () => Ok(()),
            };
        }
        let trial = self.trial(id)?;
        match (event, &trial.state) {
            (Event::Completed { report, .. }, TrialState::Pending) => {
                report.value(&self.goal).map(drop).map_err(|source| StudyError::Report { id, source })
            }
            (Event::Retried { .. } | Event::Failed { .. }, TrialState::Pending) => Ok(()),
            (Event::Invalidated { .. }, TrialState::Pending) => Err(StudyError::StillPending(id)),
            (Event::Invalidated { .. }, TrialState::Completed(_) | TrialState::Failed(_)) => Ok(()),
            (_, TrialState::Invalid { .. }) => Err(StudyError::AlreadyInvalid(id)),
            (_, TrialState::Completed(_) | TrialState::Failed(_)) => Err(StudyError::AlreadyTold(id)),
            (Event::Proposed { .. }, TrialState::Pending) => Ok(()),
        }
    }

    /// Lets `event` happen; the only way a study changes.
    ///
    /// # Errors
    /// As [`Study::check`]; the study is unchanged then.
    pub fn apply(&mut self, event: Event) -> Result<(), StudyError> {
        self.check(&event)?;
        let at = event.id().0 as usize;
        match event {
            Event::Proposed { id, architecture, seed, origin } => {
                self.trials.push(Trial::new(id, architecture, seed, origin));
            }
            Event::Retried { .. } => self.trials[at].failed_attempts += 1,
            Event::Completed { report, .. } => self.trials[at].state = TrialState::Completed(report),
            Event::Failed { failure, .. } => self.trials[at].state = TrialState::Failed(failure),
            Event::Invalidated { reason, .. } => {
                let report = self.trials[at].report().cloned();
                self.trials[at].state = TrialState::Invalid { reason, report };
            }
        }
        Ok(())
    }
}

/// A change that a study refuses.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum StudyError {
    /// No trial of this number.
    #[error("there is no {id}: the study has {known} trials, numbered from 0")]
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
    /// A proposal that the space does not contain.
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
    #[error("the report of {id} cannot be used: {source}")]
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
        study::{Failure, FailureKind, Origin},
    };

    fn propose(study: &Study, text: &str) -> Event {
        let (id, architecture) = (study.next_id(), text.parse().unwrap());
        Event::Proposed { id, architecture, seed: Seed(id.0), origin: Origin::Searcher }
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
            (propose(&study, "AA"), StudyError::OutsideSpace("AA".parse().unwrap())),
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
