//! Alternative scores of a training.

use super::{Protocol, Training};
use crate::study::{Report, TaskReport};

/// Alternative scores of one training, each between 0 and 1, where larger is better. All are 0 if the run diverged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrainingMetrics {
    /// The mean accuracy over the planned evaluations: the area under the learning curve.
    pub curve_mean: f64,
    /// The accuracy at the last evaluation.
    pub last: f64,
    /// The fraction of the planned steps that was left when the accuracy first reached the threshold; 0 if it never
    /// did. The number of steps to the threshold is `(1 - early) * steps`.
    pub early: f64,
    /// `exp(-loss)`: the geometric mean of the probabilities that the model assigns to the correct answers.
    pub likelihood: f64,
}

impl TrainingMetrics {
    /// The names of [`values`](Self::values), in the same order.
    pub const NAMES: [&'static str; 4] = ["curve_mean", "last", "early", "likelihood"];

    /// Returns all values.
    pub fn values(self) -> [f64; 4] {
        let Self { curve_mean, last, early, likelihood } = self;
        [curve_mean, last, early, likelihood]
    }

    fn new(training: &Training, task: &TaskReport, threshold: f64) -> Self {
        if task.diverged.is_some() {
            return Self::default();
        }
        let planned = training.train.steps;
        let reached = task.curve.iter().find(|&&(_, accuracy)| accuracy >= threshold);
        Self {
            curve_mean: curve_mean(&task.curve, planned.div_ceil(training.train.evaluate_every.max(1))),
            last: task.curve.last().map_or(0.0, |&(_, accuracy)| accuracy),
            early: reached.map_or(0.0, |&(step, _)| 1.0 - step as f64 / planned.max(1) as f64),
            likelihood: task.loss.map_or(0.0, |loss| (-loss).exp()),
        }
    }
}

impl Protocol {
    /// Returns the training_metrics of every training in a report of this protocol, with its label. `threshold` is the
    /// accuracy for [`TrainingMetrics::early`].
    pub fn training_metrics(&self, report: &Report, threshold: f64) -> Vec<(String, TrainingMetrics)> {
        let tasks = self.trainings.iter().zip(&report.tasks);
        tasks.map(|(training, task)| (training.label(), TrainingMetrics::new(training, task, threshold))).collect()
    }
}

/// Returns the mean over `planned` evaluations, where missing ones repeat the last.
pub(super) fn curve_mean(curve: &[(usize, f64)], planned: usize) -> f64 {
    let made: f64 = curve.iter().map(|&(_, accuracy)| accuracy).sum();
    let last = curve.last().map_or(0.0, |&(_, accuracy)| accuracy);
    (made + last * planned.saturating_sub(curve.len()) as f64) / planned.max(curve.len()).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reading_is_what_it_says() {
        let protocol = Protocol::quick();
        // Recall has 500 steps and an evaluation every 20 steps.
        let stopped =
            TaskReport { curve: vec![(20, 0.5), (40, 0.75), (60, 1.0)], loss: Some(0.0), ..TaskReport::default() };
        let diverged = TaskReport { diverged: Some("loss".into()), ..stopped.clone() };
        let report = Report { tasks: vec![stopped, diverged], ..Report::default() };
        let training_metrics = protocol.training_metrics(&report, 0.75);
        assert_eq!(training_metrics[0].0, protocol.trainings[0].label());
        assert_eq!(training_metrics[0].1.values(), [(0.5 + 0.75 + 23.0) / 25.0, 1.0, 0.92, 1.0]);
        assert_eq!(training_metrics[1].1, TrainingMetrics::default());
        assert_eq!(protocol.training_metrics(&report, 1.1)[0].1.early, 0.0);
    }
}
