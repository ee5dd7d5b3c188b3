//! Bounds on known costs that nothing satisfies.

use super::SearchError;
use crate::{seed::Rng, space::Architecture, study::Study};

/// Sequences that are looked at.
const LOOKED_AT: usize = 4096;

/// Refuses bounds on known costs within which no sequence of the space lies: of all in a small space, of some thousand
/// draws in a large one.
///
/// # Errors
/// [`SearchError::Costs`] where the goal names costs that nobody states, [`SearchError::NothingWithin`] with the
/// nearest sequence.
pub(crate) fn check_bounds(study: &Study, rng: &mut Rng) -> Result<(), SearchError> {
    study.costs(&study.space().sample(rng)).map(drop).or_else(|error| match error {
        crate::study::KnownCostError::Unbuildable { .. } => Ok(()),
        error => Err(SearchError::Costs(error)),
    })?;
    if !study.goal().limits_costs() {
        return Ok(());
    }
    let all = study.space().size() <= LOOKED_AT as u128;
    let mut nearest: Option<(f64, Architecture)> = None;
    let mut look = |sequence: Architecture| {
        let excess = study.cost_excess(&sequence);
        if nearest.as_ref().is_none_or(|(least, _)| excess < *least) {
            nearest = Some((excess, sequence));
        }
        excess <= 0.0
    };
    let found = match all {
        true => study.space().iter().any(&mut look),
        false => (0..LOOKED_AT).any(|_| look(study.space().sample(rng))),
    };
    let Some((_, nearest)) = nearest.filter(|_| !found) else { return Ok(()) };
    let costs = study.costs(&nearest).unwrap_or_default();
    let costs = costs.iter().map(|(name, cost)| format!("{name} {cost}")).collect::<Vec<_>>().join(", ");
    let looked = if all { "the space".into() } else { format!("{LOOKED_AT} sequences drawn") };
    Err(SearchError::NothingWithin { looked, nearest, costs })
}
