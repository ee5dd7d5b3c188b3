//! The MAD evaluator: it learns what can be learnt, and whatever goes wrong becomes part of the report.
#![cfg(feature = "flex")]

use std::{
    fs,
    path::Path,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use composer_nas::{
    evaluate::{
        CancelToken, Progress, Repeated,
        mad::{
            Hyperparameters, Mad, Protocol, Scoring, Selection, TrainData,
            task::{
                Compression, FuzzyInContextRecall, InContextRecall, Memorization, NoisyInContextRecall,
                SelectiveCopying, Task,
            },
        },
    },
    execute::{self, AttemptError},
    prelude::*,
    study::{Origin, Race, Threshold, TrialId},
};

fn evaluate(protocol: Protocol, architecture: &str) -> Report {
    let mad = Mad::new(protocol, &Primitives::standard(), &Device::flex()).unwrap();
    let trial = Trial::new(TrialId(0), architecture.parse().unwrap(), Seed(3), Origin::Searcher);
    execute::evaluate(&mad, &trial, &Context::default()).unwrap()
}

/// One training on another task than those of `quick`, with so many steps.
fn protocol(task: Task, steps: usize) -> Protocol {
    let mut protocol = Protocol::quick();
    protocol.trainings.truncate(1);
    let training = &mut protocol.trainings[0];
    training.task = task;
    training.repeats = 1;
    training.train.steps = steps;
    training.train.schedule.total_steps = steps;
    training.train.schedule.warmup_steps = steps.min(10);
    training.train.evaluate_every = steps.div_ceil(10);
    protocol.selection = Selection::Last;
    protocol.scoring = Scoring::Accuracy;
    protocol
}

fn recall() -> Task {
    Task::InContextRecall(InContextRecall { vocab_size: 4, seq_len: 16, multi_query: true })
}

#[test]
fn attention_solves_a_small_recall_and_mlps_do_not() {
    let solved = evaluate(protocol(recall(), 300), "2A+2M");
    let accuracy = |report: &Report| report.scores["accuracy"];
    assert!(accuracy(&solved) > 0.95, "{solved:?}");
    assert!(solved.tasks[0].loss.unwrap() < 0.3);
    let blind = evaluate(protocol(recall(), 300), "4M");
    // Two values to choose from: chance is one half.
    assert!((0.35..0.7).contains(&accuracy(&blind)), "{blind:?}");
}

#[test]
fn an_auto_encoder_learns_to_compress() {
    let task = Task::Compression(Compression { vocab_size: 4, seq_len: 6 });
    let first = evaluate(protocol(task.clone(), 1), "1A+1M").scores["accuracy"];
    let trained = evaluate(protocol(task, 300), "1A+1M").scores["accuracy"];
    assert!(trained > first + 0.1, "{first} before, {trained} after");
}

#[test]
fn every_task_can_be_trained() {
    let tasks = [
        recall(),
        Task::NoisyInContextRecall(NoisyInContextRecall {
            vocab_size: 12,
            noise_vocab_size: 4,
            seq_len: 16,
            ..Default::default()
        }),
        Task::FuzzyInContextRecall(FuzzyInContextRecall { vocab_size: 16, seq_len: 32, ..Default::default() }),
        Task::Memorization(Memorization { vocab_size: 16, seq_len: 8 }),
        Task::Compression(Compression { vocab_size: 8, seq_len: 8 }),
        Task::SelectiveCopying(SelectiveCopying { vocab_size: 8, seq_len: 24, num_tokens_to_copy: 4 }),
    ];
    for task in tasks {
        for data in [TrainData::Fresh, TrainData::Fixed(20)] {
            let mut protocol = protocol(task.clone(), 4);
            protocol.trainings[0].data = data;
            let report = evaluate(protocol, "AMF");
            assert!((0.0..=1.0).contains(&report.scores["accuracy"]), "{report:?}");
            assert_eq!(report.scores[task.name()], report.scores["accuracy"]);
            assert_eq!((report.tasks[0].steps, &report.tasks[0].diverged), (4, &None));
        }
    }
}

#[test]
fn a_run_that_diverges_scores_nothing_and_says_why() {
    let mut wild = protocol(recall(), 40);
    wild.trainings[0].train.schedule.peak = 1e30;
    wild.trainings[0].train.clip_norm = None;
    let report = evaluate(wild.clone(), "2A+2M");
    assert_eq!(report.scores["accuracy"], 0.0);
    let task = &report.tasks[0];
    assert!(task.diverged.as_ref().is_some_and(|reason| reason.contains("not finite at step")), "{task:?}");
    assert_eq!(task.loss, None);
    assert!(report.value(&Goal::default()).is_ok());

    // In a grid, the points that do not diverge decide.
    let tame = Hyperparameters { learning_rate: 1e-3, weight_decay: 0.0 };
    wild.trainings[0].grid = vec![Hyperparameters { learning_rate: 1e30, ..tame }, tame];
    let report = evaluate(wild, "2A+2M");
    assert!(report.scores["accuracy"] > 0.0 && report.tasks[0].diverged.is_none(), "{report:?}");
}

/// Eight steps each of recall at two difficulties and of copying.
fn two_recalls_and_copying() -> Protocol {
    let mut all = protocol(recall(), 8);
    let harder = Task::InContextRecall(InContextRecall { vocab_size: 8, seq_len: 16, multi_query: true });
    let copying = Task::SelectiveCopying(SelectiveCopying { vocab_size: 8, seq_len: 24, num_tokens_to_copy: 4 });
    all.trainings.extend([harder, copying].map(|task| protocol(task, 8).trainings.remove(0)));
    all
}

#[test]
fn scores_are_means_over_settings_then_over_tasks() {
    let report = evaluate(two_recalls_and_copying(), "1A+1M");
    let of: Vec<f64> = report.tasks.iter().filter_map(|task| task.score).collect();
    let recall = (of[0] + of[1]) / 2.0;
    assert_eq!(report.scores["in-context-recall"], recall);
    assert_eq!(report.scores["selective-copying"], of[2]);
    assert_eq!(report.scores["accuracy"], (recall + of[2]) / 2.0);
}

#[test]
fn weights_tilt_the_means_and_their_error() {
    let mut weighted = two_recalls_and_copying();
    for (training, weight) in weighted.trainings.iter_mut().zip([1.0, 3.0, 6.0]) {
        training.weight = weight;
        training.repeats = 2;
    }
    let report = evaluate(weighted.clone(), "1A+1M");
    let of: Vec<f64> = report.tasks.iter().filter_map(|task| task.score).collect();
    let pooled = (of[0] + 3.0 * of[1]) / 4.0;
    assert!((report.scores["in-context-recall"] - pooled).abs() < 1e-12);
    assert_eq!(report.scores["selective-copying"], of[2]);
    // Recall weighs the mean of 1 and 3, copying 6.
    let score = report.scores["accuracy"];
    assert!((score - (2.0 * pooled + 6.0 * of[2]) / 8.0).abs() < 1e-12);
    assert!((report.curve.last().unwrap().1 - score).abs() < 1e-12);
    let alone = |at: usize| {
        let mut alone = weighted.clone();
        alone.trainings = vec![weighted.trainings[at].clone()];
        evaluate(alone, "1A+1M").standard_error.unwrap()
    };
    // Copying is drawn from the same seeds when it is trained alone.
    let shares = [0.0625, 0.1875, 0.75];
    let error = shares.iter().enumerate().map(|(at, share)| (share * alone(at)).powi(2)).sum::<f64>().sqrt();
    assert!((report.standard_error.unwrap() - error).abs() < 1e-12, "{report:?}");

    // What weighs 1 is not written, so that the fingerprints of older protocols stay.
    assert!(!serde_json::to_string(&protocol(recall(), 8)).unwrap().contains("\"weight\""));
    let text = serde_json::to_string(&weighted).unwrap();
    assert_eq!(serde_json::from_str::<Protocol>(&text).unwrap(), weighted);
    for absurd in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-4, 1e4] {
        weighted.trainings[0].weight = absurd;
        let error = composer_nas::text::causes(&weighted.validate().unwrap_err());
        assert!(error.contains("between 0.001 and 1000"), "{error}");
    }
}

#[test]
fn repetitions_become_a_mean_with_its_standard_error() {
    let mut once = protocol(recall(), 20);
    once.trainings
        .push(protocol(Task::Memorization(Memorization { vocab_size: 16, seq_len: 8 }), 20).trainings.remove(0));
    let single = evaluate(once.clone(), "1A+1M");
    assert_eq!(single.standard_error, None);
    let mut repeated = once.clone();
    repeated.trainings[0].repeats = 3;
    assert_eq!(evaluate(repeated.clone(), "1A+1M").standard_error, None, "memorization is not repeated");
    repeated.trainings[1].repeats = 2;
    let report = evaluate(repeated.clone(), "1A+1M");
    let error = report.standard_error.unwrap();
    assert!(error > 0.0 && error < 0.2, "{report:?}");
    assert_eq!((report.tasks.len(), report.tasks[0].steps, repeated.steps()), (2, 60, 100));
    assert_eq!(report.curve.last().unwrap().0, 100);
    assert!((report.curve.last().unwrap().1 - report.scores["accuracy"]).abs() < 1e-12);
    assert_eq!(report.tasks[0].curve.len(), single.tasks[0].curve.len());
    // The first repetition is the training that was alone.
    repeated.trainings.truncate(1);
    repeated.trainings[0].repeats = 2;
    let two = evaluate(repeated, "1A+1M");
    let one = &single.tasks[0];
    let pooled = two.tasks[0].score.unwrap();
    let one = one.score.unwrap();
    let other = 2.0 * pooled - one;
    assert!((0.0..=1.0).contains(&other) && other != one);
    assert!((two.standard_error.unwrap() - (other - one).abs() / 2.0).abs() < 1e-12);
}

/// A short form of `quick` with so many repetitions of its trainings.
fn short(repeats: [usize; 2]) -> Protocol {
    let mut protocol = Protocol::quick();
    for (training, repeats) in protocol.trainings.iter_mut().zip(repeats) {
        training.train.steps = 20;
        training.train.evaluate_every = 5;
        training.repeats = repeats;
        // Some stop early.
        training.train.stop_above = Some(0.3);
    }
    // A grid, and epochs that end with a smaller batch.
    let second = &mut protocol.trainings[1];
    second.data = TrainData::Fixed(70);
    second.grid = [0.004, 0.001].map(|learning_rate| Hyperparameters { learning_rate, weight_decay: 0.01 }).to_vec();
    protocol
}

#[test]
fn trainings_at_once_change_nothing_but_the_time() {
    let mad = |count| {
        let mad = Mad::new(short([5, 4]), &Primitives::standard(), &Device::flex()).unwrap();
        mad.trainings_at_once(count)
    };
    // Mamba-2 cannot be combined and is trained one by one.
    for architecture in ["AM", "FRS", "AB"] {
        let mut trial = Trial::new(TrialId(0), architecture.parse().unwrap(), Seed(3), Origin::Searcher);
        let whole = execute::evaluate(&mad(1), &trial, &Context::default()).unwrap();
        let score = whole.scores["accuracy"];
        let race = |threshold| Some(Race::new(&Goal::default(), Some(threshold), 1.0, 2));
        let mut lost = 0;
        let races = [None, race(score + 0.1), race(score - 0.01)];
        for race in races.into_iter().take(if architecture == "AM" { 3 } else { 1 }) {
            trial.race = race;
            let single = execute::evaluate(&mad(1), &trial, &Context::default()).unwrap();
            lost += usize::from(single.raced.is_some());
            for count in [2, 99] {
                let folder = tempfile::tempdir().unwrap();
                let together = attempt(&mad(count), &trial, folder.path(), usize::MAX).0.unwrap();
                assert!(together.same_outcome(&single), "{architecture}, {count} at once, {:?}", trial.race);
                // What it keeps is what the next attempt needs.
                let file = folder.path().join("trainings.jsonl");
                let lines = fs::read_to_string(&file).unwrap();
                let some: String = lines.split_inclusive('\n').take(3).collect();
                for kept in [lines, some] {
                    fs::write(&file, kept).unwrap();
                    let again = attempt(&mad(3), &trial, folder.path(), usize::MAX).0.unwrap();
                    assert!(again.same_outcome(&single), "{architecture}, {count} at once");
                }
            }
        }
        // Where values may stop the trial, they come in time.
        trial.race = None;
        trial.threshold = Threshold::new([(5, 2.0)]);
        let context = || Context::default().threshold(trial.threshold.clone());
        let outcomes = [1, 99].map(|count| execute::evaluate(&mad(count), &trial, &context()));
        assert_eq!(outcomes[0], outcomes[1]);
        assert!(outcomes[0].is_err());
        assert_eq!(lost >= 1, architecture == "AM");
    }
}

#[test]
fn the_curve_mean_counts_an_early_stop_as_staying_there() {
    let mut early = protocol(recall(), 40);
    early.scoring = Scoring::CurveMean;
    early.trainings[0].train.stop_above = Some(0.0);
    let report = evaluate(early.clone(), "1A+1M");
    let task = &report.tasks[0];
    assert_eq!((task.steps, task.curve.len()), (4, 1));
    assert!((task.score.unwrap() - task.curve[0].1).abs() < 1e-12);
    early.trainings[0].train.stop_above = None;
    let report = evaluate(early, "1A+1M");
    let task = &report.tasks[0];
    let mean = task.curve.iter().map(|(_, accuracy)| accuracy).sum::<f64>() / 10.0;
    assert_eq!((task.steps, task.curve.len()), (40, 10));
    assert!((task.score.unwrap() - mean).abs() < 1e-12);
}

#[test]
fn a_cancelled_evaluation_stops_at_once() {
    let mad = Mad::quick(&Primitives::standard(), &Device::flex());
    let trial = Trial::new(TrialId(0), "2A+4M".parse().unwrap(), Seed(0), Origin::Searcher);
    let cancel = CancelToken::default();
    let token = cancel.clone();
    let steps = mad.protocol().steps();
    let context = Context::new(cancel, move |progress| {
        assert_eq!(progress.steps, steps);
        assert!(progress.step <= 10, "{progress:?}");
        if progress.step >= 10 {
            token.cancel();
        }
    });
    assert_eq!(mad.evaluate(&trial, &context), Err(EvalError::Cancelled));
}

#[test]
fn an_unknown_layer_is_infeasible() {
    let mad = Mad::quick(&Primitives::standard(), &Device::flex());
    let trial = Trial::new(TrialId(0), "1A+1Q".parse().unwrap(), Seed(0), Origin::Searcher);
    let error = mad.evaluate(&trial, &Context::default()).unwrap_err();
    assert!(matches!(&error, EvalError::Infeasible(reason) if reason.contains("\"Q\"")), "{error}");
}

/// One attempt, called off when it tells something for the `last`-th time: what came of it, and what it told.
fn attempt(
    evaluator: &dyn Evaluator,
    trial: &Trial,
    folder: &Path,
    last: usize,
) -> (Result<Report, AttemptError>, Vec<Progress>) {
    let (sender, told) = mpsc::channel();
    let cancel = CancelToken::default();
    let token = cancel.clone();
    let calls = AtomicUsize::new(0);
    let context = Context::new(cancel, move |progress| {
        if calls.fetch_add(1, Ordering::Relaxed) + 1 == last {
            token.cancel();
        }
        let _ = sender.send(progress);
    });
    let outcome = execute::evaluate(evaluator, trial, &context.keep_in(folder.to_owned()));
    (outcome, told.try_iter().collect())
}

#[test]
fn an_attempt_goes_on_from_the_trainings_that_earlier_ones_have_done() {
    let protocol: Protocol = serde_json::from_str(include_str!("fixtures/tiny_protocol.json")).unwrap();
    let mad = Mad::new(protocol, &Primitives::standard(), &Device::flex()).unwrap();
    let repeated = Repeated::new(mad.clone(), 2).unwrap();
    let trial = Trial::new(TrialId(0), "AM".parse().unwrap(), Seed(5), Origin::Searcher);
    for evaluator in [&mad as &dyn Evaluator, &repeated] {
        let folder = tempfile::tempdir().unwrap();
        let whole = execute::evaluate(evaluator, &trial, &Context::default()).unwrap();
        let all = attempt(evaluator, &trial, &folder.path().join("other"), usize::MAX).1;
        // A little further each time, so that every training is called off somewhere.
        let mut cancelled = 0;
        let (resumed, told) = loop {
            match attempt(evaluator, &trial, folder.path(), 5 * (cancelled + 1)) {
                (Err(AttemptError::Evaluator(EvalError::Cancelled)), _) => cancelled += 1,
                (outcome, told) => break (outcome.unwrap(), told),
            }
        };
        assert!(cancelled > 1 && resumed.same_outcome(&whole), "{cancelled} attempts");
        let values =
            |told: &[Progress]| told.iter().filter_map(|told| Some((told.step, told.value?))).collect::<Vec<_>>();
        assert_eq!(values(&told), whole.curve);
        assert!(told.len() < all.len(), "what was done is told, not done again");
    }
}

#[test]
fn damaged_checkpoints_are_done_again() {
    let protocol: Protocol = serde_json::from_str(include_str!("fixtures/tiny_protocol.json")).unwrap();
    let mad = Mad::new(protocol, &Primitives::standard(), &Device::flex()).unwrap();
    let trial = Trial::new(TrialId(0), "AM".parse().unwrap(), Seed(5), Origin::Searcher);
    let folder = tempfile::tempdir().unwrap();
    let whole = attempt(&mad, &trial, folder.path(), usize::MAX).0.unwrap();
    let file = folder.path().join("trainings.jsonl");
    let lines = fs::read_to_string(&file).unwrap();
    let line = lines.lines().next().unwrap();
    for damaged in [String::new(), format!("{line}\n{{}}\n{line}\n"), lines[..lines.len() - 9].into(), "\u{0}\n".into()]
    {
        fs::write(&file, damaged).unwrap();
        assert!(attempt(&mad, &trial, folder.path(), usize::MAX).0.unwrap().same_outcome(&whole));
    }
}
