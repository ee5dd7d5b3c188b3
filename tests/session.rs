//! Ask and tell, driven by hand.

mod toy;

use composer_nas::{
    pipeline::{Ask, PipelineError, Session, Told},
    prelude::*,
    search::SearchError,
    study::{StudyError, TrialId},
};

fn session() -> Session<RandomSearch> {
    Session::in_memory(toy::space(), Goal::default(), Seed(7), RandomSearch)
}

fn ask<S: Searcher>(session: &mut Session<S>) -> Trial {
    match session.ask().unwrap() {
        Ask::Trial(trial) => trial,
        other => panic!("{other:?}"),
    }
}

#[test]
fn trials_are_told_once() {
    let mut session = session();
    let trial = ask(&mut session);
    let report = || Ok(Report::score("accuracy", 0.5));
    assert_eq!(session.tell(trial.id, report()).unwrap(), Told::Completed);
    assert!(matches!(session.tell(trial.id, report()), Err(PipelineError::Study(StudyError::AlreadyTold(_)))));
    assert!(matches!(session.tell(TrialId(9), report()), Err(PipelineError::Study(StudyError::Unknown { .. }))));
    let nan = ask(&mut session);
    assert_eq!(session.tell(nan.id, Ok(Report::score("accuracy", f64::NAN))).unwrap(), Told::Failed);
}

#[test]
fn transient_errors_are_tried_again_up_to_the_limit() {
    let mut session = session().max_attempts(2);
    let trial = ask(&mut session);
    let transient = || Err(EvalError::Transient("node lost".into()));
    assert_eq!(session.tell(trial.id, transient()).unwrap(), Told::Again);
    let again = ask(&mut session);
    assert_eq!((again.id, again.seed, again.failed_attempts), (trial.id, trial.seed, 1));
    assert_eq!(session.tell(trial.id, transient()).unwrap(), Told::Failed);
    assert_ne!(ask(&mut session).id, trial.id);
}

#[test]
fn fatal_and_cancelled_trials_stay_pending() {
    let mut session = session();
    let trial = ask(&mut session);
    assert!(matches!(session.tell(trial.id, Err(EvalError::Fatal("x".into()))), Err(PipelineError::Fatal { .. })));
    assert!(matches!(session.tell(trial.id, Err(EvalError::Cancelled)), Err(PipelineError::Cancelled { .. })));
    assert!(session.study().trial(trial.id).unwrap().is_pending());
}

#[test]
fn candidates_come_before_proposals() {
    let mut session = session();
    let first = ask(&mut session);
    let id = session.enqueue("AMAMAM".parse().unwrap()).unwrap();
    assert_eq!(session.queued(), 1);
    assert_eq!(ask(&mut session).id, id);
    assert!(matches!(session.enqueue("AM".parse().unwrap()), Err(PipelineError::Study(StudyError::OutsideSpace(_)))));
    assert!(matches!(session.invalidate(first.id, ""), Err(PipelineError::Study(StudyError::StillPending(_)))));
}

#[test]
fn with_a_lag_later_outcomes_stay_hidden() {
    /// Proposes the sequence whose number is the number of outcomes it sees.
    struct Seen;
    impl Searcher for Seen {
        fn fingerprint(&self) -> String {
            "seen".into()
        }
        fn ask(&mut self, study: &Study, _: &mut Rng) -> Result<Proposal, SearchError> {
            let seen = study.observations().count() as u128;
            Ok(Proposal::Evaluate(study.space().nth(seen).unwrap()))
        }
    }
    let mut session = Session::in_memory(toy::space(), Goal::default(), Seed(7), Seen).lag(Some(3));
    let report = || Ok(Report::score("accuracy", 0.5));
    let number = |session: &Session<Seen>, trial: &Trial| {
        session.study().space().iter().position(|a| a == trial.architecture).unwrap()
    };
    let trials: Vec<_> = (0..3).map(|_| ask(&mut session)).collect();
    assert_eq!(session.ask().unwrap(), Ask::Wait);
    // The second and third come in early: trial 3 still waits for trial 0, then sees trial 0 alone.
    session.tell(trials[2].id, report()).unwrap();
    session.tell(trials[1].id, report()).unwrap();
    assert_eq!(session.ask().unwrap(), Ask::Wait);
    session.tell(trials[0].id, report()).unwrap();
    let next = ask(&mut session);
    assert_eq!(number(&session, &next), 1);
    let next = ask(&mut session);
    assert_eq!(number(&session, &next), 2);
}

#[test]
fn a_searcher_that_waits_for_nothing_is_an_error() {
    struct Lazy;
    impl Searcher for Lazy {
        fn fingerprint(&self) -> String {
            "lazy".into()
        }
        fn ask(&mut self, _: &Study, _: &mut Rng) -> Result<Proposal, SearchError> {
            Ok(Proposal::Wait)
        }
    }
    for lag in [None, Some(2)] {
        let mut session = Session::in_memory(toy::space(), Goal::default(), Seed(7), Lazy).lag(lag);
        assert!(matches!(session.ask(), Err(PipelineError::Stuck)));
    }
}
