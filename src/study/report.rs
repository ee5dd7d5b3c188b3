//! Results of evaluations.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::{Goal, Limit, Measure, Raced, TrialId};
use crate::statistics::{mean, standard_error};

/// The result of evaluating one trial.
///
/// A training that diverged scores the worst value of its task, and its [`TaskReport`] states why.
///
/// # Numbers that are not finite
///
/// JSON cannot represent NaN and infinities, and no searcher can learn from them. If an evaluator returns them anyway:
/// - A named score that is not finite makes the report invalid: [`value`](Self::value) returns an error, and the trial
///   is recorded as failed, with the score in the reason.
/// - Any other number that is not finite is removed by [`finite`](Self::finite): an `Option` becomes `None`, a point of
///   a curve is dropped, and [`wall_seconds`](Self::wall_seconds) becomes 0.
///
/// Studies contain only finite reports. A `null` in a file means a missing number, so reading a file gives back what
/// was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Named scores of the whole trial, including the goal's.
    pub scores: BTreeMap<String, f64>,
    /// The known costs that the goal names. Set by the session.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub costs: BTreeMap<String, f64>,
    /// Standard error of the goal's score, if it was measured more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
    /// Whether the standard errors are over data that all trials share. Such errors say how well the scores hold for
    /// other data; they are not noise between trials.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared_error: bool,
    /// The standard errors of other scores, by name, if known.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "BTreeMap::is_empty")]
    pub standard_errors: BTreeMap<String, f64>,
    /// How many of the planned repetitions were made if the trial lost its [race](crate::study::Race); `None` if the
    /// trial ran to its end. Such a score has a larger error and is biased slightly towards worse values, so leaders
    /// and results are chosen among the other trials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raced: Option<Raced>,
    /// Intermediate values of the whole trial, as (step, value) by ascending step. Larger is better, whatever the goal.
    ///
    /// [Pruners](crate::stopping) compare trials by them. Set by the executor, from the values that the evaluator
    /// [reported](crate::evaluate::Context::progress).
    #[serde(default, deserialize_with = "points", skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(usize, f64)>,
    /// One entry per training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskReport>,
    /// Trainable parameters of the candidate; 0 if nothing was trained.
    #[serde(default)]
    pub parameters: u64,
    /// Floating-point operations spent on training, estimated in closed form, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_flops: Option<f64>,
    /// Time from start to end on one worker, in seconds; 0 if it was not measured. Set by the executor. This is the
    /// only field that may differ when a trial is repeated.
    #[serde(default, deserialize_with = "seconds")]
    pub wall_seconds: f64,
}

/// The result of one training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Name of the task, and of the setting if the task has several.
    pub name: String,
    /// The score that entered the mean of the trial, if it is finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Accuracy after the last or the selected step, if it is finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Validation loss in nats per scored position, or `None` if the training diverged.
    pub loss: Option<f64>,
    /// Number of optimizer steps.
    pub steps: usize,
    /// Validation accuracy during training, as (step, accuracy).
    #[serde(default, deserialize_with = "points", skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(usize, f64)>,
    /// Why the training was stopped, if it diverged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<String>,
}

impl Report {
    /// Creates a report with a single score.
    pub fn score(name: impl Into<String>, value: f64) -> Self {
        Self { scores: BTreeMap::from([(name.into(), value)]), ..Self::default() }
    }

    /// Returns the goal's score, oriented so that larger is better.
    ///
    /// # Errors
    /// Returns [`ReportError`] if the score is missing or any score is not finite.
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

    /// Returns the objectives of the goal, each oriented so that larger is better, starting with the goal's score.
    ///
    /// # Errors
    /// Returns [`ReportError`] if a score or cost that the goal names, including those in bounds, is missing or not
    /// finite.
    pub fn values(&self, goal: &Goal) -> Result<Vec<f64>, ReportError> {
        let first = self.value(goal)?;
        for limit in goal.limits() {
            self.measured(&limit.of)?;
        }
        let others = goal.objectives().skip(1);
        let others = others.map(|objective| Ok(objective.direction.orient(self.measured(&objective.of)?)));
        std::iter::once(Ok(first)).chain(others).collect()
    }

    /// Returns by how much the report violates the goal's bounds: the sum of the relative violations.
    ///
    /// It is 0 if all bounds are satisfied, and infinite if a bounded measure is missing.
    pub(crate) fn excess(&self, goal: &Goal) -> f64 {
        let excess = |limit: &Limit| match self.measured(&limit.of) {
            Ok(value) => limit.relative_excess(value),
            Err(_) => f64::INFINITY,
        };
        goal.limits().iter().map(excess).sum()
    }

    /// Returns the standard error of a score, if known.
    pub(crate) fn error_of(&self, score: &str, goal: &Goal) -> Option<f64> {
        if score == goal.score { self.standard_error } else { self.standard_errors.get(score).copied() }
    }

    /// Returns the standard error of a score, if it is known and is noise between trials.
    pub(crate) fn noise_of(&self, score: &str, goal: &Goal) -> Option<f64> {
        self.error_of(score, goal).filter(|_| !self.shared_error)
    }

    /// Returns a score or cost.
    pub(crate) fn measured(&self, of: &Measure) -> Result<f64, ReportError> {
        let (numbers, name) = match of {
            Measure::Score(name) => (&self.scores, name),
            Measure::Cost(name) => (&self.costs, name),
        };
        let value = numbers.get(name).copied().ok_or_else(|| {
            let present = numbers.keys().cloned().collect::<Vec<_>>().join(", ");
            match of {
                Measure::Score(_) => ReportError::Missing { name: name.clone(), present },
                Measure::Cost(_) => ReportError::MissingCost { name: name.clone() },
            }
        })?;
        if value.is_finite() { Ok(value) } else { Err(ReportError::NotFinite { name: name.clone(), value }) }
    }

    /// Removes all numbers that are not finite, except named scores. See the [rule](Self#numbers-that-are-not-finite).
    ///
    /// A report that is already finite is unchanged, bit for bit.
    #[must_use]
    pub fn finite(mut self) -> Self {
        let finite = |number: Option<f64>| number.filter(|number| number.is_finite());
        self.costs.retain(|_, cost| cost.is_finite());
        self.standard_error = finite(self.standard_error);
        self.standard_errors.retain(|_, error| error.is_finite());
        self.curve.retain(|(_, value)| value.is_finite());
        self.train_flops = finite(self.train_flops);
        self.wall_seconds = finite(Some(self.wall_seconds)).unwrap_or_default();
        for task in &mut self.tasks {
            task.score = finite(task.score);
            task.accuracy = finite(task.accuracy);
            task.loss = finite(task.loss);
            task.curve.retain(|(_, accuracy)| accuracy.is_finite());
        }
        self
    }

    /// Returns the names of the numbers that [`finite`](Self::finite) removes.
    pub fn not_finite(&self) -> Vec<String> {
        let curve = |curve: &[(usize, f64)]| curve.iter().map(|&(_, value)| value).find(|value| !value.is_finite());
        let mut numbers = vec![
            ("standard_error".into(), self.standard_error),
            ("standard_errors".into(), self.standard_errors.values().copied().find(|error| !error.is_finite())),
            ("curve".into(), curve(&self.curve)),
            ("train_flops".into(), self.train_flops),
            ("wall_seconds".into(), Some(self.wall_seconds)),
        ];
        for task in &self.tasks {
            let named = |field: &str| format!("{field} of {:?}", task.name);
            numbers.extend([
                (named("score"), task.score),
                (named("accuracy"), task.accuracy),
                (named("loss"), task.loss),
                (named("curve"), curve(&task.curve)),
            ]);
        }
        let bad = |(_, number): &(String, Option<f64>)| number.is_some_and(|number| !number.is_finite());
        numbers.into_iter().filter(bad).map(|(name, _)| name).collect()
    }

    /// Returns the intermediate value after `step` steps: the last one up to that step.
    pub fn running(&self, step: usize) -> Option<f64> {
        self.curve.iter().take_while(|&&(done, _)| done <= step).last().map(|&(_, value)| value)
    }

    /// Combines several evaluations of one architecture into one report.
    ///
    /// It contains the means of the scores that all reports have, the pooled trainings, the standard errors
    /// of the scores computed from their spread, and the sums of FLOPs and time. There is no curve. If some evaluations
    /// ran to their end, those that lost a [race](Self::raced) are left out. A single report is returned unchanged,
    /// including its own standard error.
    pub(crate) fn pooled(reports: &[&Report], goal: &Goal) -> Report {
        let whole: Vec<&Report> = reports.iter().copied().filter(|report| report.raced.is_none()).collect();
        let reports = if whole.is_empty() { reports } else { whole.as_slice() };
        let Some((&first, others)) = reports.split_first() else { return Report::default() };
        if others.is_empty() {
            return first.clone();
        }
        let all = |name: &String| -> Option<Vec<f64>> {
            reports.iter().map(|report| report.scores.get(name).copied()).collect()
        };
        let means = first.scores.keys().filter_map(|name| Some((name.clone(), mean(&all(name)?))));
        let others = first.scores.keys().filter(|name| **name != goal.score);
        let errors = others.filter_map(|name| Some((name.clone(), standard_error(&all(name)?)?)));
        Report {
            scores: means.collect(),
            costs: first.costs.clone(),
            standard_error: all(&goal.score).and_then(|scores| standard_error(&scores)),
            raced: Raced::pooled(reports.iter().map(|report| report.raced)),
            shared_error: false,
            standard_errors: errors.collect(),
            curve: Vec::new(),
            tasks: first.tasks.iter().map(|task| task.pooled_over(reports)).collect(),
            parameters: reports.iter().map(|report| report.parameters).max().unwrap_or(0),
            train_flops: reports.iter().map(|report| report.train_flops).sum(),
            wall_seconds: reports.iter().map(|report| report.wall_seconds).sum(),
        }
        .finite()
    }

    /// Returns whether a repetition of the trial gave the same result. The time and the numbers that a study removes
    /// are ignored.
    pub fn same_outcome(&self, other: &Self) -> bool {
        let untimed = |report: &Self| Self { wall_seconds: 0.0, ..report.clone() }.finite();
        untimed(self) == untimed(other)
    }
}

impl TaskReport {
    /// Combines the trainings of this name in all reports.
    fn pooled_over(&self, reports: &[&Report]) -> Self {
        let runs: Vec<_> = reports.iter().flat_map(|r| &r.tasks).filter(|task| task.name == self.name).collect();
        Self::pooled(self.name.clone(), &runs)
    }

    /// Combines repetitions of one training: means, the sum of the steps, and the curve of means.
    ///
    /// A mean is `None` if a repetition lacks the number, such as the loss of one that diverged. The reason is that of
    /// the first repetition that diverged. A single repetition keeps everything except its name.
    pub(crate) fn pooled(name: String, runs: &[&Self]) -> Self {
        if let [run] = runs {
            return Self { name, ..(*run).clone() };
        }
        let mean_of = |value: fn(&TaskReport) -> Option<f64>| {
            let values: Option<Vec<f64>> = runs.iter().map(|run| value(run)).collect();
            values.map(|values| mean(&values))
        };
        TaskReport {
            name,
            score: mean_of(|run| run.score),
            accuracy: mean_of(|run| run.accuracy),
            loss: mean_of(|run| run.loss),
            steps: runs.iter().map(|run| run.steps).sum(),
            curve: pooled_curve(runs),
            diverged: runs.iter().find_map(|run| run.diverged.clone()),
        }
    }
}

/// Returns a notice for a trial whose report lost these numbers.
pub(crate) fn left_out(id: TrialId, names: &[String]) -> Option<String> {
    let names = names.join(", ");
    (!names.is_empty()).then(|| format!("{id} is recorded without numbers that are not finite: {names}"))
}

/// Reads the points of a curve; points without a value are dropped.
fn points<'de, D: Deserializer<'de>>(file: D) -> Result<Vec<(usize, f64)>, D::Error> {
    let points = Vec::<(usize, Option<f64>)>::deserialize(file)?;
    Ok(points.into_iter().filter_map(|(step, value)| Some((step, value?))).collect())
}

/// Reads numbers by name; those without a value are dropped.
fn known<'de, D: Deserializer<'de>>(file: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let numbers = BTreeMap::<String, Option<f64>>::deserialize(file)?;
    Ok(numbers.into_iter().filter_map(|(name, number)| Some((name, number?))).collect())
}

/// Reads seconds; 0 if they are missing.
fn seconds<'de, D: Deserializer<'de>>(file: D) -> Result<f64, D::Error> {
    Option::deserialize(file).map(Option::unwrap_or_default)
}

/// Returns the mean at every step of any run. A run that has ended keeps its last value; a run without a point so far
/// is left out.
fn pooled_curve(runs: &[&TaskReport]) -> Vec<(usize, f64)> {
    let steps: BTreeSet<usize> = runs.iter().flat_map(|run| run.curve.iter().map(|&(step, _)| step)).collect();
    let last = |run: &&TaskReport, step| run.curve.iter().take_while(|&&(at, _)| at <= step).last().map(|&(_, y)| y);
    steps
        .into_iter()
        .map(|step| (step, mean(&runs.iter().filter_map(|run| last(run, step)).collect::<Vec<_>>())))
        .collect()
}

/// The error of an invalid report.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The goal's score is missing.
    #[error("the report has no score {name:?}, only [{present}]: name one of these as the goal")]
    Missing {
        /// The name of the score.
        name: String,
        /// The scores in the report.
        present: String,
    },
    /// A known cost that the goal names is missing.
    #[error("the report has no cost {name:?}: a session sets it, from the costs that it was given")]
    MissingCost {
        /// The name of the cost.
        name: String,
    },
    /// A score is NaN or infinite.
    #[error("score {name:?} is {value}, not a finite number")]
    NotFinite {
        /// The name of the score.
        name: String,
        /// The value.
        value: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(accuracy: f64, curve: &[(usize, f64)]) -> Report {
        let task = TaskReport {
            name: "recall".into(),
            score: Some(accuracy),
            accuracy: Some(accuracy),
            loss: Some(accuracy),
            steps: 4,
            curve: curve.to_vec(),
            diverged: None,
        };
        let curve = vec![(2, accuracy)];
        Report {
            tasks: vec![task],
            curve,
            train_flops: Some(3.0),
            parameters: 5,
            ..Report::score("accuracy", accuracy)
        }
    }

    #[test]
    fn repetitions_become_means_and_a_standard_error() {
        let a = report(0.25, &[(2, 0.5), (4, 0.25)]);
        let b = report(0.75, &[(2, 1.0)]);
        let pooled = Report::pooled(&[&a, &b], &Goal::default());
        assert_eq!((pooled.scores["accuracy"], pooled.standard_error), (0.5, Some(0.25)));
        let other = Goal::minimize("loss");
        let pooled_for_other = Report::pooled(&[&a, &b], &other);
        assert_eq!((pooled_for_other.standard_error, pooled.standard_errors.len()), (None, 0));
        assert_eq!(pooled_for_other.standard_errors["accuracy"], 0.25);
        assert_eq!(pooled_for_other.error_of("accuracy", &other), Some(0.25));
        assert_eq!((pooled.parameters, pooled.train_flops, pooled.curve.len()), (5, Some(6.0), 0));
        let task = &pooled.tasks[0];
        assert_eq!((task.score, task.loss, task.steps), (Some(0.5), Some(0.5), 8));
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
