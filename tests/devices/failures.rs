//! Devices that are missing, get lost or have too little memory; all simulated.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicI64, Ordering::SeqCst},
};

use burn::{module::Module, nn::Linear, tensor::Tensor};
use composer_nas::{
    device,
    dims::Dims,
    evaluate::{
        CancelToken, Context, EvalError, Evaluator,
        mad::{Mad, Protocol},
    },
    layer::{Block, Mixer},
    primitive::{FnPrimitive, LayerCost, Primitives, Role},
    seed::Seed,
    study::{Origin, Report, Trial, TrialId},
};

use crate::turn;

/// How many more times the layer computes before its device is lost.
static LEFT: AtomicI64 = AtomicI64::new(0);

#[derive(Module, Debug)]
struct Fragile {
    linear: Linear,
}

impl Mixer for Fragile {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        assert!(LEFT.fetch_sub(1, SeqCst) > 0, "the device was lost");
        self.linear.forward(x)
    }
}

fn protocol() -> Protocol {
    serde_json::from_str(include_str!("../fixtures/tiny_protocol.json")).unwrap()
}

#[test]
fn a_device_lost_in_a_step_is_transient_and_the_next_attempt_is_whole() {
    let _turn = turn();
    let cost = |dims: &Dims, _| LayerCost { parameters: dims.width().pow(2), ..LayerCost::default() };
    let fragile = FnPrimitive::new("fragile", 'Q', Role::Channel, cost, |dims, init, device| {
        Ok(Block::new(Fragile { linear: init.linear(dims.d_model, dims.d_model, device) }))
    });
    let primitives = Primitives::standard().with(fragile.unwrap()).unwrap();
    for found in device::available() {
        let mad = Mad::new(protocol(), &primitives, &found.device).unwrap();
        let trial = Trial::new(TrialId(0), "AQ".parse().unwrap(), Seed(3), Origin::Searcher);
        let attempt = |left| {
            LEFT.store(left, SeqCst);
            catch_unwind(AssertUnwindSafe(|| mad.evaluate(&trial, &Context::new(CancelToken::default(), |_| {}))))
        };
        let whole = |attempt: Result<Result<Report, EvalError>, _>| attempt.ok().unwrap().unwrap();
        let want = whole(attempt(i64::MAX));
        match attempt(3) {
            Ok(lost) => {
                assert!(device::is_accelerator(&found.device), "{found}");
                assert!(matches!(&lost, Err(EvalError::Transient(text)) if text.contains("was lost")), "{lost:?}");
            }
            // On a processor a panic is a defect.
            Err(_) => assert!(!device::is_accelerator(&found.device), "{found}"),
        }
        let got = whole(attempt(i64::MAX));
        for (name, score) in &want.scores {
            assert!((got.scores[name] - score).abs() < 1e-3, "{found}: {got:?}, not {want:?}");
        }
    }
}

#[cfg(feature = "wgpu")]
mod processes {
    use std::process::Command;

    use super::*;

    /// Hides Vulkan's drivers, and those of OpenGL, which wgpu takes next.
    const NO_DRIVER: [(&str, &str); 2] =
        [("VK_DRIVER_FILES", "/nowhere.json"), ("__EGL_VENDOR_LIBRARY_FILENAMES", "/nowhere.json")];

    /// Runs a test of this program in a process of its own.
    fn child(name: &str, variables: &[(&str, &str)]) -> String {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([&format!("failures::processes::{name}"), "--exact", "--ignored", "--nocapture"]);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    #[test]
    fn without_a_driver_the_processor_is_the_best_device() {
        let text = child("child_names_devices", &NO_DRIVER);
        assert!(
            text.contains("best: flex") && text.contains("there is no device \"wgpu:0\"; available: auto"),
            "{text}"
        );
    }

    #[test]
    #[ignore = "the other process of a test"]
    fn child_names_devices() {
        println!("best: {}", device::best().unwrap());
        println!("{}", device::named("wgpu:0").map_or_else(|error| error.to_string(), |found| found.name));
    }

    #[test]
    fn what_exceeds_the_stated_memory_is_refused_before_the_first_step() {
        let text = child("child_trains_on_wgpu", &[(device::MEMORY, "1e-8")]);
        assert!(text.contains("of device memory, but the device has 0.0 GB: use smaller batches"), "{text}");
        let text = child("child_trains_on_wgpu", &[(device::MEMORY, "much")]);
        assert!(text.contains("COMPOSER_NAS_DEVICE_MEMORY is \"much\""), "{text}");
    }

    #[test]
    #[ignore = "the other process of a test"]
    fn child_trains_on_wgpu() {
        let outcome = device::named("wgpu").map_err(|error| error.to_string()).and_then(|found| {
            let built = Mad::new(protocol(), &Primitives::standard(), &found.device);
            built.map(drop).map_err(|error| composer_nas::text::causes(&error))
        });
        println!("{}", outcome.err().unwrap_or_else(|| "it fits".into()));
    }
}
