//! Converts the tokenizer of a GGUF file to a `tokenizer.json`.

use serde_json::{Map, Value as Json, json};

use super::reader::{Gguf, Value};

/// Types of special tokens, which match regardless of the surrounding text: control and user-defined.
const SPECIAL: [i64; 2] = [3, 4];

/// Returns the tokenizer if it is a byte-level BPE with a supported pre-tokenizer.
pub(super) fn tokenizer(file: &Gguf) -> Option<Json> {
    if file.text("tokenizer.ggml.model") != Some("gpt2") {
        return None;
    }
    let Words { cut, whole } = words(file.text("tokenizer.ggml.pre")?)?;
    let tokens = file.texts("tokenizer.ggml.tokens")?;
    let merges = file.texts("tokenizer.ggml.merges")?;
    let types = match file.key("tokenizer.ggml.token_type") {
        Some(Value::List(types)) => types.as_slice(),
        _ => &[],
    };
    let special = |id: usize| matches!(types.get(id), Some(Value::Int(kind)) if SPECIAL.contains(kind));
    let added = tokens.iter().enumerate().filter(|&(id, _)| special(id)).map(|(id, token)| {
        json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        })
    });
    let vocabulary: Map<String, Json> =
        tokens.iter().enumerate().map(|(id, &token)| (token.into(), id.into())).collect();
    Some(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": cut,
        "post_processor": null,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": whole,
            "vocab": vocabulary, "merges": merges,
        },
    }))
}

/// How text is split into words before BPE merges.
struct Words {
    cut: Json,
    /// Whether a word that is itself a token is not split, regardless of the merges.
    whole: bool,
}

/// Returns the pre-tokenizer with this name in llama.cpp.
fn words(rule: &str) -> Option<Words> {
    let cut = match rule {
        "gpt-2" | "gpt2" => byte_level(true),
        "smollm" => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            byte_level(true),
        ]}),
        "llama-bpe" | "llama3" => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex": LLAMA_3}},
            byte_level(false),
        ]}),
        _ => return None,
    };
    Some(Words { cut, whole: rule.starts_with("llama") })
}

/// The pre-tokenizer regex of Llama 3.
const LLAMA_3: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| \
                       ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

fn byte_level(use_regex: bool) -> Json {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}
