//! Races: poor trials end after some of their repetitions, the others are what they would have been.

mod toy;

use std::{thread, time::Duration};

use composer_nas::{
    aggregate::{AggregateError, Aggregator, Best},
    evaluate::{Cached, EvalError, Repeated},
    pipeline::{Ask, Found},
    prelude::*,
    search::{RegularizedEvolution, Replicate},
    stopping::Racing,
    study::{Origin, Race, Raced, TrialId},
    testkit,
};

/// Repetitions of a whole trial.
const PLANNED: usize = 12;

/// A noisy accuracy, 12 times; each takes a while that depends on `shift`.
fn repeated(shift: u64) -> impl Evaluator + 'static {
    let once = from_fn("noisy", move |trial, context| {
        if context.cancelled() {
            return Err(EvalError::Cancelled);
        }
        thread::sleep(Duration::from_micros((trial.id.0 * 7 + shift) % 5 * 100));
        Ok(Report { train_flops: Some(1.0), ..Report::score("accuracy", toy::accuracy(trial)) })
    });
    Repeated::new(once, PLANNED).unwrap()
}

fn pipeline(shift: u64, workers: usize) -> Pipeline<impl Evaluator + 'static, RegularizedEvolution> {
    let pipeline = Pipeline::new(&Primitives::standard(), toy::space(), repeated(shift));
    pipeline.searcher(RegularizedEvolution::new(6, 2).unwrap()).trials(24).seed(5).workers(workers)
}

fn racing() -> Racing {
    Racing::default().after_trials(4)
}

fn raced(trial: &Trial) -> Option<Raced> {
    trial.report().and_then(|report| report.raced)
}

#[test]
fn races_depend_on_the_number_of_workers_but_not_on_their_speed() {
    for workers in [1, 2, 4] {
        let search = |shift| {
            let found = pipeline(shift, workers).racing(racing()).run(&Target::llama_350m()).unwrap();
            (toy::outcomes(&found.study), found.aggregated)
        };
        let (trials, aggregated) = search(0);
        assert!((1..4).all(|shift| search(shift) == (trials.clone(), aggregated.clone())), "{workers} workers");
        let lost: Vec<_> = trials.iter().filter_map(raced).collect();
        assert!((3..=20).contains(&lost.len()), "{} of 24 were raced", lost.len());
        assert!(lost.iter().all(|raced| raced.planned == PLANNED && (3..PLANNED).contains(&raced.done)));
        for trial in &trials {
            let report = trial.report().unwrap();
            assert!(report.standard_error.is_some(), "{trial:?}");
            let alone = repeated(0).evaluate(trial, &Context::default()).unwrap();
            match report.raced {
                None => assert_eq!((&report.scores, report.standard_error), (&alone.scores, alone.standard_error)),
                Some(raced) => assert_eq!(report.train_flops, Some(raced.done as f64)),
            }
        }
    }
}

#[test]
fn interrupted_races_end_alike() {
    let folder = tempfile::tempdir().unwrap();
    for workers in [1, 3] {
        let place = folder.path().join(workers.to_string());
        std::fs::create_dir(&place).unwrap();
        let search = || pipeline(0, workers).trials(10).racing(racing());
        testkit::pipeline::check(search, &Target::llama_350m(), &place).unwrap();
    }
}

#[test]
fn answers_come_of_trials_that_ran_to_their_end() {
    for seed in 0..8 {
        let found =
            pipeline(0, 2).seed(seed).racing(racing()).evaluate_aggregated().run(&Target::llama_350m()).unwrap();
        let study = &found.study;
        let lost: Vec<_> = study.trials().iter().filter(|trial| raced(trial).is_some()).collect();
        assert!(!lost.is_empty() && raced(study.best().unwrap().trial).is_none());
        // What was aggregated is measured whole.
        assert!(lost.iter().all(|trial| trial.origin == Origin::Searcher));
        let searched = study.searched();
        let clustering = NcClustering::n0().explain(&searched).unwrap();
        let clustered: Vec<_> = clustering.clusters.iter().flat_map(|cluster| &cluster.trials).collect();
        assert!(clustered.iter().all(|&&id| raced(study.trial(id).unwrap()).is_none()));
        let whole = searched.trials().len() - lost.len();
        assert!(clustered.len() == whole && found.voters.is_some_and(|voters| (1..=whole).contains(&voters)));
        assert!(Best.aggregate(&searched).is_ok_and(|best| lost.iter().all(|trial| trial.architecture != best)));
    }
}

#[test]
fn what_a_person_adds_and_second_looks_run_to_their_end() {
    let worst: Architecture = "MMAAAA".parse().unwrap();
    let mut session =
        Session::in_memory(toy::space(), Goal::default(), Seed(1), Replicate::new(RandomSearch, 3, 2).unwrap());
    session = session.racing(racing());
    let evaluator = repeated(0);
    let mut added = None;
    for number in 0..18 {
        if number == 12 {
            added = Some(session.enqueue(worst.clone()).unwrap());
        }
        let Ask::Trial(trial) = session.ask().unwrap() else { panic!() };
        let known = session.study().observations().any(|seen| seen.trial.architecture == trial.architecture);
        let by_hand = Some(trial.id) == added;
        assert_eq!(trial.race.is_none(), by_hand);
        let threshold = trial.race.as_ref().and_then(Race::threshold);
        assert_eq!(threshold.is_some(), number >= 4 && !known && !by_hand, "{number}");
        session.tell(trial.id, evaluator.evaluate(&trial, &Context::default())).unwrap();
    }
    assert_eq!(raced(session.study().trial(added.unwrap()).unwrap()), None);
}

/// Merges to the trial with the lowest value of those that lost their race.
struct Worst;

impl Aggregator for Worst {
    fn fingerprint(&self) -> String {
        "worst".into()
    }

    fn aggregate(&self, study: &Study) -> Result<Architecture, AggregateError> {
        let worst = study
            .observations()
            .filter(|seen| seen.report.raced.is_some())
            .min_by(|one, other| one.value.total_cmp(&other.value));
        worst.map(|worst| worst.trial.architecture.clone()).ok_or(AggregateError::NoClusters)
    }
}

#[test]
fn what_was_aggregated_from_lost_races_alone_is_evaluated_whole() {
    let folder = tempfile::tempdir().unwrap();
    let search = || {
        let pipeline = pipeline(0, 2).racing(racing()).aggregator(Worst).evaluate_aggregated();
        pipeline.journal(folder.path().join("journal.jsonl")).run(&Target::llama_350m()).unwrap()
    };
    let Found { study, aggregated, .. } = search();
    let of_aggregated: Vec<&Trial> =
        study.trials().iter().map(AsRef::as_ref).filter(|t| t.architecture == aggregated).collect();
    let (aggregated, earlier) = of_aggregated.split_last().unwrap();
    assert!(!earlier.is_empty() && earlier.iter().all(|trial| raced(trial).is_some()), "{earlier:?}");
    assert!(
        aggregated.origin == Origin::Aggregated && aggregated.report().is_some() && raced(aggregated).is_none(),
        "{aggregated:?}"
    );
    assert_eq!(search().study, study, "resumed, it is not evaluated again");
}

#[test]
fn without_repetitions_every_trial_runs_to_its_end() {
    let pipeline = Pipeline::new(&Primitives::standard(), toy::space(), toy::evaluator()).searcher(RandomSearch);
    let study = pipeline.trials(24).racing(racing()).run(&Target::llama_350m()).unwrap().study;
    assert!(study.trials().iter().all(|trial| trial.report().is_some_and(|report| report.raced.is_none())));
}

#[test]
fn a_journal_is_not_continued_with_other_races() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let run = |racing: Option<Racing>| {
        let pipeline = pipeline(0, 1).trials(6).journal(&path);
        let pipeline = if let Some(racing) = racing { pipeline.racing(racing) } else { pipeline };
        pipeline.run(&Target::llama_350m())
    };
    run(Some(racing())).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(r#""stopping":"racing(trials=4, repetitions=3, errors=1)""#), "{text}");
    for other in [None, Some(racing().standard_errors(3.0))] {
        let error = run(other).unwrap_err();
        assert!(composer_nas::text::causes(&error).contains("stopping was"), "{error}");
    }
}

#[test]
fn a_cache_does_not_take_a_raced_trial_for_a_whole_one() {
    let cached = Cached::new(repeated(0));
    let plain = Trial::new(TrialId(0), "MMAAAA".parse().unwrap(), Seed(3), Origin::Searcher);
    let race = |threshold| Some(Race::new(&Goal::default(), Some(threshold), 1.0, 4));
    let evaluate = |race| cached.evaluate(&Trial { race, ..plain.clone() }, &Context::default()).unwrap();
    let lost = evaluate(race(0.8));
    assert_eq!(lost.raced, Some(Raced { done: 4, planned: PLANNED }));
    assert_eq!(evaluate(race(0.8)), lost);
    assert_eq!((evaluate(None).raced, evaluate(race(0.0)).raced), (None, None));
    assert_eq!(evaluate(race(0.8)), lost);
    testkit::evaluator::check(&cached, &[Trial { race: race(0.8), ..plain.clone() }], &Goal::default()).unwrap();
}

#[cfg(feature = "flex")]
mod trainings {
    use composer_nas::evaluate::mad::{Mad, Protocol};

    use super::*;

    /// `quick`, much shorter.
    fn mad() -> Mad {
        let mut protocol = Protocol::quick();
        for (training, repeats) in protocol.trainings.iter_mut().zip([6, 4]) {
            training.repeats = repeats;
            training.train.steps = 4;
            training.train.schedule.total_steps = 4;
            training.train.schedule.warmup_steps = 1;
            training.train.evaluate_every = 2;
            training.test_examples = 8;
        }
        Mad::new(protocol, &Primitives::standard(), &Device::flex()).unwrap()
    }

    #[test]
    fn trainings_take_turns_and_end_where_the_race_is_lost() {
        let mad = mad();
        let plain = Trial::new(TrialId(0), "AMAM".parse().unwrap(), Seed(1), Origin::Searcher);
        let evaluate = |trial: &Trial, context: &Context| mad.evaluate(trial, context).unwrap();
        let with = |threshold: Option<f64>| {
            let race = Some(Race::new(&Goal::default(), threshold, 1.0, 2));
            evaluate(&Trial { race, ..plain.clone() }, &Context::default())
        };
        let whole = evaluate(&plain, &Context::default());
        assert!(whole.raced.is_none() && whole.standard_error.is_some_and(|error| error > 0.0));
        // Up to the end nothing differs, only the order was another.
        for threshold in [None, Some(0.0)] {
            assert_eq!(with(threshold), whole);
        }
        let lost = with(Some(1.0));
        // The first four are two of each.
        assert_eq!(lost.raced, Some(Raced { done: 4, planned: 10 }));
        assert!(lost.train_flops < whole.train_flops && lost.standard_error > Some(0.0));
        assert!(lost.scores.keys().eq(whole.scores.keys()) && lost.tasks.len() == 2);
        // Another score is no race of this evaluator's.
        let other = Some(Race::new(&Goal::maximize("in-context-recall"), Some(1.0), 1.0, 2));
        assert_eq!(evaluate(&Trial { race: other, ..plain.clone() }, &Context::default()), whole);

        // The next attempt goes on in the same order.
        let folder = tempfile::tempdir().unwrap();
        let race = Some(Race::new(&Goal::default(), Some(1.0), 1.0, 2));
        let trial = Trial { race, ..plain.clone() };
        let keeping = || Context::default().keep_in(folder.path().into());
        assert_eq!(evaluate(&trial, &keeping()), lost);
        let kept = folder.path().join("trainings.jsonl");
        let lines = std::fs::read_to_string(&kept).unwrap();
        assert_eq!(lines.lines().count(), 4);
        std::fs::write(&kept, lines.lines().take(3).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        assert_eq!(evaluate(&trial, &keeping()), lost);
        testkit::evaluator::check(&mad, &[trial], &Goal::default()).unwrap();
    }
}
