//! Sequences in any alphabet.

use std::{convert::Infallible, str::FromStr};

use anyhow::Context as _;
use composer_nas::{
    prelude::*,
    space::{
        baseline,
        notation::{Alphabet, Pattern},
    },
};

/// A sequence as written, before its alphabet is known.
#[derive(Clone, Debug)]
pub struct Written(String);

impl FromStr for Written {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.into()))
    }
}

impl Written {
    /// Parses the sequence: the name of a published model, a sequence in our letters with optional counts, or one
    /// letter per layer in the alphabet given by `--letters`. Stages and multi-token prediction layers in Megatron
    /// patterns are ignored with a note.
    pub fn read(&self, letters: Option<&Alphabet>) -> anyhow::Result<Architecture> {
        let text = &self.0;
        if let Some(published) = baseline::published().into_iter().find(|layout| layout.name == text) {
            return Ok(published.architecture);
        }
        let Some(alphabet) = letters else {
            let read: Result<Architecture, _> = text.parse();
            return match text.parse::<Pattern>() {
                Ok(_) => read.context("this is how Megatron-LM writes layers: add --letters megatron"),
                Err(_) => Ok(read?),
            };
        };
        if *alphabet == Alphabet::megatron() && text.contains(['|', '/']) {
            let pattern: Pattern = text.parse()?;
            let Pattern { stages, predicted, architecture, .. } = pattern;
            super::tell(format_args!(
                "only the sequence of {text} is used: {} stages and {predicted} depths of multi-token prediction are ignored",
                stages.len()
            ));
            return Ok(architecture);
        }
        Ok(alphabet.read(text)?)
    }
}

/// Parses all sequences.
pub fn read_all(written: &[Written], letters: Option<&Alphabet>) -> anyhow::Result<Vec<Architecture>> {
    written.iter().map(|written| written.read(letters)).collect()
}
