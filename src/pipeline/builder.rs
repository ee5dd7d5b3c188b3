//! The builder of a search: its stages and its options.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Observer, PipelineError, Session};
use crate::{
    aggregate::{Aggregator, NcClustering},
    evaluate::{CancelToken, Evaluator},
    execute::Executor,
    extrapolate::{Auto, Extrapolator},
    journal::Setup,
    primitive::{Primitives, RegistryError},
    search::{GpBo, Searcher},
    seed::Seed,
    space::{Architecture, SearchSpace},
    stopping::{Pruner, Racing},
    study::{Goal, KnownCostError, KnownCosts, TrialId},
};

/// A complete search: a space, an evaluator, a searcher, an aggregator, an extrapolator, and options.
///
/// Start with [`new`](Self::new), which needs only the primitives, the space and the evaluator, then replace the
/// defaults that do not fit, and call [`run`](Self::run). Each setter of a stage changes one type parameter. A stage
/// can also be a `Box<dyn ...>`.
///
/// ```no_run
/// use composer_nas::prelude::*;
/// let primitives = Primitives::standard();
/// let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu"])?, 6)?;
/// let found = Pipeline::new(&primitives, space, Mad::quick(&primitives, &Device::flex()))
///     .aggregator(NcClustering::n0())
///     .trials(24)
///     .journal("runs/hello/journal.jsonl") // exists? then it resumes
///     .run(&Target::llama_1b())?;
/// println!("{} -> {}", found.aggregated, found.target.architecture);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pipeline<E, S = GpBo, A = NcClustering, X = Auto> {
    pub(super) primitives: Primitives,
    pub(super) evaluator: E,
    pub(super) searcher: S,
    pub(super) aggregator: A,
    pub(super) extrapolator: X,
    pub(super) options: Options,
}

/// The configuration apart from the stages.
pub(super) struct Options {
    pub space: SearchSpace,
    pub goal: Goal,
    pub costs: Option<Arc<dyn KnownCosts>>,
    pub seed: Seed,
    pub trials: usize,
    pub time: Option<Duration>,
    pub workers: usize,
    pub eager: bool,
    pub evaluate_aggregated: bool,
    pub max_attempts: u32,
    pub stopping: Option<Box<dyn Pruner>>,
    pub racing: Option<Racing>,
    pub journal: Option<PathBuf>,
    pub write_timeout: Duration,
    pub enqueued: Vec<Architecture>,
    pub invalid: Vec<(TrialId, String)>,
    pub executor: Option<Box<dyn Executor>>,
    pub observers: Vec<Box<dyn Observer>>,
    pub cancel: CancelToken,
}

impl<E: Evaluator> Pipeline<E> {
    /// Returns a search of `space` that maximises the score `accuracy`.
    ///
    /// Defaults: Bayesian optimisation, N_0 clustering, automatic extrapolation, 24 trials, one worker, seed 0, no
    /// journal.
    pub fn new(primitives: &Primitives, space: SearchSpace, evaluator: E) -> Self {
        Self {
            primitives: primitives.clone(),
            evaluator,
            searcher: GpBo::default(),
            aggregator: NcClustering::default(),
            extrapolator: Auto,
            options: Options {
                space,
                goal: Goal::default(),
                costs: None,
                seed: Seed(0),
                trials: 24,
                time: None,
                workers: 1,
                eager: false,
                evaluate_aggregated: false,
                max_attempts: 3,
                stopping: None,
                racing: None,
                journal: None,
                write_timeout: Duration::from_secs(60),
                enqueued: Vec::new(),
                invalid: Vec::new(),
                executor: None,
                observers: Vec::new(),
                cancel: CancelToken::default(),
            },
        }
    }
}

impl<E, S, A, X> Pipeline<E, S, A, X> {
    /// Sets the searcher, which proposes the trials.
    #[must_use]
    pub fn searcher<T: Searcher>(self, searcher: T) -> Pipeline<E, T, A, X> {
        let Self { primitives, evaluator, aggregator, extrapolator, options, .. } = self;
        Pipeline { primitives, evaluator, searcher, aggregator, extrapolator, options }
    }

    /// Sets the aggregator, which turns the trials into one architecture.
    #[must_use]
    pub fn aggregator<T: Aggregator>(self, aggregator: T) -> Pipeline<E, S, T, X> {
        let Self { primitives, evaluator, searcher, extrapolator, options, .. } = self;
        Pipeline { primitives, evaluator, searcher, aggregator, extrapolator, options }
    }

    /// Sets the extrapolator, which scales the aggregated architecture to the target.
    #[must_use]
    pub fn extrapolator<T: Extrapolator>(self, extrapolator: T) -> Pipeline<E, S, A, T> {
        let Self { primitives, evaluator, searcher, aggregator, options, .. } = self;
        Pipeline { primitives, evaluator, searcher, aggregator, extrapolator, options }
    }

    /// Sets the goal; by default, the score `accuracy` is maximised. A goal that names costs needs
    /// [`costs`](Self::costs).
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.options.goal = goal;
        self
    }

    /// Sets the source of the costs that the goal names, for example those of the target,
    /// [`TargetCosts`](crate::extrapolate::TargetCosts). A journal can be continued only with the same costs.
    #[must_use]
    pub fn costs(mut self, costs: impl KnownCosts + 'static) -> Self {
        self.options.costs = Some(Arc::new(costs));
        self
    }

    /// Sets the seed of all random numbers; 0 by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = Seed(seed);
        self
    }

    /// Sets the budget: the total number of trials, including those of earlier runs but not those marked invalid; 24 by
    /// default. Use a larger number to continue a finished search.
    #[must_use]
    pub fn trials(mut self, trials: usize) -> Self {
        self.options.trials = trials;
        self
    }

    /// Starts no new trial after this time, counted from the start of this run. Running trials are finished.
    #[must_use]
    pub fn time_limit(mut self, time: Duration) -> Self {
        self.options.time = Some(time);
        self
    }

    /// Evaluates this many trials in parallel, each on one thread of this process; 1 by default.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.options.workers = workers;
        self
    }

    /// Sets the executor, to evaluate trials elsewhere than on threads of this process.
    #[must_use]
    pub fn executor(mut self, executor: impl Executor + 'static) -> Self {
        self.options.executor = Some(Box::new(executor));
        self
    }

    /// Lets the searcher use every result as soon as it arrives.
    ///
    /// Workers then never wait, but with more than one worker the search depends on their speed. Without this option,
    /// the same seed and number of workers give the same search; see [`Session::lag`].
    #[must_use]
    pub fn eager(mut self) -> Self {
        self.options.eager = true;
        self
    }

    /// Evaluates the aggregated architecture if no trial has done so, since it can be worse than the best trial.
    ///
    /// This is one trial beyond the budget. It does not change which architecture is returned. It is skipped if the
    /// time limit is reached.
    #[must_use]
    pub fn evaluate_aggregated(mut self) -> Self {
        self.options.evaluate_aggregated = true;
        self
    }

    /// Stops trials early according to this rule; by default, none are. The rule is recorded in the journal.
    ///
    /// This needs an evaluator that reports intermediate values, such as [`Mad`](crate::evaluate::mad::Mad). Trials of
    /// other evaluators are never stopped.
    #[must_use]
    pub fn stop_early(mut self, rule: impl Pruner + 'static) -> Self {
        self.options.stopping = Some(Box::new(rule));
        self
    }

    /// Ends the repetitions of trials that can no longer lead; off by default. The journal records the rule.
    #[must_use]
    pub fn racing(mut self, rule: Racing) -> Self {
        self.options.racing = Some(rule);
        self
    }

    /// Sets how often a trial is attempted before a transient error is recorded as a failure; 3 by default, at least 1.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.options.max_attempts = attempts;
        self
    }

    /// Sets the path of the journal. If the file exists, the search resumes.
    #[must_use]
    pub fn journal(mut self, path: impl AsRef<Path>) -> Self {
        self.options.journal = Some(path.as_ref().into());
        self
    }

    /// Sets how long to retry if the journal cannot be written, for example on a full disk; 60 s by default.
    #[must_use]
    pub fn write_timeout(mut self, write_timeout: Duration) -> Self {
        self.options.write_timeout = write_timeout;
        self
    }

    /// Evaluates these architectures before the searcher is asked. They count against the budget. Architectures that
    /// were already tried or queued are skipped, so running the same program again adds nothing.
    #[must_use]
    pub fn enqueue(mut self, architectures: impl IntoIterator<Item = Architecture>) -> Self {
        self.options.enqueued.extend(architectures);
        self
    }

    /// Marks a finished trial as invalid before the search continues. Does nothing if it is already marked.
    #[must_use]
    pub fn invalidate(mut self, id: TrialId, reason: impl Into<String>) -> Self {
        self.options.invalid.push((id, reason.into()));
        self
    }

    /// Adds an observer, which is notified of what happens. There can be several.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.options.observers.push(Box::new(observer));
        self
    }

    /// Returns a token that cancels the search, for example from a signal handler.
    pub fn cancel_token(&self) -> CancelToken {
        self.options.cancel.clone()
    }
}

impl<E: Evaluator, S: Searcher, A: Aggregator, X: Extrapolator> Pipeline<E, S, A, X> {
    /// Returns the part of the configuration that determines the results. A journal can be continued only with the same
    /// setup.
    ///
    /// # Errors
    /// [`RegistryError`] if the space names an unknown primitive.
    pub fn setup(&self) -> Result<Setup, RegistryError> {
        let id = |symbol| Ok((symbol, self.primitives.get(symbol)?.id()));
        Ok(Setup {
            space: self.options.space.clone(),
            primitives: self.options.space.symbols().into_iter().map(id).collect::<Result<_, _>>()?,
            goal: self.options.goal.clone(),
            seed: self.options.seed,
            searcher: self.searcher.fingerprint(),
            evaluator: self.evaluator.fingerprint(),
            costs: self.options.named_costs().map(|costs| costs.fingerprint()),
            stopping: self.options.stopping_fingerprint(),
            workers: Some(self.options.executor.as_ref().map_or(self.options.workers, Executor::capacity)),
            eager: self.options.eager,
            aggregator: Some(self.aggregator.fingerprint()),
            extrapolator: Some(self.extrapolator.fingerprint()),
        })
    }

    /// Turns this search into a session, for those who write the loop themselves. The number of workers is not part of
    /// its setup, because the session does not know it.
    ///
    /// # Errors
    /// [`PipelineError`] if the space names an unknown primitive or the journal cannot be used.
    pub fn into_session(self) -> Result<Session<S>, PipelineError> {
        let setup = Setup { workers: None, eager: false, ..self.setup()? };
        self.options.into_session(setup, self.searcher)
    }
}

impl Options {
    /// Returns the fingerprints of the rules that end trials early, if there are any.
    fn stopping_fingerprint(&self) -> Option<String> {
        let pruner = self.stopping.as_ref().map(Pruner::fingerprint);
        let rules: Vec<_> = pruner.into_iter().chain(self.racing.as_ref().map(Racing::fingerprint)).collect();
        (!rules.is_empty()).then(|| rules.join(", "))
    }

    /// Returns the costs if the goal names any.
    fn named_costs(&self) -> Option<Arc<dyn KnownCosts>> {
        self.costs.clone().filter(|_| !self.goal.costs().is_empty())
    }

    /// Opens a session with these options.
    pub(super) fn into_session<S: Searcher>(self, setup: Setup, searcher: S) -> Result<Session<S>, PipelineError> {
        let session = match &self.journal {
            Some(path) => Session::open(path, setup, searcher)?,
            None => Session::without_journal(setup, searcher),
        };
        let mut session = session.max_attempts(self.max_attempts);
        if let Some(costs) = self.named_costs() {
            session = session.costs(costs)?;
        } else if let Some(name) = self.goal.costs().into_iter().next() {
            return Err(KnownCostError::Missing(name).into());
        }
        if let Some(rule) = self.stopping {
            session = session.stop_early(rule);
        }
        if let Some(rule) = self.racing {
            session = session.racing(rule);
        }
        session.observers.extend(self.observers);
        for (id, reason) in self.invalid {
            if !session.study().trial(id)?.is_invalid() {
                session.invalidate(id, reason)?;
            }
        }
        for architecture in self.enqueued {
            if !session.study().knows(&architecture) {
                session.enqueue(architecture)?;
            }
        }
        Ok(session)
    }
}

impl<E, S: fmt::Debug, A: fmt::Debug, X: fmt::Debug> fmt::Debug for Pipeline<E, S, A, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("space", &self.options.space)
            .field("searcher", &self.searcher)
            .field("aggregator", &self.aggregator)
            .field("extrapolator", &self.extrapolator)
            .finish_non_exhaustive()
    }
}
