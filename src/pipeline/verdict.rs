//! What is to be said of a merged architecture.

use crate::{space::Architecture, study::Study, text::number};

/// Whether the merged architecture or the best trial is better, and whether the difference is within the error. By the
/// means of all evaluations of each.
pub(crate) fn verdict(study: &Study, merged: &Architecture) -> Option<String> {
    let pooled = study.pooled();
    let best = pooled.best()?;
    let seen = pooled.observations().find(|seen| seen.trial.architecture == *merged);
    let best_text = &best.trial.architecture;
    let Some(seen) = seen else {
        return Some(format!(
            "the merged architecture {merged} was not evaluated: it may be worse than the best trial, {best_text}"
        ));
    };
    if seen.trial.architecture == *best_text {
        return Some(format!("the merged architecture {merged} is the best trial as well"));
    }
    let difference = seen.value - best.value;
    let word = if difference >= 0.0 { "better" } else { "worse" };
    let by = number(difference.abs(), 4);
    let error = match (seen.report.standard_error, best.report.standard_error) {
        (Some(one), Some(other)) => {
            let error = one.hypot(other);
            let within = if difference.abs() <= 2.0 * error { "within" } else { "beyond" };
            format!("{within} two standard errors of the difference, {}", number(2.0 * error, 4))
        }
        _ => "each measured once, so that nothing is known of the error".into(),
    };
    Some(format!("the merged architecture {merged} is {word} than the best trial, {best_text}, by {by}: {error}"))
}

/// A warning where an answer rests on one or two trials.
pub(crate) fn few_voters(voters: usize) -> Option<String> {
    match voters {
        1 => Some("the merged architecture rests on a single trial: it is that trial, luck included".into()),
        2 => Some("the merged architecture rests on two trials: their common layers are hardly a vote".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::Symbol,
        seed::Seed,
        space::SearchSpace,
        study::{Event, Goal, Origin, Report},
    };

    #[test]
    fn the_better_one_is_named_with_the_error() {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 3).unwrap();
        let mut study = Study::new(space, Goal::default());
        let merged: Architecture = "AAM".parse().unwrap();
        assert_eq!(verdict(&study, &merged), None);
        for (text, accuracy, standard_error) in
            [("AMM", 0.9, None), ("AAM", 0.3, Some(0.01)), ("MMM", 0.31, Some(0.01)), ("AMM", 0.1, None)]
        {
            let id = study.next_id();
            let architecture = text.parse().unwrap();
            let report = Report { standard_error, ..Report::score("accuracy", accuracy) };
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Merged }).unwrap();
            study.apply(Event::Completed { id, report }).unwrap();
            let text = verdict(&study, &merged).unwrap();
            let part =
                ["was not evaluated", "nothing is known", "nothing is known", "within two standard"][id.0 as usize];
            assert!(text.contains(part), "{text}");
        }
        assert!(verdict(&study, &"AMM".parse().unwrap()).unwrap().contains("best trial as well"));
        assert_eq!((study.valid_trials(), study.searched().trials().len()), (0, 0));
        assert!(few_voters(1).is_some() && few_voters(2).is_some() && few_voters(3).is_none());
    }
}
