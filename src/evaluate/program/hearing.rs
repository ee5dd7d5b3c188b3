//! Interpreting the output of a program.

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

/// The approximate maximum number of intermediate values per trial. Beyond, values must be a thousandth of the steps
/// apart.
const VALUES: usize = 1000;
/// The maximum number of names of metrics.
const METRICS: usize = 256;
/// The maximum length of a reason, in characters.
const REASON: usize = 4000;
/// The minimum time between two reports of progress without a value.
const PAUSE: Duration = Duration::from_millis(100);

/// The state of listening to one attempt.
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
    /// Starts with the values of earlier attempts.
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

    /// Returns the violation of the protocol, if any.
    pub(super) fn breach(&self) -> Option<&str> {
        self.breach.as_deref()
    }

    /// Whether the program has answered with a result or an error.
    pub(super) fn is_answered(&self) -> bool {
        self.found.is_some() || self.refusal.is_some()
    }

    /// Returns the log of all other output.
    pub(super) fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Processes a line.
    pub(super) fn line(&mut self, line: &str) {
        match Answer::read(line) {
            None => self.log.line(line),
            Some(Err(error)) => {
                let shown = crate::text::shortened(line, 200);
                self.break_off(format!("it printed an invalid line ({error}): {shown}"));
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

    /// Reports progress, with the sign of the value changed if lower is better.
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
            self.break_off(format!("it printed more than {METRICS} different metrics"));
        }
    }

    fn answer(&mut self, answer: Answer) {
        if self.is_answered() {
            return self.break_off("it printed more than one result or error: only one process may print it".into());
        }
        match answer {
            Answer::Result(found) if !found.scores.contains_key(&self.goal.score) => {
                let names: Vec<_> = found.scores.keys().map(String::as_str).collect();
                let present = crate::text::shortened(&names.join(", "), 200);
                let words = format!("its result does not have the score {:?}, only [{present}]", self.goal.score);
                self.break_off(words);
            }
            Answer::Result(found) if found.scores.len() > METRICS => {
                self.break_off(format!("its result has more than {METRICS} scores"));
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

    /// Returns the answer of the program, if there is one.
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
