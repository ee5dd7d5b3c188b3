//! Layer patterns of Megatron-LM.

use std::{fmt, str::FromStr};

use super::{Alphabet, NotationError};
use crate::space::Architecture;

/// A `--hybrid-layer-pattern` of Megatron-LM (commit d98e8a6 and later).
///
/// A pattern has one letter per layer, `|` between pipeline stages, and after each `/` the layers of one depth of
/// multi-token prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The layers of the model, across all stages.
    pub architecture: Architecture,
    /// The number of layers of each pipeline stage. Without `|` there is one stage.
    pub stages: Vec<usize>,
    /// The layers of one depth of multi-token prediction, if any. They are not part of `architecture`.
    pub prediction: Option<Architecture>,
    /// The number of depths of multi-token prediction.
    pub predicted: usize,
}

/// Megatron-LM letters and marks that this crate does not support.
const ABSENT: [(char, &str); 6] = [
    ('D', "DeepSeek's sparse attention"),
    ('C', "compressed sparse attention"),
    ('H', "heavily compressed attention"),
    ('W', "the sliding window of DeepSeek-V4"),
    ('[', "a group of layers that are one layer"),
    (']', "a group of layers that are one layer"),
];

impl Pattern {
    /// Creates the pattern of a sequence on one stage.
    pub fn new(architecture: Architecture) -> Self {
        Self { stages: vec![architecture.len()], architecture, prediction: None, predicted: 0 }
    }
}

impl FromStr for Pattern {
    type Err = NotationError;

    fn from_str(text: &str) -> Result<Self, NotationError> {
        let wrong = |reason: &str| NotationError::Pattern { text: text.into(), reason: reason.into() };
        for (letter, what) in ABSENT {
            if text.contains(letter) {
                return Err(NotationError::Absent { text: text.into(), letter, what });
            }
        }
        if text.contains('*') && text.contains('+') {
            return Err(wrong("attention and multi-head latent attention cannot be in one model in Megatron-LM"));
        }
        let mut parts = text.split('/');
        let main = parts.next().unwrap_or_default();
        let alphabet = Alphabet::megatron();
        // Report the position in the whole text, not in the part.
        let read = |letters: &str| {
            alphabet.read(letters).map_err(|error| match error {
                NotationError::Letter { letter, known, .. } => {
                    let position = text.chars().position(|other| other == letter).unwrap_or_default();
                    NotationError::Letter { text: text.into(), letter, position, known }
                }
                other => other,
            })
        };
        let stages: Vec<usize> = main.split('|').map(|stage| stage.chars().count()).collect();
        if stages.len() > 1 && stages.contains(&0) {
            return Err(wrong("a stage between two bars has no layers"));
        }
        let architecture = match main.replace('|', "") {
            letters if letters.is_empty() => return Err(wrong("it has no layers")),
            letters => read(&letters)?,
        };
        let depths: Vec<&str> = parts.collect();
        let mut prediction = None;
        if let Some(&first) = depths.first() {
            if let Some(other) = depths.iter().find(|&&other| other != first) {
                let reason =
                    format!("the layers of multi-token prediction are {first:?} and {other:?}, but must be equal");
                return Err(NotationError::Pattern { text: text.into(), reason });
            }
            if first.is_empty() {
                return Err(wrong("a depth of multi-token prediction has no layers"));
            }
            if first.contains('|') {
                return Err(wrong("layers of multi-token prediction cannot be split into stages"));
            }
            prediction = Some(read(first)?);
        }
        Ok(Self { architecture, stages, prediction, predicted: depths.len() })
    }
}

impl fmt::Display for Pattern {
    /// Writes the pattern.
    ///
    /// A layer without a Megatron-LM letter becomes a question mark, which Megatron-LM rejects. Use [`Alphabet::write`]
    /// to detect such layers first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alphabet = Alphabet::megatron();
        let letter = |symbol| alphabet.write(&Architecture::new([symbol])).unwrap_or_else(|_| "?".into());
        let mut layers = self.architecture.layers().iter();
        for (stage, &length) in self.stages.iter().enumerate() {
            let bar = if stage == 0 { "" } else { "|" };
            let letters: String = layers.by_ref().take(length).map(|&symbol| letter(symbol)).collect();
            write!(f, "{bar}{letters}")?;
        }
        let prediction = self.prediction.iter().flat_map(|layers| layers.layers());
        let prediction: String = prediction.map(|&symbol| letter(symbol)).collect();
        (0..self.predicted).try_for_each(|_| write!(f, "/{prediction}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Patterns of published models and of Megatron-LM's scripts, each with its number of layers.
    #[test]
    fn published_patterns_are_read_and_written() {
        let text = include_str!("../../../tests/fixtures/cases/megatron_patterns.json");
        let all: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
        assert_eq!(all.len(), 15);
        for case in all {
            let text = case["pattern"].as_str().unwrap();
            let pattern: Pattern = text.parse().unwrap();
            assert_eq!(pattern.architecture.len() as u64, case["layers"].as_u64().unwrap(), "{text}");
            assert_eq!(pattern.stages.iter().sum::<usize>(), pattern.architecture.len());
            assert_eq!(pattern.to_string(), text);
        }
        let pipes: Pattern = "M-M-|M-M*-/MM/MM".parse().unwrap();
        assert_eq!((pipes.stages, pipes.predicted, pipes.prediction.unwrap().letters()), (vec![4, 5], 2, "BB".into()));
        assert_eq!(Pattern::new("ARBGE".parse().unwrap()).to_string(), "*-MGE");
    }

    #[test]
    fn patterns_that_are_none_are_refused() {
        for (text, part) in [
            ("", "it has no layer"),
            ("|", "has no layer"),
            ("M||M", "a stage between two bars"),
            ("M|", "a stage between two bars"),
            ("M-X", "'X' at position 2"),
            ("M-x|M", "'x' at position 2"),
            ("M D", "DeepSeek's sparse attention"),
            ("M[*E]", "a group of layers"),
            ("*+", "cannot be in one model"),
            ("MM/M/MM", "must be equal"),
            ("MM/", "no layer"),
            ("MM/M|M", "split into stages"),
            ("/MM", "it has no layer"),
        ] {
            let error = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,24}") {
            let _ = text.parse::<Pattern>();
        }

        #[test]
        fn what_is_read_is_written(text in r"[M*EG\-]{1,9}(\|[M*EG\-]{1,9}){0,3}") {
            prop_assert_eq!(text.parse::<Pattern>().unwrap().to_string(), text);
        }
    }
}
