//! Metrics in a file, for dashboards.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::Observer;
use crate::{
    evaluate::Progress,
    journal::Setup,
    limits,
    study::{Event, Study, TrialId},
};

/// An observer that appends metrics to a file, as one flat JSON object per line.
///
/// Tools such as Weights & Biases, pandas or `jq` can read it directly. Every line has `time` (seconds since 1970) and
/// `kind`:
///
/// | `kind` | when | further fields |
/// |---|---|---|
/// | `start`, `end` | the run starts, ends | `trials` (so far), `budget` (only in `start`) |
/// | `progress` | a trial reports progress, at most once per second | `trial`, `stage`, `step`, `steps`, `value` |
/// | `completed` | a trial has a result | `trial`, `architecture`, and the fields below |
/// | `failed` | a trial has failed | `trial`, `architecture`, `reason` |
/// | `retried` | an attempt has failed | `trial`, `architecture`, `reason` |
/// | `notice` | there is a message for the user | `text` |
///
/// A completed trial has `score`, `best` (the best score so far), `standard_error`, `seconds`, `parameters`,
/// `train_flops`, and every score of the report as `scores/NAME`.
///
/// Unknown values are omitted, and so are NaN and infinities, which JSON cannot represent. A progress line takes about
/// 120 bytes: a trial of one hour adds at most 430 kB.
///
/// A search never reads this file; it resumes from the journal. A line that cannot be written is dropped.
#[derive(Debug)]
pub struct MetricsFile {
    file: File,
    /// When each running trial last wrote a progress line.
    heard: HashMap<TrialId, Instant>,
}

/// The least time between two progress lines of one trial.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

impl MetricsFile {
    /// Opens the file at `path` for appending. Creates it and its folder if they do not exist.
    ///
    /// # Errors
    /// The I/O error if the file cannot be opened; [`io::ErrorKind::InvalidInput`] if it is not a regular file.
    pub fn append(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        // The file is not read, so its length does not matter.
        let file = limits::open_with(OpenOptions::new().append(true).create(true), path, u64::MAX)?;
        Ok(Self { file, heard: HashMap::new() })
    }

    fn line(&mut self, kind: &str, mut fields: Value) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if let Value::Object(fields) = &mut fields {
            fields.insert("kind".into(), kind.into());
            fields.insert("time".into(), (time.as_millis() as f64 / 1e3).into());
            fields.retain(|_, value| !value.is_null());
        }
        // A failure to write metrics must not end the search.
        let _ = writeln!(self.file, "{fields}");
    }
}

impl Observer for MetricsFile {
    fn started(&mut self, _: &Setup, study: &Study, budget: usize) {
        self.line("start", json!({ "trials": study.trials().len(), "budget": budget }));
    }

    fn event(&mut self, event: &Event, study: &Study) {
        let id = event.id();
        self.heard.remove(&id);
        let architecture = study.trial(id).map(|trial| trial.architecture.to_string()).unwrap_or_default();
        match event {
            Event::Completed { report, .. } => {
                let best = study.best().map(|best| study.goal().orient(best.value));
                let mut fields = json!({
                    "trial": id, "architecture": architecture, "score": report.scores.get(&study.goal().score), "best": best,
                    "standard_error": report.standard_error, "seconds": report.wall_seconds,
                    "parameters": report.parameters, "train_flops": report.train_flops,
                });
                for (name, score) in &report.scores {
                    fields[format!("scores/{name}")] = (*score).into();
                }
                self.line("completed", fields);
            }
            Event::Failed { failure, .. } => {
                self.line("failed", json!({ "trial": id, "architecture": architecture, "reason": failure.reason }));
            }
            Event::Retried { reason, .. } => {
                self.line("retried", json!({ "trial": id, "architecture": architecture, "reason": reason }));
            }
            Event::Proposed { .. } | Event::Invalidated { .. } => {}
        }
    }

    fn progress(&mut self, id: TrialId, progress: &Progress) {
        let Progress { stage, step, steps, value } = progress;
        let now = Instant::now();
        if self.heard.get(&id).is_some_and(|&heard| now.duration_since(heard) < PROGRESS_EVERY) {
            return;
        }
        self.heard.insert(id, now);
        self.line("progress", json!({ "trial": id, "stage": stage, "step": step, "steps": steps, "value": value }));
    }

    fn notice(&mut self, text: &str) {
        self.line("notice", json!({ "text": text }));
    }

    fn finished(&mut self, study: &Study) {
        self.line("end", json!({ "trials": study.trials().len() }));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        evaluate::{Context, EvalError, from_fn},
        extrapolate::Target,
        pipeline::Pipeline,
        primitive::Primitives,
        space::SearchSpace,
        study::{Report, Trial},
    };

    #[test]
    fn every_outcome_is_a_line_that_says_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/metrics.jsonl");
        let primitives = Primitives::standard();
        let space = SearchSpace::uniform(primitives.symbols(["A", "M"]).unwrap(), 2).unwrap();
        let evaluator = from_fn("test", |trial: &Trial, context: &Context| {
            for _ in 0..1000 {
                context.progress(Progress { stage: "half".into(), step: 1, steps: 2, value: Some(0.25) });
            }
            match trial.architecture.letters().as_str() {
                "MM" => Err(EvalError::Infeasible("no".into())),
                letters => Ok(Report::score("accuracy", letters.matches('A').count() as f64 / 2.0)),
            }
        });
        let pipeline = Pipeline::new(&primitives, space, evaluator).trials(4).workers(1);
        pipeline.observer(MetricsFile::append(&path).unwrap()).run(&Target::llama_350m()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let kinds = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
        assert_eq!((kinds("start").len(), kinds("end").len(), kinds("progress").len()), (1, 1, 4));
        assert_eq!((kinds("completed").len(), kinds("failed").len()), (3, 1));
        assert_eq!(kinds("failed")[0]["reason"], "no");
        let best = kinds("completed").iter().map(|line| line["best"].as_f64().unwrap()).fold(0.0, f64::max);
        assert_eq!(best, 1.0);
        for line in &lines {
            assert!(line["time"].as_f64().unwrap() > 1e9 && line.get("standard_error").is_none());
            assert!(line.as_object().unwrap().values().all(|value| !value.is_object() && !value.is_array()));
        }
        assert_eq!(kinds("completed")[0]["scores/accuracy"], kinds("completed")[0]["score"]);
        drop(MetricsFile::append(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert_eq!(MetricsFile::append(&path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    proptest! {
        #[test]
        fn every_line_is_json_whatever_the_numbers_and_texts(
            numbers in proptest::collection::vec(any::<f64>(), 6),
            text in ".*",
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("metrics.jsonl");
            let mut file = MetricsFile::append(&path).unwrap();
            let space = SearchSpace::uniform([crate::primitive::Symbol::ATTENTION], 2).unwrap();
            let study = Study::new(space, crate::study::Goal::default());
            let report = Report {
                standard_error: Some(numbers[1]),
                train_flops: Some(numbers[2]),
                wall_seconds: numbers[3],
                ..Report::score(text.clone(), numbers[0])
            };
            file.event(&Event::Completed { id: TrialId(0), report }, &study);
            file.event(&Event::Retried { id: TrialId(0), reason: text.clone() }, &study);
            file.progress(TrialId(0), &Progress { stage: text.clone(), step: 1, steps: 2, value: Some(numbers[4]) });
            file.notice(&text);
            let written = fs::read_to_string(&path).unwrap();
            let lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            prop_assert_eq!(lines.len(), 4);
            let value = lines[2].get("value").and_then(Value::as_f64);
            prop_assert_eq!(value, Some(numbers[4]).filter(|value| value.is_finite()));
        }
    }
}
