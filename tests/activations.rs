//! What training keeps for the backward pass, counted by the allocator, against the closed forms.
#![cfg(feature = "flex")]

use std::thread;

use burn::tensor::{Device, Tensor, TensorData};
use composer_nas::{
    cost::{ModelCost, Workload},
    dims::{Dims, InitScheme},
    extrapolate::Target,
    layer::WeightInit,
    model::{HybridLm, Network},
    primitive::{GatedDeltaNet, Mamba2, Moe, Primitive, Primitives, SlidingWindow},
    seed::Seed,
    space::Architecture,
    train::{TokenBatch, cross_entropy},
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// The bytes that a sequence adds to what is in use between the ways forth and back. The difference between batches is
/// free of weights, tables and scratch; each is counted in a thread of its own, because threads keep buffers for later.
fn per_sequence(kept: impl Fn(usize) -> usize + Sync) -> i64 {
    let count = |batch| thread::scope(|scope| scope.spawn(|| kept(batch)).join().unwrap()) as i64;
    (count(8) - count(2)) / 6
}

/// Of the layer alone; its input is there before and does not count.
fn of_layer(primitive: &dyn Primitive, dims: &Dims, batch: usize, seq: usize) -> usize {
    let device = Device::flex().autodiff();
    let mut init = WeightInit::new(InitScheme::FanIn, Seed(1).rng("test", 0));
    let layer = primitive.build(dims, &mut init, &device).unwrap();
    let values: Vec<f32> = (0..batch * seq * dims.d_model).map(|at| (0.7 * at as f32).sin()).collect();
    let x = Tensor::<3>::from_data(TensorData::new(values, [batch, seq, dims.d_model]), &device).require_grad();
    let before = ALLOCATED.current_usage();
    // A sum needs nothing of its argument but the shape.
    let loss = layer.forward(x).sum();
    let kept = ALLOCATED.current_usage() - before;
    drop(loss.backward());
    kept
}

/// Of a model and its loss.
fn of_model(target: &Target, architecture: &Architecture, batch: usize, seq: usize) -> usize {
    let device = Device::flex().autodiff();
    let spec = target.model(architecture.clone());
    let model = HybridLm::new(&spec, &Primitives::standard(), Seed(1), &device).unwrap();
    let ids: Vec<i32> = (0..batch * seq).map(|at| (7 * at % spec.vocab_size) as i32).collect();
    let tokens = TokenBatch { batch, seq, inputs: ids.clone(), targets: ids };
    let before = ALLOCATED.current_usage();
    let (logits, _) = model.logits_and_aux_loss(tokens.tokens(&device));
    let loss = cross_entropy(logits, &tokens);
    let kept = ALLOCATED.current_usage() - before;
    drop(loss.backward());
    kept
}

/// One test, because the allocator counts the whole process.
#[test]
fn training_keeps_what_is_stated() {
    let dims = Dims { kv_heads: 2, ..Dims::new(96, 256, 4).unwrap() };
    let primitives = Primitives::standard();
    let others: [Box<dyn Primitive>; 5] = [
        Box::new(SlidingWindow::new(16).unwrap().with_symbol('L'.try_into().unwrap())),
        Box::new(Mamba2 { groups: 2, chunk: 32, ..Mamba2::default() }),
        Box::new(GatedDeltaNet { value_heads: 1, ..GatedDeltaNet::default() }),
        Box::new(Moe { experts: 4, top_k: 1, shared: 0, ..Moe::default() }),
        Box::new(Moe { experts: 6, top_k: 2, shared: 2, expert_width: Some(100), ..Moe::default() }),
    ];
    for primitive in primitives.iter().chain(others.iter().map(|other| &**other)) {
        for seq in [128, 200] {
            let counted =
                per_sequence(|batch| of_layer(primitive, &dims, batch, seq)) + (4 * seq * dims.d_model) as i64;
            let stated = 4 * primitive.activations(&dims, seq as u64) as i64;
            // How many tokens an expert gets, and with them its scratch, is not proportional to the batch.
            let slack = if primitive.id().as_str().starts_with("moe") { stated / 10 } else { stated / 1000 };
            assert!((counted - stated).abs() <= slack, "{primitive:?} at {seq}: {counted} counted, {stated} stated");
        }
    }
    let target = Target::custom("small", dims, 300, true, 2).unwrap();
    let seq = 200;
    let workload = Workload { bytes_per_element: 4, ..Workload::bf16(seq as u64) };
    for architecture in ["AMAM", "2A+4M", "BGCSFR"] {
        let architecture: Architecture = architecture.parse().unwrap();
        let counted = per_sequence(|batch| of_model(&target, &architecture, batch, seq));
        let cost = ModelCost::new(&target.model(architecture.clone()), &primitives, workload).unwrap();
        let stated = cost.activation_bytes_per_sequence as i64;
        assert!((counted - stated).abs() <= stated / 50, "{architecture}: {counted} counted, {stated} stated");
    }
}
