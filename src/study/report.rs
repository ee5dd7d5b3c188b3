//! What an evaluation found.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Goal;
use crate::statistics::{mean, standard_error};

/// What the evaluation of one trial found. Scores are finite numbers; a training that diverged scores the worst value of
/// its task and says so in its [`TaskReport`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Named scores of the whole trial, the goal's among them.
    pub scores: BTreeMap<String, f64>,
    /// Standard error of the goal's score, where it was measured more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
    /// How the evaluation went: the running value after so many steps of the whole trial, by ascending step. More is
    /// better, whatever the goal; [stopping rules](crate::stopping) compare trials by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(usize, f64)>,
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

    /// The running value when so many steps were done: the last one up to there.
    pub fn running(&self, step: usize) -> Option<f64> {
        self.curve.iter().take_while(|&&(done, _)| done <= step).last().map(|&(_, value)| value)
    }

    /// Evaluations of one architecture as one: means of the scores that all have, and of the trainings; the standard error
    /// of the goal's score from its spread; sums of steps, work and time. One report stays as it is, its own standard error
    /// included; the curve does not apply to several.
    pub fn pooled(reports: &[&Report], goal: &Goal) -> Report {
        let Some((&first, others)) = reports.split_first() else { return Report::default() };
        if others.is_empty() {
            return first.clone();
        }
        let all = |name: &String| -> Option<Vec<f64>> {
            reports.iter().map(|report| report.scores.get(name).copied()).collect()
        };
        let means = first.scores.keys().filter_map(|name| Some((name.clone(), mean(&all(name)?))));
        Report {
            scores: means.collect(),
            standard_error: all(&goal.score).and_then(|scores| standard_error(&scores)),
            curve: Vec::new(),
            tasks: first.tasks.iter().map(|task| task.pooled_over(reports)).collect(),
            parameters: reports.iter().map(|report| report.parameters).max().unwrap_or(0),
            train_flops: reports.iter().map(|report| report.train_flops).sum(),
            wall_seconds: reports.iter().map(|report| report.wall_seconds).sum(),
        }
    }

    /// Whether a repetition of the trial found the same: everything but the time it took.
    pub fn same_outcome(&self, other: &Self) -> bool {
        let untimed = |report: &Self| Self { wall_seconds: 0.0, ..report.clone() };
        untimed(self) == untimed(other)
    }
}

impl TaskReport {
    /// The trainings of this name in all of the reports as one.
    fn pooled_over(&self, reports: &[&Report]) -> Self {
        let runs: Vec<_> = reports.iter().flat_map(|r| &r.tasks).filter(|task| task.name == self.name).collect();
        Self::pooled(self.name.clone(), &runs)
    }

    /// Repetitions of one training as one: means, the sum of the steps, the curve of means. The loss is `None` where one
    /// diverged, and the reason that of the first that did. A single one keeps everything but its name.
    pub fn pooled(name: String, runs: &[&Self]) -> Self {
        if let [run] = runs {
            return Self { name, ..(*run).clone() };
        }
        let mean_of = |value: fn(&TaskReport) -> f64| mean(&runs.iter().map(|run| value(run)).collect::<Vec<_>>());
        let losses: Option<Vec<f64>> = runs.iter().map(|run| run.loss).collect();
        TaskReport {
            name,
            score: mean_of(|run| run.score),
            accuracy: mean_of(|run| run.accuracy),
            loss: losses.map(|losses| mean(&losses)),
            steps: runs.iter().map(|run| run.steps).sum(),
            curve: pooled_curve(runs),
            diverged: runs.iter().find_map(|run| run.diverged.clone()),
        }
    }
}

/// The mean at every step of any run; a run that has ended stays where it was, one that has no point yet is left out.
fn pooled_curve(runs: &[&TaskReport]) -> Vec<(usize, f64)> {
    let steps: BTreeSet<usize> = runs.iter().flat_map(|run| run.curve.iter().map(|&(step, _)| step)).collect();
    let last = |run: &&TaskReport, step| run.curve.iter().take_while(|&&(at, _)| at <= step).last().map(|&(_, y)| y);
    steps
        .into_iter()
        .map(|step| (step, mean(&runs.iter().filter_map(|run| last(run, step)).collect::<Vec<_>>())))
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn report(accuracy: f64, curve: &[(usize, f64)]) -> Report {
        let task = TaskReport {
            name: "recall".into(),
            score: accuracy,
            accuracy,
            loss: Some(accuracy),
            steps: 4,
            curve: curve.to_vec(),
            diverged: None,
        };
        let curve = vec![(2, accuracy)];
        Report { tasks: vec![task], curve, train_flops: 3.0, parameters: 5, ..Report::score("accuracy", accuracy) }
    }

    #[test]
    fn repetitions_become_means_and_a_standard_error() {
        let (a, b) = (report(0.25, &[(2, 0.5), (4, 0.25)]), report(0.75, &[(2, 1.0)]));
        let pooled = Report::pooled(&[&a, &b], &Goal::default());
        assert_eq!((pooled.scores["accuracy"], pooled.standard_error), (0.5, Some(0.25)));
        assert_eq!((pooled.parameters, pooled.train_flops, pooled.curve.len()), (5, 6.0, 0));
        let task = &pooled.tasks[0];
        assert_eq!((task.score, task.loss, task.steps), (0.5, Some(0.5), 8));
        assert_eq!(task.curve, [(2, 0.75), (4, 0.625)]);
        let lost =
            Report { tasks: vec![TaskReport { loss: None, ..a.tasks[0].clone() }], ..Report::score("loss", 1.0) };
        let mixed = Report::pooled(&[&lost, &a], &Goal::default());
        assert!(mixed.scores.is_empty() && mixed.standard_error.is_none() && mixed.tasks[0].loss.is_none());
        assert_eq!(Report::pooled(&[&a], &Goal::default()), a);
        assert_eq!(Report::pooled(&[], &Goal::default()), Report::default());
    }

    #[test]
    fn a_running_value_stays_until_the_next() {
        let report = Report { curve: vec![(2, 0.1), (5, 0.3)], ..Report::default() };
        assert_eq!(
            [1, 2, 4, 5, 9].map(|step| report.running(step)),
            [None, Some(0.1), Some(0.1), Some(0.3), Some(0.3)]
        );
    }

    #[test]
    fn reports_without_the_later_fields_are_read() {
        let old = r#"{"scores":{"accuracy":0.5},"parameters":1,"train_flops":1.0,"wall_seconds":2.0}"#;
        let report: Report = serde_json::from_str(old).unwrap();
        assert_eq!((report.standard_error, report.curve.len(), report.scores["accuracy"]), (None, 0, 0.5));
    }
}
