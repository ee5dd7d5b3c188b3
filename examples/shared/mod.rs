//! Helpers for the examples: printing to closed pipes, errors as text, alphabets, estimates of time.
//!
//! `#[macro_use] mod shared;` replaces `println!` and `eprintln!` of the standard library, which panic if the reader
//! has exited, as in `| head -1`. This is the only purpose of these two lines; the examples also work without them.

#![allow(dead_code, unused_macros, reason = "each example takes what it needs")]

pub mod letters;

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use anyhow::{Context as _, bail, ensure};
#[cfg(feature = "model")]
use composer_nas::evaluate::mad::Protocol;
use composer_nas::{
    limits::{self, LimitError, MAX_DESCRIPTION, MAX_FLOPS},
    prelude::*,
    report::Latency,
    text,
};

/// Prints a line. If the reader has exited, the program ends quietly.
macro_rules! println {
    () => { $crate::shared::print(format_args!("")) };
    ($($text:tt)*) => { $crate::shared::print(format_args!($($text)*)) };
}

/// Prints a line to standard error. If the reader has exited, it is lost.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::shared::tell(format_args!($($text)*)) };
}

/// Prints a line, or ends the program if the reader has exited. All results are on disk by then.
pub fn print(line: fmt::Arguments<'_>) {
    match writeln!(io::stdout().lock(), "{line}") {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            tell(format_args!("cannot print: {error}"));
            process::exit(1);
        }
    }
}

/// Prints a line to standard error; errors are ignored.
pub fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Runs a program. An error is printed with its causes, one line each, with unprintable characters escaped. Exceeding a
/// limit on file sizes is also reported as an error.
pub fn carry_out(program: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    limits::outlive_file_size_limit();
    let Err(error) = program() else { return ExitCode::SUCCESS };
    tell(format_args!("Error: {}", text::line(&error.to_string())));
    for cause in error.chain().skip(1) {
        tell(format_args!("  because: {}", text::line(&cause.to_string())));
    }
    ExitCode::FAILURE
}

/// Handles `--help` for a program without arguments, and rejects any.
pub fn no_arguments(about: &'static str) {
    clap::Command::new(env!("CARGO_CRATE_NAME")).about(about).get_matches();
}

/// Returns a path as printable text in one line.
pub fn shown(path: &Path) -> String {
    text::line(&path.display().to_string())
}

/// Quotes a word for the shell.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=.,:/+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Parses a flag that is the name of a folder, without a path.
pub fn folder_name(name: &str) -> Result<String, String> {
    let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\']);
    let plain = plain && !name.contains(char::is_control);
    if plain { Ok(name.into()) } else { Err(format!("{name:?} is not a folder name")) }
}

/// Checks that a folder exists or can be created.
pub fn check_folder(path: &Path) -> anyhow::Result<()> {
    let taken = path.ancestors().find(|above| fs::symlink_metadata(above).is_ok()).filter(|above| !above.is_dir());
    match taken {
        Some(taken) if taken.is_symlink() => bail!("{} is a link, but not to a folder: remove it", taken.display()),
        Some(taken) => bail!("{} is not a folder: remove it, or choose another folder", taken.display()),
        None => Ok(()),
    }
}

/// Returns the protocol given by a flag: a preset or a JSON file.
#[cfg(feature = "model")]
pub fn protocol(name: &str) -> anyhow::Result<Protocol> {
    if let Some(preset) = Protocol::preset(name) {
        return Ok(preset);
    }
    let text = limits::read_text(Path::new(name), MAX_DESCRIPTION)
        .with_context(|| format!("--protocol {name} is neither quick, hybrid, reference, full nor a file of one"))?;
    serde_json::from_str(&text).with_context(|| format!("{name} holds no protocol"))
}

/// Returns the target given by a flag: small, a preset or a JSON file.
pub fn target(name: &str, flag: &str) -> anyhow::Result<Target> {
    if name == "small" {
        return Ok(Target::custom("small", Dims::new(256, 768, 4)?, 4096, true, 3)?);
    }
    if let Ok(preset) = Target::named(name) {
        return Ok(preset);
    }
    let known = Target::names().collect::<Vec<_>>().join(", ");
    let text = limits::read_text(Path::new(name), MAX_DESCRIPTION)
        .with_context(|| format!("{flag} {name} is neither small, {known} nor a file of a target"))?;
    let target: Target = serde_json::from_str(&text)
        .with_context(|| format!("{name} holds no target: print one to edit with --print-target"))?;
    target.validate().with_context(|| format!("the target in {name} cannot be used"))?;
    Ok(target)
}

/// Reads the measured times in the folder of a run. They are optional: errors are printed and ignored.
pub fn latency(folder: &Path) -> Option<Latency> {
    let read = Latency::read(folder);
    if let Err(error) = &read {
        tell(format_args!("the page shows no measured times: {}", text::line(&error.to_string())));
    }
    read.ok().flatten()
}

/// Parses a flag with a training budget in FLOPs.
pub fn flops(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().map_err(|error| error.to_string())?;
    let what = "the work of a training, in FLOPs,";
    let refused = LimitError::Work { what, value, limit: MAX_FLOPS };
    if value > 0.0 && value <= MAX_FLOPS { Ok(value) } else { Err(refused.to_string()) }
}

/// Prints how an architecture was read if it could be misunderstood: `M` is Mamba for some.
pub fn say_reading<'a>(given: impl IntoIterator<Item = &'a Architecture>, primitives: &Primitives) {
    if let Some(reading) = given.into_iter().find_map(|architecture| reading(architecture, primitives)) {
        tell(format_args!("{reading}"));
    }
}

/// Describes how an architecture was read if its letters have another meaning elsewhere.
fn reading(architecture: &Architecture, primitives: &Primitives) -> Option<String> {
    if architecture.count(Symbol::SWIGLU) == 0 {
        return None;
    }
    let mut counts: BTreeMap<Symbol, usize> = BTreeMap::new();
    architecture.layers().iter().for_each(|&layer| *counts.entry(layer).or_default() += 1);
    let name =
        |symbol: Symbol| primitives.get(symbol).map_or_else(|_| symbol.to_string(), |known| known.id().to_string());
    let counted: Vec<_> = counts.into_iter().map(|(symbol, count)| format!("{} x{count}", name(symbol))).collect();
    let letters = text::shortened(&architecture.letters(), 64);
    Some(format!(
        "read {letters} as {} (M is swiglu; Mamba-2 is B; --letters takes other alphabets)",
        counted.join(", ")
    ))
}

/// The approximate number of floating-point operations per second of one CPU core that trains a small model. An
/// accelerator has a thousand times as many.
const CORE: f64 = 2e10;

/// Describes the number of floating-point operations and an estimate of their time.
pub fn expected(flops: f64) -> String {
    format!("{flops:.1e} FLOPs, {} of one CPU core at {:.0} GFLOP/s", duration(flops / CORE), CORE / 1e9)
}

/// Formats seconds in a suitable unit.
fn duration(seconds: f64) -> String {
    const UNITS: [(&str, f64); 4] = [("years", 31_557_600.0), ("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)];
    let Some((unit, size)) = UNITS.into_iter().find(|(_, size)| seconds >= 2.0 * size) else {
        return if seconds < 10.0 { "a few seconds".into() } else { format!("about {seconds:.0} seconds") };
    };
    format!("about {} {unit}", text::number((seconds / size).ceil(), 0))
}

/// Returns the text files at `path`, sorted by name.
pub fn texts(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.into()]);
    }
    let known = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "txt" || extension == "jsonl");
    let entries = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<_> = entries.into_iter().filter(known).collect();
    files.sort();
    ensure!(!files.is_empty(), "no .txt or .jsonl file in {}", path.display());
    Ok(files)
}
