//! The difference between two scores.

use super::units;
use crate::{
    study::{Goal, Observation},
    text::number,
};

/// The difference between the scores of two observations, and its standard error if both have one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Gap {
    /// The difference on the scale of the score.
    pub(super) score: f64,
    /// The same, oriented so that larger is better.
    pub(super) value: f64,
    pub(super) error: Option<f64>,
}

impl Gap {
    pub(super) fn new(seen: &Observation<'_>, other: &Observation<'_>, goal: &Goal) -> Self {
        let error = match (seen.report.standard_error, other.report.standard_error) {
            (Some(one), Some(another)) => Some(one.hypot(another)),
            _ => None,
        };
        Self { score: goal.orient(seen.value) - goal.orient(other.value), value: seen.value - other.value, error }
    }

    /// `-0.0070 ± 0.0130`.
    pub(super) fn text(&self) -> String {
        let error = self.error.map(|error| format!(" ± {}", number(error, 4)));
        units::signed(self.score, 4) + &error.unwrap_or_default()
    }

    /// Returns whether the difference is larger than two standard errors, or `None` if its error is not known.
    pub(super) fn is_clear(&self) -> Option<bool> {
        self.error.map(|error| self.value.abs() > 2.0 * error)
    }
}
