//! A search that is driven from outside, by ask and tell.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Observer, PipelineError, trace::Trace};
use crate::{
    evaluate::EvalError,
    execute::AttemptError,
    journal::{Journal, JournalError, Setup},
    search::{Proposal, Searcher, check_bounds},
    seed::Seed,
    space::{Architecture, SearchSpace},
    stopping::{Pruner, Racing},
    study::{
        Event, Failure, FailureKind, Goal, KnownCostError, KnownCosts, Origin, Report, Study, StudyError, Trial,
        TrialId, left_out,
    },
    text::causes,
};

/// A search whose loop you write yourself: ask for a trial, evaluate it, tell the result.
///
/// Every change is written to the journal before it takes effect. A session that is opened on an existing journal
/// continues where the last one stopped: trials that were asked for but never told are handed out again, with the same
/// id and seed.
///
/// ```
/// use composer_nas::{pipeline::Ask, prelude::*};
/// let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 6)?;
/// let mut session = Session::in_memory(space, Goal::default(), Seed(7), RandomSearch);
/// for _ in 0..8 {
///     let Ask::Trial(trial) = session.ask()? else { break };
///     let accuracy = trial.architecture.count(Symbol::SWIGLU) as f64 / 6.0;
///     session.tell(trial.id, Ok(Report::score("accuracy", accuracy)))?;
/// }
/// assert_eq!(session.study().observations().count(), 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Session<S> {
    setup: Setup,
    study: Study,
    searcher: S,
    journal: Option<Journal>,
    /// Pending trials that have not been handed out.
    queue: VecDeque<TrialId>,
    lag: Option<u64>,
    stopping: Option<Box<dyn Pruner>>,
    racing: Option<Racing>,
    max_attempts: u32,
    /// Whether the bounds of the goal have been checked.
    bounds_checked: bool,
    /// Notices about the journal for the first [`ask`](Self::ask), when the observers have been added.
    notices: Vec<String>,
    pub(super) observers: Vec<Box<dyn Observer>>,
}

/// The answer of [`Session::ask`].
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "answers come one at a time, and a box would be in every match")]
pub enum Ask {
    /// Evaluate this trial.
    Trial(Trial),
    /// Tell a result first, then ask again.
    Wait,
    /// The space is exhausted.
    Finished,
}

/// What happened to a trial that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The trial is completed.
    Completed,
    /// The trial is recorded as failed.
    Failed,
    /// The trial will be handed out again.
    Again,
}

/// The default number of attempts per trial.
const MAX_ATTEMPTS: u32 = 3;

impl<S: Searcher> Session<S> {
    /// Creates a session without a journal. If the goal names costs, [`costs`](Self::costs) must state them; otherwise
    /// every call that would change the study returns an error.
    pub fn in_memory(space: SearchSpace, goal: Goal, seed: Seed, searcher: S) -> Self {
        let primitives = BTreeMap::new();
        let searcher_fingerprint = searcher.fingerprint();
        let evaluator = String::new();
        let setup = Setup {
            space,
            primitives,
            goal,
            seed,
            searcher: searcher_fingerprint,
            evaluator,
            costs: None,
            stopping: None,
            workers: None,
            eager: false,
            aggregator: None,
            extrapolator: None,
        };
        Self::without_journal(setup, searcher)
    }

    pub(super) fn without_journal(setup: Setup, searcher: S) -> Self {
        let study = Study::new(setup.space.clone(), setup.goal.clone());
        Self::new(setup, study, searcher, None)
    }

    /// Creates or resumes the journal at `path`.
    ///
    /// The searcher must be the one that `setup` names. Notices about the journal reach the observers at the first
    /// [`ask`](Self::ask).
    ///
    /// # Errors
    /// [`PipelineError::Costs`] if the goal names costs and the setup names none; [`PipelineError::Journal`] if the
    /// journal cannot be used or belongs to another setup.
    pub fn open(path: impl AsRef<Path>, setup: Setup, searcher: S) -> Result<Self, PipelineError> {
        if setup.costs.is_none() {
            Study::new(setup.space.clone(), setup.goal.clone()).check_costs()?;
        }
        let (journal, study) = Journal::open(path, &setup)?;
        let notices = journal.notices().to_vec();
        Ok(Self { notices, ..Self::new(setup, study, searcher, Some(journal)) })
    }

    fn new(setup: Setup, study: Study, searcher: S, journal: Option<Journal>) -> Self {
        let queue = study.pending().map(|trial| trial.id).collect();
        Self {
            setup,
            study,
            searcher,
            journal,
            queue,
            lag: None,
            stopping: None,
            racing: None,
            max_attempts: MAX_ATTEMPTS,
            bounds_checked: false,
            notices: Vec::new(),
            observers: vec![Box::new(Trace)],
        }
    }

    /// Makes a search with several workers reproducible: the searcher proposes trial `k` from the results of trials
    /// `0..=k - lag` only, even if later ones have already arrived.
    ///
    /// Set `lag` to the number of workers. A worker then waits only if another is slower by a whole trial. `None`, the
    /// default, uses all results.
    #[must_use]
    pub fn lag(mut self, lag: Option<usize>) -> Self {
        self.lag = lag.map(|lag| lag.max(1) as u64);
        self
    }

    /// Gives every trial the threshold that it must reach according to `rule`. If there is a journal, its setup must
    /// name the rule. The rule sees the same results as the searcher, so a search with a [`lag`](Self::lag) stays
    /// reproducible.
    #[must_use]
    pub fn stop_early(mut self, rule: impl Pruner + 'static) -> Self {
        self.stopping = Some(Box::new(rule));
        self
    }

    /// Hands out the searcher's trials with a race for their repetitions by this rule. A journal's `setup` names it.
    /// The rule sees what the searcher sees: with a [`lag`](Self::lag) the search stays repeatable.
    #[must_use]
    pub fn racing(mut self, rule: Racing) -> Self {
        self.racing = Some(rule);
        self
    }

    /// Sets how often a trial is attempted before a transient error is recorded as a failure; 3 by default, at least 1.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// Sets the source of the costs that the goal names. If there is a journal, its setup must name the same costs.
    ///
    /// # Errors
    /// [`PipelineError::Costs`] if a cost that the goal names is missing, [`PipelineError::Journal`] if the journal was
    /// written with other costs.
    pub fn costs(self, costs: Arc<dyn KnownCosts>) -> Result<Self, PipelineError> {
        let named = !self.study.goal().costs().is_empty();
        let setup = Setup { costs: named.then(|| costs.fingerprint()), ..self.setup.clone() };
        let changes = self.setup.changes(&setup);
        if let Some(path) = self.journal.as_ref().map(|journal| journal.path().into()).filter(|_| !changes.is_empty()) {
            return Err(JournalError::Changed { path, changes }.into());
        }
        Ok(Self { study: self.study.with_costs(costs)?, setup, ..self })
    }

    /// Adds an observer, which is notified of what happens. There can be several.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Returns the configuration that determines the results of the search.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Returns all trials and their results.
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// Returns the number of pending trials that [`ask`](Self::ask) has not handed out yet.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Returns the next trial to evaluate: a queued one if there is any, otherwise a new proposal.
    ///
    /// # Errors
    /// [`PipelineError`] if the searcher fails or proposes an invalid architecture, if the journal cannot be written,
    /// or if nothing states the [costs](Self::costs) that the goal names.
    pub fn ask(&mut self) -> Result<Ask, PipelineError> {
        self.study.check_costs()?;
        for text in std::mem::take(&mut self.notices) {
            self.watch(|observer, _| observer.notice(&text));
        }
        if let Some(&id) = self.queue.front() {
            let barred = self.stopping.is_some() || self.racing.is_some();
            if barred && self.missing(self.hidden(id)).any(|id| !self.queue.contains(&id)) {
                return Ok(Ask::Wait);
            }
            let trial = self.with_race(id)?;
            self.queue.pop_front();
            return Ok(Ask::Trial(trial));
        }
        match self.propose()? {
            Proposal::Evaluate(architecture) => {
                let id = self.submit(architecture, Origin::Searcher)?;
                Ok(Ask::Trial(self.with_race(id)?))
            }
            Proposal::Wait if self.study.pending().next().is_none() => Err(PipelineError::Stuck),
            Proposal::Wait => Ok(Ask::Wait),
            Proposal::Finished => Ok(Ask::Finished),
        }
    }

    /// Records the result of a trial.
    ///
    /// A report without the goal's score, or with a score that is not finite, counts as a failure. Other numbers that
    /// are not finite are [removed](Report::finite), with a notice.
    ///
    /// # Errors
    /// [`PipelineError`] if the trial is unknown or finished, or if the journal cannot be written; nothing has changed
    /// then, so tell again. [`PipelineError::Fatal`] or [`PipelineError::Cancelled`] if the evaluator could not
    /// continue; the trial then stays pending.
    pub fn tell(&mut self, id: TrialId, answer: Result<Report, EvalError>) -> Result<Told, PipelineError> {
        self.attempted(id, answer.map_err(Into::into))
    }

    /// Records the outcome of an attempt, as returned by [`execute::evaluate`](crate::execute::evaluate) and by
    /// executors. Otherwise the same as [`tell`](Self::tell).
    ///
    /// # Errors
    /// See [`tell`](Self::tell).
    pub(crate) fn attempted(
        &mut self,
        id: TrialId,
        outcome: Result<Report, AttemptError>,
    ) -> Result<Told, PipelineError> {
        let trial = self.study.trial(id)?;
        if !trial.is_pending() {
            return Err(StudyError::AlreadyTold(id).into());
        }
        let failed = |kind, reason| Event::Failed { id, failure: Failure { kind, reason } };
        let last_attempt = trial.failed_attempts + 1 >= self.max_attempts;
        let lost = outcome.as_ref().map(Report::not_finite).unwrap_or_default();
        let event = match outcome {
            Ok(report) => match self.study.priced(&trial.architecture, report) {
                Ok(report) => match report.values(self.study.goal()) {
                    Ok(_) => Event::Completed { id, report: report.finite() },
                    Err(error) => failed(FailureKind::BadReport, causes(&error)),
                },
                Err(error @ KnownCostError::Unbuildable { .. }) => failed(FailureKind::Infeasible, causes(&error)),
                Err(error) => return Err(error.into()),
            },
            Err(AttemptError::Panicked(reason)) => failed(FailureKind::Panicked, reason),
            Err(AttemptError::Stopped(reason)) => failed(FailureKind::Stopped, reason),
            Err(AttemptError::Crashed(reason)) => failed(FailureKind::OutOfAttempts, reason),
            Err(AttemptError::Evaluator(said)) => match said {
                EvalError::Infeasible(reason) => failed(FailureKind::Infeasible, reason),
                EvalError::Transient(reason) if last_attempt => failed(FailureKind::OutOfAttempts, reason),
                EvalError::Transient(reason) => Event::Retried { id, reason },
                EvalError::Fatal(reason) => return Err(PipelineError::Fatal { id, reason }),
                EvalError::Cancelled => return Err(PipelineError::Cancelled { finished: self.finished() }),
            },
        };
        let told = match event {
            Event::Completed { .. } => Told::Completed,
            Event::Retried { .. } => Told::Again,
            Event::Failed { .. } | Event::Proposed { .. } | Event::Invalidated { .. } => Told::Failed,
        };
        self.record(event)?;
        if told == Told::Completed
            && let Some(text) = left_out(id, &lost)
        {
            self.watch(|observer, _| observer.notice(&text));
        }
        if told == Told::Again {
            self.queue.push_front(id);
        } else {
            self.queue.retain(|&queued| queued != id);
        }
        Ok(told)
    }

    /// Adds an architecture chosen by you. It is handed out before the searcher is asked again.
    ///
    /// # Errors
    /// [`PipelineError::Study`] if it is outside the space, [`PipelineError::Journal`] if it cannot be recorded.
    pub fn enqueue(&mut self, architecture: Architecture) -> Result<TrialId, PipelineError> {
        let id = self.submit(architecture, Origin::Manual)?;
        self.queue.push_back(id);
        Ok(id)
    }

    /// Adds an aggregated architecture. It is handed out before the searcher is asked again and does not count against
    /// the budget.
    ///
    /// # Errors
    /// See [`enqueue`](Self::enqueue).
    pub fn enqueue_aggregated(&mut self, architecture: Architecture) -> Result<TrialId, PipelineError> {
        let id = self.submit(architecture, Origin::Aggregated)?;
        self.queue.push_back(id);
        Ok(id)
    }

    /// Marks a finished trial as invalid. The searcher and the aggregator ignore it from now on.
    ///
    /// # Errors
    /// [`PipelineError::Study`] if the trial does not exist, has not finished, or is already invalid.
    pub fn invalidate(&mut self, id: TrialId, reason: impl Into<String>) -> Result<(), PipelineError> {
        self.record(Event::Invalidated { id, reason: reason.into() })
    }

    /// Returns the number of finished trials.
    pub(super) fn finished(&self) -> usize {
        self.study.trials().len() - self.study.pending().count()
    }

    /// Saves a journal that was removed while the search ran, and returns its path if it did.
    pub(super) fn restore(&mut self, unsaved: &str) -> Option<PathBuf> {
        let journal = self.journal.as_mut()?;
        let restored = journal.restore(unsaved);
        let path = journal.path().to_owned();
        match restored {
            Ok(restored) => restored.then_some(path),
            Err(error) => {
                let text = format!("the journal cannot be written to {} again: {error}", path.display());
                self.watch(|observer, _| observer.notice(&text));
                None
            }
        }
    }

    /// Asks the searcher and forwards its notices to the observers.
    fn propose(&mut self) -> Result<Proposal, PipelineError> {
        let proposal = self.ask_searcher()?;
        if let Some(text) = self.searcher.notice() {
            self.watch(|observer, _| observer.notice(&text));
        }
        Ok(proposal)
    }

    /// Asks the searcher with the results that it may use.
    fn ask_searcher(&mut self) -> Result<Proposal, PipelineError> {
        let next = self.study.next_id();
        if !self.bounds_checked {
            check_bounds(&self.study, &mut self.setup.seed.rng("bounds", 0))?;
            self.bounds_checked = true;
        }
        let rng = || self.setup.seed.rng("ask", next.0);
        if self.lag.is_none() {
            return Ok(self.searcher.ask(&self.study, &mut rng())?);
        }
        let hidden = self.hidden(next);
        if self.missing(hidden).next().is_some() {
            return Ok(Proposal::Wait);
        }
        match self.searcher.ask(&self.study.before(hidden), &mut rng())? {
            // Nothing is pending, so waiting would never end: show the searcher the results that the lag hides.
            Proposal::Wait if self.study.pending().next().is_none() => {
                Ok(self.searcher.ask(&self.study, &mut rng())?)
            }
            proposal => Ok(proposal),
        }
    }

    /// Returns the first trial whose result the trial `id` must not depend on.
    fn hidden(&self, id: TrialId) -> TrialId {
        self.lag.map_or(self.study.next_id(), |lag| TrialId((id.0 + 1).saturating_sub(lag)))
    }

    /// Returns the pending trials before this id.
    fn missing(&self, hidden: TrialId) -> impl Iterator<Item = TrialId> {
        let with_lag = self.lag.is_some();
        self.study.pending().map(|trial| trial.id).filter(move |&id| with_lag && id < hidden)
    }

    /// Returns the trial with its threshold and its race.
    fn with_race(&self, id: TrialId) -> Result<Trial, PipelineError> {
        let mut trial = self.study.trial(id)?.clone();
        let racing = self.racing.filter(|_| trial.origin == Origin::Searcher);
        if self.stopping.is_none() && racing.is_none() {
            return Ok(trial);
        }
        let known = self.study.before(self.hidden(id));
        if let Some(rule) = &self.stopping {
            trial.threshold = rule.threshold(&known, &trial.architecture);
        }
        trial.race = racing.map(|rule| rule.race(&known, &trial.architecture));
        Ok(trial)
    }

    fn submit(&mut self, architecture: Architecture, origin: Origin) -> Result<TrialId, PipelineError> {
        self.study.check_costs()?;
        let id = self.study.next_id();
        let seed = self.setup.seed.derive("trial", id.0);
        self.record(Event::Proposed { id, architecture, seed, origin })?;
        Ok(id)
    }

    /// Checks the event, writes it, applies it, then notifies the observers.
    fn record(&mut self, event: Event) -> Result<(), PipelineError> {
        self.study.check(&event)?;
        if let Some(journal) = &mut self.journal {
            journal.append(&event)?;
        }
        self.study.apply(event.clone())?;
        self.watch(|observer, study| observer.event(&event, study));
        Ok(())
    }

    /// Calls `look` with every observer.
    pub(super) fn watch(&mut self, mut look: impl FnMut(&mut dyn Observer, &Study)) {
        for observer in &mut self.observers {
            look(&mut **observer, &self.study);
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("study", &self.study).field("searcher", &self.searcher).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::Symbol,
        search::RandomSearch,
        study::{FnCost, Measure, Objective},
    };

    #[test]
    fn a_journal_is_not_continued_by_other_costs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4).unwrap();
        let goal = Goal::default().and(Objective::minimize(Measure::cost("cache"))).unwrap();
        let costs = |fingerprint: &str| Arc::new(FnCost::new("cache", fingerprint, |_: &Architecture| 1.0));
        let setup = Session::in_memory(space, goal, Seed(0), RandomSearch).costs(costs("one")).unwrap().setup().clone();
        let open = || Session::open(&path, setup.clone(), RandomSearch).unwrap();
        let Ask::Trial(trial) = open().costs(costs("one")).unwrap().ask().unwrap() else { panic!() };
        let error = open().costs(costs("other")).unwrap_err();
        assert!(causes(&error).contains("costs was"), "{}", causes(&error));
        let Ask::Trial(again) = open().costs(costs("one")).unwrap().ask().unwrap() else { panic!() };
        assert_eq!(trial, again);
    }
}
