//! The committed tables of published layouts: what `docs/proxy.md` says of them.
#![cfg(feature = "flex")]

use composer_nas::{evaluate::Table, evidence::Evidence, prelude::*};

fn table(name: &str) -> Table {
    Table::read(format!("{}/docs/data/{name}.csv", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn measured_with(table: &Table, evaluator: &Mad) {
    let fingerprint = evaluator.fingerprint();
    assert!(table.evaluator().is_some_and(|known| known.starts_with(&fingerprint)), "measure the table again");
}

/// The groups with the numbers of right and of all pairs, all of which are judged, and the mean of the papers.
fn judged(table: &Table) -> (Vec<(String, usize, usize)>, f64) {
    let judgement = Evidence::published().judge(|layout| table.scores(layout)).unwrap();
    assert!(judgement.groups.iter().all(|group| group.unjudged == 0));
    let counts = judgement.groups.iter().map(|group| (group.name.clone(), group.right, group.pairs));
    (counts.collect(), judgement.macro_mean.unwrap().value)
}

fn expect(table: &Table, documented: [(&str, usize, usize); 9], mean: f64) {
    let (counts, macro_mean) = judged(table);
    assert_eq!(counts, documented.map(|(name, right, pairs)| (name.to_owned(), right, pairs)));
    assert!((macro_mean - mean).abs() <= 0.005, "{macro_mean}");
}

/// The mean of recall and copying is the score of `quick`: the same trainings with the same seeds.
fn quick(table: &Table) -> Table {
    table.rescored(|column| ["in-context-recall", "selective-copying"].contains(&column)).unwrap()
}

#[test]
fn quick_orders_published_layouts_as_the_documents_say() {
    let hybrid = table("published_hybrid");
    expect(
        &quick(&hybrid),
        [
            ("bae-350m", 98, 103),
            ("bae-1b", 105, 120),
            ("bae-windows-1b", 5, 7),
            ("bae-1b-equal-work", 34, 42),
            ("bae-350m-equal-work", 9, 9),
            ("composer-1b", 4, 4),
            ("mamba2-350m", 33, 49),
            ("mamba2-2.7b", 2, 2),
            ("samba-438m", 11, 13),
        ],
        0.86,
    );
}

#[test]
fn the_table_of_hybrid_contains_the_trainings_of_quick() {
    let alone = table("published_quick");
    measured_with(&alone, &Mad::quick(&Primitives::standard(), &Device::flex()));
    let within = quick(&table("published_hybrid"));
    let layouts: Vec<_> = alone.architectures().cloned().collect();
    assert_eq!(layouts.len(), 47);
    for layout in layouts {
        assert!((alone.scores(&layout)[0] - within.scores(&layout)[0]).abs() < 1e-12, "{layout}");
    }
}

#[test]
fn hybrid_orders_published_layouts_as_the_documents_say() {
    let table = table("published_hybrid");
    measured_with(&table, &Mad::hybrid(&Primitives::standard(), &Device::flex()));
    let seeds: Vec<_> = table.architectures().map(|layout| (layout.len(), table.scores(layout).len())).collect();
    assert!(seeds.iter().all(|&(layers, seeds)| seeds == 3 || layers > 32 && seeds == 2));
    assert_eq!(seeds.iter().filter(|&&(_, seeds)| seeds == 2).count(), 15);
    assert_eq!(seeds.iter().filter(|&&(layers, _)| layers > 32).count(), 17);
    expect(
        &table,
        [
            ("bae-350m", 98, 103),
            ("bae-1b", 105, 120),
            ("bae-windows-1b", 4, 7),
            ("bae-1b-equal-work", 32, 42),
            ("bae-350m-equal-work", 9, 9),
            ("composer-1b", 4, 4),
            ("mamba2-350m", 33, 49),
            ("mamba2-2.7b", 2, 2),
            ("samba-438m", 13, 13),
        ],
        0.89,
    );
}

/// Twelve layers: one attention layer in the middle, last and first, none, Llama-like, and every third mixer.
#[test]
fn the_places_of_attention_are_ordered_but_for_the_last() {
    let table = table("exam");
    measured_with(&table, &Mad::hybrid(&Primitives::standard(), &Device::flex()));
    let mut middle_ahead = 0;
    for seed in 0..table.seeds().len() {
        let score = |layout: &str| table.scores(&layout.parse().unwrap())[seed];
        let middle = score("BMBMAMBMBMBM");
        let last = score("BMBMBMBMBMAM");
        for behind in ["AMBMBMBMBMBM", "BMBMBMBMBMBM", "AMAMAMAMAMAM"].map(score) {
            assert!(middle > behind && last > behind, "seed {seed}");
        }
        assert!(score("BMAMBMAMBMAM") > middle.max(last), "seed {seed}");
        middle_ahead += usize::from(middle > last);
    }
    // Trainings at size have the middle level with the last place or ahead of it: docs/proxy.md names the fault.
    assert_eq!((middle_ahead, table.seeds().len()), (0, 5));
}
