//! Append-only files of lines that survive the death of their process.
//!
//! A line is on disk when [`LineFile::append`] returns. One process writes, under an advisory lock; a last line without
//! its line feed was never acknowledged: readers ignore it, and the next line takes its place.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::durable;

/// A file of lines, open for writing and locked as long as it lives.
#[derive(Debug)]
pub struct LineFile {
    path: PathBuf,
    file: File,
    /// Length of the complete lines: where the next one goes.
    end: u64,
}

/// A file that cannot be used.
#[derive(Debug, Error)]
pub enum LineFileError {
    /// The file or its folder cannot be opened, created or read.
    #[error("cannot open {}: {source}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A line cannot be written. The file ends with the last complete line; the same line may be written again.
    #[error("cannot write to {}: {source}; free some space and run again, nothing before is lost", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
        /// The line that is not in the file.
        line: String,
    },
    /// It was removed or renamed while it was open, or a folder above it was. The same line may be written again once
    /// it is back.
    #[error("{} is not there any more: it or its folder was removed or renamed; put it back", .path.display())]
    Gone {
        /// Where the file was.
        path: PathBuf,
        /// The line that is not in the file.
        line: String,
    },
    /// Another process writes it.
    #[error("{} is in use by another process: wait for it or stop it", .path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

impl LineFile {
    /// Opens the file at `path`, creates it with its folder where there is none, and reads it. Nothing is changed
    /// before the first [`append`](Self::append).
    ///
    /// # Errors
    /// [`LineFileError::Open`], or [`LineFileError::Locked`] while another process has it open.
    pub fn open(path: impl AsRef<Path>) -> Result<(Self, Vec<u8>), LineFileError> {
        let path = path.as_ref().to_owned();
        let open_error = |source| LineFileError::Open { path: path.clone(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        fs::create_dir_all(&folder).map_err(open_error)?;
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let mut file = options.open(&path).map_err(open_error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LineFileError::Locked { path }),
            Err(TryLockError::Error(source)) => return Err(LineFileError::Open { path, source }),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(open_error)?;
        // The file's name is durable only when its folder is. Some systems cannot sync folders: nothing is lost there
        // either, unless the power fails within the first seconds.
        let _ = File::open(&folder).and_then(|folder| folder.sync_all());
        let end = complete(&bytes).len() as u64;
        Ok((Self { path, file, end }, bytes))
    }

    /// Writes one line, given without its line feed; when this returns, it is on disk.
    ///
    /// # Errors
    /// [`LineFileError::Write`] or [`LineFileError::Gone`]; the file then ends as it did before, and the same line may
    /// be written again.
    pub fn append(&mut self, line: &str) -> Result<(), LineFileError> {
        let text = format!("{line}\n");
        if !durable::is_there(&self.file, &self.path) {
            return Err(LineFileError::Gone { path: self.path.clone(), line: text });
        }
        match self.write_at_end(text.as_bytes()) {
            Ok(()) => {
                self.end += text.len() as u64;
                Ok(())
            }
            Err(source) => {
                // Should this fail too, the next write cuts the torn line off.
                let _ = self.file.set_len(self.end);
                Err(LineFileError::Write { path: self.path.clone(), source, line: text })
            }
        }
    }

    /// Saves the lines of a file that was removed while it was open: writes them to its place, with those of `unsaved`
    /// behind them, unless something else is there. Whether it did. This file stays as it is: open the new one to go
    /// on.
    ///
    /// # Errors
    /// The system's words.
    pub fn restore(&mut self, unsaved: &str) -> io::Result<bool> {
        if !durable::is_removed(&self.file) || self.path.symlink_metadata().is_ok() {
            return Ok(false);
        }
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        (&self.file).take(self.end).read_to_end(&mut bytes)?;
        bytes.extend(unsaved.as_bytes());
        durable::write(&self.path, &bytes).map(|()| true)
    }

    /// Gives up the lines from byte `end` on, of those that there are: the next line takes their place.
    pub fn cut(&mut self, end: u64) {
        self.end = self.end.min(end);
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Cuts off whatever follows the complete lines, then writes and syncs.
    fn write_at_end(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(line)?;
        self.file.sync_data()
    }
}

impl Drop for LineFile {
    /// Closing alone would leave the lock to a process that is being started by another thread at this moment.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// The lines that were acknowledged: everything up to the last line feed.
pub fn complete(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    &bytes[..end]
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
        fs::write(&path, "one\ntw").unwrap();
        let (mut file, bytes) = LineFile::open(&path).unwrap();
        assert_eq!((bytes.as_slice(), complete(&bytes)), (&b"one\ntw"[..], &b"one\n"[..]));
        assert_eq!(fs::read(&path).unwrap(), b"one\ntw");
        file.append("three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\nthree\n");
        file.cut(4);
        file.append("2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\n2\n");
        assert!(matches!(LineFile::open(folder.path()), Err(LineFileError::Open { .. })));
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
