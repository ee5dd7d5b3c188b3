//! What is needed to run a search again, and what came to nothing.

use super::{
    figure::escape,
    page::SHOWN,
    shell::{self, Cell},
};
use crate::{
    journal::Setup,
    study::{Study, TrialState},
};

/// Everything that makes the search repeatable.
pub(super) fn again(study: &Study, setup: Option<&Setup>, command: Option<&str>) -> String {
    let reports = || study.trials().iter().filter_map(|trial| trial.report());
    // An empty sum of floats is -0.
    let hours = 0.0 + reports().map(|report| report.wall_seconds).sum::<f64>() / 3600.0;
    let flops = 0.0 + reports().filter_map(|report| report.train_flops).sum::<f64>();
    let space = study.space();
    let mut facts = vec![
        ("space", format!("{} sequences of {} layers", space.size(), space.layers())),
        ("goal", format!("{:?} {}", study.goal().direction, study.goal().score).to_lowercase()),
        ("time of all workers", format!("{hours:.2} hours")),
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

/// The trials that failed or were set aside, with the reasons; nothing where there are none.
pub(super) fn without_result(study: &Study) -> String {
    let rows: Vec<_> = study
        .trials()
        .iter()
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
    let heads = ["trial", "layers", "architecture", "why it does not count"];
    format!("<h3>Trials without a result</h3>\n{}", shell::table("unfinished", &heads, &rows, SHOWN))
}
