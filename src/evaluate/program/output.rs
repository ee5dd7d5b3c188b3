//! What a program prints: lines for us, and a log of all else, both of bounded size.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    sync::mpsc,
    thread,
};

use crate::durable;

/// Bytes of a line, at most; what is beyond is dropped.
const LINE: usize = 1 << 20;
/// Bytes of a log, roughly: beyond that, its beginning is dropped.
const LOG: u64 = 1 << 20;
/// Bytes at the end of a log that are kept then.
const TAIL: u64 = 1 << 16;

/// The log of one attempt: a file to which the program itself prints, so that it can print when the driver has died. It
/// is no condition of anything: what cannot be written is missing, no more.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    left_out: u64,
}

impl Log {
    /// A log in a file that is open for reading and appending.
    pub(super) fn new(file: File) -> Self {
        Self { file, left_out: 0 }
    }

    /// The same file, for the program.
    pub(super) fn for_program(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    pub(super) fn line(&mut self, line: &str) {
        let _ = self.file.write_all(format!("{line}\n").as_bytes());
    }

    /// Drops the beginning of a log that has grown too long. What is printed meanwhile may be dropped too.
    pub(super) fn bound(&mut self) {
        let length = self.file.metadata().map_or(0, |found| found.len());
        if length <= LOG {
            return;
        }
        let tail = durable::tail(&self.file, TAIL);
        self.left_out += length - tail.len() as u64;
        let left_out = format!("... {} bytes are left out ...\n", self.left_out);
        let _ = self.file.set_len(0).and_then(|()| self.file.write_all(&[left_out.as_bytes(), &tail].concat()));
    }

    /// The last lines in one.
    pub(super) fn last_lines(&self) -> String {
        durable::last_lines(&self.file)
    }
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
    use crate::durable;

    #[test]
    fn lines_are_bounded() {
        let mut text = vec![b'x'; 3 * LINE];
        text.extend(b"\n\nlast");
        let lines: Vec<_> = lines(Cursor::new(text)).unwrap().iter().collect();
        assert_eq!((lines.len(), lines[0].len(), lines[1].as_str(), lines[2].as_str()), (3, LINE, "", "last"));
    }

    #[test]
    fn a_log_keeps_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = Log::new(durable::open(&path).unwrap());
        let mut program = log.for_program().unwrap();
        log.line("first");
        for _ in 0..300 {
            program.write_all(&[b'.'; 10_000]).unwrap();
            log.bound();
        }
        program.write_all(b"\n1\n\n2\r3\n4\nlast \xff\n").unwrap();
        log.bound();
        let text = fs::read(&path).unwrap();
        assert!(text.starts_with(b"... ") && text.ends_with(b"last \xff\n"));
        assert!((TAIL..LOG + 10_000).contains(&(text.len() as u64)), "{}", text.len());
        assert_eq!(log.last_lines(), "2 | 3 | 4 | last \u{fffd}");
    }
}
