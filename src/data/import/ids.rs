//! Finds the largest token id of a tokenizer.json before the tokenizers library loads it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The token ids of a tokenizer.json. Everything else is ignored.
#[derive(Debug, Deserialize)]
#[serde(from = "Shape")]
pub(super) struct Largest {
    /// The largest id, or `None` if there are no tokens.
    pub ids: Option<u64>,
}

#[derive(Deserialize)]
struct Shape {
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u64,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    vocab: Vocabulary,
}

/// The largest id of a map from tokens to ids (BPE, WordPiece, WordLevel) or of a list of tokens (Unigram).
#[derive(Default)]
struct Vocabulary(Option<u64>);

impl From<Shape> for Largest {
    fn from(Shape { added_tokens, model }: Shape) -> Self {
        Self { ids: added_tokens.iter().map(|added| added.id).chain(model.vocab.0).max() }
    }
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Read)
    }
}

struct Read;

impl<'de> Visitor<'de> for Read {
    type Value = Vocabulary;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tokens to ids or a list of tokens")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocabulary, A::Error> {
        let mut largest = None;
        while let Some((_, id)) = map.next_entry::<IgnoredAny, u64>()? {
            largest = largest.max(Some(id));
        }
        Ok(Vocabulary(largest))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vocabulary, A::Error> {
        let mut count = 0u64;
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Vocabulary(count.checked_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_vocabulary_and_added_tokens() {
        let ids = |text: &str| serde_json::from_str::<Largest>(text).ok().map(|largest| largest.ids);
        assert_eq!(ids(r#"{"model": {"type": "BPE", "vocab": {"a": 7, "b": 3}}}"#), Some(Some(7)));
        assert_eq!(
            ids(r#"{"model": {"vocab": {"a": 7}}, "added_tokens": [{"id": 4294967295, "content": "x"}]}"#),
            Some(Some(4_294_967_295))
        );
        assert_eq!(ids(r#"{"model": {"type": "Unigram", "vocab": [["a", -1.0], ["b", -2.0]]}}"#), Some(Some(1)));
        assert_eq!(ids(r#"{"model": {"vocab": []}}"#), Some(None));
        for wrong in ["", "{}", r#"{"model": {"vocab": 1}}"#, r#"{"model": {"vocab": {"a": -1}}}"#] {
            assert_eq!(ids(wrong), None, "{wrong}");
        }
    }
}
