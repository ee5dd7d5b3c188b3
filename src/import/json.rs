//! Reads config.json as written by transformers.

use serde_json::{Map, Value};

use super::ImportError;

/// The key that transformers 5 uses for numbers that JSON cannot represent. transformers 4 writes bare words.
const TAG: &str = "__float__";

/// Parses the entries of a config.json. Bare `Infinity`, `-Infinity` and `NaN`, and their encoding in transformers 5,
/// become strings.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, serde_json::Error> {
    let plain: Result<Map<String, Value>, _> = serde_json::from_str(text);
    let mut map = match plain {
        Ok(map) => map,
        // Report the error in the original text, unless the bare words are the only problem.
        Err(error) => serde_json::from_str(&quoted(text)).map_err(|_: serde_json::Error| error)?,
    };
    map.values_mut().for_each(untag);
    Ok(map)
}

/// Returns the text with the bare words in quotes.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut within = false;
    while let Some(letter) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| !within && rest.starts_with(word));
        let taken = match word {
            Some(word) => {
                out.extend(["\"", word, "\""]);
                word.len()
            }
            None if within && letter == '\\' => {
                let two = rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at);
                out += &rest[..two];
                two
            }
            None => {
                within ^= letter == '"';
                out.push(letter);
                letter.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out
}

/// Replaces `{"__float__": word}` by the word, at any depth.
fn untag(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(untag),
        Value::Object(map) => {
            let word = map.get(TAG).filter(|word| word.is_string()).cloned();
            match word.filter(|_| map.len() == 1) {
                Some(word) => *value = word,
                None => map.values_mut().for_each(untag),
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The entries of a config.json, with typed access and an error for every invalid value. An entry that is null counts
/// as missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Returns a required whole number.
    pub fn size(self, key: &'static str) -> Result<usize, ImportError> {
        self.size_if(key)?.ok_or(ImportError::Incomplete(key))
    }

    /// Returns an optional whole number.
    pub fn size_if(self, key: &'static str) -> Result<Option<usize>, ImportError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let whole =
            value.as_u64().or_else(|| value.as_f64().filter(|x| *x >= 0.0 && x.fract() == 0.0).map(|x| x as u64));
        match whole.and_then(|whole| usize::try_from(whole).ok()) {
            Some(size) => Ok(Some(size)),
            None => Err(refuse(key, value, "it must be a whole number")),
        }
    }

    pub fn size_or(self, key: &'static str, default: usize) -> Result<usize, ImportError> {
        Ok(self.size_if(key)?.unwrap_or(default))
    }

    /// Returns the number of key/value heads: the stated value, `default` if the entry is missing, or `heads` if it is
    /// null.
    pub fn kv_heads(self, heads: usize, default: usize) -> Result<usize, ImportError> {
        let key = "num_key_value_heads";
        let absent = if self.0.get(key).is_some_and(Value::is_null) { heads } else { default };
        self.size_or(key, absent)
    }

    /// Returns a whole number that is used as a divisor.
    pub fn divisor_or(self, key: &'static str, default: usize) -> Result<usize, ImportError> {
        match self.size_or(key, default)? {
            0 => Err(refuse(key, &Value::from(0), "it must be a positive number")),
            size => Ok(size),
        }
    }

    /// Returns an optional number, which can be infinite.
    pub fn number_if(self, key: &'static str) -> Result<Option<f64>, ImportError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        number(value).map(Some).ok_or_else(|| refuse(key, value, "it must be a number"))
    }

    pub fn number_or(self, key: &'static str, default: f64) -> Result<f64, ImportError> {
        Ok(self.number_if(key)?.unwrap_or(default))
    }

    pub fn flag_or(self, key: &'static str, default: bool) -> Result<bool, ImportError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| refuse(key, value, "it must be true or false"))
    }

    pub fn text_or(self, key: &'static str, default: &'a str) -> Result<&'a str, ImportError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_str().ok_or_else(|| refuse(key, value, "it must be a string"))
    }

    pub fn list_if(self, key: &'static str) -> Result<Option<&'a [Value]>, ImportError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_array() {
            Some(items) => Ok(Some(items)),
            None => Err(refuse(key, value, "it must be a list")),
        }
    }

    /// Returns an optional list of names.
    pub fn names_if(self, key: &'static str) -> Result<Option<Vec<&'a str>>, ImportError> {
        let Some(items) = self.list_if(key)? else { return Ok(None) };
        let name = |item: &'a Value| item.as_str().ok_or_else(|| refuse(key, item, "it must be a list of names"));
        items.iter().map(name).collect::<Result<_, _>>().map(Some)
    }

    /// Returns an optional list of whole numbers.
    pub fn sizes_if(self, key: &'static str) -> Result<Option<Vec<usize>>, ImportError> {
        let Some(items) = self.list_if(key)? else { return Ok(None) };
        let size = |item: &Value| {
            let whole = item.as_u64().and_then(|whole| usize::try_from(whole).ok());
            whole.ok_or_else(|| refuse(key, item, "it must be a list of whole numbers"))
        };
        items.iter().map(size).collect::<Result<_, _>>().map(Some)
    }

    /// Returns an error if the entry has a value other than `only`.
    pub fn must_be(self, key: &'static str, only: &Value, reason: &'static str) -> Result<(), ImportError> {
        match self.get(key) {
            Some(value) if !same(value, only) => Err(refuse(key, value, reason)),
            _ => Ok(()),
        }
    }
}

/// Whether two values are equal. An integer and a float can be equal.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// Returns a number, which can also be one of the words for values that JSON cannot represent.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}

/// Returns the error for an entry with an unsupported value.
pub(super) fn refuse(key: &'static str, value: &Value, reason: &'static str) -> ImportError {
    let shown = value.to_string();
    let short: String = shown.chars().take(80).collect();
    let value = if short.len() < shown.len() { format!("{short}...") } else { shown };
    ImportError::Setting { key, value, reason }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_for_numbers_that_json_lacks_are_read() {
        let bare = parse(r#"{"limit": [0.0, Infinity], "x": -Infinity, "y": NaN, "text": "an \"Infinity\" of NaN"}"#);
        let map = bare.unwrap();
        assert_eq!(map["limit"], json!([0.0, "Infinity"]));
        assert_eq!((number(&map["limit"][1]), number(&map["x"])), (Some(f64::INFINITY), Some(f64::NEG_INFINITY)));
        assert_eq!((number(&map["y"]), map["text"].as_str()), (None, Some("an \"Infinity\" of NaN")));
        let tagged = parse(r#"{"limit": [0, {"__float__": "Infinity"}], "deep": {"a": {"__float__": "-Infinity"}}}"#);
        let map = tagged.unwrap();
        assert_eq!((&map["limit"], &map["deep"]), (&json!([0, "Infinity"]), &json!({ "a": "-Infinity" })));
        assert!(parse("{\"a\": Infinit}").is_err() && parse("{}}").is_err() && parse("[1]").is_err());
        assert!(parse("{\"a\": \"\\").is_err() && parse("{\"a\": \"Infinity").is_err());
    }

    #[test]
    fn entries_of_another_kind_are_named() {
        let map = parse(r#"{"a": 3.0, "b": "x", "c": null, "d": [1, "y"], "e": 3.5, "f": -1}"#).unwrap();
        let fields = Fields(&map);
        assert_eq!((fields.size("a").unwrap(), fields.size_if("c").unwrap()), (3, None));
        assert!(matches!(fields.size("c"), Err(ImportError::Incomplete("c"))));
        for error in [
            fields.size("b").unwrap_err(),
            fields.size("e").unwrap_err(),
            fields.size("f").unwrap_err(),
            fields.number_if("b").unwrap_err(),
            fields.flag_or("a", true).unwrap_err(),
            fields.text_or("a", "").unwrap_err(),
            fields.list_if("a").unwrap_err(),
            fields.names_if("d").unwrap_err(),
            fields.sizes_if("d").unwrap_err(),
            fields.must_be("a", &json!(4), "it is four").unwrap_err(),
        ] {
            assert!(matches!(error, ImportError::Setting { .. }), "{error}");
        }
        assert!(fields.must_be("a", &json!(3), "it is three").is_ok());
    }
}
