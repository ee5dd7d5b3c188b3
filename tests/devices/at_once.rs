//! Repetitions that are trained as one network.

use composer_nas::{
    evaluate::mad::Protocol,
    prelude::*,
    study::{Origin, Report, TrialId},
};

#[cfg(feature = "wgpu")]
use crate::counts::counted;
use crate::{others, turn};

const REPETITIONS: usize = 4;

/// Trains the first task of the tiny protocol several times, so many at once.
fn evaluate(device: &Device, at_once: usize) -> Report {
    let mut protocol: Protocol = serde_json::from_str(include_str!("../fixtures/tiny_protocol.json")).unwrap();
    protocol.trainings.truncate(1);
    protocol.trainings[0].repeats = REPETITIONS;
    let mad = Mad::new(protocol, &Primitives::standard(), device).unwrap().trainings_at_once(at_once);
    let trial = Trial::new(TrialId(0), "AM".parse().unwrap(), Seed(1), Origin::Searcher);
    mad.evaluate(&trial, &Context::default()).unwrap()
}

#[test]
fn repetitions_at_once_agree_with_single_ones_and_share_their_launches() {
    let _turn = turn();
    for other in others() {
        let name = &other.name;
        let single = evaluate(&other.device, 1);
        let together = evaluate(&other.device, REPETITIONS);
        let [got, want] = [&together, &single].map(|report| report.tasks[0].loss.unwrap());
        assert!((got - want).abs() <= 1e-3 * want, "{name}: {got}, not {want}");
        assert_eq!(together.train_flops, single.train_flops, "{name}");
        #[cfg(feature = "wgpu")]
        if name.starts_with("wgpu") {
            let device = other.device.clone().without_autodiff();
            let [single, together] = [1, REPETITIONS].map(|count| counted(&device, || evaluate(&device, count)).1);
            println!("{REPETITIONS} repetitions on {name}: single {single:?}; at once {together:?}");
            assert!(2 * together.launches < single.launches, "{name}: {together:?}, {single:?}");
        }
    }
}
