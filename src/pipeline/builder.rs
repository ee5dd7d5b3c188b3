//! The stages and the limits of a search.

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

/// A whole search: space, evaluator, searcher, aggregator and extrapolator, with its limits.
///
/// Each setter of a stage changes one type parameter; `Box<dyn ...>` of a stage is a stage too.
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

/// Everything that is no stage.
pub(super) struct Options {
    pub space: SearchSpace,
    pub goal: Goal,
    pub costs: Option<Arc<dyn KnownCosts>>,
    pub seed: Seed,
    pub trials: usize,
    pub time: Option<Duration>,
    pub workers: usize,
    pub eager: bool,
    pub evaluate_merged: bool,
    pub max_attempts: u32,
    pub stopping: Option<Box<dyn Pruner>>,
    pub racing: Option<Racing>,
    pub journal: Option<PathBuf>,
    pub write_timeout: Duration,
    pub candidates: Vec<Architecture>,
    pub invalid: Vec<(TrialId, String)>,
    pub executor: Option<Box<dyn Executor>>,
    pub observers: Vec<Box<dyn Observer>>,
    pub cancel: CancelToken,
}

impl<E: Evaluator> Pipeline<E> {
    /// A search of `space` that maximises `accuracy`, with Bayesian optimisation, N_0 clustering and automatic
    /// extrapolation; 24 trials, one worker, seed 0, no journal.
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
                evaluate_merged: false,
                max_attempts: 3,
                stopping: None,
                racing: None,
                journal: None,
                write_timeout: Duration::from_secs(60),
                candidates: Vec::new(),
                invalid: Vec::new(),
                executor: None,
                observers: Vec::new(),
                cancel: CancelToken::default(),
            },
        }
    }
}

impl<E, S, A, X> Pipeline<E, S, A, X> {
    /// Proposes with `searcher`.
    pub fn searcher<T>(self, searcher: T) -> Pipeline<E, T, A, X> {
        let Self { primitives, evaluator, aggregator, extrapolator, options, .. } = self;
        Pipeline { primitives, evaluator, searcher, aggregator, extrapolator, options }
    }

    /// Merges the trials with `aggregator`.
    pub fn aggregator<T>(self, aggregator: T) -> Pipeline<E, S, T, X> {
        let Self { primitives, evaluator, searcher, extrapolator, options, .. } = self;
        Pipeline { primitives, evaluator, searcher, aggregator, extrapolator, options }
    }

    /// Scales the result with `extrapolator`.
    pub fn extrapolator<T>(self, extrapolator: T) -> Pipeline<E, S, A, T> {
        let Self { primitives, evaluator, searcher, aggregator, options, .. } = self;
        Pipeline { primitives, evaluator, searcher, aggregator, extrapolator, options }
    }

    /// Optimises this; `accuracy`, as much as possible, by default. A goal that names costs needs
    /// [`costs`](Self::costs).
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.options.goal = goal;
        self
    }

    /// States the costs that the goal names: those of the target, [`TargetCosts`](crate::extrapolate::TargetCosts), or
    /// others. They are part of what a journal compares.
    #[must_use]
    pub fn costs(mut self, costs: impl KnownCosts + 'static) -> Self {
        self.options.costs = Some(Arc::new(costs));
        self
    }

    /// The root of everything random; 0 by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = Seed(seed);
        self
    }

    /// Stops after so many trials in total, those of earlier runs included and those marked invalid left out; 24 by
    /// default. A larger number continues a search that had stopped.
    #[must_use]
    pub fn trials(mut self, trials: usize) -> Self {
        self.options.trials = trials;
        self
    }

    /// Starts no new trial after this time, counted from the start of this run; what runs then is finished.
    #[must_use]
    pub fn time_limit(mut self, time: Duration) -> Self {
        self.options.time = Some(time);
        self
    }

    /// Evaluates so many trials at once, each on one thread of this process; 1 by default.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.options.workers = workers;
        self
    }

    /// Evaluates elsewhere than on threads of this process.
    #[must_use]
    pub fn executor(mut self, executor: impl Executor + 'static) -> Self {
        self.options.executor = Some(Box::new(executor));
        self
    }

    /// Lets the searcher use every outcome as soon as it is there. Workers never wait then, but with more than one the
    /// result depends on their speed. Without it, the same seed and number of workers give the same search; see
    /// [`Session::lag`].
    #[must_use]
    pub fn eager(mut self) -> Self {
        self.options.eager = true;
        self
    }

    /// Evaluates what was merged before it is handed out, where no trial has done so: a merged sequence can be worse
    /// than the best trial. One trial more than the budget says; what is merged stays the same. A search that runs out
    /// of time leaves it.
    #[must_use]
    pub fn evaluate_merged(mut self) -> Self {
        self.options.evaluate_merged = true;
        self
    }

    /// Ends trials that fall behind by this rule; none by default. The journal remembers it. The evaluator must tell
    /// its running value, as [`Mad`](crate::evaluate::mad::Mad) does; others are never stopped.
    #[must_use]
    pub fn stop_early(mut self, rule: impl Pruner + 'static) -> Self {
        self.options.stopping = Some(Box::new(rule));
        self
    }

    /// Ends the repetitions of trials that cannot lead any more by this rule; none by default. The journal remembers
    /// it.
    #[must_use]
    pub fn racing(mut self, rule: Racing) -> Self {
        self.options.racing = Some(rule);
        self
    }

    /// Attempts per trial before a transient error is recorded as a failure; 3 by default.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.options.max_attempts = attempts;
        self
    }

    /// Keeps the search in this file; where it exists, the search resumes.
    #[must_use]
    pub fn journal(mut self, path: impl AsRef<Path>) -> Self {
        self.options.journal = Some(path.as_ref().into());
        self
    }

    /// How long to wait for a journal that cannot be written, on a full disk for example; a minute by default.
    #[must_use]
    pub fn write_timeout(mut self, write_timeout: Duration) -> Self {
        self.options.write_timeout = write_timeout;
        self
    }

    /// Evaluates these candidates before the searcher is asked; they count against the budget. Those that the study
    /// knows already are passed over, so that running again adds nothing.
    #[must_use]
    pub fn candidates(mut self, candidates: impl IntoIterator<Item = Architecture>) -> Self {
        self.options.candidates.extend(candidates);
        self
    }

    /// Sets a finished trial aside before the search goes on; one that is set aside already stays so.
    #[must_use]
    pub fn invalidate(mut self, id: TrialId, reason: impl Into<String>) -> Self {
        self.options.invalid.push((id, reason.into()));
        self
    }

    /// Tells `observer` what happens; any number may watch.
    #[must_use]
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.options.observers.push(Box::new(observer));
        self
    }

    /// A token that stops the search from elsewhere, such as a signal handler.
    pub fn cancel_token(&self) -> CancelToken {
        self.options.cancel.clone()
    }
}

impl<E: Evaluator, S: Searcher, A: Aggregator, X: Extrapolator> Pipeline<E, S, A, X> {
    /// The part of the configuration that the results depend on; what a journal keeps and is checked against.
    ///
    /// # Errors
    /// [`RegistryError`] when the space names an unknown primitive.
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

    /// The session under this search, for those who own the loop. How many workers there are is theirs to say: the
    /// setup does not know it.
    ///
    /// # Errors
    /// [`PipelineError`] when the space names an unknown primitive or the journal cannot be used.
    pub fn into_session(self) -> Result<Session<S>, PipelineError> {
        let setup = Setup { workers: None, eager: false, ..self.setup()? };
        self.options.into_session(setup, self.searcher)
    }
}

impl Options {
    /// The rules that end trials early, where there are any.
    fn stopping_fingerprint(&self) -> Option<String> {
        let pruner = self.stopping.as_ref().map(Pruner::fingerprint);
        let rules: Vec<_> = pruner.into_iter().chain(self.racing.as_ref().map(Racing::fingerprint)).collect();
        (!rules.is_empty()).then(|| rules.join(", "))
    }

    /// The costs, where the goal names some.
    fn named_costs(&self) -> Option<Arc<dyn KnownCosts>> {
        self.costs.clone().filter(|_| !self.goal.costs().is_empty())
    }

    /// A session of this setup, with all that is no stage.
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
        for architecture in self.candidates {
            if !session.study().knows(&architecture) {
                session.add(architecture)?;
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
