//! The same trial and seed give the same report, bit for bit, whatever runs beside it; and a search the same trials,
//! also where some of them are stopped early.
#![cfg(feature = "flex")]

mod toy;

use std::{sync::Arc, thread, time::Duration};

use composer_nas::{
    evaluate::{
        Progress,
        mad::{Mad, Protocol},
    },
    execute::{self, Executor, Message, Threads},
    prelude::*,
    search::RegularizedEvolution,
    stopping::MedianPruner,
    study::{FailureKind, Origin, TrialId, TrialState},
    testkit,
};

fn mad() -> Mad {
    let protocol: Protocol = serde_json::from_str(include_str!("fixtures/tiny_protocol.json")).unwrap();
    Mad::new(protocol, &Primitives::standard(), &Device::flex()).unwrap()
}

/// The reports of these trials, each evaluated by some worker, without the times they took.
fn evaluate(trials: &[Trial], workers: usize) -> Vec<Report> {
    let mut executor = Threads::new(Arc::new(mad()), workers).unwrap();
    let mut waiting = trials.iter();
    let mut reports = vec![Report::default(); trials.len()];
    let mut missing = trials.len();
    while missing > 0 {
        while executor.idle() > 0
            && let Some(trial) = waiting.next()
        {
            executor.submit(trial.clone()).unwrap();
        }
        if let Some(Message::Done(id, outcome)) = executor.recv(Duration::from_secs(60)).unwrap() {
            reports[id.0 as usize] = Report { wall_seconds: 0.0, ..outcome.unwrap() };
            missing -= 1;
        }
    }
    reports
}

#[test]
fn reports_do_not_depend_on_the_number_of_workers() {
    let texts = ["AMAM", "AAMM", "MMMM", "AMAM", "FAFA", "A", "AMAM", "MA"];
    let trials: Vec<_> = (0..)
        .zip(texts)
        .map(|(id, text)| Trial::new(TrialId(id), text.parse().unwrap(), Seed(id % 3), Origin::Searcher))
        .collect();
    let first = evaluate(&trials, 1);
    // Trials 0 and 3, and 6, have the same architecture; 0, 3 and 6 the same seed as well.
    assert_eq!((&first[0], &first[0]), (&first[3], &first[6]));
    assert_ne!(first[0].scores, first[1].scores);
    for workers in [1, 2, 4] {
        for run in 0..2 {
            assert_eq!(evaluate(&trials, workers), first, "{workers} workers, run {run}");
        }
    }
}

#[test]
fn searches_with_real_trainings_repeat() {
    let search = |workers: usize| {
        let pipeline = Pipeline::new(&Primitives::standard(), toy::space(), mad()).searcher(RandomSearch);
        let found = pipeline.trials(8).seed(3).workers(workers).run(&Target::llama_350m()).unwrap();
        (toy::outcomes(&found.study), found.aggregated)
    };
    // Random search does not look at outcomes: its trials do not depend on the number of workers either.
    let first = search(1);
    for workers in [1, 2, 4] {
        assert_eq!(search(workers), first, "{workers} workers");
        assert_eq!(search(workers), first, "{workers} workers again");
    }
}

#[test]
fn the_curve_ends_at_the_score() {
    let trial = Trial::new(TrialId(0), "AMAM".parse().unwrap(), Seed(1), Origin::Searcher);
    let report = execute::evaluate(&mad(), &trial, &Context::default()).unwrap();
    let steps: Vec<_> = report.curve.iter().map(|&(step, _)| step).collect();
    // Recall once, compression with two points of a grid, each evaluated twice in four steps.
    assert_eq!(steps, [2, 4, 6, 8, 10, 12]);
    let last = report.curve[5].1;
    let score = report.scores["accuracy"];
    assert!((last - score).abs() < 1e-12, "{last} {score}");
}

/// Learns towards its accuracy in ten steps, each of which takes a while that depends on `shift`.
fn learner(shift: u64) -> impl Evaluator + 'static {
    from_fn("learner", move |trial, context| {
        let accuracy = toy::accuracy(trial);
        let point = |step: usize| (step, accuracy * step as f64 / 10.0);
        for (step, value) in (1..=10).map(point) {
            thread::sleep(Duration::from_micros((trial.id.0 * 7 + shift) % 5 * 300));
            context.progress(Progress { stage: String::new(), step, steps: 10, value: Some(value) });
            if context.cancelled() && step < 10 {
                return Err(EvalError::Cancelled);
            }
        }
        Ok(Report::score("accuracy", accuracy))
    })
}

fn stopping(shift: u64, workers: usize) -> Pipeline<impl Evaluator + 'static, RegularizedEvolution> {
    let pipeline = Pipeline::new(&Primitives::standard(), toy::space(), learner(shift));
    let pipeline = pipeline.searcher(RegularizedEvolution::new(6, 2).unwrap()).trials(24).seed(5).workers(workers);
    pipeline.stop_early(MedianPruner::after(4, 3))
}

#[test]
fn early_stopping_depends_on_the_number_of_workers_but_not_on_their_speed() {
    for workers in [1, 2, 4] {
        let search = |shift| toy::outcomes(&stopping(shift, workers).run(&Target::llama_350m()).unwrap().study);
        let first = search(0);
        assert!((1..4).all(|shift| search(shift) == first), "{workers} workers");
        let stopped = |trial: &&Trial| matches!(&trial.state, TrialState::Failed(failure) if failure.kind == FailureKind::Stopped);
        let reasons: Vec<_> = first.iter().filter(stopped).collect();
        assert!((3..21).contains(&reasons.len()), "{} of 24 were stopped", reasons.len());
        let TrialState::Failed(failure) = &reasons[0].state else { panic!() };
        assert!(failure.reason.contains("after 3 of 10 steps, below"), "{failure:?}");
        // What ran to its end is what it would have been.
        for trial in first.iter().filter(|trial| trial.report().is_some()) {
            let whole = execute::evaluate(&learner(0), trial, &Context::default()).unwrap();
            assert!(trial.report().is_some_and(|report| report.same_outcome(&whole)), "{trial:?}");
        }
    }
}

#[test]
fn interrupted_searches_with_early_stopping_end_alike() {
    let folder = tempfile::tempdir().unwrap();
    for workers in [1, 3] {
        let place = folder.path().join(workers.to_string());
        testkit::pipeline::check(|| stopping(0, workers), &Target::llama_350m(), &place).unwrap();
    }
}

#[test]
fn real_trainings_are_stopped_and_repeat() {
    let search = |rule: bool| {
        let pipeline = Pipeline::new(&Primitives::standard(), toy::space(), mad()).searcher(RandomSearch);
        let pipeline = pipeline.trials(16).seed(3).workers(2);
        let pipeline = if rule { pipeline.stop_early(MedianPruner::after(3, 4)) } else { pipeline };
        toy::outcomes(&pipeline.run(&Target::llama_350m()).unwrap().study)
    };
    let with = search(true);
    let without = search(false);
    assert_eq!(search(true), with);
    let ended: Vec<_> = with.iter().zip(&without).filter(|(trial, _)| trial.report().is_some()).collect();
    assert!((3..16).contains(&ended.len()), "{} of 16 ran to the end", ended.len());
    assert!(ended.iter().all(|(stopping, plain)| stopping.state == plain.state));
}
