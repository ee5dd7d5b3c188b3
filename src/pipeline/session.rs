//! Ask and tell.

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

/// A search that somebody else drives: ask for a trial, evaluate it, tell what came of it.
///
/// Every change is in the journal before it counts. Opened again on the same journal, a session goes on where the last
/// one stopped: trials that were asked for and never told are handed out again, under their old number and seed.
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
    /// Pending trials that nobody evaluates yet.
    queue: VecDeque<TrialId>,
    lag: Option<u64>,
    stopping: Option<Box<dyn Pruner>>,
    racing: Option<Racing>,
    max_attempts: u32,
    /// Whether the bounds of the goal have been looked at.
    bounds_checked: bool,
    /// What is to be said about the journal, once somebody listens.
    notices: Vec<String>,
    pub(super) observers: Vec<Box<dyn Observer>>,
}

/// The answer of [`Session::ask`].
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "answers come one at a time, and a box would be in every match")]
pub enum Ask {
    /// Evaluate this trial.
    Trial(Trial),
    /// Tell an outcome first.
    Wait,
    /// The space is exhausted.
    Finished,
}

/// What became of a trial that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is completed.
    Completed,
    /// It is recorded as failed.
    Failed,
    /// It will be handed out again.
    Again,
}

/// How often a trial may end in a transient error before it is recorded as failed.
const MAX_ATTEMPTS: u32 = 3;

impl<S: Searcher> Session<S> {
    /// A session without a journal.
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

    /// Creates or resumes the journal at `path`. The searcher must be the one that `setup` names. What is to be said
    /// about the journal is a notice at the first [`ask`](Self::ask).
    ///
    /// # Errors
    /// [`PipelineError::Journal`] when the journal cannot be used or belongs to another setup.
    pub fn open(path: impl AsRef<Path>, setup: Setup, searcher: S) -> Result<Self, PipelineError> {
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

    /// Makes the search with several workers repeatable: the searcher proposes trial `k` from the outcomes of trials
    /// `0..=k - lag` and no others, whatever has come in early. With `lag` = number of workers, a worker waits only
    /// when another is slower by a whole trial. `None`, the default here, uses all that is known.
    #[must_use]
    pub fn lag(mut self, lag: Option<usize>) -> Self {
        self.lag = lag.map(|lag| lag.max(1) as u64);
        self
    }

    /// Hands out trials with what they must reach by this rule, which `setup` names where there is a journal. It sees
    /// what the searcher sees: with a [`lag`](Self::lag) the search stays repeatable.
    #[must_use]
    pub fn stop_early(mut self, rule: impl Pruner + 'static) -> Self {
        self.stopping = Some(Box::new(rule));
        self
    }

    /// Hands out the searcher's trials with a bar for their repetitions by this rule, which `setup` names where there
    /// is a journal. It sees what the searcher sees: with a [`lag`](Self::lag) the search stays repeatable.
    #[must_use]
    pub fn racing(mut self, rule: Racing) -> Self {
        self.racing = Some(rule);
        self
    }

    /// Attempts per trial before a transient error is recorded as a failure; 3 by default, at least 1.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// States the costs that the goal names, as `setup` says where there is a journal.
    ///
    /// # Errors
    /// [`PipelineError::Costs`] where the goal names another, [`PipelineError::Journal`] where the journal is of other
    /// costs.
    pub fn costs(self, costs: Arc<dyn KnownCosts>) -> Result<Self, PipelineError> {
        let named = !self.study.goal().costs().is_empty();
        let setup = Setup { costs: named.then(|| costs.fingerprint()), ..self.setup.clone() };
        let changes = self.setup.changes(&setup);
        if let Some(path) = self.journal.as_ref().map(|journal| journal.path().into()).filter(|_| !changes.is_empty()) {
            return Err(JournalError::Changed { path, changes }.into());
        }
        Ok(Self { study: self.study.with_costs(costs)?, setup, ..self })
    }

    /// Tells `observer` what happens; any number may watch.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// What the search is: everything that decides which trials it makes.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// What is known.
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// Trials that are proposed and wait for [`ask`](Self::ask).
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The next trial to evaluate: one that waits, or else a new proposal.
    ///
    /// # Errors
    /// [`PipelineError`] when the searcher fails, proposes something impossible, or the journal cannot be written.
    pub fn ask(&mut self) -> Result<Ask, PipelineError> {
        for text in std::mem::take(&mut self.notices) {
            self.watch(|observer, _| observer.notice(&text));
        }
        if let Some(&id) = self.queue.front() {
            let barred = self.stopping.is_some() || self.racing.is_some();
            if barred && self.missing(self.hidden(id)).any(|id| !self.queue.contains(&id)) {
                return Ok(Ask::Wait);
            }
            let trial = self.with_bar(id)?;
            self.queue.pop_front();
            return Ok(Ask::Trial(trial));
        }
        match self.propose()? {
            Proposal::Evaluate(architecture) => {
                let id = self.submit(architecture, Origin::Searcher)?;
                Ok(Ask::Trial(self.with_bar(id)?))
            }
            Proposal::Wait if self.study.pending().next().is_none() => Err(PipelineError::Stuck),
            Proposal::Wait => Ok(Ask::Wait),
            Proposal::Finished => Ok(Ask::Finished),
        }
    }

    /// Takes in what an evaluator answers. A report without the goal's score, or with a score that is not finite,
    /// counts as a failure; other numbers that are not finite are [left out](Report::finite), with a notice.
    ///
    /// # Errors
    /// [`PipelineError`] for an unknown or finished trial, when the journal cannot be written (nothing has changed
    /// then: tell again), or when the evaluator gave up ([`PipelineError::Fatal`], [`PipelineError::Cancelled`]; the
    /// trial then stays pending).
    pub fn tell(&mut self, id: TrialId, answer: Result<Report, EvalError>) -> Result<Told, PipelineError> {
        self.attempted(id, answer.map_err(Into::into))
    }

    /// Takes in what came of an attempt, as [`execute::evaluate`](crate::execute::evaluate) and executors say it;
    /// otherwise as [`tell`](Self::tell).
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
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

    /// Adds a candidate by hand; it is handed out before the searcher is asked again.
    ///
    /// # Errors
    /// [`PipelineError::Study`] when it is outside the space, [`PipelineError::Journal`] when it cannot be recorded.
    pub fn add(&mut self, architecture: Architecture) -> Result<TrialId, PipelineError> {
        let id = self.submit(architecture, Origin::Manual)?;
        self.queue.push_back(id);
        Ok(id)
    }

    /// Adds what was merged; it is handed out before the searcher is asked again and counts against no budget.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_merged(&mut self, architecture: Architecture) -> Result<TrialId, PipelineError> {
        let id = self.submit(architecture, Origin::Merged)?;
        self.queue.push_back(id);
        Ok(id)
    }

    /// Sets a finished trial aside: searcher and aggregator ignore it from now on.
    ///
    /// # Errors
    /// [`PipelineError::Study`] when there is no such trial, it has not finished, or it is set aside already.
    pub fn invalidate(&mut self, id: TrialId, reason: impl Into<String>) -> Result<(), PipelineError> {
        self.record(Event::Invalidated { id, reason: reason.into() })
    }

    /// Trials that have an outcome.
    pub(super) fn finished(&self) -> usize {
        self.study.trials().len() - self.study.pending().count()
    }

    /// Saves a journal that was removed while the search ran; where it is now, if that was so.
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

    /// Asks the searcher, and passes on what it has to say.
    fn propose(&mut self) -> Result<Proposal, PipelineError> {
        let proposal = self.ask_searcher()?;
        if let Some(text) = self.searcher.notice() {
            self.watch(|observer, _| observer.notice(&text));
        }
        Ok(proposal)
    }

    /// Asks the searcher, with the outcomes that it may know.
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
            // It needs every result that is still to come: only then does it know more than now.
            Proposal::Wait if self.study.pending().next().is_none() => {
                Ok(self.searcher.ask(&self.study, &mut rng())?)
            }
            proposal => Ok(proposal),
        }
    }

    /// The first trial whose outcome the trial with this number may not depend on.
    fn hidden(&self, id: TrialId) -> TrialId {
        self.lag.map_or(self.study.next_id(), |lag| TrialId((id.0 + 1).saturating_sub(lag)))
    }

    /// The pending trials before this number.
    fn missing(&self, hidden: TrialId) -> impl Iterator<Item = TrialId> {
        let with_lag = self.lag.is_some();
        self.study.pending().map(|trial| trial.id).filter(move |&id| with_lag && id < hidden)
    }

    /// The trial as it is handed out.
    fn with_bar(&self, id: TrialId) -> Result<Trial, PipelineError> {
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
        let id = self.study.next_id();
        let seed = self.setup.seed.derive("trial", id.0);
        self.record(Event::Proposed { id, architecture, seed, origin })?;
        Ok(id)
    }

    /// Checks, writes, applies, then tells the observers.
    fn record(&mut self, event: Event) -> Result<(), PipelineError> {
        self.study.check(&event)?;
        if let Some(journal) = &mut self.journal {
            journal.append(&event)?;
        }
        self.study.apply(event.clone())?;
        self.watch(|observer, study| observer.event(&event, study));
        Ok(())
    }

    /// Lets every observer look.
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
