//! The trials before the first model is fitted: extremes of known costs, then quasi-random sequences.

use std::collections::HashSet;

use super::maximise::{MaximiseOptions, Maximiser};
use crate::{
    search::unknown::Unknown,
    seed::Rng,
    space::{Architecture, SearchSpace},
    study::{Measure, Study},
};

/// The maximum number of Sobol points that are skipped because they are known or outside the space. After that, a
/// sequence is drawn uniformly.
const TRIES: u32 = 256;

/// Returns the next point of a scrambled Sobol sequence over the layers (Burley 2020, "Practical Hash-based Owen
/// Scrambling", JCGT 9(4)). The first proposal, and those for which the Sobol sequence has no point in the space, are
/// drawn uniformly. Returns `None` if every sequence is known.
///
/// The seed of the scrambling is that of the first trial, so all points of a study belong to one Sobol sequence.
pub(super) fn design(study: &Study, rng: &mut Rng) -> Option<Architecture> {
    let unknown = Unknown::new(study);
    let sobol = study.trials().first().and_then(|first| {
        let scramble = first.seed.0 as u32;
        let from = study.full_length_trials().count() as u32;
        let points = (from..from.saturating_add(TRIES)).map(|index| point(study.space(), index, scramble));
        points.flatten().find(|point| !study.knows(point) && study.admits(point))
    });
    sobol.or_else(|| unknown.draw(rng))
}

/// Options of the search for extremes. They are small because a cost is a simple function of the sequence.
const EXTREMES: MaximiseOptions = MaximiseOptions { enumerate: 2_000, pool: 64, starts: 4, steps: 64, budget: 4_000 };

/// Returns the sequence with the best value of the next known cost that is an objective, or `None` if all of these have
/// been proposed. Such a sequence is on the front whatever its score is, and no model is needed to find it.
pub(super) fn extreme(study: &Study, rng: &mut Rng) -> Option<Architecture> {
    let names = study.goal().costs();
    let mut costs = study.goal().objectives().filter_map(|objective| match objective.of {
        Measure::Cost(name) => Some((names.iter().position(|known| *known == name)?, objective.direction)),
        Measure::Score(_) => None,
    });
    let (at, direction) = costs.nth(study.full_length_trials().count())?;
    let avoid: HashSet<_> = study.full_length_trials().map(|trial| trial.architecture.clone()).collect();
    let maximiser = Maximiser { space: study.space(), avoid: &avoid, incumbents: &[], options: EXTREMES };
    let cost = |sequence: &Architecture| {
        let costs = study.cost_values(sequence).ok().filter(|_| study.admits(sequence));
        costs.map_or(f64::NAN, |costs| direction.orient(costs[at]))
    };
    let found = maximiser.run(rng, |batch| batch.iter().map(cost).collect())?;
    study.admits(&found.architecture).then_some(found.architecture)
}

/// Returns point number `index` of the Sobol sequence, or `None` if the space does not contain it.
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
