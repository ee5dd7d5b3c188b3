//! What is needed to run a search again, and what came to nothing.

use super::shell::{self, Cell, LISTED, SHOWN};
use crate::{
    journal::Setup,
    study::{Study, TrialState},
    text::{html as escape, number},
};

/// Everything that makes the search repeatable.
pub(super) fn again(study: &Study, setup: Option<&Setup>, command: Option<&str>) -> String {
    let reports = || study.trials().iter().filter_map(|trial| trial.report());
    let hours = sum(reports().map(|report| report.wall_seconds)) / 3600.0;
    let flops = sum(reports().filter_map(|report| report.train_flops));
    let space = study.space();
    let mut facts = vec![
        ("space", format!("{} sequences of {} layers", space.size(), space.layers())),
        ("goal", format!("{:?} {}", study.goal().direction, study.goal().score).to_lowercase()),
        ("time of all workers", number(hours, 2) + " hours"),
        ("training", format!("{flops:.3e} floating-point operations")),
    ];
    if let Some(setup) = setup {
        let primitives = setup.primitives.iter().map(|(symbol, id)| format!("{symbol} = {}", id.as_str()));
        facts.push(("primitives", primitives.collect::<Vec<_>>().join(", ")));
        facts.push(("seed", setup.seed.0.to_string()));
        facts.push(("searcher", setup.searcher.clone()));
        facts.push(("evaluator", setup.evaluator.clone()));
        facts.extend(setup.stopping.clone().map(|rule| ("stopping", rule)));
    }
    facts.push(("composer-nas", env!("CARGO_PKG_VERSION").into()));
    let command = command.map(|command| format!("<pre>{}</pre>\n", escape(command)));
    command.unwrap_or_default() + &shell::facts(&facts)
}

/// The sum of the finite ones, no more than the largest number.
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    values.filter(|value| value.is_finite()).fold(0.0, |sum, value| (sum + value).clamp(f64::MIN, f64::MAX))
}

/// The trials that failed or were set aside, with the reasons; nothing where there are none.
pub(super) fn without_result(study: &Study) -> String {
    let mut rows: Vec<_> = study
        .trials()
        .iter()
        .rev()
        .filter_map(|trial| {
            let why = match &trial.state {
                TrialState::Failed(failure) => format!("failed: {}", failure.reason),
                TrialState::Invalid { reason, .. } => format!("set aside: {reason}"),
                TrialState::Pending | TrialState::Completed(_) => return None,
            };
            Some(vec![
                Cell::number(trial.id.0 as f64, trial.id.0.to_string()),
                Cell::strip(&trial.architecture),
                Cell::text(&trial.architecture.to_string()),
                Cell::text(&why),
            ])
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let all = rows.len();
    rows.truncate(LISTED);
    rows.reverse();
    let heads = ["trial", "layers", "architecture", "why it does not count"];
    let note = shell::note_of_rest("last", rows.len(), all);
    format!("<h3>Trials without a result</h3>\n{note}{}", shell::table("unfinished", &heads, &rows, SHOWN))
}
