//! Files that are whole or absent: written beside their place, synced, then renamed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Writes `bytes` to `path`, with its folder, so that a crash at any moment leaves the old file or the new one.
///
/// # Errors
/// The system's words; the old file is then unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder(path))?;
    let beside = beside(path);
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    replace(&beside, path)
}

/// Puts a file or a folder, written and synced under another name of the same file system, in its place.
///
/// # Errors
/// The system's words; a folder takes no place that is occupied.
pub fn replace(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(&folder(to));
    Ok(())
}

/// Makes the names in a folder durable. Some systems cannot: nothing is lost there either, unless the power fails
/// within the first seconds.
pub fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// The name under which the file at `path` is written before it is put in its place.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

/// The folder of `path`.
fn folder(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("new/file");
        for text in ["one", "two"] {
            write(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert!(!beside(&path).exists());
        }
        // A write that died left its part beside; the next one takes over.
        fs::write(beside(&path), "par").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        write(&path, b"three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        assert!(write(root.path(), b"").is_err());
    }
}
