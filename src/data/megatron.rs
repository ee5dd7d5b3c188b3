//! The index file of Megatron-LM (`megatron/core/datasets/indexed_dataset.py`).
//!
//! Layout, all little-endian: magic `MMIDIDX\0\0`, version 1 (u64), code of the token type (u8), number of sequences
//! (u64), number of document boundaries (u64); then the length of every sequence in tokens (i32), the offset of every
//! sequence in the `.bin` file in bytes (i64), and the document boundaries as sequence numbers (i64), starting with 0.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use super::{TokenError, TokenWidth};

const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
/// Bytes before the lengths.
const HEAD: u64 = 9 + 8 + 1 + 8 + 8;

/// The codes of the supported token types.
const CODES: [(u8, TokenWidth); 4] =
    [(1, TokenWidth::U8), (4, TokenWidth::I32), (5, TokenWidth::I64), (8, TokenWidth::U16)];

/// Returns the paths of the data and of the index. `path` can be either of them, or their common prefix.
pub(super) fn pair(path: &Path) -> [PathBuf; 2] {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let prefix = if matches!(extension, Some("bin" | "idx")) { path.with_extension("") } else { path.to_owned() };
    ["bin", "idx"].map(|extension| {
        let mut name = prefix.clone().into_os_string();
        name.push(".");
        name.push(extension);
        name.into()
    })
}

/// Checks an index of `length` bytes against `.bin` data of `data_length` bytes. Returns the token width.
pub(super) fn check(path: &Path, file: File, length: u64, data_length: u64) -> Result<TokenWidth, TokenError> {
    let mut index = Index { path, reader: BufReader::new(file), offset: 0 };
    if length < HEAD {
        return Err(index.length(length, format!("at least {HEAD}")));
    }
    if index.take()? != *MAGIC {
        return Err(index.wrong(0, "this is not an index of Megatron-LM".into()));
    }
    let version = index.u64()?;
    if version != 1 {
        return Err(index.wrong(9, format!("version {version} is not supported; the supported version is 1")));
    }
    let [code] = index.take()?;
    let width = CODES.into_iter().find(|&(known, _)| known == code);
    let (_, width) = width.ok_or_else(|| index.wrong(17, format!("token type {code} is not supported")))?;
    let sequences = index.u64()?;
    let boundaries = index.u64()?;
    let expected = u128::from(HEAD) + 12 * u128::from(sequences) + 8 * u128::from(boundaries);
    if u128::from(length) != expected {
        return Err(index.length(length, format!("{expected} for {sequences} sequences, {boundaries} boundaries")));
    }
    let mut lengths = Vec::with_capacity(sequences as usize);
    for _ in 0..sequences {
        let at = index.offset;
        let length = i32::from_le_bytes(index.take()?);
        lengths.push(u64::try_from(length).map_err(|_| index.wrong(at, format!("a sequence has {length} tokens")))?);
    }
    let mut end = 0;
    for (sequence, length) in lengths.iter().enumerate() {
        let at = index.offset;
        let pointer = index.u64()?;
        if pointer != end {
            let reason =
                format!("sequence {sequence} begins at byte {pointer} of the data, but the one before ends at {end}");
            return Err(index.wrong(at, reason));
        }
        end += length * width.bytes();
        if end > data_length {
            let reason = format!("sequence {sequence} ends at byte {end}, but the data has {data_length} bytes");
            return Err(index.wrong(at, reason));
        }
    }
    if end != data_length {
        return Err(
            index.wrong(index.offset, format!("the sequences end at byte {end}, but the data has {data_length} bytes"))
        );
    }
    let mut before = 0;
    for _ in 0..boundaries {
        let at = index.offset;
        let boundary = index.u64()?;
        if boundary < before || boundary > sequences {
            return Err(
                index.wrong(at, format!("document boundary {boundary} after {before}, of {sequences} sequences"))
            );
        }
        before = boundary;
    }
    Ok(width)
}

/// Writes an index with one sequence per document. `lengths` has the number of tokens of each document.
pub(super) fn write_index(mut file: impl Write, width: TokenWidth, lengths: &[u32]) -> io::Result<()> {
    let code = CODES.into_iter().find(|&(_, known)| known == width).map(|(code, _)| code);
    let code = code.ok_or_else(|| io::Error::other("Megatron-LM does not support this token type"))?;
    file.write_all(MAGIC)?;
    file.write_all(&1u64.to_le_bytes())?;
    file.write_all(&[code])?;
    file.write_all(&(lengths.len() as u64).to_le_bytes())?;
    file.write_all(&(lengths.len() as u64 + 1).to_le_bytes())?;
    for length in lengths {
        file.write_all(&length.to_le_bytes())?;
    }
    let mut pointer = 0;
    for length in lengths {
        file.write_all(&u64::to_le_bytes(pointer))?;
        pointer += u64::from(*length) * width.bytes();
    }
    for boundary in 0..=lengths.len() as u64 {
        file.write_all(&boundary.to_le_bytes())?;
    }
    Ok(())
}

/// An index that is being read.
struct Index<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    offset: u64,
}

impl Index<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], TokenError> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(TokenError::io(self.path))?;
        self.offset += N as u64;
        Ok(bytes)
    }

    fn u64(&mut self) -> Result<u64, TokenError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn wrong(&self, offset: u64, reason: String) -> TokenError {
        TokenError::Format { path: self.path.into(), offset, reason }
    }

    fn length(&self, found: u64, expected: String) -> TokenError {
        TokenError::Length { path: self.path.into(), found, expected }
    }
}
