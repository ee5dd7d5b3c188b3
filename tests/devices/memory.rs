//! The memory that Burn keeps on a device.

use burn::tensor::Tensor;
use composer_nas::{
    evaluate::mad::Protocol,
    prelude::*,
    study::{Origin, TrialId},
};

use crate::{accelerators, turn};

fn evaluate(device: &Device, seed: u64) -> Report {
    let mut protocol: Protocol = serde_json::from_str(include_str!("../fixtures/tiny_protocol.json")).unwrap();
    protocol.trainings.truncate(1);
    let mad = Mad::new(protocol, &Primitives::standard(), device).unwrap();
    let trial = Trial::new(TrialId(0), "AM".parse().unwrap(), Seed(seed), Origin::Searcher);
    mad.evaluate(&trial, &Context::default()).unwrap()
}

/// Bytes that the device cannot give to anyone else, if it says so.
fn reserved(device: &Device) -> Option<u64> {
    device.sync().unwrap();
    device.memory_pool_usage().map(|usage| usage.bytes_reserved)
}

fn reserved_at_least(device: &Device) -> Option<u64> {
    device.sync().unwrap();
    device.memory_cleanup();
    reserved(device)
}

#[test]
fn memory_goes_back_to_the_device_when_a_training_ends() {
    let _turn = turn();
    for found in accelerators() {
        // Burn keeps the memory of tensors that were dropped.
        drop((Tensor::<1>::ones([1 << 20], &found.device) * 2.0).into_data());
        let Some(kept) = reserved(&found.device) else { continue };
        let least = reserved_at_least(&found.device).unwrap();
        assert!(kept >= least + (4 << 20), "{found}: {kept}, then {least} bytes");

        evaluate(&found.device, 3);
        let kept = reserved(&found.device);
        assert_eq!(kept, reserved_at_least(&found.device), "{found}");
    }
}

/// Memory goes back while the other training computes.
#[test]
fn trainings_at_the_same_time_keep_their_memory() {
    let _turn = turn();
    for found in accelerators() {
        let loss = |seed| evaluate(&found.device, seed).tasks[0].loss.unwrap();
        let want = [3, 4].map(loss);
        let each = |seed| [loss(seed), loss(seed), loss(seed)];
        let got =
            std::thread::scope(|scope| [3, 4].map(|seed| scope.spawn(move || each(seed))).map(|thread| thread.join()));
        for (got, want) in got.into_iter().zip(want) {
            for got in got.unwrap() {
                assert!((got - want).abs() < 1e-3 * want, "{found}: {got}, not {want}");
            }
        }
    }
}
