//! Sequences for next-token prediction: the common form of the recall tasks.

use super::{Instance, Split};

/// A sequence under construction: its tokens, each with whether it is scored in a test.
#[derive(Debug, Default)]
pub(super) struct Transcript(Vec<(u32, bool)>);

impl Transcript {
    /// Creates an empty transcript with room for `capacity` tokens.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Transcript(Vec::with_capacity(capacity))
    }

    /// Returns the number of tokens so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Appends tokens, which are scored in a test or not.
    pub(super) fn push(&mut self, tokens: &[u32], scored: bool) {
        self.0.extend(tokens.iter().map(|&token| (token, scored)));
    }

    /// Adds unscored `pad` tokens in front until there are `length` tokens.
    pub(super) fn pad_left(mut self, pad: u32, length: usize) -> Self {
        let missing = length.saturating_sub(self.len());
        self.0.splice(..0, std::iter::repeat_n((pad, false), missing));
        self
    }

    /// Converts the transcript to an instance. The inputs are all tokens but the last, and the target of a position is
    /// the next token. In training, all targets are scored, even unpredictable ones, as in any language model; in a
    /// test, only those marked as scored.
    pub(super) fn into_instance(self, split: Split) -> Instance {
        let asked = |scored| match split {
            Split::Train => true,
            Split::Test => scored,
        };
        let targets: Vec<_> = self.0.iter().skip(1).map(|&(token, scored)| asked(scored).then_some(token)).collect();
        let inputs = self.0.iter().take(targets.len()).map(|&(token, _)| token).collect();
        Instance { inputs, targets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript() -> Transcript {
        let mut transcript = Transcript::default();
        transcript.push(&[1, 2], false);
        transcript.push(&[3], true);
        transcript
    }

    #[test]
    fn targets_are_the_inputs_shifted_by_one() {
        let train = transcript().into_instance(Split::Train);
        assert_eq!(train, Instance { inputs: vec![1, 2], targets: vec![Some(2), Some(3)] });
        let test = transcript().into_instance(Split::Test);
        assert_eq!(test, Instance { inputs: vec![1, 2], targets: vec![None, Some(3)] });
    }

    #[test]
    fn padding_comes_first_and_is_never_scored() {
        let padded = transcript().pad_left(9, 5).into_instance(Split::Test);
        assert_eq!(padded, Instance { inputs: vec![9, 9, 1, 2], targets: vec![None, None, None, Some(3)] });
        assert_eq!(transcript().pad_left(9, 2).len(), 3);
    }
}
