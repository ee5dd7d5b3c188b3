//! Mutating inputs.
//!
//! Most formats of the crate are JSON, JSON lines or other text, and parsers reject almost all random bytes
//! immediately. So mutations change meaningful parts: numbers, lines, nodes of a JSON tree, the header of a tensor
//! file.

use composer_nas::seed::Rng;
use rand::{
    RngExt,
    seq::{IndexedRandom, IteratorRandom},
};
use serde_json::{Map, Value, json};

/// The maximum size of an input, in bytes.
pub const MAX_BYTES: usize = 1 << 16;

/// Critical numbers, as text: JSON has no others, and CSV and names accept any text.
const NUMBERS: [&str; 30] = [
    "0",
    "-0",
    "-0.0",
    "1",
    "-1",
    "2",
    "3",
    "0.1",
    "1e-320",
    "5e-324",
    "1e-9",
    "1e16",
    "1e300",
    "1e308",
    "-1e308",
    "1.7976931348623157e308",
    "1e999",
    "255",
    "65535",
    "65536",
    "16777216",
    "2147483647",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
];

/// Words that have a meaning in a format, or that are difficult to display.
const WORDS: [&str; 24] = [
    "null",
    "NaN",
    "Infinity",
    "-inf",
    "true",
    "\"\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "\\u0000",
    "\u{0}",
    "\u{1b}[2J",
    "\r\n",
    "\u{feff}",
    "\u{202e}",
    "é",
    "👩‍🔬",
    "<script>",
    "]]>",
    "=1+1",
    "../../etc",
    ",",
    "#",
    "\"",
];

/// Returns a mutated copy of `input`, possibly with pieces of a second input `other`.
pub fn mutate(input: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    loop {
        bytes = once(&bytes, other, rng);
        bytes.truncate(MAX_BYTES);
        if rng.random_bool(0.6) {
            return bytes;
        }
    }
}

fn once(bytes: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    if let Some((header, data)) = tensors(bytes)
        && rng.random_bool(0.6)
    {
        return with_header(&text(header, &String::from_utf8_lossy(other), rng), data, rng);
    }
    match std::str::from_utf8(bytes) {
        Ok(known) if !known.is_empty() && rng.random_bool(0.9) => {
            text(known, &String::from_utf8_lossy(other), rng).into_bytes()
        }
        _ => binary(bytes, other, rng),
    }
}

/// Splits a safetensors file into its JSON header and its data.
fn tensors(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (header, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    std::str::from_utf8(header).ok().filter(|header| header.starts_with('{')).map(|header| (header, data))
}

/// Adds the length of the header. It is usually correct, so that the reader gets to the header.
fn with_header(header: &str, data: &[u8], rng: &mut Rng) -> Vec<u8> {
    let length = if rng.random_bool(0.95) { header.len() as u64 } else { number(rng) };
    [&length.to_le_bytes(), header.as_bytes(), data].concat()
}

fn text(known: &str, other: &str, rng: &mut Rng) -> String {
    match rng.random_range(0..20) {
        0..=10 => json_or_numbers(known, other, rng),
        11..=14 => numbers(known, rng),
        15 | 16 => lines(known, other, rng),
        17 => insert(known, WORDS.choose(rng).unwrap_or(&""), rng),
        18 => splice(known, other, rng),
        _ => cut(known, rng),
    }
}

/// Changes a node in the JSON tree of the whole text or of a line; a number if there is no JSON.
fn json_or_numbers(known: &str, other: &str, rng: &mut Rng) -> String {
    if let Ok(mut value) = serde_json::from_str::<Value>(known) {
        change_node(&mut value, serde_json::from_str(other).ok(), rng);
        return value.to_string();
    }
    let mut lines: Vec<_> = known.split('\n').map(str::to_owned).collect();
    let at = rng.random_range(0..lines.len());
    let Ok(mut value) = serde_json::from_str::<Value>(&lines[at]) else { return numbers(known, rng) };
    let other = other.lines().choose(rng).and_then(|line| serde_json::from_str(line).ok());
    change_node(&mut value, other, rng);
    lines[at] = value.to_string();
    lines.join("\n")
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(fields) => fields.values().map(nodes).sum(),
        _ => 0,
    }
}

/// Returns a node by its position in the text.
fn node<'a>(value: &'a mut Value, at: &mut usize) -> Option<&'a mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| node(item, at)),
        Value::Object(fields) => fields.values_mut().find_map(|field| node(field, at)),
        _ => None,
    }
}

fn change_node(value: &mut Value, other: Option<Value>, rng: &mut Rng) {
    let donor = other.and_then(|mut other| {
        let mut at = rng.random_range(0..nodes(&other));
        node(&mut other, &mut at).cloned()
    });
    let mut at = rng.random_range(0..nodes(value));
    let Some(node) = node(value, &mut at) else { return };
    match (rng.random_range(0..8), &mut *node) {
        (0, Value::Object(fields)) if !fields.is_empty() => rename(fields, rng),
        (1, Value::Object(fields)) if !fields.is_empty() => {
            fields.remove(&key(fields, rng));
        }
        (0 | 1, Value::Array(items)) if !items.is_empty() => {
            let at = rng.random_range(0..items.len());
            let item = items.remove(at);
            // Zero copies, or more than there were.
            items.extend(std::iter::repeat_n(item, *[0, 2, 3, 40].choose(rng).unwrap_or(&0)));
        }
        (0 | 1, Value::String(word)) => *word = insert(word, WORDS.choose(rng).unwrap_or(&""), rng),
        (2, _) => *node = donor.unwrap_or(Value::Null),
        (3, _) => {
            let inner = node.take();
            *node = if rng.random() { json!([inner]) } else { json!({ "inner": inner }) };
        }
        (_, Value::Number(_)) => *node = parsed(&any_number(rng)),
        (_, Value::Bool(known)) => *known = !*known,
        (_, Value::String(_)) => *node = donor.filter(Value::is_string).unwrap_or_else(|| scalar(rng)),
        (4, _) => *node = scalar(rng),
        (_, Value::Array(items)) if items.len() > 1 => items.rotate_left(1),
        _ => *node = donor.unwrap_or_else(|| scalar(rng)),
    }
}

fn key(fields: &Map<String, Value>, rng: &mut Rng) -> String {
    fields.keys().choose(rng).cloned().unwrap_or_default()
}

/// Renames a field to another's name or to a meaningless one.
fn rename(fields: &mut Map<String, Value>, rng: &mut Rng) {
    let from = key(fields, rng);
    let to = key(fields, rng);
    let to = if rng.random() { to } else { "unknown".into() };
    if let Some(value) = fields.remove(&from) {
        fields.insert(to, value);
    }
}

fn scalar(rng: &mut Rng) -> Value {
    let word = if rng.random_bool(0.8) { NUMBERS.choose(rng) } else { WORDS.choose(rng) };
    parsed(word.unwrap_or(&"null"))
}

/// Parses a JSON value; other text becomes a JSON string.
fn parsed(word: &str) -> Value {
    serde_json::from_str(word).unwrap_or_else(|_| word.into())
}

/// Returns a small or critical number.
fn any_number(rng: &mut Rng) -> String {
    match rng.random_range(0..3) {
        0 => rng.random_range(0..20).to_string(),
        _ => NUMBERS.choose(rng).copied().unwrap_or("0").to_owned(),
    }
}

/// Replaces a number in the text, or changes one of its digits.
fn numbers(known: &str, rng: &mut Rng) -> String {
    let part = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
    let mut spans = Vec::new();
    let mut start = None;
    for (at, c) in known.char_indices().chain([(known.len(), ' ')]) {
        match (start, part(c)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                spans.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    let Some(span) = spans.choose(rng) else { return insert(known, NUMBERS.choose(rng).unwrap_or(&"0"), rng) };
    [&known[..span.start], &any_number(rng), &known[span.end..]].concat()
}

/// Removes, repeats, swaps or inserts lines.
fn lines(known: &str, other: &str, rng: &mut Rng) -> String {
    let mut lines: Vec<&str> = known.split_inclusive('\n').collect();
    let [at, to] = [0; 2].map(|_| rng.random_range(0..lines.len()));
    match rng.random_range(0..4) {
        0 => {
            lines.remove(at);
        }
        1 => lines.insert(to, lines[at]),
        2 => lines.swap(at, to),
        _ => lines.insert(at, other.split_inclusive('\n').choose(rng).unwrap_or_default()),
    }
    lines.concat()
}

fn boundary(text: &str, rng: &mut Rng) -> usize {
    let at = rng.random_range(0..=text.len());
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

fn insert(known: &str, word: &str, rng: &mut Rng) -> String {
    let at = boundary(known, rng);
    let often = if rng.random_bool(0.05) { 1000 } else { 1 };
    [&known[..at], &word.repeat(often), &known[at..]].concat()
}

/// Joins the start of one text and the end of another.
fn splice(known: &str, other: &str, rng: &mut Rng) -> String {
    [&known[..boundary(known, rng)], &other[boundary(other, rng)..]].concat()
}

/// Removes a piece, sometimes the whole rest.
fn cut(known: &str, rng: &mut Rng) -> String {
    let [a, b] = [0; 2].map(|_| boundary(known, rng));
    let from = a.min(b);
    let to = if rng.random_bool(0.3) { known.len() } else { a.max(b) };
    [&known[..from], &known[to..]].concat()
}

/// Returns a critical 64-bit number.
fn number(rng: &mut Rng) -> u64 {
    let near = |power: u32, rng: &mut Rng| (1u64 << power).wrapping_add(rng.random_range(0..3)).wrapping_sub(1);
    match rng.random_range(0..4) {
        0 => rng.random_range(0..64),
        1 => u64::MAX - rng.random_range(0..2),
        _ => near(*[7, 8, 15, 16, 24, 31, 32, 53, 62, 63].choose(rng).unwrap_or(&63), rng),
    }
}

fn binary(bytes: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut new = bytes.to_vec();
    let [a, b] = [0; 2].map(|_| rng.random_range(0..=bytes.len()));
    let from = a.min(b);
    let to = a.max(b);
    match rng.random_range(0..7) {
        0 if from < new.len() => new[from] ^= 1 << rng.random_range(0..8),
        1 if from < new.len() => new[from] = rng.random(),
        2 => new.truncate(to),
        3 => drop(new.drain(from..to)),
        4 => {
            let piece = bytes[from..to].to_vec();
            new.splice(from..from, piece);
        }
        5 => {
            let start = rng.random_range(0..=other.len());
            new.truncate(from);
            new.extend(&other[start..]);
        }
        _ => {
            let width = *[1, 2, 4, 8].choose(rng).unwrap_or(&8);
            let value = number(rng).to_le_bytes();
            let end = (from + width).min(new.len());
            new[from..end].copy_from_slice(&value[..end - from]);
        }
    }
    new
}
