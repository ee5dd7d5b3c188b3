//! JSON Lines files: one value per line, optionally after a header line.

use std::{io, marker::PhantomData, path::Path};

use serde::{Serialize, de::DeserializeOwned};

use super::{LineFile, LineFileError, complete};

/// A [`LineFile`] of JSON values of type `T`.
///
/// Opening it also returns its contents. [`lines`] parses them, as it does the contents of a file that another process
/// has open.
#[derive(Debug)]
pub(crate) struct JsonFile<T> {
    file: LineFile,
    added: PhantomData<fn(&T)>,
}

impl<T: Serialize> JsonFile<T> {
    /// Opens a file without a header; see [`LineFile::open`].
    ///
    /// # Errors
    /// Returns the same errors as [`LineFile::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<(Self, Vec<u8>), LineFileError> {
        let (file, bytes) = LineFile::open(path)?;
        Ok((Self { file, added: PhantomData }, bytes))
    }

    /// Opens a file that begins with a header; see [`LineFile::open_with_header`]. The caller compares the header.
    ///
    /// # Errors
    /// Returns the same errors as [`LineFile::open_with_header`].
    pub fn open_with_header(path: impl AsRef<Path>, header: &impl Serialize) -> Result<(Self, Vec<u8>), LineFileError> {
        let path = path.as_ref();
        let (file, bytes) = LineFile::open_with_header(path, &text(path, header)?)?;
        Ok((Self { file, added: PhantomData }, bytes))
    }

    /// Appends a value. It is on disk when this function returns.
    ///
    /// # Errors
    /// Returns the same errors as [`LineFile::append`], and [`LineFileError::Write`] if the value has no JSON form.
    pub fn append(&mut self, value: &T) -> Result<(), LineFileError> {
        let line = text(self.file.path(), value)?;
        self.file.append(&line)
    }

    /// Returns the underlying file, to cut or restore it.
    pub fn file(&mut self) -> &mut LineFile {
        &mut self.file
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

fn text(path: &Path, value: &impl Serialize) -> Result<String, LineFileError> {
    serde_json::to_string(value).map_err(|error| LineFileError::Write {
        path: path.into(),
        source: io::Error::from(error),
        line: String::new(),
    })
}

/// A complete line of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// The line number, counted from one.
    pub number: usize,
    /// The contents, without the line feed.
    pub text: &'a [u8],
    /// The offset of the next line, in bytes.
    pub end: u64,
}

impl Line<'_> {
    /// Parses the line.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, BadLine> {
        serde_json::from_slice(self.text).map_err(|error| BadLine { number: self.number, reason: error.to_string() })
    }
}

/// A complete line that cannot be parsed.
#[derive(Debug)]
pub(crate) struct BadLine {
    /// The line number, counted from one.
    pub number: usize,
    /// The reason.
    pub reason: String,
}

/// Iterates over the [complete] lines of a file.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut end = 0;
    complete(bytes).split_inclusive(|&byte| byte == b'\n').zip(1..).map(move |(text, number)| {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        end += text.len() as u64 + 1;
        Line { number, text, end }
    })
}

/// Parses all lines of a file without a header.
pub(crate) fn values<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, BadLine> {
    lines(bytes).map(|line| line.parse()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_file_cut_at_any_byte_loses_at_most_the_value_it_falls_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("values");
        let header = json!({"format": "numbers"});
        let added = [json!({"a": 1}), json!({"a": 23, "b": "\u{fc}"})];
        let open = || JsonFile::<Value>::open_with_header(&path, &header).unwrap();
        let (mut file, bytes) = open();
        assert_eq!(bytes, b"{\"format\":\"numbers\"}\n");
        added.iter().for_each(|value| file.append(value).unwrap());
        drop(file);
        let whole = fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut file, bytes) = open();
            let found: Vec<Value> = values(&bytes).unwrap();
            // A line is complete even without its line feed.
            let ended = whole[..whole.len().min(cut + 1)].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(found.len(), ended.max(1), "cut at byte {cut}");
            added[found.len() - 1..].iter().for_each(|value| file.append(value).unwrap());
            let whole: Vec<Value> = values(&whole).unwrap();
            assert_eq!(values::<Value>(&fs::read(&path).unwrap()).unwrap(), whole, "cut at byte {cut}");
        }
    }

    #[test]
    fn lines_know_where_they_end() {
        for text in ["{}\n{\"a\":1}\n", "{}\n{\"a\":1}", "{}\n{\"a\":1}\n{\"to"] {
            let ends: Vec<_> = lines(text.as_bytes()).map(|line| (line.number, line.end)).collect();
            assert_eq!(ends, [(1, 3), (2, 11)]);
        }
    }

    #[test]
    fn a_line_that_says_something_else_is_named() {
        assert_eq!(values::<u32>(b"1\n2").unwrap(), [1, 2]);
        let bad = values::<u32>(b"1\n\"two\"\n3\n").unwrap_err();
        assert!(bad.number == 2 && bad.reason.contains("invalid type"), "{bad:?}");
    }
}
