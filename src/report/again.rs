//! How to repeat a search, and its trials without a result.

use super::{
    shell::{self, Cell, Fact, LISTED, SHOWN},
    units,
    used::{self, Known},
};
use crate::{
    extrapolate::Target,
    journal::Setup,
    space::Constraint,
    study::{Origin, Study, Trial, TrialState},
    text::html as escape,
};

/// Returns everything that is needed to repeat the search.
pub(super) fn again(study: &Study, setup: Option<&Setup>, target: Option<&Target>, command: Option<&str>) -> String {
    let reports = || study.trials().iter().filter_map(|trial| trial.report());
    let seconds = sum(reports().map(|report| report.wall_seconds));
    let flops = sum(reports().filter_map(|report| report.train_flops));
    let space = study.space();
    let mut facts = vec![
        ("space", format!("{} sequences of {} layers", units::many(space.size()), space.layers())),
        ("goal", study.goal().to_string()),
        ("time, summed over workers", units::duration(seconds)),
    ];
    // An evaluator need not state it.
    facts.extend((flops > 0.0).then(|| ("training work", units::flops(flops))));
    facts.push(("trials", study.valid_trials().to_string()));
    facts.extend(by_hand(study));
    let plain = |(name, value)| -> Fact { (name, value, None) };
    let mut facts: Vec<_> = facts.into_iter().map(plain).collect();
    if let Some(setup) = setup {
        facts.extend(decided(setup).into_iter().map(plain));
        facts.extend(parts(setup));
    }
    facts.extend(target.map(|target| plain(("target", target.name.clone()))));
    facts.push(plain(("composer-nas", env!("CARGO_PKG_VERSION").into())));
    let command = command.map(|command| format!("<pre>{}</pre>\n", escape(command)));
    command.unwrap_or_default() + &shell::facts(&facts)
}

/// Returns the settings that determine the trials and the result.
fn decided(setup: &Setup) -> Vec<(&'static str, String)> {
    let primitives = setup.primitives.iter().map(|(symbol, id)| format!("{symbol} = {}", id.as_str()));
    let config = setup.space.config();
    let constraints = config.constraints.iter().map(constraint);
    let constraints = constraints.collect::<Vec<_>>().join(", ");
    let workers = match (setup.workers, setup.eager) {
        (None, _) => "not recorded".into(),
        (Some(workers), false) => workers.to_string(),
        (Some(workers), true) => format!("{workers}, each outcome used at once: the order in which trials end matters"),
    };
    let mut facts = vec![("primitives", primitives.collect::<Vec<_>>().join(", "))];
    let choices = config.layers.iter().map(|layer| layer.iter().map(|&symbol| char::from(symbol)).collect::<String>());
    let choices: Vec<_> = choices.collect();
    let alike = choices.windows(2).all(|pair| pair[0] == pair[1]);
    facts.extend((!alike).then(|| ("choices of the layers", choices.join(" "))));
    facts.extend((!constraints.is_empty()).then_some(("constraints", constraints)));
    facts.push(("seed", setup.seed.0.to_string()));
    facts.push(("workers", workers));
    facts
}

/// Returns the parts of the search: in words for those of this crate, and by their fingerprints.
fn parts(setup: &Setup) -> Vec<Fact> {
    let words = |fingerprint: &str| used::words(fingerprint).map(Into::into);
    let part = |name, fingerprint: &str, words: Option<String>| -> Fact {
        match words {
            Some(words) => (name, words, Some(fingerprint.into())),
            None => (name, fingerprint.into(), None),
        }
    };
    let evaluator = &setup.evaluator;
    let mut facts = vec![
        part("searcher", &setup.searcher, words(&setup.searcher)),
        part("evaluator", evaluator, used::evaluator(evaluator)),
    ];
    facts.extend(setup.stopping.as_ref().map(|rule| part("stopping", rule, words(rule))));
    let name = |fingerprint: &str| Known::named(fingerprint).map(|known| known.name());
    facts.extend(setup.aggregator.as_ref().map(|aggregator| part("aggregator", aggregator, name(aggregator))));
    facts.extend(setup.extrapolator.as_ref().map(|rule| part("extrapolator", rule, words(rule))));
    facts
}

/// Returns a constraint in words.
fn constraint(constraint: &Constraint) -> String {
    match constraint {
        Constraint::Count { symbol, min, max } if min == max => format!("exactly {min} of {symbol}"),
        Constraint::Count { symbol, min: 0, max } => format!("at most {max} of {symbol}"),
        Constraint::Count { symbol, min, max: usize::MAX } => format!("at least {min} of {symbol}"),
        Constraint::Count { symbol, min, max } => format!("{min} to {max} of {symbol}"),
        Constraint::MaxRun { symbol, max } => format!("at most {max} of {symbol} in a row"),
        Constraint::Budget { what, max, .. } => format!("{what}: at most {max}"),
    }
}

/// Returns the manual changes to the search.
fn by_hand(study: &Study) -> Vec<(&'static str, String)> {
    let list = |keep: fn(&Trial) -> bool| {
        let kept = study.trials().iter().filter(|trial| keep(trial));
        kept.map(|trial| format!("{}: {}", trial.id.0, trial.architecture)).collect::<Vec<_>>().join(", ")
    };
    let facts = [
        ("added by hand", list(|trial| trial.origin == Origin::Manual)),
        ("excluded by hand", list(Trial::is_invalid)),
    ];
    facts.into_iter().filter(|(_, list)| !list.is_empty()).collect()
}

/// Returns the sum of the finite values, limited to finite doubles.
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    values.filter(|value| value.is_finite()).fold(0.0, |sum, value| (sum + value).clamp(f64::MIN, f64::MAX))
}

/// Returns the table of the failed and excluded trials, with the reasons. Empty if there are none.
pub(super) fn without_result(study: &Study) -> String {
    let mut rows: Vec<_> = study
        .trials()
        .iter()
        .rev()
        .filter_map(|trial| {
            let why = match &trial.state {
                TrialState::Failed(failure) => format!("failed: {}", failure.reason),
                TrialState::Invalid { reason, .. } => format!("excluded: {reason}"),
                TrialState::Pending | TrialState::Completed(_) => return None,
            };
            Some(vec![
                Cell::number(trial.id.0 as f64, trial.id.0.to_string()),
                Cell::layers(&trial.architecture),
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
    let heads = ["trial", "architecture", "reason"];
    let note = shell::note_of_rest("last", rows.len(), all);
    format!("<h3>Trials without a result</h3>\n{note}{}", shell::table("unfinished", &heads, &rows, SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::Symbol;

    #[test]
    fn constraints_are_words() {
        let symbol = Symbol::ATTENTION;
        let words = [(2, 2), (0, 3), (1, usize::MAX), (1, 3)].map(|(min, max)| {
            let count = Constraint::Count { symbol, min, max };
            constraint(&count)
        });
        assert_eq!(words, ["exactly 2 of A", "at most 3 of A", "at least 1 of A", "1 to 3 of A"]);
        assert_eq!(constraint(&Constraint::MaxRun { symbol, max: 1 }), "at most 1 of A in a row");
    }
}
