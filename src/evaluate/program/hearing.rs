//! What is made of the lines of a program.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    answer::{Answer, Found, Kind, Refusal, Step},
    folder::{Value, Values},
    output::Log,
};
use crate::{
    evaluate::{Context, EvalError, Progress},
    study::{Goal, Report},
};

/// Intermediate values of a trial, at most, roughly: of more, those are heard that lie a thousandth of the steps apart.
const VALUES: usize = 1000;
/// Names of metrics, at most.
const METRICS: usize = 256;
/// Characters of a reason, at most.
const REASON: usize = 4000;
/// How often progress without a value is passed on.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens to one attempt.
pub(super) struct Hearing<'a> {
    context: &'a Context,
    goal: &'a Goal,
    log: Log,
    values: Values,
    last: Option<usize>,
    heard: usize,
    passed_on: Option<Instant>,
    metrics: BTreeMap<String, f64>,
    found: Option<Found>,
    refusal: Option<Refusal>,
    breach: Option<String>,
}

impl<'a> Hearing<'a> {
    /// Goes on from the values of earlier attempts.
    pub(super) fn new(context: &'a Context, goal: &'a Goal, log: Log, (earlier, values): (Vec<Value>, Values)) -> Self {
        let mut hearing = Self {
            context,
            goal,
            log,
            values,
            last: None,
            heard: 0,
            passed_on: None,
            metrics: BTreeMap::new(),
            found: None,
            refusal: None,
            breach: None,
        };
        for (step, steps, value) in earlier {
            hearing.tell(Step { step, steps, value: Some(value), stage: String::new() });
        }
        hearing
    }

    /// What the program has done that it may not do.
    pub(super) fn breach(&self) -> Option<&str> {
        self.breach.as_deref()
    }

    /// Whether the program has said what it has to say.
    pub(super) fn is_answered(&self) -> bool {
        self.found.is_some() || self.refusal.is_some()
    }

    /// What the program has printed besides its answers.
    pub(super) fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Takes in a line.
    pub(super) fn line(&mut self, line: &str) {
        match Answer::read(line) {
            None => self.log.line(line),
            Some(Err(error)) => {
                let shown = crate::text::shortened(line, 200);
                self.break_off(format!("it printed a line that cannot be read ({error}): {shown}"));
            }
            Some(Ok(Answer::Progress(step))) => self.progress(step),
            Some(Ok(Answer::Metrics(metrics))) => self.metrics(metrics),
            Some(Ok(answer @ (Answer::Result(_) | Answer::Error(_)))) => self.answer(answer),
        }
    }

    fn break_off(&mut self, words: String) {
        self.breach.get_or_insert(words);
    }

    fn progress(&mut self, step: Step) {
        let spacing = step.steps.div_ceil(VALUES).max(1);
        let apart = self.last.is_none_or(|last| {
            step.step >= last.saturating_add(spacing) || last < step.step && step.step == step.steps
        });
        let counts = apart && self.heard < 2 * VALUES;
        match step.value.filter(|value| value.is_finite() && counts) {
            Some(value) => {
                self.values.add((step.step, step.steps, value));
                self.tell(step);
            }
            None if self.passed_on.is_none_or(|last| last.elapsed() >= PAUSE) => {
                self.tell(Step { value: None, ..step });
            }
            None => {}
        }
    }

    /// Passes on progress, its value turned so that more is better.
    fn tell(&mut self, Step { step, steps, value, stage }: Step) {
        if self.context.cancelled() {
            return;
        }
        if value.is_some() {
            self.last = Some(step);
            self.heard += 1;
        }
        self.passed_on = Some(Instant::now());
        let value = value.map(|value| self.goal.orient(value));
        self.context.progress(Progress { stage, step, steps, value });
    }

    fn metrics(&mut self, metrics: BTreeMap<String, Option<f64>>) {
        let finite = metrics.into_iter().filter_map(|(name, value)| Some((name, value?)));
        self.metrics.extend(finite);
        if self.metrics.len() > METRICS {
            self.break_off(format!("it printed metrics of more than {METRICS} names"));
        }
    }

    fn answer(&mut self, answer: Answer) {
        if self.is_answered() {
            return self.break_off("it printed two results or errors: let one process print one".into());
        }
        match answer {
            Answer::Result(found) if !found.scores.contains_key(&self.goal.score) => {
                let names: Vec<_> = found.scores.keys().map(String::as_str).collect();
                let present = crate::text::shortened(&names.join(", "), 200);
                let words = format!("its result has no score {:?}, only [{present}]", self.goal.score);
                self.break_off(words);
            }
            Answer::Result(found) if found.scores.len() > METRICS => {
                self.break_off(format!("its result has scores of more than {METRICS} names"));
            }
            Answer::Result(found) => match found.negative() {
                Some(words) => self.break_off(words),
                None => self.found = Some(found),
            },
            Answer::Error(Refusal { kind, reason }) => {
                self.refusal = Some(Refusal { kind, reason: crate::text::shortened(&reason, REASON) });
            }
            Answer::Progress(_) | Answer::Metrics(_) => {}
        }
    }

    /// What the program has answered, where it has.
    pub(super) fn answered(self) -> Option<Result<Report, EvalError>> {
        if let Some(Refusal { kind, reason }) = self.refusal {
            return Some(Err(match kind {
                Kind::Infeasible => EvalError::Infeasible(reason),
                Kind::Transient => EvalError::Transient(reason),
                Kind::Fatal => EvalError::Fatal(reason),
            }));
        }
        let Found { scores, standard_error, standard_errors, parameters, train_flops } = self.found?;
        let mut report = Report { standard_error, parameters, train_flops, ..Report::default() };
        report.standard_errors.extend(standard_errors.into_iter().filter_map(|(name, error)| Some((name, error?))));
        report.scores.extend(self.metrics);
        report.scores.extend(scores.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))));
        Some(Ok(report))
    }
}
