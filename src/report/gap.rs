//! How far apart two scores are.

use super::units;
use crate::{
    study::{Goal, Observation},
    text::number,
};

/// The difference of one observation's score to another's, and its standard error where both have one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Gap {
    /// Of the scores as they are.
    pub(super) score: f64,
    /// The same, turned so that larger is better.
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

    /// Whether the difference is beyond two standard errors; `None` where there is none known.
    pub(super) fn is_clear(&self) -> Option<bool> {
        self.error.map(|error| self.value.abs() > 2.0 * error)
    }
}
