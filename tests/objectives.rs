//! Several objectives and bounds, through whole searches.

use std::sync::Arc;

use composer_nas::{
    evaluate::{Table, TabularEvaluator},
    extrapolate::{Cycle, TargetCosts},
    journal,
    pipeline::{Ask, PipelineError},
    prelude::*,
    search::{Exhaustive, LocalSearch, RegularizedEvolution, Replicate},
    study::{Event, FnCost, KnownCostError, Measure, Objective, Origin, TrialId},
};

fn space(layers: usize) -> SearchSpace {
    SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], layers).unwrap()
}

fn attention(architecture: &Architecture) -> f64 {
    architecture.count(Symbol::ATTENTION) as f64
}

fn cache() -> Measure {
    Measure::cost("cache")
}

fn two() -> Goal {
    Goal::maximize("accuracy").and(Objective::minimize(cache())).unwrap()
}

/// Attention helps at the start of a sequence, less and less.
fn accuracy(architecture: &Architecture) -> f64 {
    let layers = architecture.layers().iter().enumerate();
    let gain = layers.map(|(at, &layer)| if layer == Symbol::ATTENTION { 0.5f64.powi(at as i32 + 1) } else { 0.0 });
    gain.sum()
}

fn study(goal: Goal, layers: usize) -> Study {
    Study::new(space(layers), goal).with_costs(Arc::new(FnCost::new("cache", "attention", attention))).unwrap()
}

fn searched(searcher: &mut dyn Searcher, mut study: Study, trials: u64) -> Study {
    for index in 0..trials {
        let proposal = searcher.ask(&study, &mut Seed(3).rng("ask", index)).unwrap();
        let Proposal::Evaluate(architecture) = proposal else { break };
        assert!(study.admits(&architecture) && !study.knows(&architecture));
        let loss = 1.0 - accuracy(&architecture) / 2.0;
        let mut report = Report::score("accuracy", accuracy(&architecture));
        report.scores.insert("loss".into(), loss);
        let report = study.priced(&architecture, report).unwrap();
        let id = study.next_id();
        study.apply(Event::Proposed { id, architecture, seed: Seed(id.0), origin: Origin::Searcher }).unwrap();
        // One trial is always pending.
        if let Some(earlier) = id.0.checked_sub(1) {
            let architecture = study.trial(TrialId(earlier)).unwrap().architecture.clone();
            let mut report = Report { ..report.clone() };
            report.scores.insert("accuracy".into(), accuracy(&architecture));
            report.scores.insert("loss".into(), 1.0 - accuracy(&architecture) / 2.0);
            let report = study.priced(&architecture, report).unwrap();
            study.apply(Event::Completed { id: TrialId(earlier), report }).unwrap();
        }
    }
    study
}

fn searchers() -> Vec<Box<dyn Searcher>> {
    vec![
        Box::new(GpBo::default()),
        Box::new(GpBo::composer()),
        Box::new(GpBo::categorical()),
        Box::new(RandomSearch),
        Box::new(Exhaustive),
        Box::new(RegularizedEvolution::new(8, 4).unwrap()),
        Box::new(LocalSearch::default()),
        Box::new(Replicate::new(RandomSearch, 50, 2).unwrap()),
    ]
}

#[test]
fn the_front_of_a_plain_function_is_found_by_bayesian_optimisation() {
    // 4096 sequences; the front has as much attention as there is, from the start on.
    for mut searcher in [GpBo::default(), GpBo::composer()] {
        let study = searched(&mut searcher, study(two(), 12), 45);
        let ideal = |count| 1.0 - 0.5f64.powi(count);
        let found = study.front();
        let reached = (0..=12).filter(|&count| {
            found
                .iter()
                .any(|seen| attention(&seen.trial.architecture) <= f64::from(count) && seen.value > ideal(count) - 0.03)
        });
        assert!(reached.count() >= 10, "{:?}", found.iter().map(|seen| seen.trial.architecture.letters()));
    }
}

#[test]
fn every_searcher_serves_several_objectives_and_keeps_bounds_on_costs() {
    let goals = [
        two(),
        two().at_most(cache(), 3.0).unwrap(),
        two()
            .and(Objective::minimize(Measure::score("loss")))
            .unwrap()
            .at_least(Measure::score("accuracy"), 0.4)
            .unwrap(),
        Goal::default().at_most(cache(), 2.0).unwrap().at_most(Measure::score("loss"), 0.7).unwrap(),
        Goal::default().and(Objective::minimize(Measure::score("loss"))).unwrap(),
    ];
    for goal in goals {
        for mut searcher in searchers() {
            let name = searcher.fingerprint();
            let study = searched(&mut searcher, study(goal.clone(), 5), 33);
            let allowed = study.space().iter().filter(|a| study.admits(a)).count();
            assert_eq!(study.trials().len(), allowed.min(33), "{name} {goal}");
        }
    }
}

#[test]
fn answers_are_functions_of_the_study() {
    let goal = two().and(Objective::minimize(Measure::score("loss"))).unwrap();
    let study = searched(&mut GpBo::default(), study(goal, 8), 20);
    let ask = || GpBo::default().ask(&study, &mut Seed(9).rng("ask", 0)).unwrap();
    assert_eq!(ask(), ask());
    let batch: Vec<_> = study.space().iter().filter(|a| !study.knows(a)).take(2).collect();
    let promise =
        |batch: &[Architecture]| GpBo::default().acquisition_value(&study, batch, &mut Seed(9).rng("ask", 0)).unwrap();
    assert!(promise(&batch) >= promise(&batch[..1]) - 0.3 && promise(&batch).is_finite());
    assert!(GpBo::default().acquisition_value(&study, &[], &mut Seed(9).rng("ask", 0)).is_err());
    let inspection = GpBo::default().inspect(&study, &mut Seed(9).rng("ask", 0)).unwrap();
    assert!(inspection.candidates.len() > 1 && inspection.candidates.iter().all(|c| !study.knows(&c.architecture)));
}

fn evaluator() -> impl Evaluator {
    from_fn("early attention", |trial: &Trial, _: &Context| {
        Ok(Report::score("accuracy", accuracy(&trial.architecture)))
    })
}

fn costs() -> TargetCosts<Cycle> {
    TargetCosts::new(Cycle, &Target::llama_1b(), &Primitives::standard(), composer_nas::cost::Workload::bf16(4096))
        .unwrap()
}

#[test]
fn a_search_by_the_costs_of_the_target_resumes_from_its_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let pipeline = |trials| {
        let goal = two().at_most(cache(), 2e8).unwrap();
        let pipeline = Pipeline::new(&Primitives::standard(), space(6), evaluator());
        pipeline.goal(goal).costs(costs()).extrapolator(Cycle).trials(trials).journal(&path)
    };
    let target = Target::llama_1b();
    pipeline(9).run(&target).unwrap();
    let found = pipeline(16).run(&target).unwrap();
    let cached = |seen: &composer_nas::study::Observation<'_>| seen.report.costs["cache"];
    assert!(found.study.observations().all(|seen| cached(&seen) <= 2e8 && cached(&seen) > 0.0 || cached(&seen) == 0.0));
    // The journal alone knows the costs of what was evaluated.
    let (setup, study) = journal::read(&path).unwrap();
    assert_eq!(setup.goal, *found.study.goal());
    let texts = |study: &Study| study.front().iter().map(|seen| seen.trial.id).collect::<Vec<_>>();
    assert_eq!(texts(&study), texts(&found.study));
    assert!(study.front().len() > 2);
    let reference = study.reference().unwrap();
    assert_eq!(study.hypervolume(&reference), found.study.hypervolume(&reference));

    let other = Pipeline::new(&Primitives::standard(), space(6), evaluator()).goal(two()).costs(costs());
    let error = other.trials(20).journal(&path).run(&target).unwrap_err();
    assert!(composer_nas::text::causes(&error).contains("goal"), "{error}");
    let longer =
        TargetCosts::new(Cycle, &target, &Primitives::standard(), composer_nas::cost::Workload::bf16(8192)).unwrap();
    let error = pipeline(20).costs(longer).run(&target).unwrap_err();
    assert!(composer_nas::text::causes(&error).contains("costs"), "{error}");
}

#[test]
fn costs_that_nobody_states_are_refused_before_anything_runs() {
    let pipeline = || Pipeline::new(&Primitives::standard(), space(4), evaluator()).goal(two());
    let error = pipeline().run(&Target::llama_1b()).unwrap_err();
    assert!(matches!(error, PipelineError::Costs(KnownCostError::Missing(_))), "{error}");
    let other = FnCost::new("work", "work", attention);
    let error = pipeline().costs(other).run(&Target::llama_1b()).unwrap_err();
    assert!(matches!(error, PipelineError::Costs(KnownCostError::Unknown { .. })), "{error}");
    let mut session = Session::in_memory(space(4), two(), Seed(0), RandomSearch);
    let missing = |error: PipelineError| matches!(error, PipelineError::Costs(KnownCostError::Missing(_)));
    assert!(missing(session.ask().unwrap_err()) && missing(session.enqueue("AAMM".parse().unwrap()).unwrap_err()));
    assert!(session.study().trials().is_empty());
    // A setup that names none is refused before there is a journal.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let error = Session::open(&path, session.setup().clone(), RandomSearch).err().unwrap();
    assert!(missing(error) && !path.exists());
    let cost = FnCost::new("cache", "attention", attention);
    let session = Session::in_memory(space(4), two(), Seed(0), RandomSearch).costs(Arc::new(cost)).unwrap();
    let costs = || Arc::new(FnCost::new("cache", "attention", attention));
    let open = || Session::open(&path, session.setup().clone(), RandomSearch).unwrap().costs(costs()).unwrap();
    assert!(matches!(open().ask().unwrap(), Ask::Trial(_)));
    assert_eq!(open().study().trials().len(), 1);
}

#[test]
fn bounds_that_nothing_satisfies_name_the_nearest() {
    let bounded = |goal: Goal| {
        let pipeline = Pipeline::new(&Primitives::standard(), space(4), evaluator()).goal(goal).trials(6);
        pipeline.costs(FnCost::new("cache", "attention", attention)).run(&Target::llama_1b())
    };
    let error = bounded(two().at_least(cache(), 5.0).unwrap()).unwrap_err();
    let text = composer_nas::text::causes(&error);
    assert!(text.contains("nearest is 4A with cache 4"), "{text}");
    let error = bounded(two().at_least(Measure::score("accuracy"), 2.0).unwrap()).unwrap_err();
    assert!(matches!(error, PipelineError::NothingWithin { .. }));
    assert!(error.to_string().contains("nearest is"), "{error}");
}

#[test]
fn scores_that_are_missing_or_no_number_fail_the_trial_alone() {
    let goal = Goal::default().and(Objective::minimize(Measure::score("loss"))).unwrap();
    for loss in [None, Some(f64::NAN), Some(f64::INFINITY), Some(0.5)] {
        let mut session = Session::in_memory(space(4), goal.clone(), Seed(0), RandomSearch);
        let Ask::Trial(trial) = session.ask().unwrap() else { panic!() };
        let mut report = Report::score("accuracy", 0.5);
        report.scores.extend(loss.map(|loss| ("loss".into(), loss)));
        session.tell(trial.id, Ok(report)).unwrap();
        let good = loss == Some(0.5);
        assert_eq!(session.study().observations().count(), usize::from(good));
        assert_eq!(session.study().front().len(), usize::from(good));
        if !good {
            assert!(session.study().reference().is_none());
            assert_eq!(session.study().hypervolume(&[0.0, -1.0]).value, 0.0);
            assert!(session.ask().is_ok());
        }
    }
}

/// The true front of the 64 measured sequences, by the means of all seeds, against the number of attention layers.
#[test]
fn the_true_front_of_the_measured_sequences_is_found_in_24_trials() {
    let table = Table::read(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/data/quick.csv")).unwrap().of_length(6);
    let mut truth = study(two(), 6);
    for architecture in truth.space().iter().collect::<Vec<_>>() {
        let mean = table.mean(&architecture).unwrap();
        let report = truth.priced(&architecture, Report::score("accuracy", mean)).unwrap();
        let id = truth.next_id();
        truth.apply(Event::Proposed { id, architecture, seed: Seed(0), origin: Origin::Manual }).unwrap();
        truth.apply(Event::Completed { id, report }).unwrap();
    }
    let front: Vec<_> = truth.front().iter().map(|seen| seen.trial.architecture.clone()).collect();
    let reference = truth.reference().unwrap();
    let whole = truth.hypervolume(&reference).value;
    let mut found = 0;
    for seed in 0..10 {
        let pipeline = Pipeline::new(&Primitives::standard(), space(6), TabularEvaluator::new(table.clone()));
        let pipeline = pipeline.goal(two()).costs(FnCost::new("cache", "attention", attention)).seed(seed);
        let study = pipeline.trials(24).run(&Target::llama_1b()).unwrap().study;
        let met = front.iter().filter(|best| study.knows(best)).count();
        let points = study
            .trials()
            .iter()
            .map(|trial| vec![table.mean(&trial.architecture).unwrap(), -attention(&trial.architecture)]);
        let volume = composer_nas::study::hypervolume(&points.collect::<Vec<_>>(), &reference) / whole;
        println!("seed {seed}: {met} of {}, {volume:.4} of the hypervolume", front.len());
        found += usize::from(met == front.len());
    }
    println!("{front:?}: {found} of 10");
    assert!(found >= 8, "{found}");
}
