//! Reads the header of a GGUF file and the values of its tensors.
//!
//! The format is described in `docs/gguf.md` in the repository of ggml. Versions 2 and 3 are supported, little-endian
//! only. A key has a typed value. A tensor has dimensions (innermost first), a type, and an offset from the start of
//! the data.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::{super::ImportError, blocks::BlockType};
use crate::limits;

/// The largest number of keys, of tensors, and of entries of a list.
const MOST: u64 = 1 << 24;
/// The largest length of a string in bytes.
const LONGEST: u64 = 1 << 26;
/// The default alignment of the data in bytes.
const ALIGNMENT: i64 = 32;

/// The value of a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    List(Vec<Value>),
}

impl Value {
    fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The location of a tensor.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// The outermost axis first.
    pub shape: Vec<usize>,
    kind: BlockType,
    offset: u64,
}

/// An open file whose header has been read.
#[derive(Debug)]
pub(super) struct Gguf {
    path: PathBuf,
    file: BufReader<File>,
    keys: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Stored>,
    /// The offset of the data in bytes.
    start: u64,
}

impl Gguf {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let io = |source| ImportError::File { path: path.into(), source };
        let file = limits::open(path, u64::MAX).map_err(io)?;
        let mut header = Header { path, file: BufReader::new(file) };
        if &header.bytes::<4>()? != b"GGUF" {
            return Err(header.damaged("it does not begin with GGUF"));
        }
        let version = header.number::<4>()?;
        if !(2..=3).contains(&version) {
            return Err(header.damaged(&format!("its version is {version}; only versions 2 and 3 are supported")));
        }
        let tensor_count = header.count()?;
        let key_count = header.count()?;
        let mut keys = BTreeMap::new();
        for _ in 0..key_count {
            let key = header.text()?;
            let kind = header.number::<4>()?;
            keys.insert(key, header.value(kind)?);
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let (name, stored) = header.tensor()?;
            tensors.insert(name, stored);
        }
        let alignment = match keys.get("general.alignment") {
            Some(&Value::Int(alignment)) if alignment > 0 => alignment,
            Some(_) => return Err(header.damaged("its alignment is not a positive number")),
            None => ALIGNMENT,
        };
        let end = header.file.stream_position().map_err(io)?;
        let start = end.next_multiple_of(alignment.unsigned_abs());
        // Tensors must not overlap, so that the memory needed is bounded by the size of the file.
        let sizes = tensors.values().map(|stored| stored.kind.bytes(&stored.shape).unwrap_or_default());
        let data = sizes.fold(0, u64::saturating_add);
        let length = header.file.get_ref().metadata().map_err(io)?.len();
        if data > length.saturating_sub(end) {
            return Err(header.damaged(&format!("its tensors need {data} bytes, but the file has {length}")));
        }
        Ok(Self { path: path.into(), file: header.file, keys, tensors, start })
    }

    /// Returns the value of a key.
    pub fn key(&self, key: &str) -> Option<&Value> {
        self.keys.get(key)
    }

    /// Returns a non-negative integer.
    pub fn size(&self, key: &str) -> Option<usize> {
        match self.key(key)? {
            &Value::Int(value) => usize::try_from(value).ok(),
            _ => None,
        }
    }

    /// Returns a number.
    pub fn float(&self, key: &str) -> Option<f64> {
        match *self.key(key)? {
            Value::Float(value) => Some(value),
            Value::Int(value) => Some(value as f64),
            _ => None,
        }
    }

    /// Returns a string.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.key(key)?.text()
    }

    /// Returns a list of strings.
    pub fn texts(&self, key: &str) -> Option<Vec<&str>> {
        let Value::List(list) = self.key(key)? else { return None };
        list.iter().map(Value::text).collect()
    }

    /// Returns all tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Stored> {
        &self.tensors
    }

    /// Reads the values of a tensor.
    pub fn numbers(&mut self, name: &str) -> Result<Vec<f32>, ImportError> {
        let Self { path, file, tensors, start, .. } = self;
        let damaged = |reason: String| ImportError::Damaged { path: path.clone(), reason };
        let stored = tensors.get(name).ok_or_else(|| damaged(format!("it has no tensor {name}")))?;
        let bytes = stored.kind.bytes(&stored.shape).filter(|&bytes| bytes <= limits::MAX_WEIGHTS);
        let bytes = bytes.ok_or_else(|| damaged(format!("{name} is not a whole number of blocks, or is too large")))?;
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof => damaged(format!("it is truncated in the tensor {name}")),
            _ => ImportError::File { path: path.clone(), source },
        };
        file.seek(SeekFrom::Start(start.saturating_add(stored.offset))).map_err(io)?;
        let mut content = Vec::new();
        file.take(bytes).read_to_end(&mut content).map_err(io)?;
        if (content.len() as u64) < bytes {
            return Err(io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(stored.kind.numbers(&content))
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads a header from start to end.
struct Header<'a> {
    path: &'a Path,
    file: BufReader<File>,
}

impl Header<'_> {
    fn damaged(&self, reason: &str) -> ImportError {
        ImportError::Damaged { path: self.path.into(), reason: reason.into() }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], ImportError> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends within its header"),
            _ => ImportError::File { path: self.path.into(), source },
        })?;
        Ok(bytes)
    }

    /// Reads an unsigned integer of up to eight bytes.
    fn number<const N: usize>(&mut self) -> Result<u64, ImportError> {
        let bytes = self.bytes::<N>()?;
        Ok(bytes.iter().rev().fold(0, |number, &byte| (number << 8) | u64::from(byte)))
    }

    fn count(&mut self) -> Result<u64, ImportError> {
        let count = self.number::<8>()?;
        if count <= MOST {
            Ok(count)
        } else {
            Err(self.damaged(&format!("a list has {count} entries, which is too many")))
        }
    }

    fn text(&mut self) -> Result<String, ImportError> {
        let length = self.number::<8>()?;
        if length > LONGEST {
            return Err(self.damaged(&format!("a string has {length} bytes, which is too many")));
        }
        let mut bytes = Vec::new();
        let read = (&mut self.file).take(length).read_to_end(&mut bytes);
        read.map_err(|source| ImportError::File { path: self.path.into(), source })?;
        if (bytes.len() as u64) < length {
            return Err(self.damaged("it ends within its header"));
        }
        String::from_utf8(bytes).map_err(|_| self.damaged("a string is not UTF-8"))
    }

    fn value(&mut self, kind: u64) -> Result<Value, ImportError> {
        const LIST: u64 = 9;
        if kind != LIST {
            return self.scalar(kind);
        }
        let kind = self.number::<4>()?;
        let count = self.count()?;
        let values = (0..count).map(|_| self.scalar(kind));
        Ok(Value::List(values.collect::<Result<_, _>>()?))
    }

    fn scalar(&mut self, kind: u64) -> Result<Value, ImportError> {
        let int = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        Ok(match kind {
            0 => int(self.number::<1>()?),
            1 => Value::Int(i8::from_le_bytes(self.bytes()?).into()),
            2 => int(self.number::<2>()?),
            3 => Value::Int(i16::from_le_bytes(self.bytes()?).into()),
            4 => int(self.number::<4>()?),
            5 => Value::Int(i32::from_le_bytes(self.bytes()?).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes()?).into()),
            7 => Value::Bool(self.number::<1>()? != 0),
            8 => Value::Text(self.text()?),
            10 => int(self.number::<8>()?),
            11 => Value::Int(i64::from_le_bytes(self.bytes()?)),
            12 => Value::Float(f64::from_le_bytes(self.bytes()?)),
            other => return Err(self.damaged(&format!("a value has the unknown type {other}"))),
        })
    }

    fn tensor(&mut self) -> Result<(String, Stored), ImportError> {
        const AXES: u64 = 4;
        let name = self.text()?;
        let axes = self.number::<4>()?;
        if axes > AXES {
            return Err(self.damaged(&format!("its tensor {name} has {axes} axes")));
        }
        let mut shape = Vec::new();
        for _ in 0..axes {
            let size = self.number::<8>()?;
            shape.push(usize::try_from(size).map_err(|_| self.damaged(&format!("the tensor {name} is too large")))?);
        }
        shape.reverse();
        let kind = self.number::<4>()?;
        let kind = BlockType::from_number(kind)
            .ok_or_else(|| ImportError::Dtype { tensor: name.clone(), found: format!("number {kind} of GGUF") })?;
        let offset = self.number::<8>()?;
        Ok((name, Stored { shape, kind, offset }))
    }
}
