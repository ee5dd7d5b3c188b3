//! The devices on which networks are computed.
//!
//! Burn's default device depends on the enabled features and on an environment variable. In this crate you always name
//! a device. [`best`] selects one that exists and answers, and returns its name.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
};

#[cfg(any(feature = "cuda", feature = "rocm", feature = "wgpu"))]
mod fusion;

pub use burn::tensor::Device;
use burn::tensor::Tensor;
use thiserror::Error;

use crate::text;

/// The environment variable that states the memory of every accelerator, in gigabytes (10^9 bytes).
pub const MEMORY: &str = "COMPOSER_NAS_DEVICE_MEMORY";

/// A device that exists on this machine, with its name.
#[derive(Clone, Debug)]
pub struct NamedDevice {
    /// The name that [`named`] accepts, such as `flex` or `cuda:0`.
    pub name: String,
    /// The device.
    pub device: Device,
}

/// Returns the devices that exist on this machine and whose backend is compiled in.
///
/// The fastest kind comes first: `cuda`, `rocm`, `wgpu`, `flex`, `ndarray`.
///
/// The first call also settles how Burn joins operations on accelerators, if Burn has not computed anything before.
pub fn available() -> Vec<NamedDevice> {
    #[cfg(any(feature = "cuda", feature = "rocm", feature = "wgpu"))]
    fusion::follow_one_chain();
    #[allow(unused_mut, reason = "without any backend feature there is nothing to add")]
    let mut devices = Vec::new();
    #[cfg(feature = "cuda")]
    devices.extend(numbered("cuda", burn::tensor::DeviceType::Cuda));
    #[cfg(feature = "rocm")]
    devices.extend(numbered("rocm", burn::tensor::DeviceType::Rocm));
    #[cfg(feature = "wgpu")]
    devices.extend(numbered("wgpu", burn::tensor::DeviceType::Wgpu));
    #[cfg(feature = "flex")]
    devices.extend([NamedDevice { name: "flex".into(), device: Device::flex() }]);
    #[cfg(feature = "ndarray")]
    devices.extend([NamedDevice { name: "ndarray".into(), device: ndarray() }]);
    devices
}

/// Returns the first of the [`available`] devices that computes. A GPU without a working driver is passed over, after
/// Burn has printed why it panicked.
///
/// # Errors
/// Returns [`DeviceError::NoBackend`] if no backend is compiled in, [`DeviceError::Silent`] if none computes, and
/// [`DeviceError::Memory`] if the environment states a memory that is not a number.
pub fn best() -> Result<NamedDevice, DeviceError> {
    stated_memory(variable())?;
    first_answering(available(), &answer)
}

/// Returns the device with this name: `auto` for the [`best`] device, or the name of an [`available`] one. `cuda` means
/// `cuda:0`.
///
/// # Errors
/// Returns [`DeviceError::Unknown`], with the available names, if no device has this name, [`DeviceError::Silent`] if
/// the device cannot compute, and [`DeviceError::Memory`] if the environment states a memory that is not a number.
pub fn named(name: &str) -> Result<NamedDevice, DeviceError> {
    if name == "auto" {
        return best();
    }
    stated_memory(variable())?;
    let devices = available();
    let known = devices.iter().map(|device| device.name.clone()).collect::<Vec<_>>().join(", ");
    let first = format!("{name}:0");
    let found = devices.into_iter().find(|device| device.name == name || device.name == first);
    let found = found.ok_or_else(|| DeviceError::Unknown { name: name.into(), known })?;
    first_answering(vec![found], &answer)
}

fn first_answering(
    devices: Vec<NamedDevice>,
    answer: &dyn Fn(&Device) -> Result<(), String>,
) -> Result<NamedDevice, DeviceError> {
    let mut last = DeviceError::NoBackend;
    for found in devices {
        match answer(&found.device) {
            Ok(()) => return Ok(found),
            Err(reason) => last = DeviceError::Silent { name: found.name, reason },
        }
    }
    Err(last)
}

/// Lets an accelerator add two numbers. Burn panics where a driver is missing or has no compute.
fn answer(device: &Device) -> Result<(), String> {
    if !is_accelerator(device) {
        return Ok(());
    }
    let sum = guarded(true, || (Tensor::<1>::from_data([1.5f32], device) + 1.0).try_into_vec_as::<f32>())?;
    match sum {
        Ok(sum) if sum == [2.5] => Ok(()),
        Ok(sum) => Err(format!("it computes 1.5 + 1 as {sum:?}")),
        Err(error) => Err(text::causes(&error)),
    }
}

/// Returns the memory of an accelerator, in bytes: what the variable [`MEMORY`] states, or else what the driver says.
/// `None` on a processor, and if neither is known. wgpu does not say it. [`named`] and [`best`] refuse a wrong
/// variable, which is ignored here.
pub fn memory(device: &Device) -> Option<u64> {
    static STATED: OnceLock<Option<u64>> = OnceLock::new();
    if !is_accelerator(device) {
        return None;
    }
    let stated = *STATED.get_or_init(|| stated_memory(variable()).ok().flatten());
    stated.or_else(|| properties(device)?.memory)
}

fn variable() -> Option<String> {
    std::env::var_os(MEMORY).map(|value| value.to_string_lossy().into_owned())
}

fn stated_memory(value: Option<String>) -> Result<Option<u64>, DeviceError> {
    let Some(value) = value.filter(|value| !value.trim().is_empty()) else { return Ok(None) };
    let bytes = value.trim().parse::<f64>().ok().map(|gigabytes| gigabytes * 1e9);
    let bytes = bytes.filter(|bytes| (1.0..=1e18).contains(bytes));
    bytes.map(|bytes| Some(bytes as u64)).ok_or(DeviceError::Memory(value))
}

/// Returns what the driver calls this part, such as `llvmpipe (LLVM 15.0.6, 256 bits)`, or `None` on a processor.
pub fn part(device: &Device) -> Option<String> {
    properties(device).map(|properties| properties.part)
}

/// Returns whether the device is not the CPU. Such a device may disappear or run out of its own memory.
pub fn is_accelerator(device: &Device) -> bool {
    let processors: &[Device] = &[
        #[cfg(feature = "flex")]
        Device::flex(),
        #[cfg(feature = "ndarray")]
        ndarray(),
    ];
    !processors.contains(&device.clone().without_autodiff())
}

/// What the driver of an accelerator says.
struct Properties {
    part: String,
    memory: Option<u64>,
}

#[cfg(any(feature = "cuda", feature = "rocm", feature = "wgpu"))]
fn properties(device: &Device) -> Option<Properties> {
    match device.clone().without_autodiff().as_dispatch() {
        // Without a driver there is no client, and Burn panics.
        burn::backend::DispatchDevice::Cube(device) => guarded(true, || {
            let client = device.client();
            let found = client.properties();
            Properties { part: found.identity.name.clone(), memory: found.memory.max_memory() }
        })
        .ok(),
        #[allow(unreachable_patterns, reason = "there may be no other backend")]
        _ => None,
    }
}

#[cfg(not(any(feature = "cuda", feature = "rocm", feature = "wgpu")))]
fn properties(_: &Device) -> Option<Properties> {
    None
}

/// Computes on a device. Burn's accelerators panic where a device disappears or its memory runs out; the text of such a
/// panic is an error here. On the processor a panic is a defect that would come again: it goes through.
pub(crate) fn guarded<T>(accelerator: bool, compute: impl FnOnce() -> T) -> Result<T, String> {
    if !accelerator {
        return Ok(compute());
    }
    catch_unwind(AssertUnwindSafe(compute)).map_err(|panic| text::of_panic(&*panic))
}

/// Gives an accelerator back the memory that Burn keeps for later tensors. Waits for the device. Does nothing on a
/// processor. On a device that fails nothing can be done: whoever computes on it next is told.
pub(crate) fn release_memory(device: &Device) {
    if is_accelerator(device) {
        // Tensors that were dropped are in use until the work so far is done.
        let _ = guarded(true, || device.sync().map(|()| device.memory_cleanup()));
    }
}

#[cfg(any(feature = "cuda", feature = "rocm", feature = "wgpu"))]
fn numbered(kind: &str, device_type: burn::tensor::DeviceType) -> Vec<NamedDevice> {
    let devices = Device::enumerate(device_type).into_vec().into_iter().enumerate();
    devices.map(|(index, device)| NamedDevice { name: format!("{kind}:{index}"), device }).collect()
}

#[cfg(feature = "ndarray")]
#[allow(deprecated, reason = "deprecated by Burn, kept here for those who ask for it by feature")]
fn ndarray() -> Device {
    Device::ndarray()
}

impl fmt::Display for NamedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// The error of a device that is not available.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No backend is compiled in.
    #[error("no backend is compiled in: enable one of the features flex, cuda, rocm, wgpu, ndarray")]
    NoBackend,
    /// There is no device of this name.
    #[error("there is no device {name:?}; available: auto, {known}. Other kinds need their Cargo feature and hardware")]
    Unknown {
        /// The requested name.
        name: String,
        /// The available names.
        known: String,
    },
    /// The device exists but does not compute.
    #[error(
        "the device {name} does not answer: {reason}. Check that its driver supports compute, or choose \
        another device"
    )]
    Silent {
        /// The name of the device.
        name: String,
        /// What it said.
        reason: String,
    },
    /// The variable that states the memory of accelerators is not a number.
    #[error("the variable {MEMORY} is {0:?}: it must be a positive number of gigabytes, such as 24")]
    Memory(String),
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn only_devices_that_exist_have_names() {
        assert_eq!(named("flex").unwrap().name, "flex");
        assert!(named("auto").is_ok());
        let error = named("tpu").unwrap_err().to_string();
        assert!(error.contains("tpu") && error.contains("flex"), "{error}");
    }

    #[test]
    fn devices_that_do_not_answer_are_passed_over() {
        let device = |name: &str| NamedDevice { name: name.into(), device: Device::flex() };
        let asked = std::cell::Cell::new(0);
        let second = |_: &Device| {
            asked.set(asked.get() + 1);
            if asked.get() == 2 { Ok(()) } else { Err("no queue for compute".into()) }
        };
        assert_eq!(first_answering(vec![device("a:0"), device("b:0")], &second).unwrap().name, "b:0");
        let error = first_answering(vec![device("a:0")], &second).unwrap_err().to_string();
        assert!(error.contains("a:0") && error.contains("no queue for compute"), "{error}");
        assert!(matches!(first_answering(Vec::new(), &second), Err(DeviceError::NoBackend)));
        assert_eq!(answer(&Device::flex()), Ok(()));
    }

    /// A device may be lost while a panic already unwinds the stack.
    #[test]
    fn a_panic_of_an_accelerator_is_caught_within_another() {
        struct Lost;
        impl Drop for Lost {
            fn drop(&mut self) {
                assert_eq!(guarded(true, || panic!("lost as well")), Err::<(), _>("lost as well".into()));
            }
        }
        let outcome = guarded(true, || {
            let _lost = Lost;
            panic!("lost first");
        });
        assert_eq!(outcome, Err::<(), _>("lost first".into()));
    }

    #[test]
    fn the_memory_of_accelerators_can_be_stated() {
        let stated = |value: &str| stated_memory(Some(value.into()));
        assert_eq!(stated_memory(None), Ok(None));
        assert_eq!(
            (stated(""), stated("24"), stated(" 0.5 ")),
            (Ok(None), Ok(Some(24_000_000_000)), Ok(Some(500_000_000)))
        );
        for wrong in ["much", "0", "-1", "NaN", "inf", "24GB"] {
            let error = stated(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains(MEMORY), "{error}");
        }
        // A processor's memory is the machine's.
        assert_eq!(memory(&Device::flex()), None);
    }
}
