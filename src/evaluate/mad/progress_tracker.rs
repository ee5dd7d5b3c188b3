//! The progress of a trial through its trainings.

use std::ops::ControlFlow;

use crate::evaluate::{Context, Progress};

/// Tracks the progress of a trial and its intermediate value: the weighted scores of the finished trainings plus that
/// of the running one so far. At the last step, this is the score of the trial, up to rounding.
pub(super) struct ProgressTracker<'a> {
    context: &'a Context,
    /// The label of the running training.
    pub(super) stage: String,
    /// The number of steps of the whole trial.
    steps: usize,
    /// The number of steps planned for the finished runs.
    done: usize,
    /// The contribution of the finished trainings to the score.
    earned: f64,
    /// The weight of the running training.
    weight: f64,
    /// The best score among the finished runs of its grid.
    best: f64,
    /// The reported values of the running run: (step, intermediate value).
    pub(super) told: Vec<(usize, f64)>,
}

impl<'a> ProgressTracker<'a> {
    pub(super) fn new(context: &'a Context, steps: usize) -> Self {
        Self { context, stage: String::new(), steps, done: 0, earned: 0.0, weight: 0.0, best: 0.0, told: Vec::new() }
    }

    /// Starts the next training.
    pub(super) fn begin(&mut self, stage: String, weight: f64) {
        self.earned += self.weight * self.best;
        self.stage = stage;
        self.weight = weight;
        self.best = 0.0;
    }

    /// Whether the evaluation is cancelled.
    pub(super) fn cancelled(&self) -> bool {
        self.context.cancelled()
    }

    /// Reports that a run has taken this number of steps. Breaks if the evaluation is cancelled.
    pub(super) fn progress(&self, step: usize) -> ControlFlow<()> {
        self.tell(self.done + step, None);
        if self.cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Reports the score of a run so far, after this number of steps.
    pub(super) fn evaluated(&mut self, step: usize, score: f64) {
        let step = self.done + step;
        let value = self.earned + self.weight * score.max(self.best);
        if value.is_finite() {
            self.told.push((step, value));
            self.tell(step, Some(value));
        }
    }

    /// Reports the scores of a run that was trained together with others, after these numbers of steps, unless they
    /// were reported while it was trained.
    pub(super) fn trained(&mut self, scores: &[(usize, f64)]) {
        if self.told.is_empty() {
            scores.iter().for_each(|&(step, score)| self.evaluated(step, score));
        }
    }

    /// Reports the values of a run again that finished in an earlier attempt.
    pub(super) fn again(&mut self, points: &[(usize, f64)]) {
        self.told = points.to_vec();
        points.iter().for_each(|&(step, value)| self.tell(step, Some(value)));
    }

    /// Ends a run with this score. `steps` is the number of planned steps; it may have taken fewer.
    pub(super) fn end(&mut self, steps: usize, score: f64) {
        if self.told.last().is_none_or(|&(step, _)| step < self.done + steps) {
            self.evaluated(steps, score);
        }
        self.told.clear();
        self.done += steps;
        self.best = self.best.max(score);
    }

    fn tell(&self, step: usize, value: Option<f64>) {
        self.context.progress(Progress { stage: self.stage.clone(), step, steps: self.steps, value });
    }
}
