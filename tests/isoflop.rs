//! Scaling studies: planning, resuming, drawing.
#![cfg(feature = "flex")]

use std::{fs, path::Path};

use burn::tensor::Device;
use composer_nas::{
    data::{Corpus, TokenFile, TokenFormat, TokenWidth, TokenWriter},
    evaluate::corpus::CorpusProtocol,
    extrapolate::Stack,
    isoflop::{Agreement, Cell, Family, Grid, GridError, IsoflopError, measure, read},
    prelude::*,
    report,
    space::baseline,
};

fn corpus(folder: &Path) -> Corpus {
    let text: Vec<u32> = fs::read("tests/fixtures/text/harbour.txt").unwrap().into_iter().map(u32::from).collect();
    let path = folder.join("bytes.bin");
    let mut writer = TokenWriter::create(&path, TokenFormat::Plain, TokenWidth::U8).unwrap();
    writer.document(&text).unwrap();
    writer.finish().unwrap();
    Corpus::new(TokenFile::open(path, TokenWidth::U8).unwrap(), 256)
}

fn grid<'a>(primitives: &'a Primitives, budgets: &[f64]) -> Grid<'a> {
    let size = |width| Target::custom(format!("width {width}"), Dims::new(width, 2 * width, 2).unwrap(), 256, true, 2);
    Grid {
        families: vec![
            Family::of_blocks("llama", baseline::llama),
            Family::extrapolated("stacked", "1A+3M".parse().unwrap(), Stack, primitives),
        ],
        sizes: [8, 16, 24].map(|width| size(width).unwrap()).to_vec(),
        budgets: budgets.to_vec(),
        protocol: CorpusProtocol {
            seq_len: 16,
            batch_size: 4,
            validation_windows: 4,
            evaluations: 1,
            ..CorpusProtocol::stories(1)
        },
        seeds: 1,
    }
}

#[test]
fn a_grid_is_every_family_at_every_size_and_budget() {
    let primitives = Primitives::standard();
    let cells = grid(&primitives, &[1e8, 4e8]).plan(256, &primitives, 1).unwrap();
    assert_eq!(cells.len(), 2 * 3 * 2);
    let llama: Vec<_> =
        cells.iter().filter(|cell| cell.family == "llama").map(|cell| cell.architecture.letters()).collect();
    assert!(llama.iter().all(|letters| letters == "AMAM"));
    // Larger models get fewer steps; the dearest do not get enough.
    let fewer = grid(&primitives, &[1e7, 4e8]).plan(256, &primitives, 4).unwrap();
    assert!(fewer.len() < cells.len(), "{}", fewer.len());
    let none = Grid { seeds: 0, ..grid(&primitives, &[1e8]) };
    assert!(matches!(none.plan(256, &primitives, 1), Err(GridError::Empty("seeds"))));
}

#[test]
fn a_study_that_is_stopped_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus(folder.path());
    let primitives = Primitives::standard();
    let cells = grid(&primitives, &[5e7, 2e8]).plan(256, &primitives, 1).unwrap();
    let path = folder.path().join("study.jsonl");
    let run = |cells: &[Cell], path: &Path, workers| {
        measure(cells, &corpus, &primitives, &Device::flex(), path, workers, &|_, _| ())
    };
    let first = run(&cells[..5], &path, 1).unwrap();
    let all = run(&cells, &path, 2).unwrap();
    assert_eq!(all[..5], first[..]);
    assert_eq!(all.iter().map(|measured| &measured.cell).collect::<Vec<_>>(), cells.iter().collect::<Vec<_>>());
    let alone = run(&cells, &folder.path().join("alone.jsonl"), 1).unwrap();
    assert_eq!(alone, all);
    assert!(all.iter().all(|measured| measured.loss.is_finite() && measured.flops <= measured.budget()));
    assert_eq!(read(&path).unwrap().len(), cells.len());

    let report::Figure { svg, csv, .. } = report::isoflop(&all, &[]).unwrap();
    assert_eq!(csv.lines().count(), 1 + all.len());
    assert!(svg.starts_with("<svg") && svg.contains("stacked") && svg.contains("llama"));
    assert!(report::isoflop(&[], &[]).is_err());

    fs::write(&path, "{\"a\": 1}\n").unwrap();
    assert!(matches!(run(&cells, &path, 1), Err(IsoflopError::Line { line: 1, .. })));
    let mut wide = cells[..1].to_vec();
    wide[0].architecture = "AZ".parse().unwrap();
    let refused = run(&wide, &folder.path().join("refused.jsonl"), 1);
    assert!(matches!(refused, Err(IsoflopError::Training { .. })), "{refused:?}");
}

#[test]
fn agreement_is_that_of_the_ranks() {
    let small = [3.0, 1.0, 2.0, 5.0, 4.0, 6.0, 8.0, 7.0];
    let same = Agreement::new(&small, &small.map(|x: f64| x.exp()), 200, Seed(1)).unwrap();
    assert_eq!((same.items, same.spearman.value, same.kendall.value, same.kendall.low), (8, 1.0, 1.0, 1.0));
    let reverse = Agreement::new(&small, &small.map(|x| -x), 200, Seed(1)).unwrap();
    assert_eq!((reverse.spearman.value, reverse.spearman.high), (-1.0, -1.0));
    assert_eq!(Agreement::new(&small, &[1.0; 8], 9, Seed(1)), None);
    assert_eq!(Agreement::new(&small, &small[1..], 9, Seed(1)), None);
}
