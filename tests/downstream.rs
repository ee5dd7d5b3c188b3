//! Multiple choice by likelihood: prompts letter by letter, scores by hand.
#![cfg(feature = "flex")]

use std::{fs, path::PathBuf};

use burn::{
    module::{Module, Param},
    tensor::{Device, Int, Tensor, TensorData, module::embedding},
};
use composer_nas::{
    downstream::{Answer, Benchmark, DownstreamError, Question, score},
    model::Network,
    text,
    train::DataError,
};

fn read(layout: Benchmark) -> Vec<Question> {
    layout.read(&PathBuf::from(format!("tests/fixtures/downstream/{}.jsonl", layout.name()))).unwrap()
}

fn texts(question: &Question) -> Vec<(&str, &str, Option<usize>)> {
    question.choices.iter().map(|choice| (&*choice.context, &*choice.continuation, choice.characters)).collect()
}

#[test]
fn prompts_are_those_of_the_harness() {
    let arc = read(Benchmark::Arc);
    let context = "Question: What is wet?\nAnswer:";
    assert_eq!(texts(&arc[0]), [(context, " sand", Some(4)), (context, " sea", Some(3))]);
    assert_eq!(
        arc.iter().map(|question| (question.choices.len(), question.answer)).collect::<Vec<_>>(),
        [(2, 1), (3, 0)]
    );

    let hellaswag = &read(Benchmark::HellaSwag)[0];
    let first = ("Sailing: A boat leaves the pier. The crew", " sets the sails. It is windy.", Some(28));
    assert_eq!((texts(hellaswag)[0], hellaswag.choices.len(), hellaswag.answer), (first, 4, 0));

    let winogrande = &read(Benchmark::WinoGrande)[0];
    let expected = [
        ("The ship left the harbour because the ship", " was small.", None),
        ("The ship left the harbour because the harbour", " was small.", None),
    ];
    assert_eq!((texts(winogrande), winogrande.answer), (expected.to_vec(), 1));

    let sciq = &read(Benchmark::SciQ)[0];
    let context = "The moon pulls at the sea.\nQuestion: What moves the tides?\nAnswer:";
    assert_eq!((texts(sciq)[3], sciq.answer), ((context, " the moon", Some(8)), 3));

    let piqa = &read(Benchmark::Piqa)[0];
    let context = "Question: To dry a coat,\nAnswer:";
    let expected = [(context, " hang it up.", Some(11)), (context, " put it into the sea.", Some(20))];
    assert_eq!((texts(piqa), piqa.answer), (expected.to_vec(), 0));
}

#[test]
fn lines_that_are_no_questions_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("questions.jsonl");
    for (layout, line, reason) in [
        (Benchmark::Arc, r#"{"question":"?","choices":{"text":["a"],"label":["A"]},"answerKey":"B"}"#, "answerKey"),
        (Benchmark::Arc, "{}", "missing field"),
        (Benchmark::HellaSwag, r#"{"activity_label":"","ctx_a":"","ctx_b":"","endings":[],"label":0}"#, "no endings"),
        (Benchmark::WinoGrande, r#"{"sentence":"no gap","option1":"","option2":"","answer":"1"}"#, "gap"),
        (Benchmark::WinoGrande, r#"{"sentence":"a _","option1":"","option2":"","answer":""}"#, "neither"),
        (Benchmark::Piqa, r#"{"goal":"","sol1":"","sol2":"","label":-1}"#, "label -1"),
        (Benchmark::SciQ, "[]", "missing"),
    ] {
        fs::write(&path, format!("\n{line}\n")).unwrap();
        let message = layout.read(&path).unwrap_err().to_string();
        assert!(message.contains("line 2 of") && message.contains(layout.name()), "{message}");
        assert!(message.contains(reason) || layout == Benchmark::SciQ, "{message}");
    }
    assert!(matches!(Benchmark::Arc.read(folder.path()), Err(DownstreamError::Io { .. })));
}

/// A model of pairs: the logits of the next token are a row of a table.
#[derive(Module, Debug)]
struct Pairs {
    table: Param<Tensor<2>>,
}

impl Network for Pairs {
    fn vocab_size(&self) -> usize {
        self.table.shape().dims::<2>()[0]
    }
    fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        embedding(self.table.val(), tokens)
    }
}

/// The letters `_QAB` are tokens 0 to 3. After `Q` comes `A` with 1/2 and `B` with 1/4, after `A` again `A` with 1/64,
/// after `B` again `B` with 31/32.
fn pairs() -> Pairs {
    let rows = [
        [1.0 / 4.0, 1.0 / 4.0, 1.0 / 4.0, 1.0 / 4.0],
        [1.0 / 8.0, 1.0 / 8.0, 1.0 / 2.0, 1.0 / 4.0],
        [21.0 / 64.0, 21.0 / 64.0, 1.0 / 64.0, 21.0 / 64.0],
        [1.0 / 96.0, 1.0 / 96.0, 1.0 / 96.0, 31.0 / 32.0],
    ];
    let values: Vec<f32> = rows.iter().flatten().map(|p: &f64| p.ln() as f32).collect();
    Pairs { table: Param::from_data(TensorData::new(values, [4, 4]), &Device::flex()) }
}

fn encode(text: &str) -> Result<Vec<i32>, DataError> {
    let token = |letter: char| "_QAB".find(letter).map(|at| at as i32);
    text.chars().map(|letter| token(letter).ok_or_else(|| format!("no token {letter:?}").into())).collect()
}

fn question(answers: &[&str], answer: usize) -> Question {
    let choice = |text: &&str| Answer {
        context: "_Q".into(),
        continuation: (*text).into(),
        characters: Some(text.chars().count()),
    };
    Question { choices: answers.iter().map(choice).collect(), answer }
}

#[test]
fn scores_are_those_worked_out_by_hand() {
    let questions = [
        // ln 1/2 = -0.69 beats ln (1/4 (31/32)^2) = -1.45, but per letter -0.48 beats -0.69.
        question(&["A", "BBB"], 1),
        question(&["A", "B"], 0),
        // ln (1/2 1/64) = -4.85 loses to ln 1/4 = -1.39, and -2.43 per letter does as well.
        question(&["AA", "B"], 0),
        // Equally likely: the first counts.
        question(&["A", "A"], 1),
    ];
    for max_tokens in [2048, 3] {
        // Only the letter before counts for this model, so contexts may be cut.
        let accuracy = score(&pairs(), &questions, &encode, max_tokens).unwrap();
        assert_eq!((accuracy.questions, accuracy.acc.value), (4, 0.25));
        let normed = accuracy.acc_norm.unwrap();
        assert_eq!(normed.value, 0.5);
        // sqrt(1/4 3/4 / 3) and sqrt(1/2 1/2 / 3).
        assert!((accuracy.acc.standard_error.unwrap() - 0.25).abs() < 1e-12);
        assert!((normed.standard_error.unwrap() - (1f64 / 12.0).sqrt()).abs() < 1e-12);
    }
    // A benchmark that does not normalise.
    let mut plain = questions[1].clone();
    plain.choices[0].characters = None;
    let accuracy = score(&pairs(), &[plain], &encode, 9).unwrap();
    assert_eq!((accuracy.acc.value, accuracy.acc.standard_error, accuracy.acc_norm), (1.0, None, None));
}

#[test]
fn what_cannot_be_scored_is_named() {
    let refused = |question: Question| score(&pairs(), &[question], &encode, 3).unwrap_err();
    let unknown = refused(question(&["A", "x"], 0));
    assert!(matches!(&unknown, DownstreamError::Tokenizer { number: 1, .. }) && text::causes(&unknown).contains("'x'"));
    assert!(matches!(refused(question(&["A"], 1)), DownstreamError::Question { .. }));
    assert!(matches!(refused(question(&["A", ""], 0)), DownstreamError::Question { .. }));
    assert!(refused(question(&["AAAA"], 0)).to_string().contains("longer"));
    let mut bare = question(&["A"], 0);
    bare.choices[0].context.clear();
    assert!(refused(bare).to_string().contains("no context before it"));
    assert!(matches!(score(&pairs(), &[], &encode, 9), Err(DownstreamError::Empty)));
}
