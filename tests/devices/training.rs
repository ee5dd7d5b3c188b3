//! Trainings and evaluations, from the losses.

use std::ops::ControlFlow;

use burn::tensor::Device;
use composer_nas::{
    device,
    evaluate::{
        CancelToken, Context, Evaluator,
        mad::{Mad, Protocol},
    },
    primitive::Primitives,
    seed::Seed,
    study::{Origin, Trial, TrialId},
    train::{Evaluation, TokenBatch, train},
};
use rand::RngExt;

use crate::{config, model, turn};

/// Losses of the first steps of a training.
fn losses(architecture: &str, device: &Device) -> Vec<f64> {
    let config = config(8, 1);
    let mut losses = Vec::new();
    let mut batch = |step: usize| {
        let mut rng = Seed(2).rng("data", step as u64);
        let inputs: Vec<i32> = (0..4 * 11).map(|_| rng.random_range(0..7)).collect();
        Ok(TokenBatch { batch: 4, seq: 11, targets: inputs.iter().map(|token| (token + 1) % 7).collect(), inputs })
    };
    train(
        model(architecture, device),
        &config,
        &mut batch,
        &mut |_| Ok(Evaluation { loss: 0.0, accuracy: 0.0 }),
        &mut |now| {
            losses.push(now.loss);
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    losses
}

/// Devices are compared with each other; a machine with one device shows only that a training repeats there.
#[test]
fn trainings_agree_on_all_devices() {
    let _turn = turn();
    trainings_agree(&["AM", "EA"]);
}

#[test]
#[ignore = "compiles many shaders"]
fn whole_trainings_agree_on_all_devices() {
    let _turn = turn();
    trainings_agree(&["EFABGCRS"]);
}

fn trainings_agree(architectures: &[&str]) {
    for architecture in architectures {
        let all: Vec<_> =
            device::available().into_iter().map(|found| (losses(architecture, &found.device), found)).collect();
        let first = &all[0].0;
        let repeated = losses(architecture, &all[0].1.device);
        assert!(first.len() == 8 && first[7] < first[0] - 0.1, "{first:?}");
        for (other, found) in all.iter().chain([&(repeated, all[0].1.clone())]) {
            for (a, b) in first.iter().zip(other) {
                assert!((a - b).abs() < 2e-3 * a.abs(), "{architecture} on {found}: {other:?}, not {first:?}");
            }
        }
    }
}

#[test]
fn an_evaluation_runs_on_every_device() {
    let _turn = turn();
    let protocol: Protocol = serde_json::from_str(include_str!("../fixtures/tiny_protocol.json")).unwrap();
    for found in device::available() {
        let mad = Mad::new(protocol.clone(), &Primitives::standard(), &found.device).unwrap();
        let trial = Trial::new(TrialId(0), "AM".parse().unwrap(), Seed(3), Origin::Searcher);
        let report = mad.evaluate(&trial, &Context::new(CancelToken::default(), |_| {})).unwrap();
        assert!((0.0..=1.0).contains(&report.scores["accuracy"]), "{found}: {report:?}");
    }
}
