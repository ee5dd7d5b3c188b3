//! The likelihood of answers.

use serde::{Deserialize, Serialize};

use super::{Choice, DownstreamError, Question};
use crate::{
    model::Network,
    train::{DataError, IGNORE, TokenBatch, predict},
};

/// How often the right answer was the most likely.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Questions.
    pub questions: usize,
    /// By the log-likelihood of the answer.
    pub acc: Share,
    /// By the log-likelihood per character of the answer; none where the benchmark does not normalise.
    pub acc_norm: Option<Share>,
}

/// A share with its standard error over questions, `sqrt(p (1 - p) / (n - 1))`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Between 0 and 1.
    pub value: f64,
    /// None of a single question.
    pub standard_error: Option<f64>,
}

impl Share {
    fn new(right: usize, all: usize) -> Self {
        let value = right as f64 / all as f64;
        let standard_error = (all > 1).then(|| (value * (1.0 - value) / (all - 1) as f64).sqrt());
        Self { value, standard_error }
    }
}

/// Scores the answers with `model`. `encode` turns text into tokens without adding any; contexts are cut from the left
/// to fit `max_tokens` with their answer. The first among equally likely answers counts, as in the reference.
///
/// # Errors
/// [`DownstreamError`] when there is no question, one has no text or too long an answer, or tokenizer, model or device
/// fail.
pub fn score<N: Network>(
    model: &N,
    questions: &[Question],
    encode: &dyn Fn(&str) -> Result<Vec<i32>, DataError>,
    max_tokens: usize,
) -> Result<Accuracy, DownstreamError> {
    if questions.is_empty() {
        return Err(DownstreamError::Empty);
    }
    let mut right = 0;
    let mut right_normed = 0;
    let mut normed = true;
    for (at, Question { choices, answer }) in questions.iter().enumerate() {
        let number = at + 1;
        if *answer >= choices.len() {
            return Err(DownstreamError::Question { number, reason: "its answer is none of its choices" });
        }
        let mut likelihoods = Vec::with_capacity(choices.len());
        for choice in choices {
            let batch = scored(choice, encode, max_tokens, number)?;
            let predictions = predict(model, &[batch])?;
            likelihoods.push(-predictions.iter().map(|prediction| prediction.loss_sum).sum::<f64>());
        }
        right += usize::from(best(&likelihoods) == *answer);
        let per_character = likelihoods.iter().zip(choices).map(|(likelihood, choice)| {
            let characters = choice.characters.filter(|&characters| characters > 0);
            characters.map(|characters| likelihood / characters as f64)
        });
        match per_character.collect::<Option<Vec<_>>>() {
            Some(likelihoods) => right_normed += usize::from(best(&likelihoods) == *answer),
            None => normed = false,
        }
    }
    let all = questions.len();
    Ok(Accuracy {
        questions: all,
        acc: Share::new(right, all),
        acc_norm: normed.then(|| Share::new(right_normed, all)),
    })
}

/// The first of the largest.
fn best(values: &[f64]) -> usize {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = at;
        }
    }
    best
}

/// Context and answer as one sequence in which the answer's tokens are scored. They are those that the text as a whole
/// has beyond those of the context alone, since tokens may span the seam; spaces at the end of a context go with the
/// answer.
fn scored(
    choice: &Choice,
    encode: &dyn Fn(&str) -> Result<Vec<i32>, DataError>,
    max_tokens: usize,
    number: usize,
) -> Result<TokenBatch, DownstreamError> {
    let encode = |text: &str| encode(text).map_err(|source| DownstreamError::Tokenizer { number, source });
    let refuse = |reason| DownstreamError::Question { number, reason };
    let whole = encode(&format!("{}{}", choice.context, choice.continuation))?;
    let context = encode(choice.context.trim_end())?.len();
    if context == 0 {
        return Err(refuse("nothing stands before an answer"));
    }
    let answer = whole.len().saturating_sub(context);
    if answer == 0 {
        return Err(refuse("an answer has no tokens of its own"));
    }
    if answer > max_tokens {
        return Err(refuse("an answer is longer than the model's sequences"));
    }
    let kept = &whole[whole.len().saturating_sub(max_tokens + 1)..];
    let seq = kept.len() - 1;
    let mut targets = kept[1..].to_vec();
    targets[..seq - answer].fill(IGNORE);
    Ok(TokenBatch { batch: 1, seq, inputs: kept[..seq].to_vec(), targets })
}
