//! The result of a task.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    evaluate::EvalError,
    execute::AttemptError,
    study::{self, Report, TrialId},
};

/// The result of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(in crate::execute) enum Outcome {
    /// The worker has started and has the evaluator.
    Ready,
    /// The trial was evaluated.
    Completed {
        report: Box<Report>,
        /// Scores that are not finite, as text, because JSON cannot represent them. The study rejects them with a
        /// reason.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        not_finite: BTreeMap<String, String>,
        /// The names of the other numbers that are not finite.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left_out: Vec<String>,
    },
    Infeasible {
        reason: String,
    },
    Transient {
        reason: String,
    },
    Fatal {
        reason: String,
    },
    Stopped {
        reason: String,
    },
    Panicked {
        reason: String,
    },
    Crashed {
        reason: String,
    },
}

impl Outcome {
    /// Converts an outcome to the form that is written; `None` for a cancelled evaluation, which has no result.
    pub(in crate::execute) fn new(outcome: Result<Report, AttemptError>) -> Option<Self> {
        Some(match outcome {
            Ok(report) => {
                let left_out = report.not_finite();
                let mut report = report.finite();
                let bad = report.scores.extract_if(.., |_, score| !score.is_finite());
                let not_finite = bad.map(|(name, score)| (name, score.to_string())).collect();
                Outcome::Completed { report: Box::new(report), not_finite, left_out }
            }
            Err(AttemptError::Evaluator(said)) => match said {
                EvalError::Infeasible(reason) => Outcome::Infeasible { reason },
                EvalError::Transient(reason) => Outcome::Transient { reason },
                EvalError::Fatal(reason) => Outcome::Fatal { reason },
                EvalError::Cancelled => return None,
            },
            Err(AttemptError::Stopped(reason)) => Outcome::Stopped { reason },
            Err(AttemptError::Panicked(reason)) => Outcome::Panicked { reason },
            Err(AttemptError::Crashed(reason)) => Outcome::Crashed { reason },
        })
    }

    /// Returns a notice about the result, if there is anything to say.
    pub(in crate::execute) fn notice(&self, id: TrialId) -> Option<String> {
        match self {
            // Nothing is recorded of an invalid report.
            Outcome::Completed { left_out, not_finite, .. } if not_finite.is_empty() => study::left_out(id, left_out),
            _ => None,
        }
    }

    /// Converts the result to the form that the driver returns.
    pub(in crate::execute) fn told(self) -> Result<Report, AttemptError> {
        Err(match self {
            Outcome::Ready => {
                EvalError::Fatal("the worker answered the probe instead of evaluating a trial".into()).into()
            }
            Outcome::Completed { mut report, not_finite, .. } => {
                let numbers = not_finite.into_iter().map(|(name, text)| (name, text.parse().unwrap_or(f64::NAN)));
                report.scores.extend(numbers);
                return Ok(*report);
            }
            Outcome::Infeasible { reason } => EvalError::Infeasible(reason).into(),
            Outcome::Transient { reason } => EvalError::Transient(reason).into(),
            Outcome::Fatal { reason } => EvalError::Fatal(reason).into(),
            Outcome::Stopped { reason } => AttemptError::Stopped(reason),
            Outcome::Panicked { reason } => AttemptError::Panicked(reason),
            Outcome::Crashed { reason } => AttemptError::Crashed(reason),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_arrive() {
        let scores = [("accuracy", f64::NAN), ("loss", f64::INFINITY), ("half", 0.5)];
        let scores: BTreeMap<String, f64> = scores.map(|(name, score)| (name.into(), score)).into();
        let curve = vec![(1, 0.1), (2, f64::NAN)];
        let report = Report { scores, curve, train_flops: Some(f64::INFINITY), ..Report::default() };
        let there = |outcome| {
            let text = serde_json::to_string(&Outcome::new(outcome).unwrap()).unwrap();
            serde_json::from_str::<Outcome>(&text).unwrap().told()
        };
        let told = there(Ok(report.clone())).unwrap();
        assert!(told.scores["accuracy"].is_nan());
        assert_eq!((told.scores["loss"], told.scores["half"], told.curve), (f64::INFINITY, 0.5, vec![(1, 0.1)]));
        assert_eq!(told.train_flops, None);
        let said = [EvalError::Infeasible, EvalError::Transient, EvalError::Fatal];
        let said = said.map(|error| AttemptError::from(error("because".into())));
        let met = [AttemptError::Stopped, AttemptError::Panicked, AttemptError::Crashed];
        for error in said.into_iter().chain(met.map(|error| error("because".into()))) {
            assert_eq!(there(Err(error.clone())), Err(error));
        }
        assert_eq!(Outcome::new(Err(EvalError::Cancelled.into())), None);
    }
}
