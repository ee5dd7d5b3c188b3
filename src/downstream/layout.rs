//! The files of the benchmarks, and the prompts that are made of them.

use std::{path::Path, str::FromStr};

use serde::Deserialize;
use serde_json::Value;

use super::DownstreamError;
use crate::limits;

/// A question with several answers, of which one is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The answers.
    pub choices: Vec<Choice>,
    /// Which one is right, counted from 0.
    pub answer: usize,
}

/// An answer as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What stands before it.
    pub context: String,
    /// What is scored, its leading space included.
    pub continuation: String,
    /// Characters of the answer by which `acc_norm` divides; none where the benchmark does not normalise.
    pub characters: Option<usize>,
}

/// A benchmark's file layout and prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// ARC, easy and challenge (Clark et al. 2018, arXiv 1803.05457): `question`, `choices.text`, `choices.label`,
    /// `answerKey`.
    Arc,
    /// HellaSwag (Zellers et al. 2019, arXiv 1905.07830): `activity_label`, `ctx_a`, `ctx_b`, `endings`, `label`.
    HellaSwag,
    /// WinoGrande (Sakaguchi et al. 2019, arXiv 1907.10641): `sentence` with a gap `_`, `option1`, `option2`, `answer`.
    /// What follows the gap is scored, after either option.
    WinoGrande,
    /// SciQ (Welbl et al. 2017, arXiv 1707.06209): `question`, `distractor1` to `distractor3`, `correct_answer`,
    /// `support`.
    SciQ,
    /// PIQA (Bisk et al. 2019, arXiv 1911.11641): `goal`, `sol1`, `sol2`, `label`.
    Piqa,
}

impl Layout {
    /// Reads the questions of a file, one JSON object per line; blank lines are passed over.
    ///
    /// # Errors
    /// [`DownstreamError`] names the line that is no question of this layout.
    pub fn read(self, path: &Path) -> Result<Vec<Question>, DownstreamError> {
        let text = limits::read_text(path, limits::MAX_LINES)
            .map_err(|source| DownstreamError::Io { path: path.into(), source })?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let questions = lines.map(|(at, line)| {
            let wrong = |reason| DownstreamError::Line { path: path.into(), line: at + 1, layout: self.name(), reason };
            self.question(line).map_err(wrong)
        });
        questions.collect()
    }

    /// Its name, which [`FromStr`] understands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arc => "arc",
            Self::HellaSwag => "hellaswag",
            Self::WinoGrande => "winogrande",
            Self::SciQ => "sciq",
            Self::Piqa => "piqa",
        }
    }

    fn question(self, line: &str) -> Result<Question, String> {
        match self {
            Self::Arc => parse::<Arc>(line)?.question(),
            Self::HellaSwag => parse::<HellaSwag>(line)?.question(),
            Self::WinoGrande => parse::<WinoGrande>(line)?.question(),
            Self::SciQ => Ok(parse::<SciQ>(line)?.question()),
            Self::Piqa => parse::<Piqa>(line)?.question(),
        }
    }
}

impl FromStr for Layout {
    type Err = DownstreamError;

    fn from_str(name: &str) -> Result<Self, DownstreamError> {
        let all = [Self::Arc, Self::HellaSwag, Self::WinoGrande, Self::SciQ, Self::Piqa];
        all.into_iter().find(|layout| layout.name() == name).ok_or_else(|| DownstreamError::Layout(name.into()))
    }
}

fn parse<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| error.to_string())
}

/// Answers after one context, each behind a space.
fn after(context: &str, answers: &[String], answer: usize) -> Question {
    let choice = |text: &String| Choice {
        context: context.into(),
        continuation: format!(" {text}"),
        characters: Some(text.chars().count()),
    };
    Question { choices: answers.iter().map(choice).collect(), answer }
}

/// A label below `count`, given as a number or as digits.
fn label(value: &Value, count: usize) -> Result<usize, String> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_u64().and_then(|number| usize::try_from(number).ok()),
    };
    number.filter(|&number| number < count).ok_or_else(|| format!("label {value} is none of 0 to {}", count - 1))
}

#[derive(Deserialize)]
struct Arc {
    question: String,
    choices: ArcChoices,
    #[serde(rename = "answerKey")]
    answer_key: String,
}

#[derive(Deserialize)]
struct ArcChoices {
    text: Vec<String>,
    label: Vec<String>,
}

impl Arc {
    fn question(self) -> Result<Question, String> {
        let answer = self.choices.label.iter().position(|label| *label == self.answer_key);
        let answer = answer.filter(|&answer| answer < self.choices.text.len());
        let answer = answer.ok_or_else(|| format!("answerKey {:?} labels no choice", self.answer_key))?;
        Ok(after(&format!("Question: {}\nAnswer:", self.question), &self.choices.text, answer))
    }
}

#[derive(Deserialize)]
struct HellaSwag {
    activity_label: String,
    ctx_a: String,
    ctx_b: String,
    endings: Vec<String>,
    label: Value,
}

impl HellaSwag {
    fn question(self) -> Result<Question, String> {
        if self.endings.is_empty() {
            return Err("there are no endings".into());
        }
        let answer = label(&self.label, self.endings.len())?;
        let context = format!("{}: {} {}", self.activity_label, self.ctx_a, capitalised(&self.ctx_b));
        let endings: Vec<_> = self.endings.iter().map(|ending| cleaned(ending)).collect();
        Ok(after(&cleaned(&context), &endings, answer))
    }
}

/// The first letter large, all others small.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().collect::<String>());
    first.unwrap_or_default() + &letters.as_str().to_lowercase()
}

/// Without the marks in square brackets that part of the benchmark's texts come with.
fn cleaned(text: &str) -> String {
    let text = text.trim().replace(" [title]", ". ");
    let mut kept = String::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find('[') {
        // A mark ends within its line.
        let mark = rest[start..].find(']').filter(|&end| !rest[start..start + end].contains('\n'));
        let Some(end) = mark else {
            let next = start + 1;
            kept.push_str(&rest[..next]);
            rest = &rest[next..];
            continue;
        };
        kept.push_str(&rest[..start]);
        rest = &rest[start + end + 1..];
    }
    kept.push_str(rest);
    kept.replace("  ", " ")
}

#[derive(Deserialize)]
struct WinoGrande {
    sentence: String,
    option1: String,
    option2: String,
    answer: String,
}

impl WinoGrande {
    fn question(self) -> Result<Question, String> {
        let (before, behind) = self.sentence.split_once('_').ok_or("the sentence has no gap _")?;
        let answer = match self.answer.as_str() {
            "1" => 0,
            "2" => 1,
            other => return Err(format!("answer {other:?} is neither 1 nor 2")),
        };
        let choice = |option: &String| Choice {
            context: format!("{before}{option}"),
            continuation: format!(" {}", behind.trim()),
            characters: None,
        };
        Ok(Question { choices: [&self.option1, &self.option2].map(choice).into(), answer })
    }
}

#[derive(Deserialize)]
struct SciQ {
    question: String,
    distractor1: String,
    distractor2: String,
    distractor3: String,
    correct_answer: String,
    #[serde(default)]
    support: String,
}

impl SciQ {
    fn question(self) -> Question {
        let context = format!("{}\nQuestion: {}\nAnswer:", self.support.trim_start(), self.question);
        after(&context, &[self.distractor1, self.distractor2, self.distractor3, self.correct_answer], 3)
    }
}

#[derive(Deserialize)]
struct Piqa {
    goal: String,
    sol1: String,
    sol2: String,
    label: Value,
}

impl Piqa {
    fn question(self) -> Result<Question, String> {
        let answer = label(&self.label, 2)?;
        Ok(after(&format!("Question: {}\nAnswer:", self.goal), &[self.sol1, self.sol2], answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_in_brackets_go() {
        // One space of two goes, once, as in the reference.
        let text = " How to fold [header] a map [title] Lay it flat.[step] Then   fold";
        assert_eq!(cleaned(text), "How to fold a map. Lay it flat. Then  fold");
        assert_eq!(cleaned("a [b"), "a [b");
        assert_eq!(cleaned("a [b\nc] d [e] f"), "a [b\nc] d f");
        assert_eq!([capitalised("tHE End"), capitalised("")], ["The end".to_string(), String::new()]);
    }

    #[test]
    fn labels_are_numbers_or_digits() {
        assert_eq!(label(&Value::from(1), 2), Ok(1));
        assert_eq!(label(&Value::from("3"), 4), Ok(3));
        for wrong in [Value::from(2), Value::from("x"), Value::from(-1), Value::Null] {
            assert!(label(&wrong, 2).is_err(), "{wrong}");
        }
        assert_eq!("piqa".parse::<Layout>().unwrap(), Layout::Piqa);
        assert!("boolq".parse::<Layout>().is_err());
    }
}
