//! The output of a program: lines to interpret and a log of all others, both with bounded sizes.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    sync::mpsc,
    thread,
};

use crate::durable;

/// The maximum length of a line, in bytes; the rest is dropped.
const LINE: usize = 1 << 20;
/// The approximate maximum size of a log, in bytes; beyond, its beginning is dropped.
const LOG: u64 = 1 << 20;
/// The number of bytes at the end of a log that are then kept.
const TAIL: u64 = 1 << 16;

/// The log of one attempt. The program writes to this file directly, so it can still write if the driver has died.
/// Logging is best effort: what cannot be written is dropped.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    left_out: u64,
}

impl Log {
    /// Creates a log from a file that is open for reading and appending.
    pub(super) fn new(file: File) -> Self {
        Self { file, left_out: 0 }
    }

    /// Returns a handle to the same file for the program.
    pub(super) fn for_program(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    pub(super) fn line(&mut self, line: &str) {
        let _ = self.file.write_all(format!("{line}\n").as_bytes());
    }

    /// Drops the beginning of a log that has become too long. Output that is written at the same time may be lost.
    pub(super) fn bound(&mut self) {
        let length = self.file.metadata().map_or(0, |found| found.len());
        if length <= LOG {
            return;
        }
        let tail = durable::tail(&self.file, TAIL);
        self.left_out += length - tail.len() as u64;
        let left_out = format!("... {} bytes were dropped ...\n", self.left_out);
        let _ = self.file.set_len(0).and_then(|()| self.file.write_all(&[left_out.as_bytes(), &tail].concat()));
    }

    /// Returns the last lines as one line.
    pub(super) fn last_lines(&self) -> String {
        durable::last_lines(&self.file)
    }
}

/// Sends the lines of an output until it ends or the receiver is dropped. If the receiver is slow, the program waits.
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

/// Reads the next line without its line feed and without the part beyond [`LINE`]; `None` at the end.
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
