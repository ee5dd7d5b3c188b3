//! The file layouts and prompts of the benchmarks.

use std::{path::Path, str::FromStr};

use serde::Deserialize;
use serde_json::Value;

use super::DownstreamError;
use crate::limits;

/// A multiple-choice question with one correct answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The possible answers.
    pub choices: Vec<Answer>,
    /// The index of the correct answer, from 0.
    pub answer: usize,
}

/// An answer, as presented to the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The text before the answer.
    pub context: String,
    /// The text to score, including its leading space.
    pub continuation: String,
    /// The number of characters by which `acc_norm` divides, or `None` if the benchmark does not normalize.
    pub characters: Option<usize>,
}

/// The file layout and prompt of a benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Benchmark {
    /// ARC, easy and challenge (Clark et al. 2018, arXiv 1803.05457). Fields: `question`, `choices.text`,
    /// `choices.label`, `answerKey`.
    Arc,
    /// HellaSwag (Zellers et al. 2019, arXiv 1905.07830). Fields: `activity_label`, `ctx_a`, `ctx_b`, `endings`,
    /// `label`.
    HellaSwag,
    /// WinoGrande (Sakaguchi et al. 2019, arXiv 1907.10641). Fields: `sentence` with a gap `_`, `option1`, `option2`,
    /// `answer`. The text after the gap is scored, once per option.
    WinoGrande,
    /// SciQ (Welbl et al. 2017, arXiv 1707.06209). Fields: `question`, `distractor1` to `distractor3`,
    /// `correct_answer`, `support`.
    SciQ,
    /// PIQA (Bisk et al. 2019, arXiv 1911.11641). Fields: `goal`, `sol1`, `sol2`, `label`.
    Piqa,
}

impl Benchmark {
    /// Reads the questions of a file with one JSON object per line. Blank lines are skipped.
    ///
    /// # Errors
    /// Returns a [`DownstreamError`] that names the first line that is not a question in this layout.
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

    /// Returns the name of the layout. [`FromStr`] parses it.
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

impl FromStr for Benchmark {
    type Err = DownstreamError;

    fn from_str(name: &str) -> Result<Self, DownstreamError> {
        let all = [Self::Arc, Self::HellaSwag, Self::WinoGrande, Self::SciQ, Self::Piqa];
        all.into_iter().find(|layout| layout.name() == name).ok_or_else(|| DownstreamError::Layout(name.into()))
    }
}

fn parse<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| error.to_string())
}

/// Creates a question whose answers follow the same context, each after a space.
fn after(context: &str, answers: &[String], answer: usize) -> Question {
    let choice = |text: &String| Answer {
        context: context.into(),
        continuation: format!(" {text}"),
        characters: Some(text.chars().count()),
    };
    Question { choices: answers.iter().map(choice).collect(), answer }
}

/// Parses a label below `count`, given as a number or as digits.
fn label(value: &Value, count: usize) -> Result<usize, String> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_u64().and_then(|number| usize::try_from(number).ok()),
    };
    number.filter(|&number| number < count).ok_or_else(|| format!("label {value} is not between 0 and {}", count - 1))
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
        let answer = answer.ok_or_else(|| format!("answerKey {:?} is not the label of a choice", self.answer_key))?;
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

/// Makes the first letter upper-case and all others lower-case.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().collect::<String>());
    first.unwrap_or_default() + &letters.as_str().to_lowercase()
}

/// Removes the marks in square brackets that some texts of the benchmark contain.
fn cleaned(text: &str) -> String {
    let text = text.trim().replace(" [title]", ". ");
    let mut kept = String::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find('[') {
        // A mark ends on its own line.
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
        let choice = |option: &String| Answer {
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
        assert_eq!("piqa".parse::<Benchmark>().unwrap(), Benchmark::Piqa);
        assert!("boolq".parse::<Benchmark>().is_err());
    }
}
