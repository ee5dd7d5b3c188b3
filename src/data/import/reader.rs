//! Reads documents from text files.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    vec,
};

use serde_json::Value;

use super::TextError;
use crate::limits;

/// An iterator over the documents of text files. In a file whose name ends in `.jsonl`, every line is a JSON object
/// with the text in its field `text`. Any other file is one document.
#[derive(Debug)]
pub struct TextReader {
    files: vec::IntoIter<PathBuf>,
    lines: Option<(PathBuf, usize, BufReader<File>)>,
}

impl TextReader {
    /// Creates a reader of these files, in this order.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: files.into_iter().collect::<Vec<_>>().into_iter(), lines: None }
    }

    /// Returns the text of the next non-blank line, or `None` at the end of the file.
    fn line(path: &Path, number: &mut usize, reader: &mut impl BufRead) -> Option<Result<String, TextError>> {
        let mut line = String::new();
        loop {
            line.clear();
            *number += 1;
            match reader.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) if line.trim().is_empty() => continue,
                Ok(_) => {}
                Err(source) => return Some(Err(TextError::Io { path: path.into(), source })),
            }
            let wrong = |reason: String| TextError::Line { path: path.into(), line: *number, reason };
            return Some(match serde_json::from_str::<Value>(&line) {
                Ok(Value::Object(mut fields)) => match fields.remove("text") {
                    Some(Value::String(text)) => Ok(text),
                    Some(_) => Err(wrong("its field \"text\" is not a string".into())),
                    None => Err(wrong("it has no field \"text\"".into())),
                },
                Ok(_) => Err(wrong("it is not a JSON object".into())),
                Err(error) => Err(wrong(error.to_string())),
            });
        }
    }

    fn next_document(&mut self) -> Option<Result<String, TextError>> {
        loop {
            if let Some((path, number, reader)) = &mut self.lines {
                match Self::line(path, number, reader) {
                    Some(document) => return Some(document),
                    None => self.lines = None,
                }
            }
            let path = self.files.next()?;
            let error = |source| TextError::Io { path: path.clone(), source };
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                // The file is read line by line, so its size is not limited.
                match limits::open(&path, u64::MAX) {
                    Ok(file) => self.lines = Some((path, 0, BufReader::new(file))),
                    Err(source) => return Some(Err(error(source))),
                }
                continue;
            }
            return Some(limits::read_text(&path, limits::MAX_LINES).map_err(error));
        }
    }
}

impl Iterator for TextReader {
    type Item = Result<String, TextError>;

    /// Returns the next non-empty document. The iterator ends after an error.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let document = self.next_document()?;
            match &document {
                Ok(text) if text.is_empty() => {}
                Ok(_) => return Some(document),
                Err(_) => {
                    self.files = Vec::new().into_iter();
                    self.lines = None;
                    return Some(document);
                }
            }
        }
    }
}
