//! Scores answers by their likelihood.

use serde::{Deserialize, Serialize};

use super::{Answer, DownstreamError, Question};
use crate::{
    model::Network,
    train::{DataError, IGNORE, TokenBatch, predict},
};

/// How often the correct answer was the most likely one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// The number of questions.
    pub questions: usize,
    /// The accuracy by the log-likelihood of the answers.
    pub acc: Share,
    /// The accuracy by the log-likelihood per character, or `None` if the benchmark does not normalize.
    pub acc_norm: Option<Share>,
}

/// A share with its standard error over questions, `sqrt(p (1 - p) / (n - 1))`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The share, between 0 and 1.
    pub value: f64,
    /// The standard error, or `None` for a single question.
    pub standard_error: Option<f64>,
}

impl Share {
    fn new(right: usize, all: usize) -> Self {
        let value = right as f64 / all as f64;
        let standard_error = (all > 1).then(|| (value * (1.0 - value) / (all - 1) as f64).sqrt());
        Self { value, standard_error }
    }
}

/// Scores the answers to all questions with `model`.
///
/// `encode` tokenizes text without adding special tokens. Contexts are truncated on the left so that context and answer
/// fit into `max_tokens`. Ties go to the first answer, as in lm-evaluation-harness.
///
/// # Errors
/// Returns a [`DownstreamError`] if there are no questions, if a question has no text or an answer that is too long, or
/// if the tokenizer, the model or the device fails.
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
            return Err(DownstreamError::Question { number, reason: "its answer is not one of its choices" });
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

/// Returns the index of the largest value; ties go to the first.
fn best(values: &[f64]) -> usize {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = at;
        }
    }
    best
}

/// Returns context and answer as one sequence in which the answer's tokens are scored. The answer's tokens are those
/// that the whole text has in addition to the context alone, since a token may span the boundary. Trailing spaces of
/// the context belong to the answer.
fn scored(
    choice: &Answer,
    encode: &dyn Fn(&str) -> Result<Vec<i32>, DataError>,
    max_tokens: usize,
    number: usize,
) -> Result<TokenBatch, DownstreamError> {
    let encode = |text: &str| encode(text).map_err(|source| DownstreamError::Tokenizer { number, source });
    let refuse = |reason| DownstreamError::Question { number, reason };
    let whole = encode(&format!("{}{}", choice.context, choice.continuation))?;
    let context = encode(choice.context.trim_end())?.len();
    if context == 0 {
        return Err(refuse("an answer has no context before it"));
    }
    let answer = whole.len().saturating_sub(context);
    if answer == 0 {
        return Err(refuse("an answer has no tokens"));
    }
    if answer > max_tokens {
        return Err(refuse("an answer is longer than max_tokens"));
    }
    let kept = &whole[whole.len().saturating_sub(max_tokens + 1)..];
    let seq = kept.len() - 1;
    let mut targets = kept[1..].to_vec();
    targets[..seq - answer].fill(IGNORE);
    Ok(TokenBatch { batch: 1, seq, inputs: kept[..seq].to_vec(), targets })
}
