//! Writes token files.

use std::{
    fs,
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{
    TokenError, TokenWidth,
    file::{HEADER_BYTES, HEADERS},
    megatron,
};
use crate::durable::{self, NewFile};

/// The format of a token file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenFormat {
    /// Plain tokens without a header.
    Plain,
    /// A header of llm.c, then the tokens.
    Header,
    /// The `.bin` and `.idx` files of Megatron-LM, with one sequence per document.
    Megatron,
}

/// Writes a token file document by document. The file appears under its name only after [`finish`](Self::finish).
#[derive(Debug)]
pub struct TokenWriter {
    path: PathBuf,
    file: BufWriter<NewFile>,
    format: TokenFormat,
    width: TokenWidth,
    /// The number of tokens of each document.
    lengths: Vec<u32>,
    tokens: u64,
}

impl TokenWriter {
    /// Creates a token file, and its folder if necessary.
    ///
    /// Use [`TokenWidth::U16`] for vocabularies of up to 65,536 tokens and [`TokenWidth::U32`] for larger ones.
    /// Megatron-LM has no `u32`; `i32` is used instead.
    ///
    /// # Errors
    /// Returns [`TokenError::Io`] if the file cannot be created, or [`TokenError::Format`] if the format does not
    /// support the width.
    pub fn create(path: impl AsRef<Path>, format: TokenFormat, width: TokenWidth) -> Result<Self, TokenError> {
        let path = match format {
            TokenFormat::Megatron => {
                let [path, _] = megatron::pair(path.as_ref());
                path
            }
            TokenFormat::Plain | TokenFormat::Header => path.as_ref().to_owned(),
        };
        let width = match (format, width) {
            (TokenFormat::Megatron, TokenWidth::U32) => TokenWidth::I32,
            (_, width) => width,
        };
        if format == TokenFormat::Header && HEADERS.into_iter().all(|(.., known)| known != width) {
            let reason = format!("a file with a header supports u16 and u32, not {width}");
            return Err(TokenError::Format { path, offset: 0, reason });
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(TokenError::io(folder))?;
        }
        let file = BufWriter::new(NewFile::create(&path).map_err(TokenError::io(&path))?);
        let mut writer = Self { path, file, format, width, lengths: Vec::new(), tokens: 0 };
        if format == TokenFormat::Header {
            writer.write(&[0; HEADER_BYTES as usize])?;
        }
        Ok(writer)
    }

    /// Appends a document.
    ///
    /// # Errors
    /// Returns a [`TokenError`] if a token does not fit the width, in which case nothing of the document is written, or
    /// if writing fails.
    pub fn document(&mut self, tokens: &[u32]) -> Result<(), TokenError> {
        let limit = match self.width {
            TokenWidth::U8 => 1 << 8,
            TokenWidth::U16 => 1 << 16,
            TokenWidth::I32 => 1 << 31,
            TokenWidth::U32 | TokenWidth::I64 => 1u64 << 32,
        };
        if let Some(&token) = tokens.iter().find(|&&token| u64::from(token) >= limit) {
            return Err(TokenError::Width { token, width: self.width });
        }
        let width = self.width.bytes() as usize;
        let bytes: Vec<u8> =
            tokens.iter().flat_map(|&token| u64::from(token).to_le_bytes().into_iter().take(width)).collect();
        self.write(&bytes)?;
        self.tokens += tokens.len() as u64;
        // The format limits a sequence to 2^31 tokens, so a longer document becomes several sequences.
        self.lengths.extend(tokens.chunks(i32::MAX as usize).map(|part| part.len() as u32));
        Ok(())
    }

    /// Returns the number of tokens so far.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Syncs the file to disk and moves it to its final path.
    ///
    /// # Errors
    /// Returns a [`TokenError`] if writing fails, or if there are more tokens than a header can state.
    pub fn finish(mut self) -> Result<(), TokenError> {
        if self.format == TokenFormat::Header {
            self.write_header()?;
        }
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error);
        let file = file.and_then(|file| file.sync().map(|()| file)).map_err(TokenError::io(&self.path))?;
        if self.format == TokenFormat::Megatron {
            let [_, index] = megatron::pair(&self.path);
            let mut bytes = Vec::new();
            let written = megatron::write_index(&mut bytes, self.width, &self.lengths);
            written.and_then(|()| durable::write(&index, &bytes)).map_err(TokenError::io(index))?;
        }
        file.finish().map_err(TokenError::io(&self.path))
    }

    fn write_header(&mut self) -> Result<(), TokenError> {
        let header = HEADERS.into_iter().find(|&(.., width)| width == self.width);
        let (Ok(tokens), Some((magic, version, _))) = (u32::try_from(self.tokens), header) else {
            let reason = format!("a header cannot state {} tokens: use another format", self.tokens);
            return Err(TokenError::Format { path: self.path.clone(), offset: 8, reason });
        };
        let start: Vec<u8> =
            [magic as u32, version as u32, tokens].iter().flat_map(|number| number.to_le_bytes()).collect();
        let moved = self.file.seek(SeekFrom::Start(0));
        moved.map_err(TokenError::io(&self.path))?;
        self.write(&start)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TokenError> {
        self.file.write_all(bytes).map_err(TokenError::io(&self.path))
    }
}
