//! Atomic file writes: a file is written next to its final path, synced, then renamed. Permissions follow the user's
//! umask.
//!
//! Folders that others can write to may contain symbolic links to anywhere. These functions never follow a link in
//! place of the file itself: they replace it or return an error.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{limits, retry::retry};

/// Writes `bytes` to `path` atomically and creates its folder if necessary. A crash leaves either the old file or the
/// new one.
///
/// # Errors
/// Returns the I/O error. The old file is then unchanged.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder(path))?;
    write_in(path, bytes)
}

/// Writes `bytes` to `path` like [`write()`]. The folder must exist.
///
/// # Errors
/// Returns the I/O error. The old file is then unchanged.
pub(crate) fn write_in(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

/// A file that is written in pieces next to its final path and then moved there as a whole.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: File,
    path: PathBuf,
}

impl NewFile {
    /// Creates a file whose final path is `path`. The folder must exist.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: create_new(&beside(path))?, path: path.into() })
    }

    /// Flushes what is written so far to disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Syncs the file and moves it to its final path.
    pub fn finish(self) -> io::Result<()> {
        self.sync()?;
        replace(&beside(&self.path), &self.path)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for NewFile {
    fn seek(&mut self, place: SeekFrom) -> io::Result<u64> {
        self.file.seek(place)
    }
}

/// Removes the folder at `path` and its contents, if it exists.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Creates an empty file and replaces any file or link at `path`.
///
/// # Errors
/// Returns the I/O error.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Moves a file or folder that was written and synced to its final path on the same file system.
///
/// # Errors
/// Returns the I/O error. A folder does not replace anything.
pub(crate) fn replace(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(&folder(to));
    Ok(())
}

/// Syncs the entries of a folder.
///
/// Some systems do not support this; there, a power failure within the first seconds may lose a new file.
pub(crate) fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// Returns the temporary path of the file at `path` while it is written.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

/// Opens the file at `path` for reading and appending, and creates it if necessary.
///
/// # Errors
/// Returns the I/O error, or [`io::ErrorKind::InvalidData`] if `path` is not a regular file, such as a link.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let options = OpenOptions::new().read(true).append(true).clone();
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_existing(path, &options),
        opened => opened,
    }
}

/// Reads the file at `path`.
///
/// # Errors
/// Returns the I/O error, [`io::ErrorKind::InvalidData`] if `path` is not a regular file, such as a link, or
/// [`io::ErrorKind::FileTooLarge`] if it has more than [`limits::MAX_LISTING`] bytes.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    limits::read_to_end(&open_to_read(path)?, limits::MAX_LISTING)
}

/// Opens the file at `path` for reading.
///
/// # Errors
/// Returns the I/O error, or [`io::ErrorKind::InvalidData`] if `path` is not a regular file, such as a link.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    open_existing(path, OpenOptions::new().read(true))
}

/// Creates a folder if it does not exist. Its parent must exist.
///
/// # Errors
/// Returns the I/O error, or [`io::ErrorKind::InvalidData`] if `path` is not a folder, such as a link to one.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    if fs::symlink_metadata(path)?.is_dir() { Ok(()) } else { Err(strange(path, "folder")) }
}

/// Locks a file for this process.
///
/// A process that is killed while it starts a child process may leave its locks to the child for a moment. So this
/// function waits up to one second for the lock.
///
/// # Errors
/// Returns [`TryLockError::WouldBlock`] if another process holds the lock, or the I/O error if locks are not supported.
pub(crate) fn lock(file: &File) -> Result<(), TryLockError> {
    const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_millis(20);
    let locked = retry(LOCK_TIMEOUT, PAUSE, || match file.try_lock() {
        Err(TryLockError::WouldBlock) => ControlFlow::Continue(TryLockError::WouldBlock),
        locked => ControlFlow::Break(locked),
    });
    locked.unwrap_or_else(Err)
}

/// Returns whether `path` still refers to this file: false once the file or a folder above it was removed or renamed.
///
/// On systems other than Unix, returns whether `path` refers to any file.
pub(crate) fn is_there(file: &File, path: &Path) -> bool {
    let found = fs::metadata(path).and_then(|found| Ok(is_same(&found, &file.metadata()?)));
    found.unwrap_or(false)
}

/// Returns whether the file has no path any more and will be deleted when it is closed. Always false on systems other
/// than Unix.
pub(crate) fn is_removed(file: &File) -> bool {
    #[cfg(unix)]
    let removed = file.metadata().is_ok_and(|found| std::os::unix::fs::MetadataExt::nlink(&found) == 0);
    #[cfg(not(unix))]
    let removed = false;
    removed
}

/// Opens exactly the file at `path`, without following links.
fn open_existing(path: &Path, options: &OpenOptions) -> io::Result<File> {
    /// Another process may replace the file between the two checks, even repeatedly.
    const LOOKS: u32 = 100;
    for _ in 0..LOOKS {
        let found = fs::symlink_metadata(path)?;
        if !found.is_file() {
            break;
        }
        let file = options.open(path)?;
        if is_same(&found, &file.metadata()?) {
            return Ok(file);
        }
    }
    Err(strange(path, "file"))
}

#[cfg(unix)]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_same(_: &Metadata, _: &Metadata) -> bool {
    true
}

fn strange(path: &Path, kind: &str) -> io::Error {
    let words = format!("{} is not a {kind}, or it is a link; links are not followed here", path.display());
    io::Error::new(io::ErrorKind::InvalidData, words)
}

/// Returns the last bytes of a file, or fewer if reading fails.
pub(crate) fn tail(mut file: &File, bytes: u64) -> Vec<u8> {
    let length = file.metadata().map_or(0, |found| found.len());
    let mut tail = Vec::new();
    let from = SeekFrom::Start(length.saturating_sub(bytes));
    let _ = file.seek(from).and_then(|_| Read::take(file, bytes).read_to_end(&mut tail));
    tail
}

/// Returns the last lines of a log as one line, to quote in an error.
pub(crate) fn last_lines(file: &File) -> String {
    const LINES: usize = 4;
    const BYTES: u64 = 2000;
    let tail = tail(file, BYTES);
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<_> = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join(" | ")
}

/// Returns the folder that contains `path`.
pub(crate) fn folder(path: &Path) -> PathBuf {
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
        // A previous write was interrupted and left its temporary file, which the next write replaces.
        fs::write(beside(&path), "par").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        write(&path, b"three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        assert!(write(root.path(), b"").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_replaced_or_refused() {
        use std::os::unix::fs::symlink;

        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("outside"), "theirs").unwrap();
        for link in ["file", "file.partial", "log"] {
            symlink(at("outside"), at(link)).unwrap();
        }
        symlink(at("new"), at("dangling")).unwrap();
        fs::create_dir(at("elsewhere")).unwrap();
        symlink(at("elsewhere"), at("folder")).unwrap();
        let refused = |result: io::Result<()>| result.unwrap_err().kind() == io::ErrorKind::InvalidData;
        assert!(refused(read(&at("file")).map(drop)));
        write(&at("file"), b"ours").unwrap();
        assert_eq!(read(&at("file")).unwrap(), b"ours");
        for link in ["log", "dangling"] {
            assert!(refused(open(&at(link)).map(drop)), "{link}");
        }
        assert!(refused(make_folder(&at("folder"))));
        make_folder(&at("elsewhere")).unwrap();
        assert!(fs::read(at("outside")).unwrap() == b"theirs" && !at("new").exists());
        for text in ["one", "two"] {
            open(&at("plain")).unwrap().write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(read(&at("plain")).unwrap(), b"onetwo");
    }

    #[test]
    fn a_lock_that_is_given_up_is_waited_for_and_one_that_is_kept_is_told() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        let [one, other] = [open(&path).unwrap(), open(&path).unwrap()];
        lock(&one).unwrap();
        assert!(matches!(lock(&other), Err(TryLockError::WouldBlock)));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lock(&other));
            one.unlock().unwrap();
            waiting.join().unwrap().unwrap();
        });
        assert!(matches!(one.try_lock(), Err(TryLockError::WouldBlock)));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_knows_whether_it_is_there() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        let path = root.path().join("run/file");
        write(&path, b"one").unwrap();
        let file = File::open(&path).unwrap();
        let now = |file: &File| (is_there(file, &path), is_removed(file));
        assert_eq!(now(&file), (true, false));
        fs::rename(&folder, root.path().join("away")).unwrap();
        assert_eq!(now(&file), (false, false));
        write(&path, b"another").unwrap();
        assert_eq!(now(&file), (false, false));
        fs::remove_dir_all(root.path().join("away")).unwrap();
        assert_eq!(now(&file), (false, true));
    }
}
