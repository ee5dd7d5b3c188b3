//! The trials before the first model: extremes of known costs, then quasi-random ones.

use std::collections::HashSet;

use super::maximise::{MaximiseOptions, Maximiser};
use crate::{
    search::unknown::Unknown,
    seed::Rng,
    space::{Architecture, SearchSpace},
    study::{Measure, Study},
};

/// Points of the sequence that are passed over, because they are known or outside the space, before one is drawn
/// instead.
const TRIES: u32 = 256;

/// The next point of a scrambled Sobol sequence (Burley 2020, "Practical Hash-based Owen Scrambling") over the layers;
/// a uniform draw for the first, and where the sequence does not meet the space. `None` when every sequence is known.
///
/// The scrambling is that of the first trial's seed, so that all points of a study belong to one sequence.
pub(super) fn design(study: &Study, rng: &mut Rng) -> Option<Architecture> {
    let unknown = Unknown::new(study);
    let sobol = study.trials().first().and_then(|first| {
        let scramble = first.seed.0 as u32;
        let from = study.candidates().count() as u32;
        let points = (from..from.saturating_add(TRIES)).map(|index| point(study.space(), index, scramble));
        points.flatten().find(|point| !study.knows(point) && study.admits(point))
    });
    sobol.or_else(|| unknown.draw(rng))
}

/// How extremes of costs are searched: a cost is a simple function.
const EXTREMES: MaximiseOptions = MaximiseOptions { enumerate: 2_000, pool: 64, starts: 4, steps: 64, budget: 4_000 };

/// The best sequence of each known cost that is an objective, as one of the first trials: it is on the front whatever
/// its score is, and no model needs to find it.
pub(super) fn extreme(study: &Study, rng: &mut Rng) -> Option<Architecture> {
    let names = study.goal().costs();
    let mut costs = study.goal().objectives().filter_map(|objective| match objective.of {
        Measure::Cost(name) => Some((names.iter().position(|known| *known == name)?, objective.direction)),
        Measure::Score(_) => None,
    });
    let (at, direction) = costs.nth(study.candidates().count())?;
    let avoid: HashSet<_> = study.candidates().map(|trial| trial.architecture.clone()).collect();
    let maximiser = Maximiser { space: study.space(), avoid: &avoid, incumbents: &[], options: EXTREMES };
    let cost = |sequence: &Architecture| {
        let costs = study.cost_values(sequence).ok().filter(|_| study.admits(sequence));
        costs.map_or(f64::NAN, |costs| direction.orient(costs[at]))
    };
    let found = maximiser.run(rng, |batch| batch.iter().map(cost).collect())?;
    study.admits(&found.architecture).then_some(found.architecture)
}

/// Point number `index` of the sequence, where the space contains it.
fn point(space: &SearchSpace, index: u32, scramble: u32) -> Option<Architecture> {
    if space.layers() > sobol_burley::NUM_DIMENSIONS as usize || index >= 1 << 16 {
        return None;
    }
    let layer = |at: usize| {
        let choices = space.choices(at);
        let u = f64::from(sobol_burley::sample(index, at as u32, scramble));
        choices.get(((u * choices.len() as f64) as usize).min(choices.len().saturating_sub(1))).copied()
    };
    let layers: Option<Vec<_>> = (0..space.layers()).map(layer).collect();
    layers.map(Architecture::new).filter(|point| space.contains(point))
}
