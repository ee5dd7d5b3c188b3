//! The main loop: ask, evaluate, tell, until the budget is spent.

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Ask, Finished, FrontModel, Pipeline, PipelineError, Session, along, few_voters, verdict};
use crate::{
    aggregate::Aggregator,
    evaluate::{CancelToken, Evaluator},
    execute::{ExecuteError, Executor, Message, Threads},
    extrapolate::{Extrapolator, Target, size_notice},
    journal::{JournalError, Setup},
    model::ModelSpec,
    primitive::Primitives,
    retry::retry,
    search::Searcher,
    space::Architecture,
    study::{Observation, Study, Trial},
    text::causes,
};

/// The result of a search.
#[derive(Clone, Debug)]
pub struct Found {
    /// The configuration of the search.
    pub setup: Setup,
    /// All trials.
    pub study: Study,
    /// The small architecture, aggregated from the best trials.
    pub aggregated: Architecture,
    /// The number of trials that were aggregated, if the aggregator reports it.
    pub voters: Option<usize>,
    /// The model at the target's size, ready to be built.
    pub target: ModelSpec,
    /// With several objectives, one model for each band of the second objective, starting with its smallest values.
    pub front: Vec<FrontModel>,
    /// Its weights, if there are any: a search that converts a trained model returns them.
    #[cfg(feature = "model")]
    pub weights: Option<crate::model::HybridLm>,
}

impl Found {
    /// Returns remarks on the result for the user: whether the aggregated architecture or the best trial is better,
    /// whether only one or two trials were aggregated, and whether the model misses the target's size.
    pub fn notices(&self, target: &Target, primitives: &Primitives) -> Vec<String> {
        let few = self.voters.and_then(few_voters);
        let size = size_notice(&self.target, target, primitives).map(|words| format!("at full size, {words}"));
        [verdict(&self.study, &self.aggregated), few, size].into_iter().flatten().collect()
    }
}

/// How long the loop waits for a message before it checks the clock and the cancel token.
const POLL: Duration = Duration::from_millis(200);

impl<E, S, A, X> Pipeline<E, S, A, X>
where
    E: Evaluator + 'static,
    S: Searcher,
    A: Aggregator,
    X: Extrapolator,
{
    /// Runs the search until the budget is spent or the space is exhausted, then aggregates the trials and extrapolates
    /// to `target`.
    ///
    /// # Errors
    /// [`PipelineError`] if any stage fails; its variants name the stage. In every case, all finished trials are in the
    /// journal, and the same call continues from there.
    pub fn run(self, target: &Target) -> Result<Found, PipelineError> {
        let primitives = self.primitives.clone();
        let Stages { aggregator, extrapolator, setup, study } = self.search()?;
        let searched = within_bounds(&study.searched())?;
        let aggregated = allowed(&searched, aggregator.aggregate(&searched)?);
        let voters = aggregator.voters(&searched);
        let front = along::models(&study, &aggregator, &extrapolator, target, &primitives)?;
        let target = extrapolator.extrapolate(&aggregated, target, &primitives)?;
        Ok(Found {
            setup,
            study,
            aggregated,
            voters,
            target,
            front,
            #[cfg(feature = "model")]
            weights: None,
        })
    }

    /// Runs the trials.
    fn search(mut self) -> Result<Stages<A, X>, PipelineError> {
        if self.options.trials == 0 {
            return Err(PipelineError::NoTrials);
        }
        let setup = self.setup()?;
        let options = &mut self.options;
        let trials = options.trials;
        let write_timeout = options.write_timeout;
        let eager = options.eager;
        let evaluate_aggregated = options.evaluate_aggregated;
        let workers = options.workers;
        let executor = options.executor.take();
        let cancel = options.cancel.clone();
        let deadline = options.time.and_then(|time| Instant::now().checked_add(time));

        let Self { evaluator, searcher, aggregator, extrapolator, options, .. } = self;
        let evaluator = Arc::new(evaluator);
        let mut executor: Box<dyn Executor> = match executor {
            Some(executor) => executor,
            None => Box::new(Threads::new(evaluator.clone(), workers)?),
        };
        let fingerprint = evaluator.fingerprint();
        let session = options.into_session(setup.clone(), searcher)?;
        let mut session = session.lag((!eager).then(|| executor.capacity()));
        executor.begin(&fingerprint)?;
        session.watch(|observer, study| observer.started(&setup, study, trials));
        let mut run = Run { session, executor, running: 0, trials, deadline, cancel, write_timeout };
        let mut outcome = run.drive();
        if evaluate_aggregated && outcome.is_ok() {
            outcome = run.evaluate_aggregated(&aggregator);
        }
        let outcome = outcome.map_err(|error| run.explained(error));
        run.session.watch(|observer, study| observer.finished(study));
        outcome?;
        Ok(Stages { aggregator, extrapolator, setup, study: run.session.study().clone() })
    }
}

/// Returns whether every valid trial of the architecture, if there is one, lost its race.
fn lacks_score(study: &Study, architecture: &Architecture) -> bool {
    let ours = |trial: &&Trial| trial.architecture == *architecture && !trial.is_invalid();
    let mut trials = study.trials().iter().map(AsRef::as_ref).filter(ours);
    trials.all(|trial| trial.report().is_some_and(|report| report.raced.is_some()))
}

/// Returns the aggregated architecture, or the best trial if the aggregated one exceeds the goal's bounds on known
/// costs.
fn allowed(study: &Study, aggregated: Architecture) -> Architecture {
    match study.admits(&aggregated) {
        true => aggregated,
        false => study.pooled().best().map_or(aggregated, |best| best.trial.architecture.clone()),
    }
}

/// Returns the study without the trials that exceed the goal's bounds.
fn within_bounds(study: &Study) -> Result<Study, PipelineError> {
    let within = study.within_bounds();
    if within.observations().next().is_some() || study.observations().next().is_none() {
        return Ok(within);
    }
    let words = |seen: Observation<'_>| {
        let numbers = seen.report.scores.iter().chain(&seen.report.costs);
        let numbers: Vec<_> = numbers.map(|(name, value)| format!("{name} {value}")).collect();
        format!("; the nearest is {} with {}", seen.trial.architecture, numbers.join(", "))
    };
    let nearest = study.nearest().map(words).unwrap_or_default();
    Err(PipelineError::NothingWithin { goal: study.goal().to_string(), nearest })
}

struct Stages<A, X> {
    aggregator: A,
    extrapolator: X,
    setup: Setup,
    study: Study,
}

/// A running search.
struct Run<S> {
    session: Session<S>,
    executor: Box<dyn Executor>,
    running: usize,
    trials: usize,
    deadline: Option<Instant>,
    cancel: CancelToken,
    write_timeout: Duration,
}

impl<S: Searcher> Run<S> {
    fn drive(&mut self) -> Result<(), PipelineError> {
        let mut stopped: Option<PipelineError> = None;
        loop {
            if stopped.is_none() && self.cancel.is_cancelled() {
                stopped = Some(PipelineError::Cancelled { finished: self.session.finished() });
                self.executor.cancel();
            }
            if stopped.is_none()
                && let Err(error) = self.fill()
            {
                stopped = Some(error);
                self.executor.cancel();
            }
            if self.running == 0 {
                return stopped.map_or(Ok(()), Err);
            }
            let message = match self.executor.recv(POLL) {
                Ok(message) => message,
                Err(error) => return Err(stopped.unwrap_or(error.into())),
            };
            let outcome = match message {
                Some(Message::Done(id, outcome)) => {
                    self.running -= 1;
                    if stopped.is_some() {
                        // The write timeout has passed once; a result that still cannot be written is evaluated again
                        // on resume.
                        self.write_timeout = Duration::ZERO;
                    }
                    self.retrying(|session| session.attempted(id, outcome.clone())).map(drop)
                }
                Some(Message::Progress(id, progress)) => {
                    self.session.watch(|observer, _| observer.progress(id, &progress));
                    Ok(())
                }
                Some(Message::Location(id, place)) => {
                    self.session.watch(|observer, _| observer.located(id, &place));
                    Ok(())
                }
                Some(Message::Notice(text)) => {
                    self.session.watch(|observer, _| observer.notice(&text));
                    Ok(())
                }
                None => Ok(()),
            };
            // The first error is the cause; later ones come from the trials that it cancelled.
            if let Err(error) = outcome
                && stopped.is_none()
            {
                stopped = Some(error);
                self.executor.cancel();
            }
        }
    }

    /// Evaluates the aggregated architecture if it has not been tried. Without time left, this is skipped: a resumed
    /// search may still add trials, and aggregates then.
    fn evaluate_aggregated(&mut self, aggregator: &impl Aggregator) -> Result<(), PipelineError> {
        if !self.in_time() {
            return Ok(());
        }
        let study = self.session.study();
        // If this fails, the caller gets the error when it aggregates.
        let aggregated = within_bounds(&study.searched())
            .ok()
            .and_then(|within| Some(allowed(&within, aggregator.aggregate(&within).ok()?)));
        let Some(aggregated) =
            aggregated.filter(|aggregated| study.space().contains(aggregated) && lacks_score(study, aggregated))
        else {
            return Ok(());
        };
        self.retrying(|session| session.enqueue_aggregated(aggregated.clone()))?;
        self.drive()
    }

    /// Gives every idle worker a trial, while budget, time and searcher allow.
    fn fill(&mut self) -> Result<(), PipelineError> {
        while self.executor.idle() > 0 {
            let in_budget = self.session.queued() > 0 || self.session.study().valid_trials() < self.trials;
            if !(self.in_time() && in_budget) {
                break;
            }
            let trial = match self.retrying(|session| session.ask())? {
                Ask::Trial(trial) => trial,
                Ask::Wait | Ask::Finished => break,
            };
            let id = trial.id;
            self.executor.submit(trial)?;
            self.running += 1;
            self.session.watch(|observer, study| observer.submitted(id, study));
        }
        Ok(())
    }

    /// Whether a new trial may start.
    fn in_time(&self) -> bool {
        self.deadline.is_none_or(|deadline| Instant::now() < deadline)
    }

    /// Runs an action that writes to the journal; repeats it until the write timeout if the disk refuses.
    fn retrying<T>(
        &mut self,
        mut act: impl FnMut(&mut Session<S>) -> Result<T, PipelineError>,
    ) -> Result<T, PipelineError> {
        let Self { session, cancel, write_timeout, .. } = self;
        let start = Instant::now();
        let unsaved = |source: JournalError| {
            let line = source.unwritten().to_owned();
            Err(PipelineError::Unsaved { source, waited: start.elapsed(), line })
        };
        let written = retry(*write_timeout, POLL.max(*write_timeout / 20), || {
            let error = match act(session) {
                Err(PipelineError::Journal(error @ (JournalError::Write { .. } | JournalError::Gone { .. }))) => error,
                outcome => return ControlFlow::Break(outcome),
            };
            let text = causes(&error);
            session.watch(|observer, _| observer.notice(&text));
            if cancel.is_cancelled() { ControlFlow::Break(unsaved(error)) } else { ControlFlow::Continue(error) }
        });
        written.unwrap_or_else(unsaved)
    }

    /// Adds the finished trials to the error if the run folder has disappeared, and saves a journal that was removed
    /// with it.
    fn explained(&mut self, error: PipelineError) -> PipelineError {
        let unsaved = match &error {
            PipelineError::Unsaved { source: JournalError::Gone { .. }, line, .. } => line.as_str(),
            PipelineError::Execute(ExecuteError::Gone { .. }) => "",
            _ => return error,
        };
        let restored = self.session.restore(unsaved);
        let finished = self.session.study().trials().iter().filter(|trial| !trial.is_pending());
        let finished = Finished(finished.map(|trial| trial.id).collect());
        PipelineError::Gone { source: Box::new(error), finished, restored }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{
        aggregate::Best,
        evaluate::{Context, EvalError, from_fn},
        journal,
        primitive::Symbol,
        search::RandomSearch,
        space::SearchSpace,
        study::{Origin, Report, Trial, TrialState},
        testkit,
    };

    /// Evaluates only what no trial of these searches has tried.
    struct Unseen;

    impl Aggregator for Unseen {
        fn fingerprint(&self) -> String {
            "unseen".into()
        }

        fn aggregate(&self, study: &Study) -> Result<Architecture, crate::aggregate::AggregateError> {
            let best = Best.aggregate(study)?;
            Ok(study.space().neighbors(&best).into_iter().find(|near| !study.knows(near)).unwrap_or(best))
        }
    }

    /// Counts its evaluations; the first of every sequence with two layers of attention fails.
    fn pipeline(evaluations: &Arc<AtomicUsize>) -> Pipeline<impl Evaluator + 'static, RandomSearch, Unseen> {
        let evaluations = evaluations.clone();
        let evaluator = from_fn("one layer of attention", move |trial: &Trial, _: &Context| {
            let attention = trial.architecture.count(Symbol::ATTENTION);
            if attention == 2 && trial.failed_attempts == 0 {
                return Err(EvalError::Transient("once".into()));
            }
            evaluations.fetch_add(1, Ordering::Relaxed);
            Ok(Report::score("accuracy", if attention == 1 { 0.9 } else { 0.3 }))
        });
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 6).unwrap();
        let pipeline = Pipeline::new(&Primitives::standard(), space, evaluator).searcher(RandomSearch);
        pipeline.aggregator(Unseen).trials(8).evaluate_aggregated()
    }

    fn origins(journal: &Path) -> Vec<Origin> {
        journal::read(journal).unwrap().1.trials().iter().map(|trial| trial.origin).collect()
    }

    #[test]
    fn what_was_aggregated_is_evaluated_once_wherever_the_search_stops() {
        for workers in [1, 3] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("journal.jsonl");
            let evaluations = Arc::new(AtomicUsize::new(0));
            let search = || pipeline(&evaluations).workers(workers);
            let found = search().journal(&path).run(&Target::llama_1b()).unwrap();
            assert_eq!((found.study.valid_trials(), found.study.trials().len()), (8, 9));
            let aggregated = found.study.trials().last().unwrap();
            assert_eq!((&aggregated.architecture, aggregated.origin), (&found.aggregated, Origin::Aggregated));
            assert!(matches!(aggregated.state, TrialState::Completed(_)));
            // The same call again evaluates nothing.
            assert_eq!(search().journal(&path).run(&Target::llama_1b()).unwrap().study, found.study);
            assert_eq!(evaluations.load(Ordering::Relaxed), 9);
            let folder = tempfile::tempdir().unwrap();
            testkit::pipeline::check(search, &Target::llama_1b(), folder.path()).unwrap();
            // A larger budget continues the search and keeps what was aggregated before.
            let more = search().trials(12).journal(&path).run(&Target::llama_1b()).unwrap().study;
            assert_eq!((&more.trials()[..9], more.valid_trials()), (found.study.trials(), 12));
        }
    }

    #[test]
    fn a_search_out_of_time_merges_when_it_resumes() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::llama_1b();
        let path = folder.path().join("journal.jsonl");
        let evaluations = Arc::new(AtomicUsize::new(0));
        pipeline(&evaluations).trials(3).journal(&path).aggregator(Best).run(&target).unwrap();
        let before = origins(&path).len();
        pipeline(&evaluations).time_limit(Duration::ZERO).journal(&path).run(&target).unwrap();
        assert_eq!(origins(&path).len(), before);
        pipeline(&evaluations).journal(&path).run(&target).unwrap();
        let origins = origins(&path);
        assert_eq!(origins[8..], [Origin::Aggregated]);
        assert!(origins[..8].iter().all(|&origin| origin == Origin::Searcher));
    }
}
