//! Text to tokens and back.
#![cfg(all(feature = "flex", feature = "tokenizers"))]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use composer_nas::data::{Corpus, Importer, TextError, TextReader, TokenWidth};
use proptest::prelude::*;
use serde_json::{Value, json};

const TEXT: &str = include_str!("fixtures/text/harbour.txt");

fn text() -> TextReader {
    TextReader::new([PathBuf::from("tests/fixtures/text/harbour.txt")])
}

#[test]
fn text_comes_back_from_its_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let importer = Importer::train(text(), 400).unwrap();
    let info = importer.import(text(), folder.path()).unwrap();
    assert_eq!((info.vocab_size, info.documents, info.text_bytes), (400, 1, TEXT.len() as u64));

    let corpus = Corpus::open(folder.path()).unwrap();
    let count = corpus.tokens.tokens();
    assert_eq!((corpus.vocab_size, corpus.tokens.width()), (400, TokenWidth::U16));
    corpus.tokens.check(400).unwrap();
    let tokens = corpus.tokens.read(0, count as usize, 400).unwrap();
    assert_eq!(tokens.last().copied(), info.end_of_text.map(|token| token as i32));
    assert_eq!(importer.decode(&tokens).unwrap(), TEXT);
    assert!(count < TEXT.len() as u64 / 2, "{count} tokens");
    // Every byte belongs to one token.
    let bytes = corpus.token_bytes.unwrap();
    assert_eq!(tokens.iter().map(|&token| u64::from(bytes[token as usize])).sum::<u64>(), info.text_bytes);

    // The tokenizer that lies beside the tokens is the same, and training it again gives it again.
    let loaded = Importer::load(corpus.tokenizer.unwrap(), Some("<|endoftext|>")).unwrap();
    let strange = "Größe, 船, \u{1F6A2}\r\n\t and <|x|>";
    for importer in [&loaded, &Importer::train(text(), 400).unwrap()] {
        assert_eq!(importer.encode(TEXT).unwrap(), tokens[..tokens.len() - 1]);
        assert_eq!(importer.decode(&importer.encode(strange).unwrap()).unwrap(), strange);
    }
}

#[test]
fn lines_of_json_are_documents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("texts.jsonl");
    fs::write(&path, "{\"text\": \"one\", \"id\": 1}\n\n{\"id\": 2, \"text\": \"two\\n\"}\n{\"text\": \"\"}").unwrap();
    let read = |path: &PathBuf| TextReader::new([path.clone(), path.clone()]).collect::<Result<Vec<_>, _>>();
    assert_eq!(read(&path).unwrap(), ["one", "two\n", "one", "two\n"]);
    for (line, reason) in
        [("[1]", "not a JSON object"), ("{\"txt\": 1}", "no field"), ("{\"text\": 1}", "not a string"), ("{", "EOF")]
    {
        fs::write(&path, format!("{{\"text\": \"one\"}}\n{line}\n")).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("line 2 of") && message.contains(reason), "{message}");
        let message = Importer::train(TextReader::new([path.clone()]), 300).unwrap_err().to_string();
        assert!(message.contains("line 2 of"), "{message}");
    }
}

#[test]
fn what_cannot_be_imported_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.txt");
    let no_file = || TextReader::new([missing.clone()]);
    assert!(Importer::train(no_file(), 300).unwrap_err().to_string().contains("missing.txt"));
    assert!(matches!(Importer::train(text(), 256), Err(TextError::Vocabulary(256))));
    assert!(matches!(Importer::train([], 300), Err(TextError::Empty)));
    assert!(matches!(Importer::load(&missing, None), Err(TextError::Tokenizer { task: "loaded", .. })));

    let importer = Importer::train(text(), 300).unwrap();
    let corpus = folder.path().join("corpus");
    assert!(matches!(importer.import([], &corpus), Err(TextError::Empty)));
    assert!(matches!(importer.import(no_file(), &corpus), Err(TextError::Io { .. })));
    assert!(Corpus::open(&corpus).is_err(), "an import that failed leaves no corpus");
    importer.import(text(), &corpus).unwrap();
    let tokenizer = corpus.join("tokenizer.json");
    assert!(matches!(Importer::load(tokenizer, Some("</s>")), Err(TextError::NoSuchToken(_))));
}

/// Every place of a value, as JSON pointers.
fn places(value: &Value, at: String, all: &mut Vec<String>) {
    all.push(at.clone());
    let name = |key: &str| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| places(value, name(key), all)),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, item)| places(item, name(&at.to_string()), all)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A tokenizer of each kind, small, with something in every field.
fn tokenizers() -> &'static [(Value, Vec<String>)] {
    static ALL: OnceLock<Vec<(Value, Vec<String>)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        Importer::train(text(), 280).unwrap().import(text(), folder.path()).unwrap();
        let bytes: Value = serde_json::from_slice(&fs::read(folder.path().join("tokenizer.json")).unwrap()).unwrap();
        let with = |model: Value, normalizer: Value, pre_tokenizer: Value, decoder: Value, post_processor: Value| {
            let added = json!([{ "id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true }]);
            json!({ "version": "1.0", "truncation": { "direction": "Right", "max_length": 8, "strategy": "LongestFirst",
                "stride": 2 }, "padding": { "strategy": { "Fixed": 9 }, "direction": "Left", "pad_to_multiple_of": 3,
                "pad_id": 0, "pad_type_id": 0, "pad_token": "<s>" }, "added_tokens": added, "normalizer": normalizer,
                "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": decoder, "model": model })
        };
        let pieces = with(
            json!({ "type": "WordPiece", "unk_token": "<s>", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 9, "vocab": { "<s>": 0, "the": 1, "t": 2, "##h": 3, "##e": 4 } }),
            json!({ "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                "lowercase": true }),
            json!({ "type": "BertPreTokenizer" }),
            json!({ "type": "WordPiece", "prefix": "##", "cleanup": true }),
            json!({ "type": "BertProcessing", "sep": ["<s>", 0], "cls": ["<s>", 0] }),
        );
        let unigram = with(
            json!({ "type": "Unigram", "unk_id": 0, "byte_fallback": true,
                "vocab": [["<s>", 0.0], ["\u{2581}the", -2.0], ["e", -1.5], ["<0x0A>", -3.0]] }),
            json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "\u{2581}" },
                { "type": "Replace", "pattern": { "Regex": "[ ]+" }, "content": "\u{2581}" }, { "type": "NFKC" },
                { "type": "Strip", "strip_left": true, "strip_right": true }] }),
            json!({ "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true }),
            json!({ "type": "Sequence", "decoders": [{ "type": "Replace", "pattern": { "String": "\u{2581}" },
                "content": " " }, { "type": "ByteFallback" }, { "type": "Fuse" }, { "type": "Strip", "content": " ",
                "start": 1, "stop": 0 }] }),
            json!({ "type": "TemplateProcessing", "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } }], "pair": [], "special_tokens": { "<s>": { "id": "<s>",
                "ids": [0], "tokens": ["<s>"] } } }),
        );
        let words = with(
            json!({ "type": "WordLevel", "unk_token": "<s>", "vocab": { "<s>": 0, "the": 1 } }),
            Value::Null,
            json!({ "type": "Split", "pattern": { "Regex": "\\s+" }, "behavior": "Removed", "invert": false }),
            json!({ "type": "CTC", "pad_token": "<s>", "word_delimiter_token": "|", "cleanup": true }),
            Value::Null,
        );
        let all = [bytes, pieces, unigram, words].map(|value| {
            let mut at = Vec::new();
            places(&value, String::new(), &mut at);
            (value, at)
        });
        all.into()
    })
}

/// Loads a tokenizer and uses it; whether it could be loaded.
fn used(path: &Path) -> bool {
    let Ok(importer) = Importer::load(path, None) else { return false };
    let tokens = importer.encode("the harbour\n at night").unwrap_or_default();
    let _ = importer.decode(&tokens);
    let _ = importer.decode(&[0, 1, 2, 3, 4, 5, 1 << 20, -1]);
    let corpus = path.with_extension("corpus");
    let _ = importer.import(["the harbour".to_owned(), "at night".to_owned()].map(Ok), corpus);
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever is changed in a tokenizer.json, and however the library takes it, a panic stays within our border.
    #[test]
    fn changed_tokenizers_are_used_or_refused(
        kind in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![
            json!(null), json!(true), json!(-1), json!(0), json!(1), json!(3), json!(16_777_216u64), json!(u64::MAX),
            json!(1e300), json!(""), json!("the"), json!("("), json!("\u{2581}"), json!([]), json!({}), json!(["<s>", 7]),
            json!({ "Regex": "(" }), json!({ "type": "Sequence" }), json!({ "type": "ByteLevel" }), json!("AAAA"),
        ])), 1..4),
    ) {
        let (value, at) = kind.get(tokenizers());
        let mut value = value.clone();
        for (place, change) in changes {
            let place: &String = place.get(at);
            if let Some(slot) = value.pointer_mut(place) {
                *slot = change;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        fs::write(&path, value.to_string()).unwrap();
        used(&path);
    }
}

#[test]
fn tokenizers_of_every_kind_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    for (value, _) in tokenizers() {
        fs::write(&path, value.to_string()).unwrap();
        assert!(used(&path), "{:?}", Importer::load(&path, None));
    }
}

/// The library panics where a table of characters is no table.
#[test]
fn a_panic_of_the_library_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let mut value = tokenizers()[0].0.clone();
    value["normalizer"] = json!({ "type": "Precompiled", "precompiled_charsmap": "AAQAAIAAAQAA" });
    fs::write(&path, value.to_string()).unwrap();
    let error = Importer::load(&path, None).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("panicked"), "{error}");
}
