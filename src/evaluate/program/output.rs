//! What a program prints: lines for us, and a log of all else, both of bounded size.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

/// Bytes of a line, at most; what is beyond is dropped.
const LINE: usize = 1 << 20;
/// Bytes at the beginning of a log that are kept.
const HEAD: u64 = 1 << 19;
/// Bytes at the end of a log that are kept.
const TAIL: usize = 1 << 16;

/// The log of one attempt. Its file is no condition of anything: where the disk is full, it is cut.
#[derive(Debug)]
pub(super) struct Log {
    file: Option<File>,
    total: u64,
    tail: VecDeque<u8>,
}

/// A log that the readers of both outputs share.
#[derive(Clone, Debug)]
pub(super) struct SharedLog(Arc<Mutex<Log>>);

impl SharedLog {
    pub(super) fn new(file: Option<File>) -> Self {
        Self(Arc::new(Mutex::new(Log { file, total: 0, tail: VecDeque::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, bytes: &[u8]) {
        self.lock().add(bytes);
    }

    /// Writes the end, where it is not in the file yet.
    pub(super) fn finish(&self) {
        self.lock().finish();
    }

    /// The last lines in one.
    pub(super) fn last_lines(&self) -> String {
        self.lock().last_lines()
    }
}

impl Log {
    fn add(&mut self, bytes: &[u8]) {
        let room = HEAD.saturating_sub(self.total);
        let head = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        // A log that cannot be written must not end an evaluation.
        let _ = self.file.as_mut().map(|file| file.write_all(head));
        self.total += bytes.len() as u64;
        self.tail.extend(&bytes[bytes.len().saturating_sub(TAIL)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
    }

    fn finish(&mut self) {
        let Some(mut file) = self.file.take() else { return };
        let beyond = self.total.saturating_sub(HEAD);
        let kept = usize::try_from(beyond).unwrap_or(TAIL).min(self.tail.len());
        if kept == 0 {
            return;
        }
        let left_out = beyond - kept as u64;
        let gap = if left_out > 0 { format!("\n... {left_out} bytes are left out ...\n") } else { String::new() };
        let tail: Vec<u8> = self.tail.range(self.tail.len() - kept..).copied().collect();
        let _ = file.write_all(gap.as_bytes()).and_then(|()| file.write_all(&tail));
    }

    fn last_lines(&self) -> String {
        const LINES: usize = 4;
        const BYTES: usize = 2000;
        let tail: Vec<u8> = self.tail.range(self.tail.len().saturating_sub(BYTES)..).copied().collect();
        let text = String::from_utf8_lossy(&tail);
        let lines: Vec<_> = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(LINES)..].join(" | ")
    }
}

/// Copies an output to the log until it ends.
pub(super) fn keep(output: impl Read + Send + 'static, log: SharedLog) -> io::Result<()> {
    let mut output = output;
    let copy = move || {
        let mut bytes = [0; 8192];
        loop {
            match output.read(&mut bytes) {
                Ok(0) => return,
                Ok(read) => log.add(&bytes[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    };
    thread::Builder::new().name("program-log".into()).spawn(copy).map(drop)
}

/// Passes on the lines of an output until it ends or nobody listens. Whoever does not take them makes the program wait.
pub(super) fn lines(output: impl Read + Send + 'static) -> io::Result<mpsc::Receiver<String>> {
    const WAITING: usize = 64;
    let (sender, lines) = mpsc::sync_channel(WAITING);
    let mut output = BufReader::new(output);
    let pass = move || {
        while let Ok(Some(line)) = next_line(&mut output) {
            if sender.send(line).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("program-output".into()).spawn(pass)?;
    Ok(lines)
}

/// The next line without its end, and without what is beyond [`LINE`]; `None` at the end.
fn next_line(output: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    loop {
        let bytes = match output.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        if bytes.is_empty() {
            let text = (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned());
            return Ok(text);
        }
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        line.extend(&part[..part.len().min(LINE - line.len())]);
        let used = end.map_or(bytes.len(), |end| end + 1);
        output.consume(used);
        if end.is_some() {
            return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Cursor};

    use super::*;

    #[test]
    fn lines_are_bounded() {
        let mut text = vec![b'x'; 3 * LINE];
        text.extend(b"\n\nlast");
        let lines: Vec<_> = lines(Cursor::new(text)).unwrap().iter().collect();
        assert_eq!((lines.len(), lines[0].len(), lines[1].as_str(), lines[2].as_str()), (3, LINE, "", "last"));
    }

    #[test]
    fn a_log_keeps_its_beginning_and_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = SharedLog::new(Some(File::create(&path).unwrap()));
        log.add(b"first\n");
        for _ in 0..100 {
            log.add(&[b'.'; 10_000]);
        }
        log.add(b"\n1\n\n2\r3\n4\nlast \xff\n");
        log.finish();
        let text = fs::read(&path).unwrap();
        assert!(text.starts_with(b"first\n...") && text.ends_with(b"last \xff\n"));
        assert!((HEAD as usize + TAIL..HEAD as usize + TAIL + 50).contains(&text.len()), "{}", text.len());
        assert!(String::from_utf8_lossy(&text).contains(" bytes are left out ...\n"));
        assert_eq!(log.last_lines(), "2 | 3 | 4 | last \u{fffd}");

        // Nothing is told twice where nothing is left out.
        let log = SharedLog::new(Some(File::create(&path).unwrap()));
        log.add(b"short\n");
        log.finish();
        assert_eq!(fs::read(&path).unwrap(), b"short\n");
        SharedLog::new(None).add(b"without a file");
    }
}
