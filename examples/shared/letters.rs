//! Sequences in the letters of whoever writes them.

use std::{convert::Infallible, str::FromStr};

use anyhow::Context as _;
use composer_nas::{
    prelude::*,
    space::{
        baseline,
        notation::{Alphabet, Pattern},
    },
};

/// A sequence as it was written, before it is known in which letters.
#[derive(Clone, Debug)]
pub struct Written(String);

impl FromStr for Written {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.into()))
    }
}

impl Written {
    /// The sequence: by the name of a published model, in our letters, with counts where they are wanted, or in those
    /// of `--letters`, one per layer. Megatron's patterns may have stages and layers that predict later tokens, which
    /// are told and left out.
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
                "of {text} the sequence counts: {} stages and {predicted} depths of multi-token prediction are left out",
                stages.len()
            ));
            return Ok(architecture);
        }
        Ok(alphabet.read(text)?)
    }
}

/// All of them.
pub fn read_all(written: &[Written], letters: Option<&Alphabet>) -> anyhow::Result<Vec<Architecture>> {
    written.iter().map(|written| written.read(letters)).collect()
}
