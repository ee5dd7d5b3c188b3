//! How often a training step waits for the device, and how many kernels it launches.

use burn::tensor::Device;
use composer_nas::{
    model::HybridLm,
    train::{LrSchedule, TokenBatch, TrainConfig, Trainer},
};

use crate::counts::{Counts, counted};
use crate::{accelerators, config, model, turn};

const LOG_EVERY: usize = 3;

fn batch() -> TokenBatch {
    let inputs: Vec<i32> = (0..44).map(|at| at * 5 % 7).collect();
    TokenBatch { batch: 4, seq: 11, targets: inputs.iter().map(|token| (token + 1) % 7).collect(), inputs }
}

fn steps(mut trainer: Trainer<HybridLm>, count: usize) -> Trainer<HybridLm> {
    for _ in 0..count {
        (trainer, _) = trainer.step(&[batch()]).unwrap();
    }
    trainer
}

/// What the steps between two log points ask of the device, after kernels were chosen and compiled.
fn between(architecture: &str, rate: f64, device: &Device) -> [Counts; 2] {
    let config = TrainConfig { schedule: LrSchedule::constant(rate), ..config(1000, LOG_EVERY) };
    let trainer = Trainer::new(model(architecture, device), &config).unwrap();
    let trainer = steps(trainer, 3 * LOG_EVERY);
    let (trainer, silent) = counted(device, || steps(trainer, LOG_EVERY - 1));
    let (_, logged) = counted(device, || steps(trainer, 1));
    [silent, logged]
}

/// Mixtures of experts included. The bound on launches only catches a step that grows manyfold; `--nocapture` shows the
/// counts.
#[test]
fn a_step_waits_for_the_device_only_where_it_logs() {
    let _turn = turn();
    for found in accelerators().iter().filter(|found| found.name.starts_with("wgpu")) {
        // With the same rate, arguments of the optimizer's kernels that were written before would not be written again.
        for (architecture, rate) in [("AM", 3e-3), ("E", 4e-3)] {
            let [silent, logged] = between(architecture, rate, &found.device);
            println!("{architecture} on {found}, {} steps: {silent:?}; logged: {logged:?}", LOG_EVERY - 1);
            let launches = silent.launches / (LOG_EVERY - 1);
            assert_eq!(silent.reads, 0, "{architecture} on {found}: {silent:?}");
            // The sums of losses and norms, in one piece; the driver reads the whole buffer that holds them.
            assert_eq!(logged.reads, 1, "{architecture} on {found}: {logged:?}");
            assert!((1..=1000).contains(&launches), "{architecture} on {found}: {launches} launches in a step");
        }
    }
}
