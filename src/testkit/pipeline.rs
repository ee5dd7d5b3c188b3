//! Checks the contract of [`Pipeline`]: an interrupted search ends like an uninterrupted one.

use std::{fs, path::Path};

use super::{LawBroken, holds};
use crate::{
    aggregate::Aggregator,
    evaluate::Evaluator,
    extrapolate::{Extrapolator, Target},
    pipeline::{Found, Pipeline, PipelineError},
    search::Searcher,
    study::{Report, Trial, TrialState},
    text::causes,
};

/// A search runs.
pub(crate) const RUNS: &str = "the pipeline runs to its end";
/// Interruptions do not change the result.
pub(crate) const RESUMES: &str =
    "a search that stops after any line of its journal and resumes ends like an uninterrupted one";

/// Runs `pipeline` once with a journal in `folder`, then again from every prefix of that journal, as if the process had
/// been killed there, and compares trials and results. The search runs once per line of its journal, so use a fast
/// evaluator.
///
/// # Errors
/// [`LawBroken`] for the first law that does not hold.
pub fn check<E, S, A, X>(
    pipeline: impl Fn() -> Pipeline<E, S, A, X>,
    target: &Target,
    folder: &Path,
) -> Result<(), LawBroken>
where
    E: Evaluator + 'static,
    S: Searcher,
    A: Aggregator,
    X: Extrapolator,
{
    let path = folder.join("journal.jsonl");
    let run = || -> Result<Found, LawBroken> {
        let found: Result<_, PipelineError> = pipeline().journal(&path).run(target);
        found.map_err(|error| LawBroken::new(RUNS, causes(&error)))
    };
    let unusable = |error: std::io::Error| LawBroken::new(RUNS, error.to_string());
    let whole = run()?;
    let journal = fs::read(&path).map_err(unusable)?;
    let ends = journal.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    for (line, end) in ends.enumerate() {
        fs::write(&path, &journal[..end]).map_err(unusable)?;
        let resumed = run()?;
        let same = trials(&resumed) == trials(&whole)
            && (&resumed.aggregated, &resumed.target) == (&whole.aggregated, &whole.target);
        holds(same, RESUMES, || {
            format!("cut after line {}: {} instead of {}", line + 1, resumed.aggregated, whole.aggregated)
        })?;
    }
    Ok(())
}

/// Returns the trials without their evaluation times.
fn trials(found: &Found) -> Vec<Trial> {
    let untimed = |trial: &Trial| match &trial.state {
        TrialState::Completed(report) => {
            let report = Report { wall_seconds: 0.0, ..report.clone() };
            Trial { state: TrialState::Completed(report), ..trial.clone() }
        }
        TrialState::Pending | TrialState::Failed(_) | TrialState::Invalid { .. } => trial.clone(),
    };
    found.study.trials().iter().map(|trial| untimed(trial)).collect()
}
