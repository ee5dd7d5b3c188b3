//! Bounds on sizes, in one place: what is read from a file, a flag or another program is held against them before
//! anything is allocated.
//!
//! The bounds are far above any model, and low enough that closed forms of sizes stay within 64 bits. What passes them
//! is held against the [memory](machine_memory) that this process can have where it is about to be built.
//!
//! ```
//! use composer_nas::{limits::{self, LimitError}, prelude::*};
//! let spec = Target::llama_1b().baseline_model();
//! let huge = ModelSpec { vocab_size: 1 << 63, ..spec };
//! let error = HybridLm::new(&huge, &Primitives::standard(), Seed(0), &Device::flex()).unwrap_err();
//! assert!(error.to_string().contains(&limits::MAX_VOCABULARY.to_string()));
//! ```

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read},
    path::Path,
    sync::OnceLock,
};

use thiserror::Error;

/// Channels of any kind: widths of a model, of a layer, of all heads together.
pub(crate) const MAX_WIDTH: usize = 1 << 24;
/// Token ids. The largest vocabularies of today have a million.
pub const MAX_VOCABULARY: usize = 1 << 24;
/// Layers of a model or of a search space.
pub const MAX_LAYERS: usize = 1 << 16;
/// Tokens of a sequence.
pub(crate) const MAX_SEQ_LEN: u64 = 1 << 32;
/// Sequences of a batch, or of a set of examples.
pub(crate) const MAX_SEQUENCES: usize = 1 << 24;
/// Tokens of a training step, or of a set of examples.
pub(crate) const MAX_TOKENS: u64 = 1 << 36;
/// Steps of a training. The longest that were published have some millions.
pub(crate) const MAX_STEPS: usize = 100_000_000;
/// Floating-point operations of a training. The largest until 2026 had less than 1e27.
pub const MAX_FLOPS: f64 = 1e30;
/// Repetitions of a training or of a measurement.
pub(crate) const MAX_REPEATS: usize = 1 << 16;
/// Trainings of a study or rows of a table that are planned at once.
pub const MAX_TRAININGS: usize = 1 << 20;
/// Bytes of a file of lines: a journal, a table, a cache, metrics.
pub(crate) const MAX_LINES: u64 = 1 << 32;
/// Bytes of a description, such as a protocol, a target, latency.json or config.json.
pub const MAX_DESCRIPTION: u64 = 1 << 26;
/// Bytes of a file of weights that is read whole. Larger models have several files.
pub(crate) const MAX_WEIGHTS: u64 = 1 << 38;
/// Bytes of a file with an entry per token or tensor, such as tokenizer.json.
pub(crate) const MAX_LISTING: u64 = 1 << 28;

/// A size beyond any model, or beyond the memory there is.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum LimitError {
    /// Beyond a bound of this module.
    #[error("{what} is {value}: at most {limit}")]
    TooLarge {
        /// What is bounded.
        what: &'static str,
        /// Its size, or the largest number of 64 bits.
        value: u64,
        /// The bound.
        limit: u64,
    },
    /// An amount of work or a rate that is none, or beyond any training.
    #[error("{what} is {value:e}: it must be a positive number of at most {limit:e}")]
    Work {
        /// What is bounded.
        what: &'static str,
        /// The amount.
        value: f64,
        /// The bound.
        limit: f64,
    },
    /// More than this process can have.
    #[error("{what} would take {} of memory and this process can have {}: choose a smaller size, a larger machine, or a \
        higher limit where ulimit or a control group sets one", gigabytes(*.bytes), gigabytes(*.machine))]
    Memory {
        /// What is too large.
        what: &'static str,
        /// Bytes that it needs at least, or the largest number of 64 bits.
        bytes: u64,
        /// Bytes that this process can have.
        machine: u64,
    },
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// Holds a size against a bound.
pub(crate) fn at_most(what: &'static str, value: usize, limit: usize) -> Result<(), LimitError> {
    product_at_most(what, &[value as u64], limit as u64).map(drop)
}

/// A product of sizes, where it is within a bound.
pub(crate) fn product_at_most(what: &'static str, factors: &[u64], limit: u64) -> Result<u64, LimitError> {
    let product = product(factors);
    let value = saturated(product);
    if product <= limit.into() { Ok(value) } else { Err(LimitError::TooLarge { what, value, limit }) }
}

/// Holds an amount of floating-point operations against [`MAX_FLOPS`].
///
/// # Errors
/// [`LimitError::Work`] when it is not positive, no number, or beyond that.
pub(crate) fn check_flops(what: &'static str, value: f64) -> Result<(), LimitError> {
    let limit = MAX_FLOPS;
    if value > 0.0 && value <= limit { Ok(()) } else { Err(LimitError::Work { what, value, limit }) }
}

fn saturated(size: u128) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// A product of sizes; the largest number there is where it is beyond that.
pub(crate) fn product(factors: &[u64]) -> u128 {
    factors.iter().fold(1, |product: u128, &factor| product.saturating_mul(factor.into()))
}

/// Holds bytes against the [memory](machine_memory) that this process can have. Where that is not known, everything
/// passes.
pub(crate) fn check_memory(what: &'static str, bytes: u128) -> Result<(), LimitError> {
    within_memory(what, bytes, machine_memory())
}

fn within_memory(what: &'static str, bytes: u128, machine: Option<u64>) -> Result<(), LimitError> {
    match machine {
        Some(machine) if bytes > machine.into() => Err(LimitError::Memory { what, bytes: saturated(bytes), machine }),
        _ => Ok(()),
    }
}

/// Makes a write beyond the limit on file sizes (`ulimit -f`) an error of the kind [`io::ErrorKind::FileTooLarge`] for
/// the rest of this process, so that it is told like a full disk. Otherwise the signal SIGXFSZ ends the process without
/// a word. Call it at the beginning of `main`; elsewhere than on Unix it does nothing.
pub fn outlive_file_size_limit() {
    // Where the system refuses, all stays as it was.
    #[cfg(unix)]
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
}

/// Bytes of memory that this process can have at most: of the machine with its swap space, of its control group, or of
/// its own limits (`ulimit -v` and `ulimit -d`). Read once, so that what is refused does not depend on what else runs.
/// None where the system does not tell; only Linux does.
pub fn machine_memory() -> Option<u64> {
    static MEMORY: OnceLock<Option<u64>> = OnceLock::new();
    *MEMORY.get_or_init(|| {
        let whole = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total);
        let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        let group = groups.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
        let own = fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(allowed);
        whole.into_iter().chain(group).chain(own).min()
    })
}

/// The least of the soft limits on memory by `/proc/self/limits`, in bytes; none where all are unlimited.
fn allowed(text: &str) -> Option<u64> {
    let of =
        |name: &&str| text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    ["Max address space", "Max data size"].iter().filter_map(of).min()
}

/// Memory and swap space by `/proc/meminfo`, in bytes.
fn total(text: &str) -> Option<u64> {
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    of("MemTotal")?.checked_add(of("SwapTotal").unwrap_or(0))
}

/// Opens a file that a user has named, for reading. Links are followed.
///
/// # Errors
/// The I/O error; [`io::ErrorKind::InvalidInput`] for what is no regular file, such as a pipe, which may never
/// end or never begin; [`io::ErrorKind::FileTooLarge`] for more than `limit` bytes.
pub(crate) fn open(path: &Path, limit: u64) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), path, limit)
}

/// Opens a file that a user has named in another way, or makes it, under the same rules as [`open`].
pub(crate) fn open_with(options: &OpenOptions, path: &Path, limit: u64) -> io::Result<File> {
    match fs::metadata(path) {
        // To open a pipe alone may take for ever.
        Ok(found) => check_file(&found, limit)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = options.open(path)?;
    check_file(&file.metadata()?, limit)?;
    Ok(file)
}

/// What a file holds that a user has named.
///
/// # Errors
/// As [`open`].
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_to_end(&open(path, limit)?, limit)
}

/// The text of a file that a user has named, without the byte order mark that some editors put in front.
///
/// # Errors
/// The I/O error; [`io::ErrorKind::FileTooLarge`] for more than `limit` bytes, [`io::ErrorKind::InvalidData`] for what
/// is no UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let text = String::from_utf8(read(path, limit)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))?;
    Ok(text.strip_prefix('\u{feff}').map(Into::into).unwrap_or(text))
}

/// The rest of an open file.
pub(crate) fn read_to_end(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than is allowed tells a file that grows from one that fits.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

fn check_file(found: &Metadata, limit: u64) -> io::Result<()> {
    if !found.is_file() {
        let words = "it is no regular file but a folder, a pipe or a device";
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

    /// None of them is opened: a pipe would be waited for, a device has no end.
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
        // Nothing is read of what is too long.
        File::create(at("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&at("sparse"), MAX_LINES).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    proptest! {
        /// Neither overflow nor wrap-around, whatever is multiplied.
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
