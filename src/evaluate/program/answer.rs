//! The answers of a program: JSON lines on its standard output.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;

/// An answer of a program.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    /// The progress of the evaluation.
    Progress(Step),
    /// Additional numbers to record, by name.
    Metrics(BTreeMap<String, Option<f64>>),
    /// The result of the evaluation.
    Result(Found),
    /// The reason why there is no result.
    Error(Refusal),
}

/// The progress of an evaluation.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub step: usize,
    #[serde(default)]
    pub steps: usize,
    /// The score so far, with the sign of the score.
    #[serde(default)]
    pub value: Option<f64>,
    #[serde(default)]
    pub stage: String,
}

/// The result of an evaluation. Scores that are not finite are `None`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Found {
    pub scores: BTreeMap<String, Option<f64>>,
    #[serde(default)]
    pub standard_error: Option<f64>,
    /// Of other scores.
    #[serde(default)]
    pub standard_errors: BTreeMap<String, Option<f64>>,
    #[serde(default)]
    pub parameters: u64,
    #[serde(default)]
    pub train_flops: Option<f64>,
}

impl Found {
    /// Returns a message if a number is negative that must not be.
    pub(super) fn negative(&self) -> Option<String> {
        let numbers = [("standard_error", self.standard_error), ("train_flops", self.train_flops)];
        let others = self.standard_errors.values().map(|&error| ("standard error", error));
        let (name, value) =
            numbers.into_iter().chain(others).find(|(_, value)| value.is_some_and(|value| value < 0.0))?;
        Some(format!("its result has a negative {name}, {}", value.unwrap_or_default()))
    }
}

/// An error that a program reports.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refusal {
    pub kind: Kind,
    pub reason: String,
}

/// The kind of an error, which determines its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Infeasible,
    Transient,
    Fatal,
}

impl Answer {
    /// Parses a line. Returns `None` if the line is not an answer, but belongs to the log.
    ///
    /// # Errors
    /// The parse error if the line is an invalid answer.
    pub(super) fn read(line: &str) -> Option<Result<Self, serde_json::Error>> {
        if !is_answer(line) {
            return None;
        }
        Some(serde_json::from_str(line).or_else(|error| match without_nan(line) {
            Cow::Borrowed(_) => Err(error),
            Cow::Owned(line) => serde_json::from_str(&line),
        }))
    }
}

/// Whether the line starts like an object whose first key is that of an answer.
fn is_answer(line: &str) -> bool {
    let rest = line.trim_start().strip_prefix('{').and_then(|rest| rest.trim_start().strip_prefix('"'));
    let key = rest.and_then(|rest| rest.split_once('"')).map(|(key, _)| key);
    key.is_some_and(|key| ["progress", "metrics", "result", "error"].contains(&key))
}

/// Replaces the numbers that Python writes but JSON does not have by `null`.
fn without_nan(line: &str) -> Cow<'_, str> {
    let mut replaced = String::new();
    let mut rest = line;
    let mut quoted = false;
    let mut escaped = false;
    while let Some(c) = rest.chars().next() {
        let word = ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| !quoted && rest.starts_with(word));
        if let Some(word) = word {
            replaced.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        replaced.push(c);
        rest = &rest[c.len_utf8()..];
    }
    if replaced == line { Cow::Borrowed(line) } else { Cow::Owned(replaced) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in r#"\{"(progress|metrics|result|error)": ?[\PC"\\{}NaInfity]{0,40}"#, any in ".*") {
            let _ = (Answer::read(&line), Answer::read(&any));
        }
    }

    fn read(line: &str) -> Answer {
        Answer::read(line).unwrap().unwrap()
    }

    #[test]
    fn lines_are_answers_or_belong_to_the_log() {
        let step = Step { step: 3, steps: 9, value: Some(0.5), stage: String::new() };
        assert_eq!(read(r#" { "progress": {"step": 3, "steps": 9, "value": 0.5}}"#), Answer::Progress(step));
        let refusal = Refusal { kind: Kind::Transient, reason: "node \"a\"".into() };
        let line = r#"{"error": {"kind": "transient", "reason": "node \"a\""}}"#;
        assert_eq!(read(line), Answer::Error(refusal));
        for line in ["", "epoch 1", "{", "{}", "{'result': 1}", r#"{"loss": 3}"#, r#"["result"]"#, "\u{0}{\"resu"] {
            assert_eq!(Answer::read(line).map(drop_error), None, "{line}");
        }
        let bad = [
            r#"{"result"}"#,
            r#"{"result": 3}"#,
            r#"{"result": {"scores": {"loss": "low"}}}"#,
            r#"{"result": {"scores": {}, "stndard_error": 1}}"#,
            r#"{"result": {"scores": {"loss": 1}}"#,
            r#"{"progress": {"step": -1}}"#,
            r#"{"error": {"kind": "odd", "reason": ""}}"#,
            r#"{"result": {"scores": {}}, "error": {"kind": "fatal", "reason": ""}}"#,
        ];
        for line in bad {
            assert!(Answer::read(line).unwrap().is_err(), "{line}");
        }
    }

    fn drop_error(read: Result<Answer, serde_json::Error>) -> Option<Answer> {
        read.ok()
    }

    #[test]
    fn numbers_that_json_does_not_have_are_absent() {
        let line = r#"{"result": {"scores": {"NaN \" Infinity": NaN, "b": -Infinity, "c": Infinity, "d": 1}}}"#;
        let Answer::Result(Found { scores, .. }) = read(line) else { panic!() };
        let values: Vec<_> = scores.into_iter().collect();
        let named = |name: &str, value| (name.to_owned(), value);
        let expected = [named("NaN \" Infinity", None), named("b", None), named("c", None), named("d", Some(1.0))];
        assert_eq!(values, expected);
    }
}
