//! Remarks on an aggregated architecture.

use crate::{
    space::Architecture,
    study::{Study, Trial, TrialState},
    text::number,
};

/// Says whether the aggregated architecture or the best trial is better, and whether the difference is significant.
/// Each is judged by the mean of all its evaluations.
pub(crate) fn verdict(study: &Study, aggregated: &Architecture) -> Option<String> {
    let pooled = study.pooled();
    let best = pooled.best()?;
    let seen = pooled.observations().find(|seen| seen.trial.architecture == *aggregated);
    let best_text = &best.trial.architecture;
    let Some(seen) = seen else {
        let failed = |trial: &Trial| trial.architecture == *aggregated && matches!(trial.state, TrialState::Failed(_));
        let failed = study.full_length_trials().any(failed);
        let why = if failed { "has no score, because its trial failed" } else { "was not evaluated" };
        return Some(format!(
            "the aggregated architecture {aggregated} {why}: it may be worse than the best trial, {best_text}"
        ));
    };
    if seen.report.excess(study.goal()) > 0.0 {
        let goal = study.goal();
        return Some(format!(
            "the aggregated architecture {aggregated} is beyond the bounds of the goal ({goal}), unlike the best \
             trial, {best_text}"
        ));
    }
    if seen.trial.architecture == *best_text {
        return Some(format!("the aggregated architecture {aggregated} is also the best trial"));
    }
    let difference = seen.value - best.value;
    if difference == 0.0 {
        return Some(format!(
            "the aggregated architecture {aggregated} scores the same as the best trial, {best_text}"
        ));
    }
    let word = if difference > 0.0 { "better" } else { "worse" };
    let by = number(difference.abs(), 4);
    let error = match (seen.report.standard_error, best.report.standard_error) {
        (Some(one), Some(other)) => {
            let error = one.hypot(other);
            let within = if difference.abs() <= 2.0 * error { "within" } else { "beyond" };
            format!("{within} two standard errors of the difference, {}", number(2.0 * error, 4))
        }
        _ => "at least one was measured only once, so the error is not known".into(),
    };
    Some(format!(
        "the aggregated architecture {aggregated} is {word} than the best trial, {best_text}, by {by}: {error}"
    ))
}

/// Returns a warning if only one or two trials were aggregated.
pub(crate) fn few_voters(voters: usize) -> Option<String> {
    match voters {
        1 => Some("the aggregated architecture comes from a single trial, whose score may have been lucky".into()),
        2 => Some("the aggregated architecture comes from only two trials, too few for a vote".into()),
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
        study::{Event, Failure, FailureKind, Goal, Measure, Origin, Report},
    };

    #[test]
    fn the_better_one_is_named_with_the_error() {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 3).unwrap();
        let mut study = Study::new(space, Goal::default());
        let aggregated: Architecture = "AAM".parse().unwrap();
        assert_eq!(verdict(&study, &aggregated), None);
        for (text, accuracy, standard_error) in
            [("AMM", 0.9, None), ("AAM", 0.3, Some(0.01)), ("MMM", 0.31, Some(0.01)), ("AMM", 0.1, None)]
        {
            let id = study.next_id();
            let architecture = text.parse().unwrap();
            let report = Report { standard_error, ..Report::score("accuracy", accuracy) };
            study.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Aggregated }).unwrap();
            study.apply(Event::Completed { id, report }).unwrap();
            let text = verdict(&study, &aggregated).unwrap();
            let part =
                ["was not evaluated", "error is not known", "error is not known", "within two standard"][id.0 as usize];
            assert!(text.contains(part), "{text}");
        }
        assert!(verdict(&study, &"AMM".parse().unwrap()).unwrap().contains("also the best trial"));
        assert_eq!((study.valid_trials(), study.searched().trials().len()), (0, 0));
        let mut tied = Study::new(study.space().clone(), Goal::default());
        for text in ["MMM", "AAM"] {
            let id = tied.next_id();
            let architecture = text.parse().unwrap();
            tied.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Aggregated }).unwrap();
            tied.apply(Event::Completed { id, report: Report::score("accuracy", 0.5) }).unwrap();
        }
        let same = verdict(&tied, &aggregated).unwrap();
        assert!(same.contains("scores the same as the best trial, 3M"), "{same}");
        let bounded = Goal::default().at_most(Measure::score("accuracy"), 0.5).unwrap();
        let mut beyond = Study::new(study.space().clone(), bounded);
        for (text, accuracy) in [("AAM", 0.9), ("MMM", 0.3)] {
            let id = beyond.next_id();
            let architecture = text.parse().unwrap();
            beyond.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Aggregated }).unwrap();
            beyond.apply(Event::Completed { id, report: Report::score("accuracy", accuracy) }).unwrap();
        }
        assert!(verdict(&beyond, &aggregated).unwrap().contains("beyond the bounds"));
        let id = beyond.next_id();
        let architecture: Architecture = "MMA".parse().unwrap();
        let proposed =
            Event::Proposed { id, architecture: architecture.clone(), seed: Seed(0), origin: Origin::Aggregated };
        beyond.apply(proposed).unwrap();
        let failure = Failure { kind: FailureKind::Stopped, reason: "behind".into() };
        beyond.apply(Event::Failed { id, failure }).unwrap();
        assert!(verdict(&beyond, &architecture).unwrap().contains("its trial failed"));
        assert!(few_voters(1).is_some() && few_voters(2).is_some() && few_voters(3).is_none());
    }
}
