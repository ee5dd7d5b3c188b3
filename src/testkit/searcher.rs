//! Checks the contract of [`Searcher`].

use rand::RngExt;

use super::{
    LawBroken, holds,
    simulated::{Outcome, describe, finish, finish_one, propose, value},
};
use crate::{
    search::{Proposal, Searcher},
    seed::{Rng, Seed},
    space::SearchSpace,
    study::{Goal, Study},
    text::causes,
};

/// A searcher answers without an error in a suitable space.
pub(crate) const ANSWERS: &str = "a searcher answers without an error";
/// An answer depends only on the configuration, the study and the random generator.
pub(crate) const FUNCTION: &str = "an answer is a function of the configuration, the study and the random generator";
/// Proposals satisfy the choices and constraints of the space.
pub(crate) const IN_SPACE: &str = "a proposal lies in the space";
/// Proposals of an incremental strategy satisfy the choices and constraints, or can be completed so that they do.
pub(crate) const IN_SPACE_OR_PART: &str = "a proposal lies in the space or is a part of one of its sequences";
/// Pending architectures are not proposed again.
pub(crate) const NOT_PENDING: &str = "a proposal is not pending already";
/// Waiting must end.
pub(crate) const WAIT: &str = "Wait is returned only while trials are pending";
/// A finite space is exhausted at some point.
pub(crate) const FINISHED: &str =
    "once every sequence is known, nothing is proposed, and without pending trials the answer is Finished";

/// The number of simulated searches per check.
const RUNS: u64 = 3;
/// The number of proposals per simulated search.
const TRIALS: usize = 40;
/// The number of concurrent pending trials.
const WORKERS: usize = 3;
/// The size of the largest space that is exhausted.
const EXHAUSTED: u128 = 256;

/// Drives simulated searches with several pending trials that finish in random order, and checks every answer. `make`
/// must always create the same searcher.
///
/// Exhaustion is only checked for spaces of at most 256 sequences, so also pass a small space.
///
/// # Errors
/// [`LawBroken`] for the first law that does not hold.
pub fn check<S: Searcher>(make: impl Fn() -> S, space: &SearchSpace) -> Result<(), LawBroken> {
    check_all(&make, space, Proposes::Whole)
}

/// The same for a searcher that also evaluates [parts](SearchSpace::is_part) of sequences.
///
/// # Errors
/// [`LawBroken`] for the first law that does not hold.
pub fn check_incremental<S: Searcher>(make: impl Fn() -> S, space: &SearchSpace) -> Result<(), LawBroken> {
    check_all(&make, space, Proposes::Parts)
}

/// What a searcher may propose.
#[derive(Clone, Copy)]
enum Proposes {
    /// Sequences of the space.
    Whole,
    /// Parts of sequences as well.
    Parts,
}

fn check_all<S: Searcher>(make: &impl Fn() -> S, space: &SearchSpace, proposes: Proposes) -> Result<(), LawBroken> {
    for run in 0..RUNS {
        simulate(make, space, Seed(run), proposes)?;
    }
    if space.size() <= EXHAUSTED { exhaust(make, space, proposes) } else { Ok(()) }
}

fn simulate<S: Searcher>(
    make: &impl Fn() -> S,
    space: &SearchSpace,
    seed: Seed,
    proposes: Proposes,
) -> Result<(), LawBroken> {
    let mut warmed = make();
    let mut study = Study::new(space.clone(), Goal::default());
    let empty = study.clone();
    let mut dice = seed.rng("testkit/searcher/outcomes", 0);
    // Every step adds a trial or ends one, so the loop terminates.
    for step in 0.. {
        let proposal = answer(make, &mut warmed, &study, &seed.rng("testkit/searcher/ask", step))?;
        check_proposal(&proposal, &study, proposes)?;
        match proposal {
            Proposal::Evaluate(architecture) => propose(&mut study, architecture)?,
            Proposal::Finished if study.pending().next().is_none() => break,
            Proposal::Wait | Proposal::Finished => finish_one(&mut study, &mut dice)?,
        }
        while study.pending().count() >= WORKERS || (study.pending().next().is_some() && dice.random_bool(0.4)) {
            finish_one(&mut study, &mut dice)?;
        }
        if study.trials().len() >= TRIALS {
            break;
        }
    }
    // Earlier studies must not affect the answer for another study.
    let proposal = answer(make, &mut warmed, &empty, &seed.rng("testkit/searcher/ask", 0))?;
    check_proposal(&proposal, &empty, proposes)
}

/// Asks in a space in which every sequence is known, with and without a pending trial.
fn exhaust<S: Searcher>(make: &impl Fn() -> S, space: &SearchSpace, proposes: Proposes) -> Result<(), LawBroken> {
    let mut study = Study::new(space.clone(), Goal::default());
    for architecture in space.iter() {
        propose(&mut study, architecture)?;
    }
    let last = study.trials().len() - 1;
    let rng = Seed(0).rng("testkit/searcher/ask", 0);
    let outcome = |study: &Study, at: usize| Outcome::Value(value(&study.trials()[at].architecture));
    for at in 0..last {
        let outcome = outcome(&study, at);
        finish(&mut study, at, outcome)?;
    }
    let case = |study: &Study, answer: &Proposal| format!("{answer:?} after {}", describe(study));
    let answered = answer(make, &mut make(), &study, &rng)?;
    check_proposal(&answered, &study, proposes)?;
    holds(!matches!(answered, Proposal::Evaluate(_)), FINISHED, || case(&study, &answered))?;
    let outcome = outcome(&study, last);
    finish(&mut study, last, outcome)?;
    let answered = answer(make, &mut make(), &study, &rng)?;
    check_proposal(&answered, &study, proposes)?;
    holds(answered == Proposal::Finished, FINISHED, || case(&study, &answered))
}

/// Returns the answer of a long-lived searcher after comparing it with that of a new one.
fn answer<S: Searcher>(make: &impl Fn() -> S, warmed: &mut S, study: &Study, rng: &Rng) -> Result<Proposal, LawBroken> {
    let ask = |searcher: &mut S| searcher.ask(study, &mut rng.clone()).map_err(|error| causes(&error));
    let fresh = ask(&mut make());
    let first = ask(warmed);
    let second = ask(warmed);
    holds(fresh == first, FUNCTION, || {
        format!("a fresh instance answers {fresh:?}, a long-lived one {first:?} after {}", describe(study))
    })?;
    holds(first == second, FUNCTION, || {
        format!("asked twice, it answers {first:?} and {second:?} after {}", describe(study))
    })?;
    first.map_err(|error| LawBroken::new(ANSWERS, format!("{error} after {}", describe(study))))
}

fn check_proposal(proposal: &Proposal, study: &Study, proposes: Proposes) -> Result<(), LawBroken> {
    let architecture = match proposal {
        Proposal::Evaluate(architecture) => architecture,
        Proposal::Wait => return holds(study.pending().next().is_some(), WAIT, || describe(study)),
        Proposal::Finished => return Ok(()),
    };
    let case = || format!("{architecture} after {}", describe(study));
    let whole = study.space().contains(architecture);
    let part = study.space().is_part(architecture);
    match proposes {
        Proposes::Whole => holds(whole, IN_SPACE, case)?,
        Proposes::Parts => holds(whole || part, IN_SPACE_OR_PART, case)?,
    }
    let pending = study.pending().any(|trial| trial.architecture == *architecture);
    holds(!pending, NOT_PENDING, case)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        primitive::Symbol,
        search::{Exhaustive, Incremental, LocalSearch, RandomSearch, RegularizedEvolution, SearchError, Side},
    };

    fn spaces() -> [SearchSpace; 4] {
        let a = Symbol::ATTENTION;
        let m = Symbol::SWIGLU;
        [
            SearchSpace::uniform([a, m], 4).unwrap(),
            SearchSpace::uniform([a, m, Symbol::MLP], 16).unwrap(),
            SearchSpace::uniform([a, m], 6).unwrap().count(a, 2..=2).unwrap(),
            SearchSpace::uniform([a], 3).unwrap(),
        ]
    }

    #[test]
    fn our_searchers_keep_the_laws() {
        for space in spaces() {
            let small = || RegularizedEvolution::new(4, 2).unwrap();
            assert_eq!(check(|| RandomSearch, &space), Ok(()), "{space:?}");
            assert_eq!(check(|| Exhaustive, &space), Ok(()), "{space:?}");
            assert_eq!(check(small, &space), Ok(()), "{space:?}");
            assert_eq!(check(LocalSearch::default, &space), Ok(()), "{space:?}");
            assert_eq!(check(|| -> Box<dyn Searcher> { Box::new(small()) }, &space), Ok(()), "{space:?}");
        }
    }

    #[test]
    fn incremental_strategies_keep_the_laws() {
        let a = Symbol::ATTENTION;
        let m = Symbol::SWIGLU;
        let tight = SearchSpace::uniform([a, m], 7).unwrap().count(a, 2..=3).unwrap().max_run(a, 1).unwrap();
        let tight = tight.max_run(m, 2).unwrap().pin(0, m).unwrap().pin(6, m).unwrap();
        for space in spaces().into_iter().chain([tight]) {
            for (side, step, trials) in
                [(Side::End, 1, 3), (Side::End, 2, 4), (Side::Middle, 1, 3), (Side::Middle, 3, 5)]
            {
                let evolution = || RegularizedEvolution::new(4, 2).unwrap();
                let incremental = || Incremental::new(evolution(), side, step, trials).unwrap();
                assert_eq!(check_incremental(incremental, &space), Ok(()), "{side:?} {step} {space:?}");
                let incremental = || Incremental::new(Exhaustive, side, step, trials).unwrap();
                assert_eq!(check_incremental(incremental, &space), Ok(()), "{side:?} {step} {space:?}");
            }
        }
        let [space, ..] = spaces();
        let incremental = || Incremental::new(RandomSearch, Side::End, 2, 4).unwrap();
        assert_eq!(check(incremental, &space).unwrap_err().law, IN_SPACE);
        let strange = |_, _: &Study, _: &mut Rng| Ok(Proposal::Evaluate("AF".parse().unwrap()));
        assert_eq!(check_incremental(|| Answering(0, strange), &space).unwrap_err().law, IN_SPACE_OR_PART);
    }

    /// A searcher that answers by a function of the number of its calls, the study and the generator.
    struct Answering<F>(u128, F);

    impl<F: Fn(u128, &Study, &mut Rng) -> Result<Proposal, SearchError>> Searcher for Answering<F> {
        fn fingerprint(&self) -> String {
            "test".into()
        }

        fn ask(&mut self, study: &Study, rng: &mut Rng) -> Result<Proposal, SearchError> {
            self.0 += 1;
            (self.1)(self.0 - 1, study, rng)
        }
    }

    fn broken(answer: impl Fn(u128, &Study, &mut Rng) -> Result<Proposal, SearchError>) -> &'static str {
        let [space, ..] = spaces();
        check(|| Answering(0, &answer), &space).expect_err("a law is broken").law
    }

    fn number(study: &Study, index: u128) -> Result<Proposal, SearchError> {
        Ok(study.space().nth(index).map_or(Proposal::Finished, Proposal::Evaluate))
    }

    #[test]
    fn every_breach_is_caught() {
        let random = |study: &Study, rng: &mut Rng| RandomSearch.ask(study, rng);
        // Depends on a counter instead of the study.
        assert_eq!(broken(|calls, study, _| number(study, calls)), FUNCTION);
        // Keeps a cache across studies.
        assert_eq!(
            broken(|calls, study, rng| if calls > 20 { Ok(Proposal::Finished) } else { random(study, rng) }),
            FUNCTION
        );
        assert_eq!(broken(|_, _, _| Ok(Proposal::Evaluate("A".parse().unwrap()))), IN_SPACE);
        assert_eq!(broken(|_, study, _| number(study, 0)), NOT_PENDING);
        assert_eq!(broken(|_, _, _| Ok(Proposal::Wait)), WAIT);
        let never_done = |_, study: &Study, rng: &mut Rng| match random(study, rng)? {
            Proposal::Finished if study.pending().next().is_none() => number(study, 0),
            other => Ok(other),
        };
        assert_eq!(broken(never_done), FINISHED);
        let fails = |_, study: &Study, rng: &mut Rng| {
            if study.trials().len() > 5 {
                Err(SearchError::Other("singular matrix".into()))
            } else {
                random(study, rng)
            }
        };
        assert_eq!(broken(fails), ANSWERS);
    }

    #[test]
    fn waiting_for_a_generation_is_allowed() {
        let generations = |_, study: &Study, rng: &mut Rng| match study.pending().count() {
            0 => RandomSearch.ask(study, rng),
            _ => Ok(Proposal::Wait),
        };
        for space in spaces() {
            assert_eq!(check(|| Answering(0, generations), &space), Ok(()));
        }
    }
}
