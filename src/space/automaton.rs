//! Counts the sequences that complete a prefix, for any set of constraints.
//!
//! Each constraint is a finite automaton, see [`Constraint::step`], and their product is one for the whole space.
//! Prefixes in the same state have equally many completions, because the state determines which layers may follow.

use std::collections::HashMap;

use super::{Constraint, SpaceConfig, SpaceError, config::MAX_STATES};
use crate::primitive::Symbol;

/// The state of each constraint after a prefix.
type Memories = Vec<u64>;

/// The state of a prefix: its number among the states of prefixes of that length.
pub(super) type State = u32;

/// The states that prefixes of a space can be in.
#[derive(Clone)]
pub(super) struct Automaton {
    /// By the length of the prefix, from zero to the number of layers.
    lengths: Vec<States>,
}

/// The states of all prefixes of one length.
#[derive(Clone)]
struct States {
    /// For each state, the number of sequences that complete a prefix in it.
    completions: Vec<u128>,
    /// Number of choices for the next layer.
    choices: usize,
    /// For each state and choice, the next state, or `None` if the choice violates a constraint.
    next: Vec<Option<State>>,
}

impl Automaton {
    /// The state of the empty prefix.
    pub(super) const START: State = 0;

    /// Finds the states in a forward pass and counts completions in a backward pass.
    ///
    /// # Errors
    /// Returns [`SpaceError::TooComplex`] if there are more than [`MAX_STATES`] states, and [`SpaceError::TooLarge`] if
    /// there are more sequences than fit in a `u128`.
    pub(super) fn new(config: &SpaceConfig) -> Result<Self, SpaceError> {
        let constraints = &config.constraints;
        let mut reached = vec![vec![0; constraints.len()]];
        let mut states = 1;
        let mut lengths = Vec::with_capacity(config.layers.len() + 1);
        for choices in &config.layers {
            let mut numbers = HashMap::new();
            let mut after = Vec::new();
            let mut next = Vec::with_capacity(reached.len() * choices.len());
            for memories in &reached {
                for &symbol in choices {
                    let stepped = step(constraints, memories, symbol);
                    next.push(stepped.map(|memories| number(memories, &mut numbers, &mut after)));
                }
                if states + after.len() > MAX_STATES {
                    return Err(SpaceError::TooComplex);
                }
            }
            states += after.len();
            lengths.push(States { completions: vec![0; reached.len()], choices: choices.len(), next });
            reached = after;
        }
        let accepted = reached.iter().map(|memories| u128::from(accepts(constraints, memories)));
        lengths.push(States { completions: accepted.collect(), choices: 0, next: Vec::new() });
        let mut automaton = Self { lengths };
        for length in (0..config.layers.len()).rev() {
            for state in 0..automaton.lengths[length].completions.len() {
                automaton.lengths[length].completions[state] = automaton.sum(length, state)?;
            }
        }
        Ok(automaton)
    }

    /// Returns the sum of the completions after each choice.
    fn sum(&self, length: usize, state: usize) -> Result<u128, SpaceError> {
        let States { choices, next, .. } = &self.lengths[length];
        let next = next[state * choices..][..*choices].iter().flatten();
        let mut completions = next.map(|&next| self.completions(length + 1, next));
        completions.try_fold(0u128, |sum, count| sum.checked_add(count).ok_or(SpaceError::TooLarge))
    }

    /// Returns the number of sequences that complete a prefix of this length in this state.
    pub(super) fn completions(&self, length: usize, state: State) -> u128 {
        self.lengths[length].completions[state as usize]
    }

    /// Returns the state after one more layer, given by its index among the choices of that layer, or `None` if it
    /// violates a constraint.
    pub(super) fn step(&self, length: usize, state: State, choice: usize) -> Option<State> {
        let States { choices, next, .. } = &self.lengths[length];
        next[state as usize * choices + choice]
    }
}

/// Returns the number of a state; a new one gets the next number.
fn number(memories: Memories, numbers: &mut HashMap<Memories, State>, all: &mut Vec<Memories>) -> State {
    if let Some(&number) = numbers.get(&memories) {
        return number;
    }
    let number = all.len() as State;
    all.push(memories.clone());
    numbers.insert(memories, number);
    number
}

/// Returns the states after one more layer, or `None` if the layer violates a constraint.
fn step(constraints: &[Constraint], memories: &Memories, layer: Symbol) -> Option<Memories> {
    constraints.iter().zip(memories).map(|(constraint, &memory)| constraint.step(memory, layer)).collect()
}

/// Returns whether complete sequences that end in these states satisfy all constraints.
fn accepts(constraints: &[Constraint], memories: &Memories) -> bool {
    constraints.iter().zip(memories).all(|(constraint, &memory)| constraint.accepts(memory))
}
