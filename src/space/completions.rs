//! Counts the sequences that complete a prefix, for any set of constraints.
//!
//! Each constraint is a finite automaton, see [`Constraint::step`]. Prefixes with equal states have equally many
//! completions, because the states determine which layers may follow.

use std::collections::HashMap;

use super::{Constraint, SpaceConfig, SpaceError, config::MAX_STATES};
use crate::primitive::Symbol;

/// The state of each constraint after a prefix.
pub type Memories = Vec<u64>;

/// Returns the states after one more layer, or `None` if the layer violates a constraint.
pub fn step(constraints: &[Constraint], memories: &Memories, layer: Symbol) -> Option<Memories> {
    constraints.iter().zip(memories).map(|(constraint, &memory)| constraint.step(memory, layer)).collect()
}

/// Returns whether complete sequences that end in these states satisfy all constraints.
pub fn accepts(constraints: &[Constraint], memories: &Memories) -> bool {
    constraints.iter().zip(memories).all(|(constraint, &memory)| constraint.accepts(memory))
}

/// Counts completions by dynamic programming: a forward pass finds the reachable states, a backward pass counts.
pub fn count_completions(config: &SpaceConfig) -> Result<Vec<HashMap<Memories, u128>>, SpaceError> {
    let constraints = &config.constraints;
    let mut tables = vec![HashMap::from([(vec![0; constraints.len()], 0)])];
    let mut states = 1;
    for (layer, choices) in config.layers.iter().enumerate() {
        let mut next = HashMap::new();
        for memories in tables[layer].keys() {
            next.extend(choices.iter().filter_map(|&symbol| step(constraints, memories, symbol)).map(|m| (m, 0)));
            if states + next.len() > MAX_STATES {
                return Err(SpaceError::TooComplex);
            }
        }
        states += next.len();
        tables.push(next);
    }
    for (memories, count) in &mut tables[config.layers.len()] {
        *count = u128::from(accepts(constraints, memories));
    }
    for layer in (0..config.layers.len()).rev() {
        let (before, after) = tables.split_at_mut(layer + 1);
        for (memories, count) in &mut before[layer] {
            for &symbol in &config.layers[layer] {
                let next = step(constraints, memories, symbol).and_then(|next| after[0].get(&next));
                *count = count.checked_add(next.copied().unwrap_or(0)).ok_or(SpaceError::TooLarge)?;
            }
        }
    }
    Ok(tables)
}
