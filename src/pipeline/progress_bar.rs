//! A progress bar for terminals and logs.

use std::{collections::BTreeMap, time::Instant};

use indicatif::{HumanDuration, ProgressBar as Bar, ProgressDrawTarget, ProgressStyle};

use super::Observer;
use crate::{
    evaluate::Progress,
    execute::Place,
    study::{Event, Study, TrialId, TrialState},
};

/// Shows trials done, what runs, the best so far and the time left. In a terminal it is one line that changes; elsewhere
/// it prints a line per finished trial, without control characters.
#[derive(Debug)]
pub struct ProgressBar {
    bar: Bar,
    start: Instant,
    budget: usize,
    /// Trials that had an outcome when the run began.
    earlier: usize,
    /// Share done of every running trial.
    running: BTreeMap<TrialId, f64>,
    /// Where they are, as far as an executor tells.
    places: BTreeMap<TrialId, Place>,
}

/// Resolution of the bar: a trial counts this much.
const PER_TRIAL: f64 = 100.0;

impl ProgressBar {
    /// A bar on standard error.
    pub fn new() -> Self {
        let bar = Bar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(5));
        // The template is a constant; should the library ever refuse it, its own default does.
        if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:24}] {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, start: Instant::now(), budget: 0, earlier: 0, running: BTreeMap::new(), places: BTreeMap::new() }
    }

    fn draw(&mut self, study: &Study) {
        let done = finished(study);
        let part: f64 = self.running.values().sum();
        self.bar.set_length((self.budget as f64 * PER_TRIAL) as u64);
        self.bar.set_position(((done as f64 + part) * PER_TRIAL) as u64);
        self.bar.set_prefix(format!("{done}/{} trials", self.budget));
        let (failed, places) = (failed(study), where_they_are(&self.places));
        self.bar.set_message(format!("{}{failed}{places}{}", best(study), self.time_left(done as f64 + part)));
    }

    fn time_left(&self, done: f64) -> String {
        let here = done - self.earlier as f64;
        let left = self.budget as f64 - done;
        if here <= 0.0 || left <= 0.0 {
            return String::new();
        }
        format!(", {:#} left", HumanDuration(self.start.elapsed().mul_f64(left / here)))
    }
}

impl Default for ProgressBar {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for ProgressBar {
    fn started(&mut self, study: &Study, budget: usize) {
        self.start = Instant::now();
        (self.budget, self.earlier) = (budget, finished(study));
        self.draw(study);
    }

    fn submitted(&mut self, id: TrialId, _study: &Study) {
        self.running.insert(id, 0.0);
    }

    fn event(&mut self, event: &Event, study: &Study) {
        let id = event.id();
        if !matches!(event, Event::Proposed { .. }) {
            self.running.remove(&id);
            self.places.remove(&id);
        }
        self.draw(study);
        if self.bar.is_hidden()
            && let Some(line) = outcome(event, study)
        {
            let (best, places) = (best(study), where_they_are(&self.places));
            let left = self.time_left(finished(study) as f64);
            eprintln!("{}/{} trials, {best}{places}{left}; {line}", finished(study), self.budget);
        }
    }

    fn placed(&mut self, id: TrialId, place: &Place) {
        self.places.insert(id, place.clone());
    }

    fn progress(&mut self, id: TrialId, progress: &Progress) {
        let share = progress.step as f64 / progress.steps.max(1) as f64;
        let before = self.running.insert(id, share.min(1.0)).unwrap_or(0.0);
        self.bar.inc(((share - before).max(0.0) * PER_TRIAL) as u64);
    }

    fn notice(&mut self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    fn finished(&mut self, study: &Study) {
        self.running.clear();
        self.places.clear();
        self.draw(study);
        self.bar.abandon();
    }
}

fn finished(study: &Study) -> usize {
    study.trials().iter().filter(|trial| !trial.is_pending() && !trial.is_invalid()).count()
}

fn best(study: &Study) -> String {
    match study.best() {
        Some(best) => format!("best {} {:.4}", best.trial.architecture, study.goal().orient(best.value)),
        None => "no result yet".into(),
    }
}

fn failed(study: &Study) -> String {
    match study.trials().iter().filter(|trial| matches!(trial.state, TrialState::Failed(_))).count() {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    }
}

/// How many trials wait and why, and how many run on which node: `, 3 queued (Resources), running n1 ×2 n2 ×1`.
fn where_they_are(places: &BTreeMap<TrialId, Place>) -> String {
    let (mut reasons, mut nodes) = (BTreeMap::<&str, usize>::new(), BTreeMap::<&str, usize>::new());
    for place in places.values() {
        match place {
            Place::Queued(reason) => *reasons.entry(reason).or_default() += 1,
            Place::Running(node) => *nodes.entry(node).or_default() += 1,
        }
    }
    let queued = reasons.iter().map(|(reason, count)| format!(", {count} queued ({reason})"));
    let running = nodes.iter().map(|(node, count)| format!(" {node} ×{count}")).collect::<String>();
    let running = if nodes.is_empty() { running } else { format!(", running{running}") };
    queued.chain([running]).collect()
}

/// One finished trial in words.
fn outcome(event: &Event, study: &Study) -> Option<String> {
    let trial = study.trial(event.id()).ok()?;
    let text = match &trial.state {
        TrialState::Pending => return None,
        TrialState::Completed(report) => {
            let value = report.value(study.goal()).ok()?;
            let error = report.standard_error.map(|error| format!(" ± {error:.4}")).unwrap_or_default();
            format!("{:.4}{error} in {:.0} s", study.goal().orient(value), report.wall_seconds)
        }
        TrialState::Failed(failure) => format!("failed, {}", failure.reason),
        TrialState::Invalid { reason, .. } => format!("set aside, {reason}"),
    };
    Some(format!("{} {}: {text}", trial.id, trial.architecture))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queued_and_running_trials_are_counted() {
        let place = |node: &str| Place::Running(node.into());
        let queued = || Place::Queued("Resources".into());
        let places = (0..).map(TrialId).zip([place("n2"), queued(), place("n1"), queued(), place("n2")]);
        assert_eq!(where_they_are(&places.collect()), ", 2 queued (Resources), running n1 ×1 n2 ×2");
        assert_eq!(where_they_are(&BTreeMap::new()), "");
    }
}
