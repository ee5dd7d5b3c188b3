//! What an evaluation found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Goal;

/// What the evaluation of one trial found. Scores are finite numbers; a training that diverged scores the worst value of
/// its task and says so in its [`TaskReport`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Named scores of the whole trial, the goal's among them.
    pub scores: BTreeMap<String, f64>,
    /// Standard error of the goal's score, where it was measured more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
    /// One entry per training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskReport>,
    /// Trainable parameters of the candidate; 0 where nothing was trained.
    #[serde(default)]
    pub parameters: u64,
    /// Floating-point operations spent on training, estimated from closed forms.
    #[serde(default)]
    pub train_flops: f64,
    /// Seconds from start to end on one worker. Set by the executor; the one field that a repetition may change.
    #[serde(default)]
    pub wall_seconds: f64,
}

/// What one training found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Name of the task, and of the setting where a task has several.
    pub name: String,
    /// The score that entered the trial's mean.
    pub score: f64,
    /// Accuracy after the last step or at the selected one.
    pub accuracy: f64,
    /// Validation loss in nats per scored position, or `None` where the training diverged.
    pub loss: Option<f64>,
    /// Optimiser steps taken.
    pub steps: usize,
    /// Validation accuracy over the training: (step, accuracy).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(usize, f64)>,
    /// Why the training was given up, where it diverged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<String>,
}

impl Report {
    /// A report with a single score.
    pub fn score(name: impl Into<String>, value: f64) -> Self {
        Self { scores: BTreeMap::from([(name.into(), value)]), ..Self::default() }
    }

    /// The goal's score, turned so that larger is better.
    ///
    /// # Errors
    /// [`ReportError`] when the score is missing, or any score is not finite.
    pub fn value(&self, goal: &Goal) -> Result<f64, ReportError> {
        if let Some((name, &value)) = self.scores.iter().find(|(_, value)| !value.is_finite()) {
            return Err(ReportError::NotFinite { name: name.clone(), value });
        }
        let value = self.scores.get(&goal.score).ok_or_else(|| ReportError::Missing {
            name: goal.score.clone(),
            present: self.scores.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        Ok(goal.orient(*value))
    }

    /// Whether a repetition of the trial found the same: everything but the time it took.
    pub fn same_outcome(&self, other: &Self) -> bool {
        let untimed = |report: &Self| Self { wall_seconds: 0.0, ..report.clone() };
        untimed(self) == untimed(other)
    }
}

/// A report that cannot be used.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ReportError {
    /// The goal's score is not there.
    #[error("the report has no score {name:?}, only [{present}]: name one of these as the goal")]
    Missing {
        /// The goal's score.
        name: String,
        /// The scores that are there.
        present: String,
    },
    /// A score is NaN or infinite.
    #[error("score {name:?} is {value}, not a finite number")]
    NotFinite {
        /// Which score.
        name: String,
        /// Its value.
        value: f64,
    },
}
