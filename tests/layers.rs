//! The training of recurrent and convolutional layers inside a model.
#![cfg(feature = "flex")]

use std::ops::ControlFlow;

use burn::tensor::Device;
use composer_nas::{
    dims::{Dims, InitScheme},
    model::{HybridLm, ModelSpec},
    primitive::Primitives,
    seed::Seed,
    train::{AdamWConfig, Evaluation, LrSchedule, Precision, TokenBatch, TrainConfig, train},
};
use rand::RngExt;

/// First and last loss of a training to name the token before the present one, which no channel mixer can do alone.
fn losses(architecture: &str, width: usize) -> [f64; 2] {
    let spec = ModelSpec {
        architecture: architecture.parse().unwrap(),
        dims: Dims::new(width, 2 * width, 2).unwrap(),
        vocab_size: 6,
        tied_embeddings: false,
        head_bias: true,
        init: InitScheme::FanIn,
    };
    let model = HybridLm::new(&spec, &Primitives::standard(), Seed(1), &Device::flex()).unwrap();
    let config = TrainConfig {
        steps: 80,
        batch_size: 8,
        schedule: LrSchedule::constant(1e-2),
        optimizer: AdamWConfig::default(),
        clip_norm: Some(1.0),
        evaluate_every: 80,
        log_every: 1,
        stop_above: None,
        precision: Precision::Single,
        recompute: false,
    };
    let mut losses = Vec::new();
    let mut batch = |step: usize| {
        let mut rng = Seed(2).rng("data", step as u64);
        let inputs: Vec<i32> = (0..8 * 13).map(|_| rng.random_range(0..6)).collect();
        let targets = inputs.chunks(13).flat_map(|row| [&row[..1], &row[..12]].concat()).collect();
        Ok(TokenBatch { batch: 8, seq: 13, inputs, targets })
    };
    train(model, &config, &mut batch, &mut |_| Ok(Evaluation { loss: 0.0, accuracy: 0.0 }), &mut |now| {
        losses.push(now.loss);
        ControlFlow::Continue(())
    })
    .unwrap();
    [losses[0], losses[79]]
}

#[test]
fn every_layer_learns_inside_a_model_at_two_widths() {
    for architecture in ["BM", "CM", "GM", "BAGC"] {
        for width in [16, 24] {
            let [first, last] = losses(architecture, width);
            assert!(last < 0.3 * first, "{architecture} {width}: {first} {last}");
        }
    }
    let [first, last] = losses("MM", 16);
    assert!(last > 0.8 * first, "{first} {last}");
}
