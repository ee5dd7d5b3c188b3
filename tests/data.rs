//! Token files: formats byte by byte, damage, windows, order.
#![cfg(feature = "flex")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use composer_nas::data::{Corpus, TokenError, TokenFile, TokenFormat, TokenWidth, TokenWriter, Windows};
use proptest::prelude::*;

fn write(path: &Path, format: TokenFormat, width: TokenWidth, documents: &[Vec<u32>]) {
    let mut writer = TokenWriter::create(path, format, width).unwrap();
    documents.iter().for_each(|document| writer.document(document).unwrap());
    assert_eq!(writer.tokens(), documents.iter().map(|document| document.len() as u64).sum::<u64>());
    writer.finish().unwrap();
}

/// A plain file of the tokens `0..tokens`.
fn counting(folder: &Path, tokens: u32) -> Arc<TokenFile> {
    let path = folder.join("counting.bin");
    write(&path, TokenFormat::Plain, TokenWidth::U16, &[(0..tokens).collect()]);
    Arc::new(TokenFile::open(path, TokenWidth::U16).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_written_is_read(
        documents in proptest::collection::vec(proptest::collection::vec(0u32..60_000, 0..40), 1..8),
        format in prop_oneof![Just(TokenFormat::Plain), Just(TokenFormat::Header), Just(TokenFormat::Megatron)],
        wide: bool,
        at in 0usize..300,
        count in 0usize..300,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v1.5/tokens");
        let width = if wide { TokenWidth::U32 } else { TokenWidth::U16 };
        write(&path, format, width, &documents);
        let file = TokenFile::open(&path, width).unwrap();
        let tokens: Vec<_> = documents.concat().into_iter().map(|token| token as i32).collect();
        prop_assert_eq!(file.tokens(), tokens.len() as u64);
        prop_assert_eq!(file.width().bytes(), width.bytes());
        let read = file.read(at as u64, count, 60_000);
        prop_assert_eq!(read.ok(), tokens.get(at..at + count).map(<[_]>::to_vec));
        file.check(60_000).unwrap();
    }
}

#[test]
fn the_bytes_are_those_of_the_formats() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.bin");
    write(&path, TokenFormat::Plain, TokenWidth::U16, &[vec![1, 258], vec![3]]);
    assert_eq!(fs::read(&path).unwrap(), [1, 0, 2, 1, 3, 0]);

    // The header of llm.c: 256 integers, of which magic, version and count are used.
    write(&path, TokenFormat::Header, TokenWidth::U16, &[vec![1, 258], vec![3]]);
    let bytes = fs::read(&path).unwrap();
    let numbers: Vec<_> = bytes[..1024].chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(numbers[..3], [20_240_520, 1, 3]);
    assert!(numbers[3..].iter().all(|&number| number == 0));
    assert_eq!(bytes[1024..], [1, 0, 2, 1, 3, 0]);

    // Megatron-LM's index, put together by hand.
    write(&path, TokenFormat::Megatron, TokenWidth::U16, &[vec![1, 258], vec![3]]);
    assert_eq!(fs::read(&path).unwrap(), [1, 0, 2, 1, 3, 0]);
    let mut index = b"MMIDIDX\0\0".to_vec();
    index.extend(1u64.to_le_bytes());
    index.push(8);
    [2u64, 3].iter().for_each(|number| index.extend(number.to_le_bytes()));
    [2i32, 1].iter().for_each(|number| index.extend(number.to_le_bytes()));
    [0i64, 4, 0, 1, 2].iter().for_each(|number| index.extend(number.to_le_bytes()));
    assert_eq!(fs::read(path.with_extension("idx")).unwrap(), index);
}

/// The message with which a file is refused.
fn refusal(result: Result<TokenFile, TokenError>, path: &Path) -> String {
    let message = composer_nas::text::causes(&result.unwrap_err());
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    message
}

#[test]
fn damaged_flat_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.bin");
    assert!(refusal(TokenFile::open(&path, TokenWidth::U16), &path).contains("No such file"));
    refusal(TokenFile::open(folder.path(), TokenWidth::U16), folder.path());
    fs::write(&path, [0; 7]).unwrap();
    assert!(refusal(TokenFile::open(&path, TokenWidth::U16), &path).contains("7 bytes"));

    write(&path, TokenFormat::Header, TokenWidth::U16, &[vec![1, 2, 3]]);
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() - 2]).unwrap();
    assert!(
        refusal(TokenFile::open(&path, TokenWidth::U16), &path)
            .contains("1028 bytes but must have 1030 for the 3 tokens")
    );
    let mut other = good.clone();
    other[4] = 9;
    fs::write(&path, other).unwrap();
    assert!(refusal(TokenFile::open(&path, TokenWidth::U16), &path).contains("at byte 4: header version 9"));

    // The second token, at byte 1026, is 2.
    fs::write(&path, &good).unwrap();
    let file = TokenFile::open(&path, TokenWidth::U32).unwrap();
    assert_eq!(file.width(), TokenWidth::U16, "the header knows better");
    let message = file.check(2).unwrap_err().to_string();
    assert!(message.contains("at byte 1026: token 2 is outside the vocabulary of 2"), "{message}");
    assert!(file.read(2, 2, 9).is_err() && file.read(u64::MAX, 1, 9).is_err());
    // Cut after it was opened.
    fs::write(&path, &good[..1026]).unwrap();
    assert!(matches!(file.read(0, 3, 9), Err(TokenError::Io { .. })));
}

#[test]
fn damaged_indices_are_refused_at_their_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.bin");
    let index = folder.path().join("tokens.idx");
    write(&path, TokenFormat::Megatron, TokenWidth::U16, &[vec![1, 258], vec![3]]);
    let data = fs::read(&path).unwrap();
    let good = fs::read(&index).unwrap();
    assert_eq!(TokenFile::open(&index, TokenWidth::U16).unwrap().tokens(), 3);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        fs::write(&index, bytes).unwrap();
        refusal(TokenFile::open(&path, TokenWidth::U16), &index)
    };
    for (at, value, expected) in [
        (0, b'X', "at byte 0: this is not an index"),
        (9, 2, "at byte 9: version 2"),
        (17, 7, "at byte 17: token type 7"),
        (18, 3, "82 bytes but must have 94 for 3 sequences"),
        (37, 255, "at byte 34: a sequence has -"),
        (34, 200, "sequence 0 ends at byte 400, but the data has 6 bytes"),
        (50, 6, "sequence 1 begins at byte 6 of the data, but the one before ends at 4"),
        (74, 9, "at byte 74: document boundary 9 after 1, of 2 sequences"),
    ] {
        let message = with(at, value);
        assert!(message.contains(expected), "{message}");
    }
    for length in [0, 20, 33, good.len() - 1] {
        fs::write(&index, &good[..length]).unwrap();
        refusal(TokenFile::open(&path, TokenWidth::U16), &index);
    }
    fs::write(&index, &good).unwrap();
    fs::write(&path, &data[..4]).unwrap();
    assert!(refusal(TokenFile::open(&path, TokenWidth::U16), &index).contains("ends at byte 6"));
    fs::write(&path, [&data[..], &[0, 0]].concat()).unwrap();
    assert!(
        refusal(TokenFile::open(&path, TokenWidth::U16), &index).contains("end at byte 6, but the data has 8 bytes")
    );
}

#[test]
fn negative_tokens_are_beyond_every_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.bin");
    fs::write(&path, [5i64, -1].map(i64::to_le_bytes).concat()).unwrap();
    let file = TokenFile::open(&path, TokenWidth::I64).unwrap();
    assert_eq!(file.read(0, 1, 6).unwrap(), [5]);
    assert!(file.check(usize::MAX).unwrap_err().to_string().contains("at byte 8: token -1"));
}

#[test]
fn what_cannot_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.bin");
    let mut writer = TokenWriter::create(&path, TokenFormat::Plain, TokenWidth::U16).unwrap();
    assert!(matches!(writer.document(&[1, 65_536]), Err(TokenError::Width { token: 65_536, .. })));
    writer.document(&[65_535]).unwrap();
    assert!(!path.exists(), "a file appears when it is whole");
    writer.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), [255, 255]);
    assert!(TokenWriter::create(&path, TokenFormat::Header, TokenWidth::I64).is_err());
    assert!(TokenWriter::create(path.join("under/a/file"), TokenFormat::Plain, TokenWidth::U16).is_err());
}

#[test]
fn windows_predict_every_token_once_and_never_the_other_part() {
    let folder = tempfile::tempdir().unwrap();
    let file = counting(folder.path(), 1003);
    let [training, validation] = Windows::split(Arc::clone(&file), 1003, 10, 0.2).unwrap();
    // 802 and 201 tokens; the first of each part is not predicted.
    assert_eq!((training.count(), validation.count()), (80, 20));
    let batch = training.batch([0, 79]).unwrap();
    assert_eq!((batch.batch, batch.seq), (2, 10));
    assert_eq!(batch.inputs, (0..10).chain(790..800).collect::<Vec<_>>());
    assert_eq!(batch.targets, (1..11).chain(791..801).collect::<Vec<_>>());
    assert_eq!(validation.batch([0]).unwrap().inputs[0], 802);
    let sample = validation.sample(5, 2).unwrap();
    assert_eq!(sample.iter().map(|batch| batch.batch).collect::<Vec<_>>(), [2, 2, 1]);
    let starts: Vec<_> = sample.iter().flat_map(|batch| batch.inputs.chunks(10).map(|row| row[0])).collect();
    assert_eq!(starts, [802, 842, 882, 922, 962]);
    assert_eq!(validation.sample(99, 8).unwrap().iter().map(|batch| batch.batch).sum::<usize>(), 20);

    let error = |seq, share| Windows::split(Arc::clone(&file), 1003, seq, share).unwrap_err().to_string();
    assert!(error(400, 0.2).contains("201 tokens for validation, but a window of 400 needs 401"));
    assert!(error(0, 0.2).contains("is 0") && error(10, 1.5).contains("1.5") && error(10, f64::NAN).contains("NaN"));
    let [small, _] = Windows::split(file, 500, 10, 0.2).unwrap();
    assert!(small.batch([60]).unwrap_err().to_string().contains("at byte 1200: token 600"));
}

#[test]
fn digests_tell_data_apart_wherever_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let digest = |name: &str, format, width, tokens: &[u32]| {
        let path: PathBuf = folder.path().join(name);
        write(&path, format, width, &[tokens.to_vec()]);
        TokenFile::open(path, width).unwrap().digest().unwrap()
    };
    let tokens: Vec<u32> = (0..9000).map(|token| token % 777).collect();
    let plain = digest("a.bin", TokenFormat::Plain, TokenWidth::U16, &tokens);
    assert_eq!(digest("b.bin", TokenFormat::Header, TokenWidth::U16, &tokens), plain);
    assert_ne!(digest("c.bin", TokenFormat::Plain, TokenWidth::U32, &tokens), plain);
    for at in [0, 4096, 8999] {
        let mut other = tokens.clone();
        other[at] += 1;
        assert_ne!(digest("d.bin", TokenFormat::Plain, TokenWidth::U16, &other), plain, "{at}");
    }
    assert!(!digest("e.bin", TokenFormat::Plain, TokenWidth::U16, &[]).is_empty());
}

#[test]
fn folders_without_a_description_are_no_corpora() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Corpus::open(folder.path()).unwrap_err().to_string().contains("corpus.json"));
    fs::write(folder.path().join("corpus.json"), "{}").unwrap();
    assert!(matches!(Corpus::open(folder.path()), Err(TokenError::Description { .. })));
}
