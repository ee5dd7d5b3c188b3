//! Copies tokenizer files and checks them against the vocabulary.

use std::{fs, path::Path};

use serde_json::Value;

use super::{ExportError, Warning, folder::Staging};
use crate::limits;

/// The file that every fast tokenizer has.
const MAIN: &str = "tokenizer.json";
/// Optional files.
const OTHERS: [&str; 8] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "chat_template.jinja",
];

/// Copies the tokenizer files of `folder`. Its token ids must be below `vocab_size`.
pub(super) fn copy(staging: &mut Staging, folder: &Path, vocab_size: usize) -> Result<Option<Warning>, ExportError> {
    let path = folder.join(MAIN);
    let failed = |reason: String| ExportError::Tokenizer { path: path.clone(), reason };
    let bytes = limits::read(&path, limits::MAX_LISTING).map_err(|error| failed(error.to_string()))?;
    let tokenizer: Value = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
    let ids = ids(&tokenizer).ok_or_else(|| failed("it has no vocabulary".into()))?;
    if ids > vocab_size as u64 {
        return Err(ExportError::Vocabulary { path, ids, vocab_size });
    }
    for name in [MAIN].iter().chain(&OTHERS) {
        let from = folder.join(name);
        if from.is_file() {
            staging.file(name, |to| fs::copy(&from, to).map(drop))?;
        }
    }
    Ok((ids < vocab_size as u64).then_some(Warning::UnusedTokens { ids, vocab_size }))
}

/// Returns the largest token id plus one. The vocabulary of a `tokenizer.json` is a map from tokens to ids, or a list
/// of tokens (Unigram).
fn ids(tokenizer: &Value) -> Option<u64> {
    let vocabulary = match tokenizer.pointer("/model/vocab")? {
        Value::Object(ids) => ids.values().filter_map(Value::as_u64).map(|id| id + 1).max(),
        Value::Array(tokens) => Some(tokens.len() as u64),
        _ => None,
    };
    let added = tokenizer.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
    let added = added.filter_map(|token| token.get("id")?.as_u64()).map(|id| id + 1).max();
    vocabulary.max(added)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_largest_id_counts_whatever_the_model() {
        let added = json!([{ "id": 7, "content": "<eos>" }]);
        for (model, added, expected) in [
            (json!({ "vocab": { "a": 0, "b": 4 } }), json!([]), Some(5)),
            (json!({ "vocab": { "a": 0, "b": 4 } }), added.clone(), Some(8)),
            (json!({ "vocab": [["a", -1.0], ["b", -2.0]] }), json!([]), Some(2)),
            (json!({ "vocab": {} }), added.clone(), Some(8)),
            (json!({ "vocab": 3 }), json!([]), None),
            (json!({}), added, None),
        ] {
            assert_eq!(ids(&json!({ "model": model, "added_tokens": added })), expected);
        }
    }
}
