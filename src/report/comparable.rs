//! Which searches may be compared.

use thiserror::Error;

use crate::{
    journal::{Change, Setup},
    text::line,
};

/// The error of searches that cannot be compared.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompareError {
    /// Two runs differ in something other than what is compared.
    #[error("{} and {} are not to be compared: {}", line(.run), line(.other), differences(.changes))]
    Different {
        /// One run.
        run: String,
        /// The other.
        other: String,
        /// The differences, from the one to the other.
        changes: Vec<Change>,
    },
    /// Two runs of a group have the same seed.
    #[error("{} and {} of group {} have the same seed {seed}: they count as one search, leave one of them out",
        line(.run), line(.other), line(.group))]
    SameSeed {
        /// The group.
        group: String,
        /// One run.
        run: String,
        /// The other.
        other: String,
        /// Their seed.
        seed: u64,
    },
    /// Two groups have the same name.
    #[error("two groups are named {}: rename one", line(.0))]
    SameName(String),
}

/// Returns all differences as text.
fn differences(changes: &[Change]) -> String {
    let told = |change: &Change| {
        let [one, other] = change.shown();
        format!("{} is {} in the one and {} in the other", change.part, line(&one), line(&other))
    };
    changes.iter().map(told).collect::<Vec<_>>().join("; ")
}

/// The parts that must be the same in all runs for their scores to have the same meaning.
const EVERYWHERE: [&str; 4] = ["space", "primitives", "goal", "evaluator"];

/// Checks that runs can be compared. All runs must have the same space, primitives, goal and evaluator. The runs of a
/// group must also have the same searcher, the same pruner and, if it is known, the same number of workers, and
/// different seeds. Each run comes with its name, which is used in messages.
///
/// # Errors
/// [`CompareError`] for the first two runs that cannot be compared, or if two groups have the same name.
pub fn check_comparable(groups: &[(String, Vec<(String, Setup)>)]) -> Result<(), CompareError> {
    let mut names: Vec<_> = groups.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(CompareError::SameName(pair[0].clone()));
    }
    let Some((reference, first)) = groups.iter().flat_map(|(_, runs)| runs).next() else { return Ok(()) };
    for (run, setup) in groups.iter().flat_map(|(_, runs)| runs) {
        let changes = first.changes(setup).into_iter().filter(|change| EVERYWHERE.contains(&change.part));
        refuse(reference, run, changes.collect())?;
    }
    groups.iter().try_for_each(|(group, runs)| check_group(group, runs))
}

/// Checks that a group is one kind of search with several seeds.
fn check_group(group: &str, runs: &[(String, Setup)]) -> Result<(), CompareError> {
    for (at, (run, setup)) in runs.iter().enumerate() {
        for (other, earlier) in &runs[..at] {
            if earlier.seed == setup.seed {
                let seed = setup.seed.0;
                return Err(CompareError::SameSeed {
                    group: group.into(),
                    run: other.clone(),
                    other: run.clone(),
                    seed,
                });
            }
            let changes = earlier.changes(setup).into_iter().filter(|change| change.part != "seed");
            refuse(other, run, changes.chain(workers(earlier, setup)).collect())?;
        }
    }
    Ok(())
}

/// Returns the difference between the numbers of workers.
fn workers(one: &Setup, other: &Setup) -> Option<Change> {
    let text = |setup: &Setup| {
        let workers = setup.workers?;
        Some(if setup.eager { format!("{workers} at their own speed") } else { workers.to_string() })
    };
    let was = text(one)?;
    let is = text(other)?;
    (was != is).then_some(Change { part: "workers", was, is })
}

fn refuse(run: &str, other: &str, changes: Vec<Change>) -> Result<(), CompareError> {
    match changes.is_empty() {
        true => Ok(()),
        false => Err(CompareError::Different { run: run.into(), other: other.into(), changes }),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::study, *};
    use crate::seed::Seed;

    fn setup(seed: u64) -> Setup {
        Setup { seed: Seed(seed), evaluator: "mad".into(), ..Setup::of(&study(&[])) }
    }

    fn group(name: &str, runs: Vec<Setup>) -> (String, Vec<(String, Setup)>) {
        (name.into(), runs.into_iter().enumerate().map(|(at, setup)| (format!("{name}{at}"), setup)).collect())
    }

    #[test]
    fn groups_may_differ_in_how_they_search_and_nothing_else() {
        let gp =
            |seed| Setup { searcher: "gp".into(), stopping: Some("median".into()), workers: Some(8), ..setup(seed) };
        check_comparable(&[]).unwrap();
        let random = || group("random", vec![setup(0), setup(1), Setup { workers: None, ..setup(2) }]);
        check_comparable(&[random(), group("gp", vec![gp(0), gp(1)])]).unwrap();

        let told = |groups: &[(String, Vec<(String, Setup)>)]| check_comparable(groups).unwrap_err().to_string();
        let longer = Setup { evaluator: "mad, longer".into(), ..gp(0) };
        let text = told(&[random(), group("gp", vec![longer])]);
        assert_eq!(
            text,
            "random0 and gp0 are not to be compared: evaluator is mad in the one and mad, longer in the other"
        );
        let text = told(&[group("a", vec![setup(0), gp(1)])]);
        assert!(
            text.starts_with("a0 and a1 are not") && text.contains("searcher is random") && text.contains("stopping")
        );
        assert!(text.contains("workers is 2 in the one and 8 in the other"), "{text}");
        let text = told(&[random(), group("gp", vec![gp(3), gp(4), gp(3)])]);
        assert!(text.contains("gp0 and gp2 of group gp have the same seed 3"), "{text}");
        assert!(told(&[random(), random()]).contains("two groups are named random"));
        let eager = Setup { eager: true, ..setup(1) };
        assert!(told(&[group("a", vec![setup(0), eager])]).contains("2 at their own speed"));
    }
}
