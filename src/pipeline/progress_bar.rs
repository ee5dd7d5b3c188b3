//! A progress bar for terminals and logs.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, MultiProgress, ProgressBar as Bar, ProgressDrawTarget, ProgressStyle};

use super::Observer;
use crate::{
    evaluate::Progress,
    execute::Location,
    journal::Setup,
    study::{Event, Origin, Study, TrialId, TrialState},
    text::{self, number},
};

/// An observer that shows a progress bar on standard error.
///
/// It shows the number of finished trials, the best trial so far, the trials per minute or hour, and the time left.
/// Below, it shows one line per running trial (at most 8) with its task and step. If standard error is not a terminal,
/// it prints one line per finished trial, without control characters.
#[derive(Debug)]
pub struct ProgressBar {
    lines: MultiProgress,
    bar: Bar,
    start: Instant,
    /// The number of trials to reach; 0 before the search starts.
    budget: usize,
    /// Trials that had finished when the run began.
    earlier: usize,
    running: BTreeMap<TrialId, Running>,
    /// The locations of the running trials, if the executor reports them.
    places: BTreeMap<TrialId, Location>,
}

/// A trial that a worker evaluates.
#[derive(Debug)]
struct Running {
    /// The completed fraction, from 0 to 1.
    share: f64,
    line: Option<Bar>,
}

/// The number of ticks of the bar per trial.
const PER_TRIAL: f64 = 100.0;
/// The maximum number of trials with their own line.
const LINES: usize = 8;

/// Parses a style. The templates are constants; if one were invalid, the default style is used.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

impl ProgressBar {
    /// Creates a progress bar on standard error.
    pub fn new() -> Self {
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        let bar = lines.add(Bar::new(1)).with_style(style("{prefix} [{bar:24}] {msg}"));
        let running = BTreeMap::new();
        let places = BTreeMap::new();
        Self { lines, bar, start: Instant::now(), budget: 0, earlier: 0, running, places }
    }

    fn draw(&mut self, study: &Study) {
        if self.budget == 0 {
            return;
        }
        let done = study.finished_trials();
        let part: f64 = self.running.values().map(|running| running.share).sum();
        let most = self.most(study);
        self.bar.set_length((most as f64 * PER_TRIAL) as u64);
        self.bar.set_position(((done as f64 + part) * PER_TRIAL) as u64);
        self.bar.set_prefix(format!("{done}/{most} trials"));
        let failed = failed(study);
        let places = where_they_are(&self.places);
        self.bar.set_message(format!("{}{failed}{places}{}", best(study), self.pace(done as f64 + part, most)));
    }

    /// Describes speed and time left, if known.
    fn pace(&self, done: f64, most: usize) -> String {
        pace(done - self.earlier as f64, most as f64 - done, self.start.elapsed())
    }

    /// Returns the number of trials to reach. A search ends when it knows the whole space, usually after as many trials
    /// as there are sequences.
    fn most(&self, study: &Study) -> usize {
        let sequences = usize::try_from(study.space().size()).unwrap_or(usize::MAX);
        self.budget.min(sequences).max(study.finished_trials())
    }

    fn ended(&mut self, id: TrialId) {
        if let Some(Running { line: Some(line), .. }) = self.running.remove(&id) {
            line.finish_and_clear();
            self.lines.remove(&line);
        }
        self.places.remove(&id);
    }
}

/// Describes the speed and the time left from the number of trials done and left: `, 3.1 trials/min, 4 minutes left`.
fn pace(done: f64, left: f64, elapsed: Duration) -> String {
    let per_minute = 60.0 * done / elapsed.as_secs_f64();
    if done <= 0.0 || left <= 0.0 || !per_minute.is_finite() {
        return String::new();
    }
    let rate = match per_minute < 1.0 {
        true => format!("{:.1} trials/h", 60.0 * per_minute),
        false => format!("{per_minute:.1} trials/min"),
    };
    let left = Duration::try_from_secs_f64(60.0 * left / per_minute).unwrap_or(Duration::MAX);
    format!(", {rate}, {} left", HumanDuration(left))
}

impl Default for ProgressBar {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for ProgressBar {
    fn started(&mut self, _: &Setup, study: &Study, budget: usize) {
        self.start = Instant::now();
        self.budget = budget;
        self.earlier = study.finished_trials();
        self.draw(study);
    }

    fn submitted(&mut self, id: TrialId, study: &Study) {
        let line = (self.running.len() < LINES).then(|| {
            let architecture = study.trial(id).map(|trial| trial.architecture.to_string()).unwrap_or_default();
            let line = self.lines.add(Bar::new(1)).with_style(style("  {prefix}  {msg}"));
            line.set_prefix(format!("{id}  {architecture}"));
            line
        });
        self.running.insert(id, Running { share: 0.0, line });
    }

    fn event(&mut self, event: &Event, study: &Study) {
        let id = event.id();
        if !matches!(event, Event::Proposed { .. }) {
            self.ended(id);
        }
        self.draw(study);
        if self.bar.is_hidden()
            && let Some(line) = outcome(event, study)
        {
            let done = study.finished_trials();
            let most = self.most(study);
            let best = best(study);
            let places = where_they_are(&self.places);
            let pace = self.pace(done as f64, most);
            tell(&match self.budget {
                0 => line,
                _ => format!("{done}/{most} trials, {best}{places}{pace}; {line}"),
            });
        }
    }

    fn located(&mut self, id: TrialId, place: &Location) {
        self.places.insert(id, place.clone());
    }

    fn progress(&mut self, id: TrialId, progress: &Progress) {
        let Some(running) = self.running.get_mut(&id) else { return };
        let Progress { stage, step, steps, .. } = progress;
        let share = (*step as f64 / (*steps).max(1) as f64).min(1.0);
        // Trainings that were made at once are reported one after the other, from where the first one began.
        self.bar.inc(((share - running.share).max(0.0) * PER_TRIAL) as u64);
        running.share = running.share.max(share);
        if let Some(line) = &running.line {
            line.set_message(text::line(&format!("{stage}, step {step} of {steps}")));
        }
    }

    fn notice(&mut self, text: &str) {
        self.lines.suspend(|| tell(&text::line(text)));
    }

    fn finished(&mut self, study: &Study) {
        let running: Vec<_> = self.running.keys().copied().collect();
        running.into_iter().for_each(|id| self.ended(id));
        self.places.clear();
        self.draw(study);
        self.bar.abandon();
    }
}

/// Prints a line and ignores errors: a search must not end because its terminal was closed.
fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn best(study: &Study) -> String {
    match study.best() {
        Some(best) => format!("best {} {}", best.trial.architecture, number(study.goal().orient(best.value), 4)),
        None => "no result yet".into(),
    }
}

fn failed(study: &Study) -> String {
    match study.trials().iter().filter(|trial| matches!(trial.state, TrialState::Failed(_))).count() {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    }
}

/// Counts the queued trials by reason and the running ones by node: `, 3 queued (Resources), running n1 ×2 n2 ×1`.
fn where_they_are(places: &BTreeMap<TrialId, Location>) -> String {
    let mut reasons = BTreeMap::<&str, usize>::new();
    let mut nodes = BTreeMap::<&str, usize>::new();
    for place in places.values() {
        match place {
            Location::Queued(reason) => *reasons.entry(reason).or_default() += 1,
            Location::Running(node) => *nodes.entry(node).or_default() += 1,
        }
    }
    let queued = reasons.iter().map(|(reason, count)| format!(", {count} queued ({reason})"));
    let running = nodes.iter().map(|(node, count)| format!(" {node} ×{count}")).collect::<String>();
    let running = if nodes.is_empty() { running } else { format!(", running{running}") };
    text::line(&queued.chain([running]).collect::<String>())
}

/// Describes a finished trial in one line.
fn outcome(event: &Event, study: &Study) -> Option<String> {
    let trial = study.trial(event.id()).ok()?;
    let text = match &trial.state {
        TrialState::Pending => return None,
        TrialState::Completed(report) => {
            let value = report.value(study.goal()).ok()?;
            let error = report.standard_error.map(|error| format!(" ± {}", number(error, 4))).unwrap_or_default();
            let digits = if report.wall_seconds < 10.0 { 1 } else { 0 };
            let seconds = number(report.wall_seconds, digits);
            format!("{}{error} in {seconds} s", number(study.goal().orient(value), 4))
        }
        TrialState::Failed(failure) => format!("failed, {}", failure.reason),
        TrialState::Invalid { reason, .. } => format!("excluded, {reason}"),
    };
    let aggregated = if trial.origin == Origin::Aggregated { "the aggregated architecture, " } else { "" };
    Some(text::line(&format!("{aggregated}{} {}: {text}", trial.id, trial.architecture)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::Symbol,
        seed::Seed,
        space::SearchSpace,
        study::{Goal, Report},
    };

    #[test]
    fn queued_and_running_trials_are_counted() {
        let place = |node: &str| Location::Running(node.into());
        let queued = || Location::Queued("Resources".into());
        let places = (0..).map(TrialId).zip([place("n2"), queued(), place("n1"), queued(), place("n2")]);
        assert_eq!(where_they_are(&places.collect()), ", 2 queued (Resources), running n1 ×1 n2 ×2");
        assert_eq!(where_they_are(&BTreeMap::new()), "");
    }

    #[test]
    fn the_pace_is_in_minutes_or_hours() {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        assert_eq!(pace(6.0, 18.0, minutes(2)), ", 3.0 trials/min, 6 minutes left");
        assert_eq!(pace(1.0, 4.0, minutes(30)), ", 2.0 trials/h, 2 hours left");
        assert_eq!([pace(0.0, 2.0, minutes(1)), pace(2.0, 0.0, minutes(1))], ["", ""]);
        assert_eq!(pace(1.0, 1.0, Duration::ZERO), "");
    }

    #[test]
    fn what_evaluators_and_clusters_say_cannot_command_the_terminal() {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 2).unwrap();
        for nasty in ["\u{1b}[2J\u{1b}]0;x\u{7}", "a\rb\nc", "\u{9b}31m", "\u{202e}abc", "nul\0", &"x".repeat(10_000)] {
            let mut study = Study::new(space.clone(), Goal::default());
            let mut bar = ProgressBar::new();
            bar.started(&Setup::of(&study), &study, 1);
            let id = study.next_id();
            let architecture = study.space().nth(0).unwrap();
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
            bar.submitted(id, &study);
            bar.progress(id, &Progress { stage: nasty.into(), step: 1, steps: 2, value: None });
            bar.located(id, &Location::Running(nasty.into()));
            bar.notice(nasty);
            let said = [bar.running[&id].line.clone().unwrap().message(), where_they_are(&bar.places)];
            let failure = crate::study::Failure { kind: crate::study::FailureKind::Infeasible, reason: nasty.into() };
            let event = Event::Failed { id, failure };
            study.apply(event.clone()).unwrap();
            bar.event(&event, &study);
            for line in said.into_iter().chain(outcome(&event, &study)) {
                assert!(
                    !line.contains(|c: char| c.is_control() || c == '\u{202e}') && line.chars().count() < 1100,
                    "{line:?}"
                );
            }
        }
    }

    #[test]
    fn running_trials_have_a_line_until_they_end() {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 2).unwrap();
        let mut study = Study::new(space, Goal::default());
        let mut bar = ProgressBar::new();
        bar.started(&Setup::of(&study), &study, 2);
        let id = study.next_id();
        let architecture = study.space().nth(1).unwrap();
        study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Searcher }).unwrap();
        bar.submitted(id, &study);
        let progress = Progress { stage: "recall".into(), step: 3, steps: 12, value: None };
        bar.progress(id, &progress);
        let line = bar.running[&id].line.clone().unwrap();
        assert_eq!((line.prefix(), line.message()), ("trial 0  1A+1M".into(), "recall, step 3 of 12".into()));
        let event = Event::Completed { id, report: Report::score("accuracy", 0.5) };
        study.apply(event.clone()).unwrap();
        bar.event(&event, &study);
        assert!(bar.running.is_empty() && line.is_finished());
        assert_eq!(bar.bar.prefix(), "1/2 trials");
    }

    #[test]
    fn aggregated_and_invalid_trials_do_not_count_and_small_spaces_end_the_search() {
        let mut study =
            Study::new(SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 2).unwrap(), Goal::default());
        let mut bar = ProgressBar::new();
        let mut events = Vec::new();
        for (index, origin) in [(0, Origin::Searcher), (1, Origin::Searcher), (2, Origin::Aggregated)] {
            let id = TrialId(index);
            let architecture = study.space().nth(u128::from(index)).unwrap();
            events.push(Event::Proposed { id, architecture, seed: Seed(0), origin });
            events.push(Event::Completed { id, report: Report::score("accuracy", 0.5) });
        }
        events.push(Event::Invalidated { id: TrialId(1), reason: "a broken node".into() });
        for event in events {
            study.apply(event.clone()).unwrap();
            bar.event(&event, &study);
        }
        let ended = |id| outcome(&Event::Invalidated { id: TrialId(id), reason: "a broken node".into() }, &study);
        assert_eq!(ended(2).unwrap(), "the aggregated architecture, trial 2 1M+1A: 0.5000 in 0.0 s");
        assert_eq!(ended(1).unwrap(), "trial 1 1A+1M: excluded, a broken node");
        // The search has not said yet how many trials there are to be.
        assert_eq!(bar.bar.prefix(), "");
        let prefix = |budget| {
            let mut bar = ProgressBar::new();
            bar.started(&Setup::of(&study), &study, budget);
            bar.bar.prefix()
        };
        assert_eq!([prefix(2), prefix(24)], ["1/2 trials", "1/4 trials"]);
    }
}
