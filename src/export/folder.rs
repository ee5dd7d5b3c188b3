//! Writes folders atomically.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::ExportError;
use crate::durable;

/// A folder under construction, beside its final path. It is moved there by [`finish`](Self::finish), and removed if it
/// is dropped before.
#[derive(Debug)]
pub(super) struct Staging {
    target: PathBuf,
    path: PathBuf,
    files: Vec<String>,
}

impl Staging {
    /// Starts a folder that will replace `target`. An existing folder is only replaced if `overwrite` is set and it is
    /// a model, that is, has a config.json.
    pub fn new(target: &Path, overwrite: bool) -> Result<Self, ExportError> {
        let failed = |source| ExportError::Folder { path: target.into(), source };
        let name = target.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let replaceable = overwrite && target.join("config.json").is_file();
        if !replaceable && is_occupied(target).map_err(failed)? {
            return Err(ExportError::Occupied { path: target.into() });
        }
        fs::create_dir_all(parent(target)).map_err(failed)?;
        for attempt in 0_u64.. {
            let hidden = format!(".{}.partial-{}-{attempt}", name.to_string_lossy(), std::process::id());
            let path = parent(target).join(hidden);
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { target: target.into(), path, files: Vec::new() }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(io::ErrorKind::AlreadyExists.into()))
    }

    /// Adds a file. `write` writes it to the given path.
    pub fn file(&mut self, name: &str, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), ExportError> {
        let path = self.path.join(name);
        // Create the file here, so that it has the same permissions as the others even if `write` replaces it.
        let permissions = File::create(&path).and_then(|file| file.metadata()).map(|metadata| metadata.permissions());
        let written = permissions.and_then(|permissions| {
            write(&path)?;
            fs::set_permissions(&path, permissions)?;
            File::open(&path)?.sync_all()
        });
        written.map_err(|source| ExportError::Folder { path: self.target.join(name), source })?;
        self.files.push(name.into());
        Ok(())
    }

    /// Adds a text file.
    pub fn text(&mut self, name: &str, text: &str) -> Result<(), ExportError> {
        self.file(name, |path| fs::write(path, text))
    }

    /// Adds a JSON file.
    pub fn json(&mut self, name: &str, value: &impl Serialize) -> Result<(), ExportError> {
        self.file(name, |path| {
            let mut text = serde_json::to_string_pretty(value)?;
            text.push('\n');
            fs::write(path, text)
        })
    }

    /// Moves the folder to its final path and returns the names of its files.
    pub fn finish(mut self, overwrite: bool) -> Result<Vec<String>, ExportError> {
        durable::sync_folder(&self.path);
        let placed = match overwrite {
            true => self.exchange(),
            // The operating system rejects a target that has been filled in the meantime.
            false => durable::replace(&self.path, &self.target),
        };
        placed.map_err(|source| ExportError::Folder { path: self.target.clone(), source })?;
        self.files.sort();
        Ok(std::mem::take(&mut self.files))
    }

    /// Replaces the existing folder, which is removed last.
    fn exchange(&self) -> io::Result<()> {
        let old = self.path.with_extension("old");
        durable::remove_folder(&old)?;
        match fs::rename(&self.target, &old) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        durable::replace(&self.path, &self.target)?;
        durable::remove_folder(&old)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The folder no longer exists if it has been moved.
        let _ = durable::remove_folder(&self.path);
    }
}

/// Whether `path` exists and is not an empty folder.
fn is_occupied(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(fs::read_dir(path)?.next().is_some()),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_whole_or_absent() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("deep/model");
        let mut staging = Staging::new(&target, false).unwrap();
        staging.text("one", "1").unwrap();
        assert!(!target.exists());
        drop(staging);
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 0);

        let mut staging = Staging::new(&target, false).unwrap();
        staging.text("one", "1").unwrap();
        staging.json("two", &[2]).unwrap();
        assert_eq!(staging.finish(false).unwrap(), ["one", "two"]);
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);
        for overwrite in [false, true] {
            assert!(matches!(Staging::new(&target, overwrite), Err(ExportError::Occupied { .. })));
        }

        fs::write(target.join("config.json"), "{}").unwrap();
        assert!(matches!(Staging::new(&target, false), Err(ExportError::Occupied { .. })));
        let mut staging = Staging::new(&target, true).unwrap();
        staging.text("three", "3").unwrap();
        assert!(target.join("one").exists());
        assert_eq!(staging.finish(true).unwrap(), ["three"]);
        assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    }

    #[test]
    fn places_that_cannot_be_taken_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(Staging::new(&file, false), Err(ExportError::Occupied { .. })));
        for path in [file.join("inside"), PathBuf::from("/proc/none/model"), PathBuf::from("..")] {
            assert!(matches!(Staging::new(&path, false), Err(ExportError::Folder { .. })), "{}", path.display());
        }
        // The target is filled while its replacement is under construction.
        let target = root.path().join("model");
        let staging = Staging::new(&target, false).unwrap();
        fs::create_dir(&target).unwrap();
        fs::write(target.join("other"), "").unwrap();
        assert!(matches!(staging.finish(false), Err(ExportError::Folder { .. })));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
    }
}
