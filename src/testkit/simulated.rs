//! Studies with simulated outcomes.

use rand::{RngExt, seq::IteratorRandom};

use super::LawBroken;
use crate::{
    seed::{Rng, Seed},
    space::Architecture,
    study::{Event, Failure, FailureKind, Origin, Report, Study, TrialState},
    text::causes,
};

/// Returns a synthetic value in 0..1: half structure (how often the type of layer changes), half noise that depends
/// only on the architecture. It is rounded to 1/16, so that there are equal values.
pub(super) fn value(architecture: &Architecture) -> f64 {
    let changes = architecture.runs().count() as f64 / architecture.len().max(1) as f64;
    let noise: f64 = Seed(0).rng(&architecture.letters(), 0).random();
    (8.0 * (changes + noise)).floor() / 16.0
}

/// Adds a pending trial.
pub(super) fn propose(study: &mut Study, architecture: Architecture) -> Result<(), LawBroken> {
    let id = study.next_id();
    let origin = Origin::Searcher;
    apply(study, Event::Proposed { id, architecture, seed: Seed(0).derive("trial", id.0), origin })
}

/// How a simulated trial ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    Value(f64),
    Failed,
    Invalid(f64),
    Pending,
}

impl Outcome {
    /// Usually `value`; sometimes a failure, or a value that is then marked invalid.
    pub(super) fn draw(value: f64, rng: &mut Rng) -> Self {
        match rng.random_range(0..12) {
            0 => Outcome::Failed,
            1 => Outcome::Invalid(value),
            _ => Outcome::Value(value),
        }
    }
}

/// Ends the trial at index `at`.
pub(super) fn finish(study: &mut Study, at: usize, outcome: Outcome) -> Result<(), LawBroken> {
    let id = study.trials()[at].id;
    let completed = |value| Event::Completed { id, report: Report::score(&study.goal().score, value) };
    let events = match outcome {
        Outcome::Value(value) => vec![completed(value)],
        Outcome::Invalid(value) => vec![completed(value), Event::Invalidated { id, reason: "simulated".into() }],
        Outcome::Failed => {
            let failure = Failure { kind: FailureKind::Infeasible, reason: "simulated".into() };
            vec![Event::Retried { id, reason: "simulated".into() }, Event::Failed { id, failure }]
        }
        Outcome::Pending => vec![],
    };
    events.into_iter().try_for_each(|event| apply(study, event))
}

/// Ends a random pending trial, if there is any.
pub(super) fn finish_one(study: &mut Study, rng: &mut Rng) -> Result<(), LawBroken> {
    let pending = (0..study.trials().len()).filter(|&at| study.trials()[at].is_pending());
    match pending.choose(rng) {
        Some(at) => {
            let outcome = Outcome::draw(value(&study.trials()[at].architecture), rng);
            finish(study, at, outcome)
        }
        None => Ok(()),
    }
}

fn apply(study: &mut Study, event: Event) -> Result<(), LawBroken> {
    study.apply(event).map_err(|error| LawBroken::new("a study accepts valid events", causes(&error)))
}

/// Describes the trials of a study in one line.
pub(super) fn describe(study: &Study) -> String {
    let state = |state: &TrialState| match state {
        TrialState::Pending => "pending".to_owned(),
        TrialState::Completed(report) => report.value(study.goal()).map_or("?".into(), |value| value.to_string()),
        TrialState::Failed(_) => "failed".into(),
        TrialState::Invalid { .. } => "invalid".into(),
    };
    let trials: Vec<_> =
        study.trials().iter().map(|trial| format!("{} {}", trial.architecture, state(&trial.state))).collect();
    format!("trials [{}]", trials.join(", "))
}
