//! The devices on which networks are computed.
//!
//! Burn's default device depends on the enabled features and on an environment variable. In this crate you always name
//! a device. [`best`] selects one that exists and returns its name.

use std::fmt;

pub use burn::tensor::Device;
use thiserror::Error;

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
pub fn available() -> Vec<NamedDevice> {
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

/// Returns the first of the [`available`] devices.
///
/// # Errors
/// Returns [`DeviceError::NoBackend`] if no backend is compiled in.
pub fn best() -> Result<NamedDevice, DeviceError> {
    available().into_iter().next().ok_or(DeviceError::NoBackend)
}

/// Returns the device with this name: `auto` for the [`best`] device, or the name of an [`available`] one. `cuda` means
/// `cuda:0`.
///
/// # Errors
/// Returns [`DeviceError::Unknown`], with the available names, if no device has this name.
pub fn named(name: &str) -> Result<NamedDevice, DeviceError> {
    if name == "auto" {
        return best();
    }
    let devices = available();
    let known = devices.iter().map(|device| device.name.clone()).collect::<Vec<_>>().join(", ");
    let first = format!("{name}:0");
    devices
        .into_iter()
        .find(|device| device.name == name || device.name == first)
        .ok_or_else(|| DeviceError::Unknown { name: name.into(), known })
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
}
