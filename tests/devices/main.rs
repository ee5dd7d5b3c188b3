//! What must hold on every device of this machine. Build with `--features cuda`, `wgpu`, ... to try theirs.
//!
//! The processor's own composed forms, which gradient checkpointing selects, stand beside the devices: they are what
//! accelerators compute, so every comparison means something on a machine with a processor alone.
//!
//! Tests with `whole` in their names take long where shaders are compiled; `-- --include-ignored` runs them as well.
#![cfg(feature = "flex")]

mod at_once;
#[cfg(feature = "wgpu")]
mod counts;
mod failures;
mod layers;
#[cfg(feature = "wgpu")]
mod launches;
mod memory;
mod moves;
mod search;
mod training;

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};
use composer_nas::{
    device::{self, NamedDevice},
    dims::{Dims, InitScheme},
    model::{HybridLm, ModelSpec},
    primitive::Primitives,
    seed::Seed,
    train::{AdamWConfig, LrSchedule, Precision, TrainConfig},
};

/// One test at a time: launches are counted over the whole process, and a device has no room for two.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // Settles how operations are joined, before anything is computed.
    drop(device::available());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is compared with the processor.
struct Other {
    name: String,
    /// With autodiff.
    device: Device,
}

/// The accelerators of this machine, or its processor with gradient checkpointing if there are none.
fn others() -> Vec<Other> {
    let other = |found: NamedDevice| Other { device: found.device.autodiff(), name: found.name };
    let found: Vec<Other> = accelerators().into_iter().map(other).collect();
    if !found.is_empty() {
        return found;
    }
    vec![Other { name: "flex, recomputing".into(), device: Device::flex().autodiff().gradient_checkpointing() }]
}

fn accelerators() -> Vec<NamedDevice> {
    device::available().into_iter().filter(|found| device::is_accelerator(&found.device)).collect()
}

/// A small model, the same on every device.
fn model(architecture: &str, device: &Device) -> HybridLm {
    let spec = ModelSpec {
        architecture: architecture.parse().unwrap(),
        dims: Dims::new(24, 40, 3).unwrap(),
        vocab_size: 7,
        tied_embeddings: false,
        head_bias: true,
        init: InitScheme::FanIn,
    };
    HybridLm::new(&spec, &Primitives::standard(), Seed(1), device).unwrap()
}

fn config(steps: usize, log_every: usize) -> TrainConfig {
    TrainConfig {
        steps,
        batch_size: 4,
        schedule: LrSchedule::constant(3e-3),
        optimizer: AdamWConfig::default(),
        clip_norm: Some(1.0),
        evaluate_every: steps,
        log_every,
        stop_above: None,
        precision: Precision::Single,
        recompute: false,
    }
}

/// Numbers without a pattern, between -1 and 1.
fn numbers(count: usize, phase: f32) -> Vec<f32> {
    (0..count).map(|i| (1.7 * i as f32 + phase + (0.37 * i as f32).cos()).sin()).collect()
}

fn tensor<const D: usize>(shape: [usize; D], phase: f32, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers(shape.iter().product(), phase), shape), device)
}

fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec().unwrap()
}

/// What is smaller than this is the difference of larger terms, and as exact as they are.
const SMALL: f32 = 1e-2;

/// Asserts that each of `got` is within `tolerance` of `want`, relative to the largest of these.
fn assert_near(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(SMALL, |largest, x| largest.max(x.abs()));
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance * largest, "{what} [{at}]: {got} is not {want}, of about {largest}");
    }
}
