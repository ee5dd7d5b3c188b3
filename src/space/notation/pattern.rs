//! Layer patterns of Megatron-LM.

use std::{fmt, str::FromStr};

use super::{Alphabet, NotationError};
use crate::space::Architecture;

/// A `--hybrid-layer-pattern` of Megatron-LM (commit d98e8a6 and later): a letter per layer, `|` between the stages of
/// a pipeline, and behind each `/` the layers of one depth of multi-token prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The layers of the model, whatever stage they are on.
    pub architecture: Architecture,
    /// How many layers each stage of the pipeline has; one stage where there are no bars.
    pub stages: Vec<usize>,
    /// The layers of one depth of multi-token prediction, where there are any. They are not part of the model's
    /// sequence.
    pub prediction: Option<Architecture>,
    /// Depths of multi-token prediction.
    pub predicted: usize,
}

/// Letters of Megatron-LM whose layers do not exist here, and marks that are no layers.
const ABSENT: [(char, &str); 6] = [
    ('D', "DeepSeek's sparse attention"),
    ('C', "compressed sparse attention"),
    ('H', "heavily compressed attention"),
    ('W', "the sliding window of DeepSeek-V4"),
    ('[', "a group of layers that are one layer"),
    (']', "a group of layers that are one layer"),
];

impl Pattern {
    /// The pattern of a sequence on one stage.
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
            return Err(wrong("attention and multi-head latent attention cannot be in one model there"));
        }
        let mut parts = text.split('/');
        let main = parts.next().unwrap_or_default();
        let alphabet = Alphabet::megatron();
        // The whole text goes into a message, so that positions can be found again.
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
            return Err(wrong("a stage between two bars has no layer"));
        }
        let architecture = match main.replace('|', "") {
            letters if letters.is_empty() => return Err(wrong("it has no layer")),
            letters => read(&letters)?,
        };
        let depths: Vec<&str> = parts.collect();
        let mut prediction = None;
        if let Some(&first) = depths.first() {
            if let Some(other) = depths.iter().find(|&&other| other != first) {
                let reason =
                    format!("the layers of multi-token prediction are {first:?} and {other:?}, and have to be equal");
                return Err(NotationError::Pattern { text: text.into(), reason });
            }
            if first.is_empty() {
                return Err(wrong("a depth of multi-token prediction has no layer"));
            }
            if first.contains('|') {
                return Err(wrong("layers of multi-token prediction have no stages"));
            }
            prediction = Some(read(first)?);
        }
        Ok(Self { architecture, stages, prediction, predicted: depths.len() })
    }
}

impl fmt::Display for Pattern {
    /// The pattern; a layer without a letter there is a question mark, which Megatron-LM refuses. [`Alphabet::write`]
    /// says so beforehand.
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

    /// Patterns of published models and of Megatron-LM's own scripts, each with its number of layers.
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
            ("MM/M/MM", "have to be equal"),
            ("MM/", "no layer"),
            ("MM/M|M", "no stages"),
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
