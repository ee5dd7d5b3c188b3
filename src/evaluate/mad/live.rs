//! The progress of a trial through its trainings.

use std::ops::ControlFlow;

use crate::evaluate::{Context, Progress};

/// Where a trial stands, and how good it looks: the weighted scores of the trainings that are done, plus what the
/// running one has earned. At the last step that is the trial's score, up to rounding.
pub(super) struct Live<'a> {
    context: &'a Context,
    /// Label of the running training.
    pub(super) stage: String,
    /// Steps of the whole trial.
    steps: usize,
    /// Steps planned for the runs that are done.
    done: usize,
    /// What the trainings that are done add to the score.
    earned: f64,
    /// How much the running training counts.
    weight: f64,
    /// The best score among the runs of its grid that are done.
    best: f64,
    /// What the running run has told: (step, running value).
    pub(super) told: Vec<(usize, f64)>,
}

impl<'a> Live<'a> {
    pub(super) fn new(context: &'a Context, steps: usize) -> Self {
        Self { context, stage: String::new(), steps, done: 0, earned: 0.0, weight: 0.0, best: 0.0, told: Vec::new() }
    }

    /// The next training begins.
    pub(super) fn begin(&mut self, stage: String, weight: f64) {
        self.earned += self.weight * self.best;
        self.stage = stage;
        self.weight = weight;
        self.best = 0.0;
    }

    /// A run has taken so many steps; breaks where it is called off.
    pub(super) fn progress(&self, step: usize) -> ControlFlow<()> {
        self.tell(self.done + step, None);
        if self.context.cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// After so many steps of a run its score so far is this.
    pub(super) fn evaluated(&mut self, step: usize, score: f64) {
        let step = self.done + step;
        let value = self.earned + self.weight * score.max(self.best);
        if value.is_finite() {
            self.told.push((step, value));
            self.tell(step, Some(value));
        }
    }

    /// A run has told this before.
    pub(super) fn again(&mut self, points: &[(usize, f64)]) {
        self.told = points.to_vec();
        points.iter().for_each(|&(step, value)| self.tell(step, Some(value)));
    }

    /// A run of so many planned steps ends with this score, though it may have taken fewer.
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
