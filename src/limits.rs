//! Size limits. Sizes read from files, flags or other programs are checked against them before anything is allocated.
//!
//! The limits are far above any model, and low enough that the closed forms of sizes fit into 64 bits. Before something
//! large is built, its size is also checked against the memory available to this process.
//!
//! ```
//! use composer_nas::{limits::LimitError, prelude::*, primitive::BuildError};
//! let spec = Target::llama_1b().baseline_model();
//! let huge = ModelSpec { vocab_size: 1 << 63, ..spec };
//! let error = HybridLm::new(&huge, &Primitives::standard(), Seed(0), &Device::flex()).unwrap_err();
//! assert!(matches!(error, BuildError::Limit(LimitError::TooLarge { what: "vocab_size", .. })));
//! ```

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read},
    path::Path,
    sync::OnceLock,
};

use thiserror::Error;

/// Maximum number of channels: the width of a model, of a layer, or of all heads together.
pub(crate) const MAX_WIDTH: usize = 1 << 24;
/// Maximum number of token ids. Today's largest vocabularies have about a million.
pub(crate) const MAX_VOCABULARY: usize = 1 << 24;
/// Maximum number of layers of a model or a search space.
pub(crate) const MAX_LAYERS: usize = 1 << 16;
/// Maximum number of tokens in a sequence.
pub(crate) const MAX_SEQ_LEN: u64 = 1 << 32;
/// Maximum number of sequences in a batch or a set of examples.
pub(crate) const MAX_SEQUENCES: usize = 1 << 24;
/// Maximum number of tokens in a training step or a set of examples.
pub(crate) const MAX_TOKENS: u64 = 1 << 36;
/// Maximum number of training steps. The longest published trainings have some millions.
pub(crate) const MAX_STEPS: usize = 100_000_000;
/// Maximum number of floating-point operations of a training. The largest until 2026 used less than 1e27.
pub const MAX_FLOPS: f64 = 1e30;
/// Maximum number of repetitions of a training or a measurement.
pub(crate) const MAX_REPEATS: usize = 1 << 16;
/// Maximum number of trainings of a study, or rows of a table, that are planned at once.
pub const MAX_TRAININGS: usize = 1 << 20;
/// Maximum size of a line file, in bytes: a journal, a table, a cache or metrics.
pub(crate) const MAX_LINES: u64 = 1 << 32;
/// Maximum size of a description, in bytes: a protocol, a target, latency.json or config.json.
pub const MAX_DESCRIPTION: u64 = 1 << 26;
/// Maximum size of a weight file that is read at once, in bytes. Larger models have several files.
pub(crate) const MAX_WEIGHTS: u64 = 1 << 38;
/// Maximum size of a file with an entry per token or tensor, in bytes, such as tokenizer.json.
pub(crate) const MAX_LISTING: u64 = 1 << 28;

/// A size that exceeds a limit or the available memory.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum LimitError {
    /// A size exceeds a limit of this module.
    #[error("{what} is {value}: at most {limit}")]
    TooLarge {
        /// The name of the size.
        what: &'static str,
        /// The size, or the largest 64-bit number if it does not fit.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// An amount of compute or a rate is not positive or too large.
    #[error("{what} is {value:e}: it must be a positive number of at most {limit:e}")]
    Work {
        /// The name of the amount.
        what: &'static str,
        /// The amount.
        value: f64,
        /// The limit.
        limit: f64,
    },
    /// More memory is needed than this process may use.
    #[error("{what} needs {} of memory, but this process may use {}: choose a smaller size, a larger machine, or a \
        higher limit if ulimit or a control group sets one", gigabytes(*.bytes), gigabytes(*.machine))]
    Memory {
        /// What needs the memory.
        what: &'static str,
        /// The minimum memory needed, in bytes, or the largest 64-bit number if it does not fit.
        bytes: u64,
        /// The memory available to this process, in bytes.
        machine: u64,
    },
    /// More memory is needed than a device has.
    #[error("{what} needs at least {} of device memory, but the device has {}: {remedy}", gigabytes(*.bytes),
        gigabytes(*.device))]
    DeviceMemory {
        /// What needs the memory.
        what: &'static str,
        /// The minimum memory needed, in bytes, or the largest 64-bit number if it does not fit.
        bytes: u64,
        /// The memory of the device, in bytes.
        device: u64,
        /// What needs less.
        remedy: &'static str,
    },
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// Checks a size against a limit.
pub(crate) fn at_most(what: &'static str, value: usize, limit: usize) -> Result<(), LimitError> {
    product_at_most(what, &[value as u64], limit as u64).map(drop)
}

/// Multiplies sizes and checks the product against a limit.
pub(crate) fn product_at_most(what: &'static str, factors: &[u64], limit: u64) -> Result<u64, LimitError> {
    let product = product(factors);
    let value = saturated(product);
    if product <= limit.into() { Ok(value) } else { Err(LimitError::TooLarge { what, value, limit }) }
}

/// Checks a number of floating-point operations against [`MAX_FLOPS`].
///
/// # Errors
/// Returns [`LimitError::Work`] if it is not a number, not positive, or too large.
pub(crate) fn check_flops(what: &'static str, value: f64) -> Result<(), LimitError> {
    let limit = MAX_FLOPS;
    if value > 0.0 && value <= limit { Ok(()) } else { Err(LimitError::Work { what, value, limit }) }
}

fn saturated(size: u128) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// Multiplies sizes; saturates on overflow.
pub(crate) fn product(factors: &[u64]) -> u128 {
    factors.iter().fold(1, |product: u128, &factor| product.saturating_mul(factor.into()))
}

/// Checks a number of bytes against the [memory](machine_memory) available to this process. Any number passes if that
/// is unknown.
pub(crate) fn check_memory(what: &'static str, bytes: u128) -> Result<(), LimitError> {
    within_memory(what, bytes, machine_memory())
}

fn within_memory(what: &'static str, bytes: u128, machine: Option<u64>) -> Result<(), LimitError> {
    match machine {
        Some(machine) if bytes > machine.into() => Err(LimitError::Memory { what, bytes: saturated(bytes), machine }),
        _ => Ok(()),
    }
}

/// Checks a number of bytes against the memory of a device. Any number passes if that is unknown.
#[cfg(feature = "model")]
pub(crate) fn check_device_memory(
    what: &'static str,
    bytes: u128,
    device: Option<u64>,
    remedy: &'static str,
) -> Result<(), LimitError> {
    match device {
        Some(device) if bytes > device.into() => {
            Err(LimitError::DeviceMemory { what, bytes: saturated(bytes), device, remedy })
        }
        _ => Ok(()),
    }
}

/// Turns a write beyond the file size limit (`ulimit -f`) into an error of the kind [`io::ErrorKind::FileTooLarge`] for
/// the rest of this process.
///
/// It is then reported like a full disk. Otherwise the signal SIGXFSZ kills the process without a message. Call this at
/// the beginning of `main`. It does nothing on systems other than Unix.
pub fn outlive_file_size_limit() {
    // If the system refuses, nothing changes.
    #[cfg(unix)]
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
}

/// Returns the memory that this process may use at most, in bytes, or `None` if it is unknown.
///
/// This is the minimum of the machine's memory including swap, the limit of the control group, and the process limits
/// (`ulimit -v` and `ulimit -d`). It is read once, so that the result does not depend on other processes. Only Linux
/// reports it.
pub(crate) fn machine_memory() -> Option<u64> {
    static MEMORY: OnceLock<Option<u64>> = OnceLock::new();
    *MEMORY.get_or_init(|| {
        let whole = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total);
        let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        let group = groups.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
        let own = fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(allowed);
        whole.into_iter().chain(group).chain(own).min()
    })
}

/// Parses the smallest soft memory limit in `/proc/self/limits`, in bytes; `None` if all are unlimited.
fn allowed(text: &str) -> Option<u64> {
    let of =
        |name: &&str| text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    ["Max address space", "Max data size"].iter().filter_map(of).min()
}

/// Parses the memory including swap in `/proc/meminfo`, in bytes.
fn total(text: &str) -> Option<u64> {
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    of("MemTotal")?.checked_add(of("SwapTotal").unwrap_or(0))
}

/// Opens a file given by the user for reading. Links are followed.
///
/// # Errors
/// Returns the I/O error, [`io::ErrorKind::InvalidInput`] if it is not a regular file (a pipe, for example, may block
/// forever), or [`io::ErrorKind::FileTooLarge`] if it has more than `limit` bytes.
pub(crate) fn open(path: &Path, limit: u64) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), path, limit)
}

/// Opens or creates a file given by the user with these options, with the same checks as [`open`].
pub(crate) fn open_with(options: &OpenOptions, path: &Path, limit: u64) -> io::Result<File> {
    match fs::metadata(path) {
        // Merely opening a pipe may block forever.
        Ok(found) => check_file(&found, limit)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = options.open(path)?;
    check_file(&file.metadata()?, limit)?;
    Ok(file)
}

/// Reads a file given by the user.
///
/// # Errors
/// Returns the same errors as [`open`].
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_to_end(&open(path, limit)?, limit)
}

/// Reads a text file given by the user, without a leading byte order mark.
///
/// # Errors
/// Returns the I/O error, [`io::ErrorKind::FileTooLarge`] if the file has more than `limit` bytes, or
/// [`io::ErrorKind::InvalidData`] if it is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let text = String::from_utf8(read(path, limit)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))?;
    Ok(text.strip_prefix('\u{feff}').map(Into::into).unwrap_or(text))
}

/// Reads the rest of an open file.
pub(crate) fn read_to_end(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Reading one byte more than allowed detects a file that is growing.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

fn check_file(found: &Metadata, limit: u64) -> io::Result<()> {
    if !found.is_file() {
        let words = "it is not a regular file but a folder, a pipe or a device";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
    }
    if found.len() > limit { Err(too_large(limit)) } else { Ok(()) }
}

fn too_large(limit: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_are_named_with_what_exceeds_them() {
        assert_eq!(at_most("layers", MAX_LAYERS, MAX_LAYERS), Ok(()));
        let error = at_most("layers", usize::MAX, MAX_LAYERS).unwrap_err().to_string();
        assert_eq!(error, "layers is 18446744073709551615: at most 65536");
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e308] {
            assert!(matches!(check_flops("budget", wrong), Err(LimitError::Work { .. })), "{wrong}");
        }
        assert_eq!(check_flops("budget", 2e13), Ok(()));
    }

    #[test]
    fn memory_is_that_of_the_system() {
        assert_eq!(total("MemTotal:       8 kB\nMemFree: 3 kB\nSwapTotal:  2 kB\n"), Some(10 * 1024));
        assert_eq!(total("MemTotal: 8 kB"), Some(8 * 1024));
        assert_eq!(total(""), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max data size             unlimited            unlimited            bytes     \n\
            Max address space         3072000000           unlimited            bytes     \n";
        assert_eq!(allowed(limits), Some(3_072_000_000));
        assert_eq!(allowed(&limits.replace("unlimited", "1024")), Some(1024));
        assert_eq!(allowed(&limits.replace("3072000000", "unlimited")), None);
        assert_eq!(within_memory("weights", u128::MAX, None), Ok(()));
        assert_eq!(within_memory("weights", 10, Some(10)), Ok(()));
        let error = within_memory("weights", 68_000_000_000, Some(23_000_000_000)).unwrap_err().to_string();
        assert!(error.contains("68.0 GB") && error.contains("23.0 GB"), "{error}");
    }

    #[test]
    fn texts_are_read_up_to_their_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, "1234").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "1234");
        assert_eq!(read_text(&path, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(read_text(&path, 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read_text(&folder.path().join("none"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// None of these may be opened: a pipe would block, a device never ends.
    #[cfg(unix)]
    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        fs::write(at("file"), "1234").unwrap();
        for (name, target) in [("good", "file"), ("zero", "/dev/zero"), ("full", "/dev/full"), ("folder", ".")] {
            std::os::unix::fs::symlink(target, at(name)).unwrap();
        }
        assert_eq!(read_text(&at("good"), 4).unwrap(), "1234");
        for name in ["pipe", "zero", "full", "folder"] {
            assert_eq!(open(&at(name), u64::MAX).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
            let append = OpenOptions::new().append(true).create(true).clone();
            assert_eq!(open_with(&append, &at(name), 4).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
        // A file that is too large is not read.
        File::create(at("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&at("sparse"), MAX_LINES).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    proptest! {
        /// There is neither a panic nor wrap-around, whatever is multiplied.
        #[test]
        fn products_are_exact_or_refused(factors in prop::collection::vec(any::<u64>(), 0..6), limit in any::<u64>()) {
            let exact = factors.iter().try_fold(1u64, |product, &factor| product.checked_mul(factor));
            let expected = exact.filter(|&exact| exact <= limit);
            // A factor of 0 may follow an overflow.
            let expected = if factors.contains(&0) { Some(0) } else { expected };
            prop_assert_eq!(product_at_most("product", &factors, limit).ok(), expected);
        }
    }
}
