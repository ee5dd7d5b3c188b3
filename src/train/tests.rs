//! The trainer: learning, determinism, outcomes, clipping, AdamW.

use std::ops::ControlFlow;

use crate::{
    dims::{Dims, InitScheme},
    model::{HybridLm, ModelSpec, Network},
    primitive::Primitives,
    seed::Seed,
    train::{
        AdamWConfig, DivergedQuantity, Evaluation, IGNORE, LrSchedule, Outcome, Precision, Predictions, Step,
        StepReport, TokenBatch, TrainConfig, TrainError, Trained, Trainer, clip_global_norm, cross_entropy, predict,
        train,
    },
};
use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Device, Int, Tensor},
};
use rand::RngExt;

const VOCAB: usize = 6;

fn model(seed: u64) -> HybridLm {
    network("AM", seed)
}

pub(super) fn network(architecture: &str, seed: u64) -> HybridLm {
    network_on(architecture, seed, &Device::flex())
}

fn network_on(architecture: &str, seed: u64, device: &Device) -> HybridLm {
    let spec = ModelSpec {
        architecture: architecture.parse().unwrap(),
        dims: Dims::new(16, 32, 2).unwrap(),
        vocab_size: VOCAB,
        tied_embeddings: false,
        head_bias: true,
        init: InitScheme::FanIn,
    };
    HybridLm::new(&spec, &Primitives::standard(), Seed(seed), device).unwrap()
}

/// Repeat the previous token; the first position is not scored.
pub(super) fn repeat_previous(seed: u64, step: usize) -> TokenBatch {
    let mut rng = Seed(seed).rng("data", step as u64);
    let batch = 8;
    let seq = 9;
    let inputs: Vec<i32> = (0..batch * seq).map(|_| rng.random_range(0..VOCAB as i32)).collect();
    let targets = (0..inputs.len()).map(|at| if at % seq == 0 { IGNORE } else { inputs[at - 1] }).collect();
    TokenBatch { batch, seq, inputs, targets }
}

pub(super) fn config(steps: usize) -> TrainConfig {
    TrainConfig {
        steps,
        batch_size: 8,
        schedule: LrSchedule { warmup_steps: steps.min(5), ..LrSchedule::cosine(1e-2, 1e-4, steps) },
        optimizer: AdamWConfig::default(),
        clip_norm: Some(1.0),
        evaluate_every: 25,
        log_every: 1,
        stop_above: None,
        precision: Precision::Single,
        recompute: false,
    }
}

pub(super) fn tests() -> [TokenBatch; 2] {
    [repeat_previous(99, 0), repeat_previous(99, 1)]
}

fn evaluate(model: &HybridLm) -> Result<Evaluation, TrainError> {
    Ok(measure(&predict(model, &tests())?))
}

pub(super) fn measure(answers: &[Predictions]) -> Evaluation {
    let tokens: Vec<_> = answers.iter().flat_map(|answer| &answer.tokens).collect();
    let right = tokens.iter().filter(|token| token.prediction == token.target).count();
    let loss = answers.iter().map(|answer| answer.loss_sum).sum::<f64>() / tokens.len() as f64;
    Evaluation { loss, accuracy: right as f64 / tokens.len() as f64 }
}

fn run(seed: u64, config: &TrainConfig) -> Trained<HybridLm> {
    run_network(model(seed), seed, config)
}

pub(super) fn run_network(network: HybridLm, seed: u64, config: &TrainConfig) -> Trained<HybridLm> {
    let progress = &mut |_: &StepReport| ControlFlow::Continue(());
    train(network, config, &mut |step| Ok(repeat_previous(seed, step)), &mut evaluate, progress).unwrap()
}

pub(super) fn weights(model: &impl Module) -> Vec<f32> {
    struct Collect(Vec<f32>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().try_into_vec::<f32>().unwrap());
        }
    }
    let mut collect = Collect(Vec::new());
    model.visit(&mut collect);
    collect.0
}

#[test]
fn a_task_is_learned_and_the_threshold_stops_it() {
    let trained = run(1, &TrainConfig { stop_above: Some(0.99), ..config(400) });
    let Outcome::ReachedThreshold { step } = trained.outcome else { panic!("{:?}", trained.history) };
    assert!(step < 400 && step.is_multiple_of(25));
    let last = trained.history.last().unwrap();
    assert_eq!(last.step, step);
    assert!(last.evaluation.accuracy > 0.99);
    assert_eq!(evaluate(&trained.model).unwrap(), last.evaluation);
    assert!(trained.history[0].train_loss > last.train_loss);
}

#[test]
fn every_primitive_learns_beside_attention() {
    for primitive in Primitives::standard().iter() {
        let model = network(&format!("A{}", primitive.symbol()), 1);
        let progress = &mut |_: &StepReport| ControlFlow::Continue(());
        let data = &mut |step| Ok(repeat_previous(1, step));
        let trained = train(model, &config(75), data, &mut evaluate, progress).unwrap();
        let losses: Vec<_> = trained.history.iter().map(|point| point.evaluation.loss).collect();
        assert!(losses[2] < 0.9 * losses[0] && losses[0] < 1.9, "{primitive:?}: {losses:?}");
    }
}

#[test]
fn the_balance_of_experts_is_trained_but_not_reported() {
    let batch = repeat_previous(1, 0);
    let device = Device::flex().autodiff();
    let model = network("AEE", 1).train();
    let (logits, penalty) = model.logits_and_aux_loss(batch.tokens(&device));
    let penalty = penalty.unwrap().into_scalar::<f32>();
    // Each layer's is 0.01 in balance, and at most 8/3 times that.
    assert!((0.02..0.06).contains(&penalty), "{penalty}");
    let loss = cross_entropy(logits, &batch).into_scalar::<f32>();
    assert_eq!(loss, cross_entropy(model.logits(batch.tokens(&device)), &batch).into_scalar::<f32>());
    assert!(network("AM", 1).logits_and_aux_loss(batch.tokens(&device)).1.is_none());

    let mut losses = Vec::new();
    let progress = &mut |progress: &StepReport| {
        losses.push(progress.loss as f32);
        ControlFlow::Break(())
    };
    train(network("AEE", 1), &config(1), &mut |_| Ok(repeat_previous(1, 0)), &mut evaluate, progress).unwrap();
    assert_eq!(losses, [loss]);

    /// Drops the penalty.
    #[derive(Module, Debug)]
    struct Careless {
        model: HybridLm,
    }
    impl Network for Careless {
        fn vocab_size(&self) -> usize {
            self.model.vocab_size()
        }
        fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
            self.model.logits(tokens)
        }
    }
    let config = TrainConfig { clip_norm: None, ..config(3) };
    let data = &mut |step| Ok(repeat_previous(1, step));
    let progress = &mut |_: &StepReport| ControlFlow::Continue(());
    let with = train(network("AE", 1), &config, data, &mut evaluate, progress).unwrap();
    let careless = Careless { model: network("AE", 1) };
    let without = train(careless, &config, data, &mut |careless| evaluate(&careless.model), progress).unwrap();
    assert_ne!(weights(&with.model), weights(&without.model.model));
}

#[test]
fn trainings_side_by_side_give_the_weights_of_trainings_in_turn() {
    let run = |seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        pool.install(|| run(seed, &config(30)))
    };
    let alone: Vec<_> = (0..3).map(run).collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|seed| scope.spawn(move || run(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (a, b) in alone.iter().zip(&together) {
        assert_eq!(weights(&a.model), weights(&b.model));
        assert_eq!(a.history, b.history);
        assert_eq!(a.history.iter().map(|point| point.step).collect::<Vec<_>>(), [25, 30]);
    }
    assert_ne!(weights(&alone[0].model), weights(&alone[1].model));
}

#[test]
fn looking_at_the_loss_less_often_changes_nothing() {
    let mut reports = Vec::new();
    let config = TrainConfig { log_every: 7, evaluate_every: 20, ..config(20) };
    let progress = &mut |progress: &StepReport| {
        reports.push(progress.step);
        ControlFlow::Continue(())
    };
    let seldom = train(model(1), &config, &mut |step| Ok(repeat_previous(1, step)), &mut evaluate, progress).unwrap();
    assert_eq!(reports, [7, 14, 20]);
    let often = run(1, &TrainConfig { log_every: 1, ..config });
    assert_eq!(weights(&seldom.model), weights(&often.model));
    assert!((seldom.history[0].train_loss - often.history[0].train_loss).abs() < 1e-5);
}

#[test]
fn divergence_is_an_outcome() {
    let schedule = LrSchedule::constant(1e30);
    for log_every in [1, 4] {
        let trained = run(1, &TrainConfig { schedule, clip_norm: None, log_every, ..config(25) });
        let Outcome::Diverged { step, reason } = trained.outcome else { panic!("{:?}", trained.outcome) };
        assert!(step <= 8 && step.is_multiple_of(log_every));
        assert!(matches!(reason, DivergedQuantity::Loss | DivergedQuantity::GradientNorm));
        assert!(trained.history.is_empty());
    }
    let mut nan = |_: &HybridLm| Ok(Evaluation { loss: f64::NAN, accuracy: 0.5 });
    let progress = &mut |_: &StepReport| ControlFlow::Continue(());
    let trained = train(model(1), &config(25), &mut |step| Ok(repeat_previous(1, step)), &mut nan, progress).unwrap();
    assert_eq!(trained.outcome, Outcome::Diverged { step: 25, reason: DivergedQuantity::Evaluation });
}

#[test]
fn progress_can_cancel() {
    let progress = &mut |progress: &StepReport| {
        if progress.step == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let trained =
        train(model(1), &config(9), &mut |step| Ok(repeat_previous(1, step)), &mut evaluate, progress).unwrap();
    assert_eq!(trained.outcome, Outcome::Cancelled { step: 3 });
}

#[test]
fn batches_that_do_not_fit_are_errors() {
    let attempt = |batch: TokenBatch| {
        let progress = &mut |_: &StepReport| ControlFlow::Continue(());
        train(model(1), &config(2), &mut |_| Ok(batch.clone()), &mut evaluate, progress).map(|_| ())
    };
    let good = repeat_previous(1, 0);
    let ignored = TokenBatch { targets: vec![IGNORE; 72], ..good.clone() };
    assert!(matches!(attempt(ignored), Err(TrainError::Batch { step: 0, .. })));
    let beyond = TokenBatch { inputs: vec![VOCAB as i32; 72], ..good };
    assert!(matches!(attempt(beyond), Err(TrainError::Batch { step: 0, .. })));
    let progress = &mut |_: &StepReport| ControlFlow::Continue(());
    let failed = train(model(1), &config(2), &mut |_| Err("no such file".into()), &mut evaluate, progress);
    assert!(crate::text::causes(&failed.unwrap_err()).contains("no such file"));
}

/// Model, gradients and their values, flat.
fn gradients() -> (HybridLm, GradientsParams, Vec<f32>) {
    let model = model(1).train();
    let batch = repeat_previous(1, 0);
    let loss = cross_entropy(model.logits(batch.tokens(&Device::flex().autodiff())), &batch);
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    let flat = flatten(&model, &gradients);
    (model, gradients, flat)
}

fn flatten(model: &HybridLm, gradients: &GradientsParams) -> Vec<f32> {
    struct Flat<'a>(&'a GradientsParams, Vec<f32>);
    impl ModuleVisitor for Flat<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(param.id).expect("a gradient reaches every parameter");
            self.1.extend(gradient.into_data().try_into_vec::<f32>().unwrap());
        }
    }
    let mut flat = Flat(gradients, Vec::new());
    model.visit(&mut flat);
    flat.1
}

#[test]
fn clipping_scales_all_gradients_by_one_factor() {
    let (model, mut clipped, before) = gradients();
    let norm = before.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    let max_norm = norm / 4.0;
    let reported = clip_global_norm(&model, &mut clipped, Some(max_norm)).unwrap().into_scalar::<f32>();
    assert!((f64::from(reported) / norm - 1.0).abs() < 1e-5);
    for (&after, &before) in flatten(&model, &clipped).iter().zip(&before) {
        assert!((after - before * (max_norm / (norm + 1e-6)) as f32).abs() < 1e-7);
    }
    let (model, mut untouched, before) = gradients();
    clip_global_norm(&model, &mut untouched, Some(2.0 * norm)).unwrap();
    assert_eq!(flatten(&model, &untouched), before);
}

#[test]
fn one_step_is_algorithm_2_of_the_adamw_paper() {
    let (model, step_gradients, g) = gradients();
    let before = weights(&model);
    let config = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() };
    let rate = 1e-2;
    let after = weights(&config.init().step(rate, model, step_gradients));
    for ((&before, &g), &after) in before.iter().zip(&g).zip(&after) {
        // At the first step the corrected moments are g and g^2.
        let g = f64::from(g);
        let want = f64::from(before) * (1.0 - rate * 0.1) - rate * g / (g.abs() + 1e-8);
        // Tiny gradients are sensitive to the rounding of g^2.
        assert!((f64::from(after) - want).abs() < 1e-5 || g.abs() < 1e-7, "{after} {want} {g}");
    }
}

#[test]
fn predictions_come_in_the_order_of_the_batch() {
    let batch = repeat_previous(3, 0);
    let answers = predict(&model(1), &[batch.clone(), repeat_previous(3, 1)]).unwrap();
    assert_eq!(answers.len(), 2);
    let targets: Vec<i32> = answers[0].tokens.iter().map(|token| token.target).collect();
    assert_eq!(targets, batch.targets.iter().copied().filter(|&target| target != IGNORE).collect::<Vec<_>>());
    let loss = cross_entropy(model(1).logits(batch.tokens(&Device::flex())), &batch).into_scalar::<f32>();
    assert!((answers[0].loss_sum / batch.scored() as f64 - f64::from(loss)).abs() < 1e-5);
}

/// The weights after `steps` steps of four batches each.
fn accumulated(config: &TrainConfig, steps: usize, others: &[Device]) -> Vec<f32> {
    let mut trainer = Trainer::new(model(1), config).unwrap().also_on(others.to_vec());
    for step in 0..steps {
        let batches: Vec<_> = (0..4).map(|part| repeat_previous(1, 4 * step + part)).collect();
        (trainer, _) = trainer.step(&batches).unwrap();
    }
    assert_eq!(trainer.steps_done(), steps);
    weights(&trainer.model())
}

#[test]
fn parts_of_a_step_make_the_gradient_of_the_whole() {
    // Parts of different weight: the second has fewer scored positions.
    let first = repeat_previous(1, 0);
    let mut second = repeat_previous(1, 1);
    second.targets[..40].fill(IGNORE);
    let join = |a: &[i32], b: &[i32]| [a, b].concat();
    let whole = TokenBatch {
        batch: 16,
        seq: 9,
        inputs: join(&first.inputs, &second.inputs),
        targets: join(&first.targets, &second.targets),
    };
    let step = |batches: &[TokenBatch]| {
        let (trainer, step) = Trainer::new(model(1), &config(9)).unwrap().step(batches).unwrap();
        let Step::Progress(progress) = step else { panic!("{step:?}") };
        (weights(&trainer.model()), progress)
    };
    let (parts, in_parts) = step(&[first, second]);
    let (at_once, as_one) = step(&[whole]);
    assert!((in_parts.loss - as_one.loss).abs() < 1e-6);
    assert!((in_parts.gradient_norm / as_one.gradient_norm - 1.0).abs() < 1e-5);
    // The first step of AdamW is a sign: compare where the gradient is not tiny.
    let far = parts.iter().zip(&at_once).filter(|(a, b)| (*a - *b).abs() > 1e-5).count();
    assert!(far < parts.len() / 50, "{far} of {}", parts.len());
    assert!(matches!(Trainer::new(model(1), &config(9)).unwrap().step(&[]), Err(TrainError::NoBatch { step: 0 })));
}

#[test]
fn devices_share_a_step_without_changing_it() {
    let alone = accumulated(&config(9), 3, &[]);
    for others in [vec![Device::flex()], vec![Device::flex(); 2], vec![Device::flex(); 6]] {
        assert_eq!(accumulated(&config(9), 3, &others), alone);
    }
}

#[test]
fn sixteen_bits_learn_what_thirty_two_do() {
    let history = |precision| {
        let trained = run(1, &TrainConfig { precision, ..config(150) });
        assert!(trained.model.devices().iter().all(|device| !device.is_autodiff()));
        struct Wide;
        impl ModuleVisitor for Wide {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                assert_eq!(param.val().dtype(), burn::tensor::DType::F32);
            }
        }
        trained.model.visit(&mut Wide);
        trained.history
    };
    let wide = history(Precision::Single);
    let narrow = history(Precision::BFloat16);
    let last = |history: &[crate::train::Point]| history.last().unwrap().evaluation;
    assert!(last(&wide).accuracy > 0.95 && last(&narrow).accuracy > 0.95, "{wide:?} {narrow:?}");
    assert_ne!(last(&wide).loss, last(&narrow).loss);
    // The first points differ by the rounding of activations, some 2^-8.
    assert!((wide[0].train_loss / narrow[0].train_loss - 1.0).abs() < 0.05, "{wide:?} {narrow:?}");
}

#[test]
fn mixtures_of_experts_train_in_sixteen_bits() {
    let config = TrainConfig { precision: Precision::BFloat16, ..config(3) };
    let mut trainer = Trainer::new(network("AE", 1), &config).unwrap();
    for at in 0..3 {
        let step;
        (trainer, step) = trainer.step(&[repeat_previous(1, at)]).unwrap();
        assert!(!matches!(step, Step::Diverged(_)), "{step:?}");
    }
}

#[test]
fn the_configuration_alone_decides_about_recomputation() {
    let on = |device: &Device, recompute| {
        let built = network_on("AM", 1, device);
        run_network(built, 1, &TrainConfig { recompute, ..config(4) })
    };
    let plain = Device::flex().autodiff();
    let checkpointing = plain.clone().gradient_checkpointing();
    for recompute in [false, true] {
        let want = on(&plain, recompute);
        let got = on(&checkpointing, recompute);
        assert_eq!((got.history, weights(&got.model)), (want.history, weights(&want.model)));
    }
}

#[test]
fn activations_computed_again_give_the_same_gradients() {
    let losses = |recompute| {
        let trained = run(1, &TrainConfig { recompute, ..config(25) });
        trained.history[0]
    };
    let kept = losses(false);
    let again = losses(true);
    assert!((kept.train_loss - again.train_loss).abs() < 1e-3, "{kept:?} {again:?}");
    assert!((kept.evaluation.loss - again.evaluation.loss).abs() < 1e-2, "{kept:?} {again:?}");
}

#[test]
fn a_training_put_aside_goes_on_as_if_nothing_had_been() {
    let config = TrainConfig { evaluate_every: 10, ..config(20) };
    let advance = |mut trainer: Trainer<HybridLm>, to: usize| {
        let mut points = Vec::new();
        while trainer.steps_done() < to {
            let batch = repeat_previous(1, trainer.steps_done());
            (trainer, _) = trainer.step(&[batch]).unwrap();
            if trainer.evaluation_is_due() {
                points.extend(trainer.evaluated(evaluate(&trainer.model()).unwrap()).0);
            }
        }
        (trainer, points)
    };
    let (whole, points) = advance(Trainer::new(model(1), &config).unwrap(), 20);
    let (half, _) = advance(Trainer::new(model(1), &config).unwrap(), 13);
    let resumed = Trainer::new(half.model(), &config).unwrap().resume(half.optimizer().clone(), half.progress());
    let (resumed, later) = advance(resumed, 20);
    assert_eq!(weights(&resumed.model()), weights(&whole.model()));
    assert_eq!(later, points[1..]);
}
