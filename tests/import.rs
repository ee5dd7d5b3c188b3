//! Text to tokens and back.

use std::{fs, path::PathBuf};

use composer_nas::data::{Corpus, ImportError, Importer, TextReader, TokenWidth};

const TEXT: &str = include_str!("fixtures/text/harbour.txt");

fn text() -> TextReader {
    TextReader::new([PathBuf::from("tests/fixtures/text/harbour.txt")])
}

#[test]
fn text_comes_back_from_its_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let importer = Importer::train(text(), 400).unwrap();
    let info = importer.import(text(), folder.path()).unwrap();
    assert_eq!((info.vocab_size, info.documents, info.text_bytes), (400, 1, TEXT.len() as u64));

    let corpus = Corpus::open(folder.path()).unwrap();
    let count = corpus.tokens.tokens();
    assert_eq!((corpus.vocab_size, corpus.tokens.width()), (400, TokenWidth::U16));
    corpus.tokens.check(400).unwrap();
    let tokens = corpus.tokens.read(0, count as usize, 400).unwrap();
    assert_eq!(tokens.last().copied(), info.end_of_text.map(|token| token as i32));
    assert_eq!(importer.decode(&tokens).unwrap(), TEXT);
    assert!(count < TEXT.len() as u64 / 2, "{count} tokens");
    // Every byte belongs to one token.
    let bytes = corpus.token_bytes.unwrap();
    assert_eq!(tokens.iter().map(|&token| u64::from(bytes[token as usize])).sum::<u64>(), info.text_bytes);

    // The tokenizer that lies beside the tokens is the same, and training it again gives it again.
    let loaded = Importer::load(corpus.tokenizer.unwrap(), Some("<|endoftext|>")).unwrap();
    let strange = "Größe, 船, \u{1F6A2}\r\n\t and <|x|>";
    for importer in [&loaded, &Importer::train(text(), 400).unwrap()] {
        assert_eq!(importer.encode(TEXT).unwrap(), tokens[..tokens.len() - 1]);
        assert_eq!(importer.decode(&importer.encode(strange).unwrap()).unwrap(), strange);
    }
}

#[test]
fn lines_of_json_are_documents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("texts.jsonl");
    fs::write(&path, "{\"text\": \"one\", \"id\": 1}\n\n{\"id\": 2, \"text\": \"two\\n\"}\n{\"text\": \"\"}").unwrap();
    let read = |path: &PathBuf| TextReader::new([path.clone(), path.clone()]).collect::<Result<Vec<_>, _>>();
    assert_eq!(read(&path).unwrap(), ["one", "two\n", "one", "two\n"]);
    for (line, reason) in
        [("[1]", "no JSON object"), ("{\"txt\": 1}", "no field"), ("{\"text\": 1}", "no string"), ("{", "EOF")]
    {
        fs::write(&path, format!("{{\"text\": \"one\"}}\n{line}\n")).unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("line 2 of") && message.contains(reason), "{message}");
        let message = Importer::train(TextReader::new([path.clone()]), 300).unwrap_err().to_string();
        assert!(message.contains("line 2 of"), "{message}");
    }
}

#[test]
fn what_cannot_be_imported_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.txt");
    let no_file = || TextReader::new([missing.clone()]);
    assert!(Importer::train(no_file(), 300).unwrap_err().to_string().contains("missing.txt"));
    assert!(matches!(Importer::train(text(), 256), Err(ImportError::Vocabulary(256))));
    assert!(matches!(Importer::train([], 300), Err(ImportError::Empty)));
    assert!(matches!(Importer::load(&missing, None), Err(ImportError::Tokenizer { task: "loaded", .. })));

    let importer = Importer::train(text(), 300).unwrap();
    let corpus = folder.path().join("corpus");
    assert!(matches!(importer.import([], &corpus), Err(ImportError::Empty)));
    assert!(matches!(importer.import(no_file(), &corpus), Err(ImportError::Io { .. })));
    assert!(Corpus::open(&corpus).is_err(), "an import that failed leaves no corpus");
    importer.import(text(), &corpus).unwrap();
    let tokenizer = Corpus::tokenizer_path(&corpus);
    assert!(matches!(Importer::load(tokenizer, Some("</s>")), Err(ImportError::NoSuchToken(_))));
}
