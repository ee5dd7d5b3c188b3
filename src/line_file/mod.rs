//! Append-only line files that survive crashes.
//!
//! A line is on disk when [`LineFile::append`] returns. Only one process writes at a time, under an advisory lock.
//!
//! A crash can leave part of a JSON object, or zeros, after the last line feed. Only these count as [torn](complete):
//! readers ignore them, and the next line overwrites them. If only the line feed of the last line is missing, the line
//! counts, and the next write adds the line feed. Anything else is kept, and its reader returns an error.
//!
//! Journals, caches, pre-training metrics, stored trainings and scaling studies are such files of JSON. Tables are such
//! files of comma-separated values.

pub(crate) mod json;

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::de::IgnoredAny;
use thiserror::Error;

use crate::{durable, limits};

/// A line file that is open for writing and locked until it is dropped.
#[derive(Debug)]
pub struct LineFile {
    path: PathBuf,
    file: File,
    /// The length of the complete lines, in bytes: the offset of the next line.
    end: u64,
    /// Whether the last line lacks its line feed.
    unended: bool,
}

/// An error of a line file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LineFileError {
    /// The file or its folder cannot be opened, created or read.
    #[error("cannot open {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// A line cannot be written. The file ends with the last complete line, and you may write the same line again.
    #[error("cannot write to {}; free some space and run again, earlier lines are safe", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
        /// The line that was not written.
        line: String,
    },
    /// The file, or a folder above it, was removed or renamed while it was open. You may write the same line again once
    /// it is back.
    #[error("{} no longer exists: it or its folder was removed or renamed; restore it", .path.display())]
    Gone {
        /// The path of the file.
        path: PathBuf,
        /// The line that was not written.
        line: String,
    },
    /// Another process has the file open for writing.
    #[error("{} is in use by another process: wait for it or stop it", .path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

impl LineFile {
    /// Opens and reads the file at `path`. Creates it and its folder if necessary.
    ///
    /// An existing file does not change before the first [`append`](Self::append).
    ///
    /// # Errors
    /// Returns [`LineFileError::Open`] if the file cannot be opened, is not a regular file, or is larger than
    /// [`limits::MAX_LINES`], and [`LineFileError::Locked`] if another process has it open.
    pub fn open(path: impl AsRef<Path>) -> Result<(Self, Vec<u8>), LineFileError> {
        let path = path.as_ref().to_owned();
        let open_error = |source| LineFileError::Open { path: path.clone(), source };
        let folder = durable::folder(&path);
        fs::create_dir_all(&folder).map_err(open_error)?;
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let file = limits::open_with(&options, &path, limits::MAX_LINES).map_err(open_error)?;
        match durable::lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LineFileError::Locked { path }),
            Err(TryLockError::Error(source)) => return Err(LineFileError::Open { path, source }),
        }
        let bytes = limits::read_to_end(&file, limits::MAX_LINES).map_err(open_error)?;
        durable::sync_folder(&folder);
        let lines = complete(&bytes);
        let end = lines.len() as u64;
        let unended = lines.last().is_some_and(|&last| last != b'\n');
        Ok((Self { path, file, end, unended }, bytes))
    }

    /// Opens the file at `path` like [`open`](Self::open), and writes `header` if the file has [not
    /// begun](has_not_begun).
    ///
    /// `header` is given without its line feed. If the file has begun, the caller must compare its header.
    ///
    /// # Errors
    /// Returns the same errors as [`open`](Self::open), and [`LineFileError::Write`] if the header cannot be written.
    pub fn open_with_header(path: impl AsRef<Path>, header: &str) -> Result<(Self, Vec<u8>), LineFileError> {
        let (mut file, bytes) = Self::open(path)?;
        if !has_not_begun(&bytes, header) {
            return Ok((file, bytes));
        }
        file.cut(0);
        file.append(header)?;
        Ok((file, format!("{header}\n").into_bytes()))
    }

    /// Appends a line, given without its line feed. It is on disk when this function returns.
    ///
    /// # Errors
    /// Returns [`LineFileError::Write`] or [`LineFileError::Gone`]. The file then ends as before, and you may write the
    /// same line again.
    pub fn append(&mut self, line: &str) -> Result<(), LineFileError> {
        let text = format!("{line}\n");
        if !durable::is_there(&self.file, &self.path) {
            return Err(LineFileError::Gone { path: self.path.clone(), line: text });
        }
        let written = format!("{}{text}", self.missing());
        match self.write_at_end(written.as_bytes()) {
            Ok(()) => {
                self.end += written.len() as u64;
                self.unended = false;
                Ok(())
            }
            Err(source) => {
                // If this fails too, the next write cuts the torn line off.
                let _ = self.file.set_len(self.end);
                Err(LineFileError::Write { path: self.path.clone(), source, line: text })
            }
        }
    }

    /// Recreates a file that was removed while it was open: writes its lines, followed by `unsaved`, to its path.
    ///
    /// Does nothing if the path is occupied. Returns whether the file was written. This handle still refers to the
    /// removed file; open the path again to continue.
    ///
    /// # Errors
    /// Returns the I/O error.
    pub fn restore(&mut self, unsaved: &str) -> io::Result<bool> {
        if !durable::is_removed(&self.file) || self.path.symlink_metadata().is_ok() {
            return Ok(false);
        }
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        (&self.file).take(self.end).read_to_end(&mut bytes)?;
        bytes.extend(self.missing().as_bytes());
        bytes.extend(unsaved.as_bytes());
        durable::write(&self.path, &bytes).map(|()| true)
    }

    /// Discards the lines from byte offset `end` on, which must be the start of a line. The next line replaces them.
    pub fn cut(&mut self, end: u64) {
        if end < self.end {
            self.end = end;
            self.unended = false;
        }
    }

    /// Returns the byte offset of the next line.
    pub(crate) fn end(&self) -> u64 {
        self.end + self.missing().len() as u64
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the line feed that the last line lacks.
    fn missing(&self) -> &'static str {
        if self.unended { "\n" } else { "" }
    }

    /// Cuts off everything after the complete lines, then writes and syncs.
    fn write_at_end(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(line)?;
        self.file.sync_data()
    }
}

impl Drop for LineFile {
    /// A child process that another thread is starting may hold a copy of the handle, so closing alone would keep the
    /// lock.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// Returns the contents of a file without what a crash may have left at its end: zeros and part of a JSON object.
///
/// Any other incomplete last line is kept, and its reader decides whether it is valid.
pub fn complete(bytes: &[u8]) -> &[u8] {
    let bytes = written(bytes);
    let (lines, last) = bytes.split_at(ended(bytes));
    if is_torn(last) { lines } else { bytes }
}

/// Returns whether the file is empty or contains only part of its `first` line, as a crash may leave a new file.
///
/// `first` is given without its line feed. Trailing zeros are ignored.
pub fn has_not_begun(bytes: &[u8], first: &str) -> bool {
    let written = written(bytes);
    written.len() < first.len() && first.as_bytes().starts_with(written)
}

/// Returns the contents without the zeros that a crash may leave at the end of a file.
pub(crate) fn written(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1)]
}

/// Returns the length of the lines that end with a line feed, in bytes.
pub(crate) fn ended(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
}

/// Returns whether this is an incomplete JSON object.
fn is_torn(line: &[u8]) -> bool {
    let goes_on = |text: &[u8]| serde_json::from_slice::<IgnoredAny>(text).is_err_and(|error| error.is_eof());
    // A number that ends in a sign, a point or an exponent lacks a digit.
    line.starts_with(b"{") && (goes_on(line) || goes_on(&[line, b"0"].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_and_a_torn_one_gives_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/lines");
        let (mut file, bytes) = LineFile::open(&path).unwrap();
        assert_eq!((bytes.len(), file.path()), (0, path.as_path()));
        file.append("one").unwrap();
        assert!(matches!(LineFile::open(&path), Err(LineFileError::Locked { .. })));
        drop(file);
        fs::write(&path, "one\n{\"tw").unwrap();
        let (mut file, bytes) = LineFile::open(&path).unwrap();
        assert_eq!((bytes.as_slice(), complete(&bytes)), (&b"one\n{\"tw"[..], &b"one\n"[..]));
        assert_eq!(fs::read(&path).unwrap(), b"one\n{\"tw");
        file.append("three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\nthree\n");
        file.cut(4);
        file.append("2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\n2\n");
        assert!(matches!(LineFile::open(folder.path()), Err(LineFileError::Open { .. })));
    }

    #[test]
    fn only_beginnings_of_objects_and_zeros_are_torn() {
        let whole = r#"{"a":[-1.5e-7,{"b":null}],"ü\u00e4":"\n\"","c":true}"#.as_bytes();
        for cut in 1..whole.len() {
            assert!(is_torn(&whole[..cut]), "cut at byte {cut}");
        }
        for kept in ["{}", "{} ", "one", "{one", "{}\r{", "{\"a\":1}\r{\"a\":2}\r", "12", "[1,", "{\"a\":1-"] {
            assert_eq!(complete(kept.as_bytes()), kept.as_bytes());
            assert_eq!(complete(format!("{kept}\n{{\0\0").as_bytes()), format!("{kept}\n").as_bytes());
        }
        let has_not_begun = |bytes: &[u8]| has_not_begun(bytes, "{\"format\":1}");
        assert!([&b""[..], b"\0", b"{\"form", b"{\"f\0\0"].into_iter().all(has_not_begun));
        assert!(![&b"{\"format\":1}"[..], b"{\"format\":2", b"{\"f\n", b"mine"].into_iter().any(has_not_begun));
        assert_eq!([complete(b""), complete(b"\0\0"), complete(b"{\"a")], [b""; 3]);
    }

    #[test]
    fn a_last_line_without_its_line_feed_gets_it_with_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        fs::write(&path, "{}\n{\"a\":1}").unwrap();
        let (mut file, bytes) = LineFile::open(&path).unwrap();
        assert_eq!(complete(&bytes), bytes);
        file.cut(bytes.len() as u64);
        file.append("2").unwrap();
        file.append("3").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n{\"a\":1}\n2\n3\n");
        drop(file);
        fs::write(&path, "{}\n{\"a\":1}").unwrap();
        let (mut file, _) = LineFile::open(&path).unwrap();
        file.cut(3);
        file.append("2").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n2\n");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_of_bounded_size_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        File::create(at("huge")).unwrap().set_len(limits::MAX_LINES + 1).unwrap();
        for name in ["zero", "pipe", "huge"] {
            let error = crate::text::causes(&LineFile::open(at(name)).unwrap_err());
            assert!(error.contains("not a regular file") || error.contains("more than"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn lines_are_not_written_to_a_file_that_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        let away = root.path().join("away");
        let path = folder.join("lines");
        let (mut file, _) = LineFile::open(&path).unwrap();
        file.append("one").unwrap();
        fs::rename(&folder, &away).unwrap();
        let gone = |result| matches!(result, Err(LineFileError::Gone { line, .. }) if line == "two\n");
        assert!(gone(file.append("two")) && !file.restore("").unwrap());
        fs::rename(&away, &folder).unwrap();
        file.append("two").unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!(gone(file.append("two")));
        assert!(file.restore("three\n").unwrap() && !file.restore("").unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        assert!(gone(file.append("two")), "another file is there");
    }
}
