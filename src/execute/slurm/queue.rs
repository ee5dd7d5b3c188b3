//! The output of `squeue`.

use serde::Deserialize;

use crate::execute::{EngineError, JobState};

/// A job in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub id: String,
    pub name: String,
    /// Its state and state flags.
    states: Vec<String>,
    reason: String,
    nodes: String,
}

impl Entry {
    /// Returns the state of the job; `None` if it has ended.
    pub(super) fn state(&self) -> Option<JobState> {
        let is = |names: &[&str]| self.states.iter().any(|state| names.contains(&state.as_str()));
        if is(&["SPECIAL_EXIT", "REQUEUE_HOLD"]) || (is(&["PENDING"]) && self.is_held()) {
            return Some(JobState::Held(self.reason.clone()));
        }
        if is(&["PENDING", "REQUEUED", "REQUEUE_FED", "RESV_DEL_HOLD"]) {
            return Some(JobState::Waiting(self.reason.clone()));
        }
        let running =
            ["RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"];
        is(&running).then(|| JobState::Running(self.nodes.clone()))
    }

    /// Matches reasons such as `JobHeldUser`, `JobHeldAdmin`, `launch failed requeued held`, `JobHoldMaxRequeue`.
    fn is_held(&self) -> bool {
        let reason = self.reason.to_lowercase();
        reason.contains("held") || reason.contains("hold")
    }
}

/// Reads the user's jobs as JSON; `None` if this version of Slurm does not support it.
pub(super) fn read_json(
    squeue: impl FnOnce(&[String]) -> Result<String, EngineError>,
) -> Result<Option<Vec<Entry>>, EngineError> {
    match squeue(&["--me".into(), "--json".into()]) {
        Ok(text) => Ok(parse_json(&text)),
        Err(EngineError::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the user's jobs as text.
pub(super) fn read_text(
    squeue: impl FnOnce(&[String]) -> Result<String, EngineError>,
) -> Result<Vec<Entry>, EngineError> {
    let arguments = ["--me", "--noheader", "--format=%i|%T|%r|%N|%j"].map(String::from);
    Ok(squeue(&arguments)?.lines().filter_map(parse_line).collect())
}

/// A single value up to Slurm 23.02, a list in later versions.
#[derive(Deserialize)]
#[serde(untagged)]
enum States {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct JsonJob {
    job_id: u64,
    #[serde(default)]
    name: String,
    job_state: States,
    #[serde(default)]
    state_reason: String,
    #[serde(default)]
    nodes: Option<String>,
}

/// Parses the JSON output; `None` if it has another structure.
fn parse_json(text: &str) -> Option<Vec<Entry>> {
    #[derive(Deserialize)]
    struct Queue {
        jobs: Vec<JsonJob>,
    }
    let Queue { jobs } = serde_json::from_str(text).ok()?;
    let entry = |job: JsonJob| Entry {
        id: job.job_id.to_string(),
        name: job.name,
        states: match job.job_state {
            States::One(state) => vec![state],
            States::Many(states) => states,
        },
        reason: job.state_reason,
        nodes: job.nodes.unwrap_or_default(),
    };
    Some(jobs.into_iter().map(entry).collect())
}

/// The name comes last, because it may contain any character.
fn parse_line(line: &str) -> Option<Entry> {
    let mut parts = line.splitn(5, '|').map(str::to_owned);
    let mut next = || parts.next();
    let id = next()?;
    let state = next()?;
    let reason = next()?;
    let nodes = next()?;
    let name = next()?;
    Some(Entry { id, name, states: vec![state], reason, nodes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(entries: &[Entry]) -> Vec<Option<JobState>> {
        entries.iter().map(Entry::state).collect()
    }

    #[test]
    fn both_formats_of_the_list_say_the_same() {
        // As printed by Slurm 22.05 and 24.05, without most of the fields.
        let old = r#"{"meta": {}, "errors": [], "jobs": [
            {"job_id": 1, "name": "a", "job_state": "RUNNING", "state_reason": "None", "nodes": "n1"},
            {"job_id": 2, "name": "b", "job_state": "PENDING", "state_reason": "JobHeldUser", "nodes": ""},
            {"job_id": 3, "name": "c", "job_state": "FAILED", "state_reason": "JobLaunchFailure", "nodes": "n1"},
            {"job_id": 4, "name": "d", "job_state": "PENDING", "state_reason": "Resources", "nodes": ""}]}"#;
        let new = old.replace(r#""RUNNING""#, r#"["RUNNING"]"#).replace(r#""PENDING""#, r#"["PENDING","REQUEUED"]"#);
        let text =
            "1|RUNNING|None|n1|a\n2|PENDING|JobHeldUser||b\n3|FAILED|JobLaunchFailure|n1|c\n4|PENDING|Resources||d\n";
        let expected = [
            Some(JobState::Running("n1".into())),
            Some(JobState::Held("JobHeldUser".into())),
            None,
            Some(JobState::Waiting("Resources".into())),
        ];
        let old = parse_json(old).unwrap();
        let new = parse_json(&new).unwrap();
        let text: Vec<_> = text.lines().filter_map(parse_line).collect();
        assert_eq!(old, text);
        for entries in [old, new, text] {
            assert_eq!(states(&entries), expected);
        }
        let held = parse_line("5|PENDING|launch failed requeued held||e|f").unwrap();
        assert_eq!(
            (held.state(), held.name.as_str()),
            (Some(JobState::Held("launch failed requeued held".into())), "e|f")
        );
    }

    #[test]
    fn without_json_the_lines_are_read() {
        let refused =
            |_: &[String]| Err(EngineError::Refused { program: "squeue".into(), words: "unrecognized".into() });
        assert_eq!(read_json(refused).unwrap(), None);
        assert_eq!(read_json(|_| Ok("not JSON".into())).unwrap(), None);
        let down = |_: &[String]| Err(EngineError::Unreachable { program: "squeue".into(), words: "down".into() });
        assert!(matches!(read_json(down), Err(EngineError::Unreachable { .. })));
        assert_eq!(read_text(|_| Ok(String::new())).unwrap(), []);
    }
}
