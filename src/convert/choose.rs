//! Baselines for choosing layers, which also serve as starting points of a search.
//!
//! The space defines which architectures are allowed, including the budget. Every method replaces as few of the
//! parent's layers as the space requires. It returns `None` if no architecture of its kind is allowed.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Alternatives, ConvertError, KL, alternatives::with};
use crate::{
    evaluate::{Context, EvalError, Evaluator},
    primitive::Symbol,
    seed::Seed,
    space::{Architecture, SearchSpace},
    study::{Origin, Report, Trial, TrialId},
};

/// The divergence of the parent with one layer replaced, in nats per token, by layer and replacement.
pub type Damages = BTreeMap<(usize, Symbol), f64>;

/// Evaluates every trial with seed 0, for evaluators whose reports do not depend on the seed, such as
/// [`Distillation`](super::Distillation). A cache inside then has one entry per architecture.
#[derive(Clone, Debug)]
pub struct OneSeed<E>(
    /// The evaluator.
    pub E,
);

impl<E: Evaluator> Evaluator for OneSeed<E> {
    fn fingerprint(&self) -> String {
        self.0.fingerprint()
    }

    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        self.0.evaluate(&Trial { seed: Seed(0), ..trial.clone() }, context)
    }
}

/// Evaluates architectures on `threads` threads. Returns the reports in the same order.
///
/// # Errors
/// [`ConvertError::Evaluation`] for the first that fails.
pub fn evaluate_all(
    evaluator: &dyn Evaluator,
    architectures: &[Architecture],
    threads: usize,
) -> Result<Vec<Report>, ConvertError> {
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(BTreeMap::new());
    let worker = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(architecture) = architectures.get(place) else { return };
            let trial = Trial::new(TrialId(place as u64), architecture.clone(), Seed(0), Origin::Searcher);
            let report = evaluator.evaluate(&trial, &Context::default());
            let report =
                report.map_err(|source| ConvertError::Evaluation { architecture: architecture.to_string(), source });
            if report.is_err() {
                next.store(architectures.len(), Ordering::Relaxed);
            }
            reports.lock().unwrap_or_else(PoisonError::into_inner).insert(place, report);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, architectures.len().max(1)) {
            scope.spawn(worker);
        }
    });
    reports.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// Evaluates the parent with each possible replacement of a single layer.
///
/// # Errors
/// [`ConvertError::Evaluation`] if an evaluation fails.
pub fn single_damages(
    evaluator: &dyn Evaluator,
    alternatives: &Alternatives,
    threads: usize,
) -> Result<Damages, ConvertError> {
    let reports = evaluate_all(evaluator, &alternatives.single_replacements(), threads)?;
    let places =
        alternatives.replacements().flat_map(|(layer, others)| others.iter().map(move |&other| (layer, other)));
    Ok(places.zip(reports.iter().map(divergence)).collect())
}

/// Returns the score for comparing candidates; infinity if it is missing or NaN.
fn divergence(report: &Report) -> f64 {
    report.scores.get(KL).copied().filter(|kl| !kl.is_nan()).unwrap_or(f64::INFINITY)
}

/// Keeps evenly spaced layers of the parent and replaces the others with `other`, where it is an alternative.
pub fn uniform(alternatives: &Alternatives, other: Symbol, space: &SearchSpace) -> Option<Architecture> {
    kept(alternatives, other, space, |kept, all| (0..kept).map(|at| (2 * at + 1) * all / (2 * kept)).collect())
}

/// Keeps the first of the parent's replaceable layers and replaces the others with `other`.
pub fn first(alternatives: &Alternatives, other: Symbol, space: &SearchSpace) -> Option<Architecture> {
    kept(alternatives, other, space, |kept, _| (0..kept).collect())
}

/// Keeps the last of the parent's replaceable layers and replaces the others with `other`.
pub fn last(alternatives: &Alternatives, other: Symbol, space: &SearchSpace) -> Option<Architecture> {
    kept(alternatives, other, space, |kept, all| (all - kept..all).collect())
}

/// Keeps as many layers as the space allows, at the places returned by `choose(kept, all)`.
fn kept(
    alternatives: &Alternatives,
    other: Symbol,
    space: &SearchSpace,
    choose: impl Fn(usize, usize) -> Vec<usize>,
) -> Option<Architecture> {
    let layers: Vec<usize> =
        alternatives.replacements().filter(|(_, others)| others.contains(&other)).map(|(layer, _)| layer).collect();
    let all = layers.len();
    (0..=all).rev().find_map(|count| {
        let places = choose(count, all);
        let replaced = layers.iter().enumerate().filter(|(place, _)| !places.contains(place));
        let architecture = replaced.fold(alternatives.parent(), |all, (_, &layer)| with(&all, layer, other));
        space.contains(&architecture).then_some(architecture)
    })
}

/// Replaces the layers with the lowest divergence when replaced alone, until the space allows the result. This is
/// KL-guided layer selection.
pub fn ranked(alternatives: &Alternatives, damages: &Damages, space: &SearchSpace) -> Option<Architecture> {
    let mut order: Vec<_> = damages.iter().collect();
    order.sort_by(|one, other| one.1.total_cmp(other.1));
    let mut architecture = alternatives.parent();
    let mut replaced = Vec::new();
    for (&(layer, symbol), _) in order {
        if space.contains(&architecture) {
            break;
        }
        if !replaced.contains(&layer) {
            replaced.push(layer);
            architecture = with(&architecture, layer, symbol);
        }
    }
    space.contains(&architecture).then_some(architecture)
}

/// Replaces one layer at a time, always the one that gives the lowest divergence, until the space allows the result.
///
/// Lazy evaluation, as in greedy submodular maximisation, saves work: replacements are ordered by the increase in
/// divergence when they were last evaluated, the first ones are evaluated again (`threads` at once), and the best one
/// is taken once it remains first. `damages` gives the initial order.
///
/// # Errors
/// [`ConvertError::Evaluation`] if an evaluation fails.
pub fn greedy(
    evaluator: &dyn Evaluator,
    alternatives: &Alternatives,
    damages: &Damages,
    space: &SearchSpace,
    threads: usize,
) -> Result<Option<Architecture>, ConvertError> {
    let mut architecture = alternatives.parent();
    let mut current = 0.0;
    let mut open: Vec<((usize, Symbol), f64)> = damages.iter().map(|(&place, &damage)| (place, damage)).collect();
    while !space.contains(&architecture) && !open.is_empty() {
        // The best replacement evaluated with the current architecture, and its divergence.
        let mut fresh: Option<((usize, Symbol), f64)> = None;
        let mut stale = open.clone();
        stale.sort_by(|one, other| one.1.total_cmp(&other.1));
        let mut stale = stale.into_iter().peekable();
        while stale.peek().is_some_and(|next| fresh.is_none_or(|(_, kl)| next.1 < kl - current)) {
            let tried: Vec<_> = stale.by_ref().take(threads.max(1)).map(|(place, _)| place).collect();
            let candidates: Vec<_> = tried.iter().map(|&(layer, symbol)| with(&architecture, layer, symbol)).collect();
            let reports = evaluate_all(evaluator, &candidates, threads)?;
            for (place, report) in tried.into_iter().zip(&reports) {
                let kl = divergence(report);
                let added = if kl.is_finite() { kl - current } else { kl };
                open.iter_mut().filter(|known| known.0 == place).for_each(|known| known.1 = added);
                if fresh.is_none_or(|(_, best)| kl < best) {
                    fresh = Some((place, kl));
                }
            }
        }
        let Some(((layer, symbol), kl)) = fresh else { break };
        architecture = with(&architecture, layer, symbol);
        current = kl;
        open.retain(|&((other, _), _)| other != layer);
    }
    Ok(space.contains(&architecture).then_some(architecture))
}

/// Returns the candidate with the lowest divergence; the first one in a tie.
///
/// A search that uses the same few windows of text for all trials overfits to them. Evaluate its
/// [`leaders`](super::leaders) again on other windows, and choose the best with this function.
///
/// # Errors
/// [`ConvertError::Evaluation`] if an evaluation fails.
pub fn best_of(
    evaluator: &dyn Evaluator,
    candidates: &[Architecture],
    threads: usize,
) -> Result<Option<Architecture>, ConvertError> {
    let reports = evaluate_all(evaluator, candidates, threads)?;
    let judged = candidates.iter().zip(reports.iter().map(divergence));
    Ok(judged.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(best, _)| best.clone()))
}

/// Returns starting points for a search.
///
/// These are the [`ranked`] choice, the [`uniform`] ones, and up to `more` neighbours of the ranked choice that swap
/// one kept layer with a replaced one, in order of the divergence that `damages` predicts.
pub fn starts(alternatives: &Alternatives, damages: &Damages, space: &SearchSpace, more: usize) -> Vec<Architecture> {
    let mut starts: Vec<Architecture> = ranked(alternatives, damages, space).into_iter().collect();
    let mut others: Vec<Symbol> = damages.keys().map(|&(_, other)| other).collect();
    others.sort_unstable();
    others.dedup();
    starts.extend(others.into_iter().filter_map(|other| uniform(alternatives, other, space)));
    let Some(best) = starts.first().cloned() else { return starts };
    let parent = alternatives.parent();
    let now = |layer: usize| best.layers()[layer];
    let is_kept = |layer: usize| now(layer) == parent.layers()[layer];
    let lost = |layer: usize, symbol: Symbol| damages.get(&(layer, symbol)).copied().unwrap_or(f64::INFINITY);
    let mut swaps = Vec::new();
    let layers = parent.len();
    for &(from, other) in damages.keys().filter(|&&(layer, _)| layer < layers && is_kept(layer)) {
        for (back, _) in alternatives.replacements().filter(|&(layer, _)| !is_kept(layer)) {
            let swapped = with(&with(&best, from, other), back, parent.layers()[back]);
            if space.contains(&swapped) {
                swaps.push((lost(from, other) - lost(back, now(back)), swapped));
            }
        }
    }
    swaps.sort_by(|one, other| one.0.total_cmp(&other.0));
    starts.extend(swaps.into_iter().take(more).map(|(_, swapped)| swapped));
    let mut unique: Vec<Architecture> = Vec::new();
    for start in starts {
        if !unique.contains(&start) {
            unique.push(start);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::{evaluate::from_fn, space::Constraint};

    const A: Symbol = Symbol::ATTENTION;
    const S: Symbol = Symbol::SLIDING_WINDOW;

    fn six() -> (Alternatives, SearchSpace) {
        let alternatives = Alternatives::of(&"6A".parse().unwrap(), A, [S]);
        let space = alternatives.space([Constraint::Count { symbol: A, min: 0, max: 2 }]).unwrap();
        (alternatives, space)
    }

    /// Each layer contributes its own value; the last two contribute nothing as long as one of them is kept.
    fn divergence_of(architecture: &Architecture) -> f64 {
        let gone = |layer: usize| architecture.layers()[layer] == S;
        let worth = [6.0, 5.0, 4.0, 3.0, 0.0, 0.0];
        let sum: f64 = (0..6).filter(|&layer| gone(layer)).map(|layer| worth[layer]).sum();
        sum + if gone(4) && gone(5) { 100.0 } else { 0.0 }
    }

    #[test]
    fn choices_keep_what_their_names_say() {
        let (alternatives, space) = six();
        let letters = |choice: Option<Architecture>| choice.unwrap().letters();
        assert_eq!(letters(uniform(&alternatives, S, &space)), "SASSAS");
        assert_eq!(letters(first(&alternatives, S, &space)), "AASSSS");
        assert_eq!(letters(last(&alternatives, S, &space)), "SSSSAA");
        let none = alternatives.space([Constraint::Count { symbol: S, min: 0, max: 0 }]).unwrap();
        assert_eq!(letters(uniform(&alternatives, S, &none)), "AAAAAA");
        assert_eq!(uniform(&alternatives, Symbol::MAMBA2, &space), None);
    }

    #[test]
    fn greedy_sees_what_damages_alone_hide() {
        let (alternatives, space) = six();
        let calls = AtomicUsize::new(0);
        let evaluator = from_fn("worth", move |trial: &Trial, _: &Context| {
            calls.fetch_add(1, Ordering::Relaxed);
            Ok(Report::score(KL, divergence_of(&trial.architecture)))
        });
        let damages = single_damages(&evaluator, &alternatives, 2).unwrap();
        assert_eq!(damages[&(0, S)], 6.0);
        assert_eq!(ranked(&alternatives, &damages, &space).unwrap().letters(), "AASSSS");
        for threads in [1, 3] {
            let found = greedy(&evaluator, &alternatives, &damages, &space, threads).unwrap().unwrap();
            assert!(["ASSSSA", "ASSSAS"].contains(&found.letters().as_str()), "{found}");
        }
        let candidates = ["ASSSSA", "AASSSS", "ASSSAS"].map(|letters| letters.parse().unwrap());
        assert_eq!(best_of(&evaluator, &candidates, 2).unwrap().unwrap(), candidates[0]);
        assert_eq!(best_of(&evaluator, &[], 2).unwrap(), None);
        let starts = starts(&alternatives, &damages, &space, 3);
        assert_eq!(starts[0].letters(), "AASSSS");
        assert_eq!(starts[1].letters(), "SASSAS");
        assert!(starts.len() == 5 && starts.iter().all(|start| space.contains(start)));
    }

    #[test]
    fn what_is_no_number_is_chosen_last() {
        let (alternatives, space) = six();
        let evaluator = from_fn("no number", |trial: &Trial, _: &Context| {
            let layers = trial.architecture.layers();
            Ok(Report::score(KL, if layers[0] == S { f64::NAN } else { divergence_of(&trial.architecture) }))
        });
        let damages = single_damages(&evaluator, &alternatives, 1).unwrap();
        assert_eq!(damages[&(0, S)], f64::INFINITY);
        assert_eq!(ranked(&alternatives, &damages, &space).unwrap().letters(), "AASSSS");
        let found = greedy(&evaluator, &alternatives, &damages, &space, 1).unwrap().unwrap();
        assert!(["ASSSSA", "ASSSAS"].contains(&found.letters().as_str()), "{found}");
        let candidates = ["SSSSSS", "AASSSS"].map(|letters| letters.parse().unwrap());
        assert_eq!(best_of(&evaluator, &candidates, 1).unwrap().unwrap(), candidates[1]);
        // If nothing else is left, greedy replaces them anyway.
        let none = alternatives.space([Constraint::Count { symbol: A, min: 0, max: 0 }]).unwrap();
        assert_eq!(greedy(&evaluator, &alternatives, &damages, &none, 2).unwrap().unwrap().letters(), "SSSSSS");
    }

    #[test]
    fn the_first_failure_is_told() {
        let evaluator = from_fn("fails", |_: &Trial, _: &Context| Err(EvalError::Infeasible("no".into())));
        let error = evaluate_all(&evaluator, &["A".parse().unwrap()], 2).unwrap_err();
        assert!(error.to_string().contains("could not be evaluated"), "{error}");
    }
}
