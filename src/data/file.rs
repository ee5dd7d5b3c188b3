//! Random access to token files.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{TokenError, TokenWidth, megatron};
use crate::{limits, seed::digest};

/// The size in bytes of the header that llm.c writes: 256 integers of 32 bits.
pub(super) const HEADER_BYTES: u64 = 1024;
/// Magic number, version and token width of the headers of llm.c (`dev/data/data_common.py`), for GPT-2 and Llama 3.
pub(super) const HEADERS: [(i32, i32, TokenWidth); 2] =
    [(20_240_520, 1, TokenWidth::U16), (20_240_801, 7, TokenWidth::U32)];

/// A file of tokens with random access from any number of threads. Its content is not loaded into memory; the operating
/// system's page cache serves repeated reads.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    file: File,
    /// The offset of the first token in bytes.
    start: u64,
    width: TokenWidth,
    tokens: u64,
}

impl TokenFile {
    /// Opens a file and detects its format: Megatron-LM if there is an `.idx` file beside it, llm.c if it begins with
    /// that header, and plain tokens of width `plain` otherwise. You can also pass a Megatron prefix without extension.
    ///
    /// # Errors
    /// Returns a [`TokenError`] if the file cannot be read, is truncated, or contradicts its header or index.
    pub fn open(path: impl AsRef<Path>, plain: TokenWidth) -> Result<Self, TokenError> {
        let path = path.as_ref();
        let [_, index] = megatron::pair(path);
        if index.is_file() { Self::megatron(path) } else { Self::flat(path, plain) }
    }

    /// Opens a flat file: tokens, optionally after a header of llm.c. The header states the token width; `plain` is the
    /// width of files without a header.
    ///
    /// # Errors
    /// Returns a [`TokenError`] if the file cannot be read, or if its length contradicts its header or is not a whole
    /// number of tokens.
    pub(crate) fn flat(path: impl AsRef<Path>, plain: TokenWidth) -> Result<Self, TokenError> {
        let path = path.as_ref();
        let (file, length) = open(path)?;
        let mut start = Vec::new();
        (&file).take(HEADER_BYTES).read_to_end(&mut start).map_err(TokenError::io(path))?;
        let number =
            |at: usize| start.get(4 * at..4 * at + 4).map_or(0, |b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let known = HEADERS.into_iter().find(|&(magic, ..)| magic == number(0));
        let Some((_, version, width)) = known.filter(|_| length >= HEADER_BYTES) else {
            if length % plain.bytes() != 0 {
                let expected = format!("a multiple of {} for {plain} tokens", plain.bytes());
                return Err(TokenError::Length { path: path.into(), found: length, expected });
            }
            return Ok(Self { path: path.into(), file, start: 0, width: plain, tokens: length / plain.bytes() });
        };
        if number(1) != version {
            let reason = format!("header version {} is not supported; the supported version is {version}", number(1));
            return Err(TokenError::Format { path: path.into(), offset: 4, reason });
        }
        let tokens = u64::from(number(2) as u32);
        let expected = HEADER_BYTES + tokens * width.bytes();
        if length != expected {
            let expected = format!("{expected} for the {tokens} tokens stated in its header");
            return Err(TokenError::Length { path: path.into(), found: length, expected });
        }
        Ok(Self { path: path.into(), file, start: HEADER_BYTES, width, tokens })
    }

    /// Opens the `.bin` and `.idx` files of Megatron-LM. `path` can have either extension or none.
    ///
    /// # Errors
    /// Returns a [`TokenError`] if a file cannot be read, or if the index is damaged or points beyond the data.
    pub(crate) fn megatron(path: impl AsRef<Path>) -> Result<Self, TokenError> {
        let [path, index] = megatron::pair(path.as_ref());
        let (file, length) = open(&path)?;
        let (reader, index_length) = open(&index)?;
        let width = megatron::check(&index, reader, index_length, length)?;
        Ok(Self { path, file, start: 0, width, tokens: length / width.bytes() })
    }

    /// Returns the number of tokens.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Returns the token width.
    pub fn width(&self) -> TokenWidth {
        self.width
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads `count` tokens, starting at token `at`. Every token must be below `vocab_size`.
    ///
    /// # Errors
    /// Returns a [`TokenError`] if the range exceeds the file, the file cannot be read, or a token is outside the
    /// vocabulary.
    pub fn read(&self, at: u64, count: usize, vocab_size: usize) -> Result<Vec<i32>, TokenError> {
        let width = self.width.bytes();
        if at.checked_add(count as u64).is_none_or(|end| end > self.tokens) {
            let expected = format!("more to read {count} tokens from token {at} on");
            let found = self.start + self.tokens * width;
            return Err(TokenError::Length { path: self.path.clone(), found, expected });
        }
        let offset = self.start + at * width;
        let mut bytes = vec![0; count * width as usize];
        read_exact_at(&self.file, &mut bytes, offset).map_err(TokenError::io(&self.path))?;
        let tokens = bytes.chunks_exact(width as usize).enumerate().map(|(index, bytes)| {
            let token = self.width.decode(bytes);
            let small = i32::try_from(token).ok().filter(|&small| small >= 0 && (small as usize) < vocab_size);
            small.ok_or_else(|| TokenError::Vocabulary {
                path: self.path.clone(),
                offset: offset + index as u64 * width,
                token,
                vocab_size,
            })
        });
        tokens.collect()
    }

    /// Returns a digest of the number of tokens, the token width and the tokens. For large files, it covers 1,024
    /// blocks spread over the file. Two files with the same digest are treated as the same data.
    ///
    /// # Errors
    /// Returns a [`TokenError`] if the file cannot be read.
    pub fn digest(&self) -> Result<String, TokenError> {
        const BLOCK: u64 = 4096;
        let bytes = self.tokens * self.width.bytes();
        let blocks = bytes.div_ceil(BLOCK).clamp(1, 1024);
        let mut content = format!("{} {} ", self.tokens, self.width).into_bytes();
        for block in 0..blocks {
            // The first block is at the start of the file, the last one at its end.
            let at =
                (bytes.saturating_sub(BLOCK) as u128 * block as u128 / blocks.saturating_sub(1).max(1) as u128) as u64;
            let start = content.len();
            content.resize(start + BLOCK.min(bytes - at) as usize, 0);
            read_exact_at(&self.file, &mut content[start..], self.start + at).map_err(TokenError::io(&self.path))?;
        }
        Ok(format!("{:032x}", digest(&content)))
    }

    /// Reads the whole file and checks that every token is below `vocab_size`.
    ///
    /// # Errors
    /// Returns a [`TokenError`] at the first token that is not, or if the file cannot be read.
    pub fn check(&self, vocab_size: usize) -> Result<(), TokenError> {
        const AT_ONCE: u64 = 1 << 20;
        for at in (0..self.tokens).step_by(AT_ONCE as usize) {
            self.read(at, AT_ONCE.min(self.tokens - at) as usize, vocab_size)?;
        }
        Ok(())
    }
}

/// Opens a file and returns its length.
fn open(path: &Path) -> Result<(File, u64), TokenError> {
    // The file is read in parts, so its size is not limited.
    let file = limits::open(path, u64::MAX).map_err(TokenError::io(path))?;
    let metadata = file.metadata().map_err(TokenError::io(path))?;
    Ok((file, metadata.len()))
}

/// Reads at an offset without moving the file's cursor, so that threads can share the file.
#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Reads at an offset. Every call states its offset, so threads can share the file.
#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (bytes, offset) = (&mut bytes[read..], offset + read as u64);
    }
    Ok(())
}
