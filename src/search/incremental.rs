//! Growing an architecture stage by stage (Composer, Acun, Sinha et al. 2026, arXiv 2510.00379, section on search
//! strategies). The one-shot strategy of the paper is any searcher on its own.

use std::ops::{ControlFlow, Range};

use super::{Proposal, SearchError, Searcher, unknown::Unknown};
use crate::{
    aggregate::{Aggregator, NcClustering},
    primitive::Symbol,
    seed::Rng,
    space::{Architecture, Constraint, SearchSpace, SpaceConfig, SpaceError},
    study::Study,
};

/// Where the new layers of a stage go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// After the winner of the previous stage.
    End,
    /// In the middle of the winner. If its number of layers is odd, the first half is the shorter one.
    Middle,
}

/// Searches sequences of `n`, then `2n`, `3n`, ... layers with any searcher, and keeps the winner of each stage.
///
/// For a space of `N` layers there are `⌈N/n⌉` stages; the last adds what is left. Stage 1 searches sequences of `n`
/// layers. Each later stage keeps the layers of the winner before it, adds `n` layers on a [`Side`], and searches
/// those. The winner is what an [`Aggregator`] makes of the stage's observations: [`NcClustering::n0`] by default.
///
/// ```
/// use composer_nas::{pipeline::Ask, prelude::*, search::{Incremental, RegularizedEvolution, Side}};
/// let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 6)?;
/// let searcher = Incremental::new(RegularizedEvolution::default(), Side::End, 2, 4)?;
/// let mut session = Session::in_memory(space, Goal::default(), Seed(7), searcher);
/// for trial in 0..12 {
///     let Ask::Trial(trial) = session.ask()? else { break };
///     assert_eq!(trial.architecture.len() as u64, 2 * (trial.id.0 / 4 + 1));
///     let accuracy = trial.architecture.count(Symbol::SWIGLU) as f64 / 6.0;
///     session.tell(trial.id, Ok(Report::score("accuracy", accuracy)))?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What a stage searches
///
/// The layers that are still missing form a gap: after a stage's sequences for [`Side::End`], in their middle for
/// [`Side::Middle`]. The layers before the gap are the first layers of the space, and those after it are the last ones.
/// Each has the same choices as in the space, including pinned layers.
/// - The last stage has no gap. Its space is that of the study, with the winner's layers pinned and all constraints.
/// - In earlier stages, a [`Constraint::Count`] is widened by the number of layers of the symbol that the gap may hold,
///   a [`Constraint::Budget`] reserves the cheapest layers for the gap, and [`Constraint::MaxRun`] applies to the part
///   itself. If it cannot be satisfied where the two halves meet, which the gap will separate, it applies only in the
///   last stage.
/// - If the winner cannot be completed to a sequence of the space, the stage's best observation that can is used, and
///   if an exhausted stage has none, its first sequence that can. A search therefore does not end because parts fail.
///
/// # When a stage ends
///
/// A stage ends when it has `trials_per_stage` trials (failed ones count, invalid ones do not) with a winner among
/// them, or when its space is exhausted; in both cases, all its trials must have results. Until then, more trials are
/// proposed, or the answer is `Wait`. The last stage continues until the budget is spent or its space is exhausted:
/// give the search [`stages`](Self::stages)` × trials_per_stage` trials.
///
/// The stage is derived from the study alone. Invalidating a trial may therefore return the search to an earlier stage;
/// later trials count again if the same winner results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incremental<S, A = NcClustering> {
    inner: S,
    side: Side,
    step: usize,
    trials_per_stage: usize,
    aggregator: A,
}

impl<S> Incremental<S> {
    /// Creates a searcher that adds `step` layers per stage; `inner` proposes the `trials_per_stage` trials of a stage.
    ///
    /// # Errors
    /// [`SearchError::Zero`] if either number is zero.
    pub fn new(inner: S, side: Side, step: usize, trials_per_stage: usize) -> Result<Self, SearchError> {
        let searcher = "incremental";
        match (step, trials_per_stage) {
            (0, _) => Err(SearchError::Zero { searcher, setting: "step" }),
            (_, 0) => Err(SearchError::Zero { searcher, setting: "trials_per_stage" }),
            _ => Ok(Self { inner, side, step, trials_per_stage, aggregator: NcClustering::n0() }),
        }
    }
}

impl<S, A> Incremental<S, A> {
    /// Chooses the winners with `aggregator`.
    #[must_use]
    pub fn aggregator<B: Aggregator>(self, aggregator: B) -> Incremental<S, B> {
        let Self { inner, side, step, trials_per_stage, .. } = self;
        Incremental { inner, side, step, trials_per_stage, aggregator }
    }

    /// Returns the number of stages for a space.
    pub fn stages(&self, space: &SearchSpace) -> usize {
        space.layers().div_ceil(self.step)
    }
}

impl<S: Searcher, A: Aggregator> Incremental<S, A> {
    /// Returns the winner of a stage before the last if the stage has ended, otherwise an answer. `study` is the view
    /// within the stage's space.
    fn ask_in(
        &mut self,
        stage: Stage,
        study: &Study,
        rng: &mut Rng,
    ) -> Result<ControlFlow<Proposal, Architecture>, SearchError> {
        let pending = study.pending().next().is_some();
        if study.full_length_trials().count() >= self.trials_per_stage {
            if pending {
                return Ok(ControlFlow::Break(Proposal::Wait));
            }
            if let Some(winner) = self.winner(stage, study)? {
                return Ok(ControlFlow::Continue(winner));
            }
        }
        match self.inner.ask(study, rng)? {
            Proposal::Finished if pending => Ok(ControlFlow::Break(Proposal::Wait)),
            Proposal::Finished => match self.winner(stage, study)? {
                Some(winner) => Ok(ControlFlow::Continue(winner)),
                None => Ok(ControlFlow::Continue(stage.first_completable()?)),
            },
            answer => Ok(ControlFlow::Break(answer)),
        }
    }

    /// Returns the aggregated architecture if it can be completed, otherwise the best observation that can; on ties,
    /// the first. Trials that ran to their end come before those that lost a race.
    fn winner(&self, stage: Stage, study: &Study) -> Result<Option<Architecture>, SearchError> {
        if study.observations().next().is_none() {
            return Ok(None);
        }
        let completable = |winner: &Architecture| stage.completions(winner).is_ok();
        let aggregated = self.aggregator.aggregate(study)?;
        if completable(&aggregated) {
            return Ok(Some(aggregated));
        }
        let best = study
            .observations()
            .filter(|seen| completable(&seen.trial.architecture))
            .reduce(|best, next| if next.rank() > best.rank() { next } else { best });
        Ok(best.map(|seen| seen.trial.architecture.clone()))
    }
}

impl<S: Searcher, A: Aggregator> Searcher for Incremental<S, A> {
    fn fingerprint(&self) -> String {
        let Self { inner, side, step, trials_per_stage, aggregator } = self;
        let side = match side {
            Side::End => "end",
            Side::Middle => "middle",
        };
        let inner = inner.fingerprint();
        let aggregator = aggregator.fingerprint();
        format!("incremental({inner}, side={side}, step={step}, trials_per_stage={trials_per_stage}, {aggregator})")
    }

    fn ask(&mut self, study: &Study, rng: &mut Rng) -> Result<Proposal, SearchError> {
        // In any stage: if nothing is left to find, the search has ended.
        if Unknown::new(study).count() == 0 {
            return Ok(Proposal::Finished);
        }
        let whole = study.space();
        let mut winner = Architecture::default();
        for number in 1..self.stages(whole) {
            let stage = Stage { side: self.side, whole, layers: number * self.step, kept: &winner };
            match self.ask_in(stage, &study.within(&stage.space()?), rng)? {
                ControlFlow::Continue(next) => winner = next,
                ControlFlow::Break(answer) => return Ok(answer),
            }
        }
        let last = Stage { side: self.side, whole, layers: whole.layers(), kept: &winner };
        self.inner.ask(&study.within(&last.space()?), rng)
    }

    fn notice(&mut self) -> Option<String> {
        self.inner.notice()
    }
}

/// A stage: the sequences of a given number of layers that keep the winner so far, with a gap for the layers to come.
#[derive(Clone, Copy, Debug)]
struct Stage<'a> {
    side: Side,
    whole: &'a SearchSpace,
    layers: usize,
    /// The winner of the previous stage; empty in the first.
    kept: &'a Architecture,
}

impl Side {
    /// Returns how many of a number of layers come before the gap.
    fn before_the_gap(self, layers: usize) -> usize {
        match self {
            Side::End => layers,
            Side::Middle => layers / 2,
        }
    }
}

impl Stage<'_> {
    /// Returns the layers of the whole space that this stage leaves out.
    fn gap(self) -> Range<usize> {
        let start = self.side.before_the_gap(self.layers);
        start..start + self.whole.layers().saturating_sub(self.layers)
    }

    /// Returns the space of this stage. [`SpaceError::Contradiction`] if the winner cannot be completed.
    fn space(self) -> Result<SearchSpace, SpaceError> {
        let config = self.whole.config();
        let gap = self.gap();
        let mut layers = [&config.layers[..gap.start], &config.layers[gap.end..]].concat();
        let (head, tail) = self.kept.layers().split_at(self.side.before_the_gap(self.kept.len()));
        let behind = layers.len() - tail.len();
        let places = (0..head.len()).chain(behind..layers.len());
        for (layer, &symbol) in places.zip(self.kept.layers()) {
            layers[layer].retain(|&choice| choice == symbol);
        }
        let hidden = &config.layers[gap];
        let constraints: Vec<_> = config.constraints.iter().map(|constraint| widened(constraint, hidden)).collect();
        let space = SearchSpace::new(SpaceConfig { layers: layers.clone(), constraints: constraints.clone() });
        match space {
            Err(SpaceError::Contradiction(_)) if !hidden.is_empty() => {
                let sums = |constraint: &Constraint| !matches!(constraint, Constraint::MaxRun { .. });
                SearchSpace::new(SpaceConfig { layers, constraints: constraints.into_iter().filter(sums).collect() })
            }
            space => space,
        }
    }

    /// Returns the space of the sequences of the whole space that keep `winner`, a sequence of this stage.
    fn completions(self, winner: &Architecture) -> Result<SearchSpace, SpaceError> {
        let Self { side, whole, .. } = self;
        Stage { side, whole, layers: whole.layers(), kept: winner }.space()
    }

    /// Returns the first sequence of the whole space that keeps the winner, without the layers in the gap.
    fn first_completable(self) -> Result<Architecture, SpaceError> {
        let gap = self.gap();
        let first = self.completions(self.kept)?.nth(0).unwrap_or_default();
        let layers = first.layers().iter().enumerate().filter(|(layer, _)| !gap.contains(layer));
        Ok(Architecture::new(layers.map(|(_, &symbol)| symbol)))
    }
}

/// Returns the constraint that a part of a sequence must satisfy, if the layers with these choices are still to come.
fn widened(constraint: &Constraint, hidden: &[Vec<Symbol>]) -> Constraint {
    match constraint {
        &Constraint::Count { symbol, min, max } => {
            let possible = hidden.iter().filter(|choices| choices.contains(&symbol)).count();
            let certain = hidden.iter().filter(|choices| **choices == [symbol]).count();
            let max = if max == usize::MAX { max } else { max.saturating_sub(certain) };
            Constraint::Count { symbol, min: min.saturating_sub(possible), max }
        }
        Constraint::MaxRun { .. } => constraint.clone(),
        Constraint::Budget { what, costs, max } => {
            let cheapest = |choices: &Vec<Symbol>| choices.iter().filter_map(|choice| costs.get(choice)).min().copied();
            let max = hidden.iter().filter_map(cheapest).fold(*max, u64::saturating_sub);
            Constraint::Budget { what: what.clone(), costs: costs.clone(), max }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::Best,
        search::{Exhaustive, LocalSearch, RandomSearch, RegularizedEvolution},
        seed::Seed,
        study::{Event, Failure, FailureKind, Goal, Origin, Report, TrialId},
    };

    const A: Symbol = Symbol::ATTENTION;
    const M: Symbol = Symbol::SWIGLU;

    fn space(layers: usize) -> SearchSpace {
        SearchSpace::uniform([A, M], layers).unwrap()
    }

    fn stage(side: Side, layers: usize, whole: &SearchSpace, winner: &str) -> Result<SearchSpace, SpaceError> {
        let winner = if winner.is_empty() { Architecture::default() } else { winner.parse().unwrap() };
        Stage { side, whole, layers, kept: &winner }.space()
    }

    fn ask(searcher: &mut impl Searcher, study: &Study) -> Proposal {
        searcher.ask(study, &mut Seed(3).rng("test", study.next_id().0)).unwrap()
    }

    fn propose(study: &mut Study, architecture: Architecture) -> TrialId {
        let id = study.next_id();
        study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
        id
    }

    fn complete(study: &mut Study, id: TrialId, value: f64) {
        study.apply(Event::Completed { id, report: Report::score("accuracy", value) }).unwrap();
    }

    /// Up to so many trials, one after the other.
    fn search(mut searcher: impl Searcher, space: SearchSpace, trials: usize, f: impl Fn(&str) -> f64) -> Study {
        let mut study = Study::new(space, Goal::default());
        while study.trials().len() < trials
            && let Proposal::Evaluate(architecture) = ask(&mut searcher, &study)
        {
            let value = f(&architecture.letters());
            let id = propose(&mut study, architecture);
            complete(&mut study, id, value);
        }
        study
    }

    fn matches(text: &str, target: &str) -> f64 {
        text.bytes().zip(target.bytes()).filter(|(a, b)| a == b).count() as f64
    }

    #[test]
    fn which_optima_a_strategy_reaches() {
        // Parts are worth what they say about the beginning, about both ends, or they mislead.
        let by_beginning = |text: &str| matches(text, "AMMA");
        let by_ends = |text: &str| {
            let half = text.len() / 2;
            matches(&text[..half], "AMMA") + matches(&text[half..], &"AMMA"[4 - (text.len() - half)..])
        };
        let misleading = |text: &str| if text.len() < 4 { -matches(text, "AAAA") } else { matches(text, "AAAA") };
        let reach = |f: &dyn Fn(&str) -> f64| {
            let finds = |study: Study| study.best().is_some_and(|best| best.value == 4.0);
            let grown = |side| Incremental::new(Exhaustive, side, 2, 4).unwrap().aggregator(Best);
            [
                finds(search(Exhaustive, space(4), 99, f)),
                finds(search(grown(Side::End), space(4), 99, f)),
                finds(search(grown(Side::Middle), space(4), 99, f)),
            ]
        };
        assert_eq!(reach(&by_beginning), [true, true, false]);
        assert_eq!(reach(&by_ends), [true, false, true]);
        assert_eq!(reach(&misleading), [true, false, false]);
    }

    #[test]
    fn any_searcher_grows_sequences_to_full_length() {
        fn lengths(inner: impl Searcher, side: Side) {
            let name = inner.fingerprint();
            let grown = Incremental::new(inner, side, 3, 5).unwrap();
            assert_eq!(grown.stages(&space(10)), 4);
            let study = search(grown, space(10), 99, |text| matches(text, "AAAAMMMMAA"));
            let lengths: Vec<_> = study.trials().iter().map(|trial| trial.architecture.len()).collect();
            // The last stage adds one layer: two sequences.
            assert_eq!(lengths, [vec![3; 5], vec![6; 5], vec![9; 5], vec![10; 2]].concat(), "{name}");
            assert_eq!(study.observations().count(), 2);
            let known: std::collections::BTreeSet<_> = study.trials().iter().map(|t| &t.architecture).collect();
            assert_eq!(known.len(), 17, "{name}");
        }
        for side in [Side::End, Side::Middle] {
            lengths(RandomSearch, side);
            lengths(Exhaustive, side);
            lengths(LocalSearch::new(2).unwrap(), side);
            lengths(RegularizedEvolution::new(3, 2).unwrap(), side);
            lengths(Box::new(RandomSearch) as Box<dyn Searcher>, side);
        }
    }

    #[test]
    fn one_stage_is_the_inner_searcher() {
        let f = |text: &str| matches(text, "AMAM");
        for step in [4, 9] {
            let grown = Incremental::new(RandomSearch, Side::Middle, step, 2).unwrap();
            assert_eq!(search(grown, space(4), 99, f), search(RandomSearch, space(4), 99, f));
        }
    }

    #[test]
    fn a_boundary_waits_for_every_outcome() {
        let mut grown = Incremental::new(RandomSearch, Side::End, 2, 3).unwrap();
        let mut study = Study::new(space(4), Goal::default());
        let mut ids = Vec::new();
        for _ in 0..3 {
            let Proposal::Evaluate(pair) = ask(&mut grown, &study) else { panic!() };
            ids.push(propose(&mut study, pair));
        }
        complete(&mut study, ids[0], 0.1);
        let failure = Failure { kind: FailureKind::Infeasible, reason: String::new() };
        study.apply(Event::Failed { id: ids[1], failure }).unwrap();
        assert_eq!(ask(&mut grown, &study), Proposal::Wait);
        complete(&mut study, ids[2], 0.2);
        let Proposal::Evaluate(whole) = ask(&mut grown, &study) else { panic!() };
        let winner = NcClustering::n0().aggregate(&study.within(&space(2))).unwrap();
        assert_eq!((whole.len(), &whole.layers()[..2]), (4, winner.layers()));
        // An excluded trial leaves its stage short of one.
        study.apply(Event::Invalidated { id: ids[0], reason: String::new() }).unwrap();
        let Proposal::Evaluate(pair) = ask(&mut grown, &study) else { panic!() };
        assert_eq!(pair.len(), 2);
    }

    #[test]
    fn a_stage_without_values_goes_on_and_gives_way_when_exhausted() {
        let mut grown = Incremental::new(Exhaustive, Side::End, 1, 1).unwrap();
        let mut study = Study::new(space(2), Goal::default());
        let fail = |study: &mut Study, letter: &str| {
            let id = propose(study, letter.parse().unwrap());
            let failure = Failure { kind: FailureKind::Infeasible, reason: String::new() };
            study.apply(Event::Failed { id, failure }).unwrap();
        };
        fail(&mut study, "A");
        assert_eq!(ask(&mut grown, &study), Proposal::Evaluate("M".parse().unwrap()));
        fail(&mut study, "M");
        assert_eq!(ask(&mut grown, &study), Proposal::Evaluate("AA".parse().unwrap()));
    }

    #[test]
    fn stages_see_the_choices_of_their_layers_and_keep_the_winner() {
        let s = Symbol::MLP;
        let config = SpaceConfig {
            layers: vec![vec![A], vec![A, M], vec![M, s], vec![A, s], vec![s]],
            constraints: vec![Constraint::Count { symbol: s, min: 3, max: 3 }],
        };
        let whole = SearchSpace::new(config).unwrap();
        let letters =
            |space: Result<SearchSpace, SpaceError>| -> Vec<_> { space.unwrap().iter().map(|a| a.letters()).collect() };
        assert_eq!(letters(stage(Side::End, 2, &whole, "")), ["AA", "AM"]);
        assert_eq!(letters(stage(Side::End, 4, &whole, "AM")), ["AMFF"]);
        assert_eq!(letters(stage(Side::End, 5, &whole, "AMFF")), ["AMFFF"]);
        assert_eq!(letters(stage(Side::Middle, 2, &whole, "")), ["AF"]);
        assert_eq!(letters(stage(Side::Middle, 3, &whole, "AF")), ["AFF"]);
        assert_eq!(letters(stage(Side::Middle, 5, &whole, "AFF")), ["AAFFF", "AMFFF"]);
        assert!(matches!(stage(Side::End, 5, &whole, "AMMA"), Err(SpaceError::Contradiction(_))));
    }

    #[test]
    fn budgets_leave_room_for_what_is_to_come() {
        let budget = |costs: [u64; 2], max| {
            let costs = [A, M].into_iter().zip(costs).collect();
            Constraint::Budget { what: "points".into(), costs, max }
        };
        // Of five points, the two layers to come need at least two.
        let whole = space(4).with(budget([3, 1], 5)).unwrap();
        let starts: Vec<_> = stage(Side::End, 2, &whole, "").unwrap().iter().map(|a| a.letters()).collect();
        assert_eq!(starts, ["MM"]);
        let starts = stage(Side::End, 2, &space(4).with(budget([3, 1], 6)).unwrap(), "").unwrap();
        assert_eq!(starts.size(), 3);
    }

    #[test]
    fn run_limits_wait_where_halves_meet() {
        let whole = space(4).max_run(A, 1).unwrap().pin(0, A).unwrap().pin(3, A).unwrap();
        let ends: Vec<_> = stage(Side::Middle, 2, &whole, "").unwrap().iter().collect();
        assert_eq!(ends, ["AA".parse().unwrap()]);
        let study = search(Incremental::new(Exhaustive, Side::Middle, 2, 3).unwrap(), whole, 99, |_| 0.0);
        assert_eq!(study.best().unwrap().trial.architecture.letters(), "AMMA");
    }

    #[test]
    fn winners_can_be_completed() {
        // MM is the best pair, but no two layers behind it hold two A that do not touch.
        let whole = space(4).count(A, 2..=2).unwrap().max_run(A, 1).unwrap();
        let grown = Incremental::new(Exhaustive, Side::End, 2, 9).unwrap();
        let study = search(grown, whole, 99, |text| matches(text, "MMMM") + 0.5 * matches(text, "MA"));
        assert!(study.trials().iter().any(|trial| trial.architecture.letters() == "MM"));
        assert_eq!(study.best().unwrap().trial.architecture.letters(), "MAMA");
    }

    #[test]
    fn settings_are_checked_and_named() {
        for (step, trials, name) in [(0, 3, "step"), (2, 0, "trials_per_stage"), (0, 0, "step")] {
            let error = Incremental::new(RandomSearch, Side::End, step, trials).unwrap_err();
            assert!(matches!(error, SearchError::Zero { setting, .. } if setting == name));
        }
        let grown = Incremental::new(RandomSearch, Side::Middle, 2, 3).unwrap();
        let clustering = "nc_clustering(clusters=5, context=0)";
        let expected = format!("incremental(random, side=middle, step=2, trials_per_stage=3, {clustering})");
        assert_eq!(grown.fingerprint(), expected);
        let best = Incremental::new(Exhaustive, Side::End, 1, 1).unwrap().aggregator(Best);
        assert_eq!(best.fingerprint(), "incremental(exhaustive, side=end, step=1, trials_per_stage=1, best)");
    }
}
