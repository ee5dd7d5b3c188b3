//! Tokens, text, tokenizers, questions.

use std::{fs, path::Path, sync::Arc};

use anyhow::ensure;
use composer_nas::{
    data::{Corpus, CorpusInfo, Importer, TextReader, TokenFile, TokenFormat, TokenWidth, TokenWriter, Windows},
    downstream::Benchmark,
    text::causes,
};

use super::{Seen, Target, json};
use crate::INPUT;

const WIDTHS: [TokenWidth; 5] = [TokenWidth::U8, TokenWidth::U16, TokenWidth::U32, TokenWidth::I32, TokenWidth::I64];

/// Returns the bytes of a file with some tokens.
fn tokens(path: &Path, format: TokenFormat, width: TokenWidth) -> anyhow::Result<()> {
    let mut writer = TokenWriter::create(path, format, width)?;
    writer.document(&[1, 2, 3, 4, 5])?;
    writer.document(&[6, 7, 300, 8])?;
    writer.finish()?;
    Ok(())
}

/// Reads every token in all possible ways and checks that they agree.
fn read(file: TokenFile) -> anyhow::Result<Seen> {
    const VOCABULARY: usize = 301;
    let digest = file.digest()?;
    let all = file.read(0, file.tokens() as usize, VOCABULARY);
    ensure!(file.check(VOCABULARY).is_ok() == all.is_ok(), "two readers differ in what is a token");
    ensure!(file.read(file.tokens(), 1, VOCABULARY).is_err(), "a token behind the end");
    ensure!(file.digest()? == digest, "a file has two digests");
    let what = match &all {
        Ok(tokens) => format!("{} whole", tokens.is_empty()),
        Err(error) => causes(&error),
    };
    let file = Arc::new(file);
    for length in [1, 3, usize::MAX] {
        if let Ok(windows) = Windows::split(file.clone(), VOCABULARY, length, 0.3) {
            ensure!(length < usize::MAX, "a window of all numbers");
            drop(windows);
        }
    }
    Seen::read(what)
}

pub const TOKEN_FILE: Target = Target {
    name: "token_file",
    what: "flat files of tokens, with and without the header of llm.c",
    seeds: |folder| {
        let path = folder.join("seed.bin");
        let formats = [
            (TokenFormat::Plain, TokenWidth::U16),
            (TokenFormat::Plain, TokenWidth::U32),
            (TokenFormat::Header, TokenWidth::U16),
            (TokenFormat::Header, TokenWidth::U32),
        ];
        let bytes = |(format, width)| {
            tokens(&path, format, width)?;
            Ok(fs::read(&path)?)
        };
        formats.into_iter().map(bytes).collect()
    },
    run: |input, folder| {
        let width = WIDTHS[input.len() % WIDTHS.len()];
        for width in [width, TokenWidth::U16] {
            match TokenFile::open(folder.join(INPUT), width) {
                Ok(file) => return read(file),
                Err(_) if width != TokenWidth::U16 => {}
                Err(error) => return Seen::refused(error),
            }
        }
        Seen::refused_as("")
    },
};

pub const TOKEN_INDEX: Target = Target {
    name: "token_index",
    what: "the index beside tokens of Megatron-LM",
    seeds: |folder| {
        let path = folder.join("pair.bin");
        tokens(&path, TokenFormat::Megatron, TokenWidth::U16)?;
        Ok(vec![fs::read(path.with_extension("idx"))?])
    },
    run: |input, folder| {
        let path = folder.join("pair.bin");
        fs::write(path.with_extension("idx"), input)?;
        match TokenFile::open(&path, TokenWidth::U16) {
            Ok(file) => read(file),
            Err(error) => Seen::refused(error),
        }
    },
};

pub const CORPUS: Target = Target {
    name: "corpus",
    what: "the description of a corpus",
    seeds: |folder| {
        tokens(&folder.join("tokens.bin"), TokenFormat::Plain, TokenWidth::U16)?;
        let info =
            CorpusInfo { vocab_size: 301, end_of_text: Some(0), documents: 2, text_bytes: 99, token_bytes: None };
        json([CorpusInfo { vocab_size: 4, token_bytes: Some(vec![1, 2, 3, 0]), ..info.clone() }, info])
    },
    run: |input, folder| {
        fs::write(folder.join("corpus.json"), input)?;
        match Corpus::open(folder) {
            Ok(corpus) => {
                let bytes = corpus.token_bytes.as_ref();
                ensure!(bytes.is_none_or(|bytes| bytes.len() == corpus.vocab_size), "bytes of other tokens");
                Seen::read(format!("{}", corpus.tokens.check(corpus.vocab_size).is_ok()))
            }
            Err(error) => Seen::refused(error),
        }
    },
};

pub const TEXT: Target = Target {
    name: "text",
    what: "documents of text, plain and one JSON object per line",
    seeds: |_| Ok(vec![b"{\"text\": \"one\"}\n\n{\"text\": \"two\", \"more\": 1}\n".into(), b"A plain text.\n".into()]),
    run: |input, folder| {
        let path = folder.join("text.jsonl");
        fs::write(&path, input)?;
        let plain: Vec<_> = TextReader::new([folder.join(INPUT)]).collect();
        ensure!(plain.len() <= 1, "a plain file with several documents");
        match TextReader::new([path]).collect::<Result<Vec<String>, _>>() {
            Ok(documents) => {
                ensure!(documents.iter().all(|document| !document.is_empty()), "an empty document");
                Seen::read("documents")
            }
            Err(error) => Seen::refused(error),
        }
    },
};

pub const TOKENIZER: Target = Target {
    name: "tokenizer",
    what: "tokenizer.json, and text through it and back",
    seeds: |folder| {
        let texts = || ["To search is to try.", "To try is to learn."].map(|text| Ok(text.into()));
        let folder = folder.join("tokenizer");
        Importer::train(texts(), 280)?.import(texts(), &folder)?;
        Ok(vec![fs::read(folder.join("tokenizer.json"))?])
    },
    run: |_, folder| {
        let importer = match Importer::load(folder.join(INPUT), None) {
            Ok(importer) => importer,
            Err(error) => return Seen::refused(error),
        };
        let size = importer.vocab_size();
        let text = "To search is to try. é 👩‍🔬\n";
        let tokens = match importer.encode(text) {
            Ok(tokens) => tokens,
            Err(error) => return Seen::read(causes(&error)),
        };
        ensure!(tokens.iter().all(|&token| (token as usize) < size), "a token beyond the vocabulary");
        let back = importer.decode(&tokens).map_or_else(|error| causes(&error), |back| format!("{}", back == text));
        let made = importer.import([Ok(text.to_owned())], folder.join("imported"));
        match made {
            Ok(info) => {
                let corpus = Corpus::open(folder.join("imported"))?;
                ensure!(corpus.vocab_size == info.vocab_size, "a corpus of another vocabulary");
                corpus.tokens.check(corpus.vocab_size)?;
                Seen::read(back)
            }
            Err(error) => Seen::read(causes(&error)),
        }
    },
};

pub const QUESTIONS: Target = Target {
    name: "questions",
    what: "the five files of multiple choice",
    seeds: |_| {
        Ok(vec![
            include_bytes!("../../../tests/fixtures/downstream/arc.jsonl").into(),
            include_bytes!("../../../tests/fixtures/downstream/hellaswag.jsonl").into(),
            include_bytes!("../../../tests/fixtures/downstream/winogrande.jsonl").into(),
            include_bytes!("../../../tests/fixtures/downstream/sciq.jsonl").into(),
            include_bytes!("../../../tests/fixtures/downstream/piqa.jsonl").into(),
        ])
    },
    run: |_, folder| {
        let mut words = String::new();
        for layout in [Benchmark::Arc, Benchmark::HellaSwag, Benchmark::WinoGrande, Benchmark::SciQ, Benchmark::Piqa] {
            match layout.read(&folder.join(INPUT)) {
                Ok(questions) => {
                    let sound = questions.iter().all(|question| question.answer < question.choices.len());
                    ensure!(sound, "an answer that is none of the choices");
                    return Seen::read(layout.name());
                }
                Err(error) => words += &causes(&error),
            }
        }
        Seen::refused_as(words)
    },
};
