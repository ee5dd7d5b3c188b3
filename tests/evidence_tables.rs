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

/// Right and judged pairs of a group.
fn right(table: &Table, group: &str) -> (usize, usize) {
    let judgement = Evidence::published().judge(|layout| table.scores(layout)).unwrap();
    let group = judgement.groups.iter().find(|known| known.name == group).unwrap();
    (group.right, group.pairs - group.unjudged)
}

#[test]
fn quick_orders_published_layouts_as_the_documents_say() {
    let table = table("published_quick");
    measured_with(&table, &Mad::quick(&Primitives::standard(), &Device::flex()));
    let groups = ["bae-350m", "bae-1b", "bae-350m-equal-work", "composer-1b", "samba-438m"];
    assert_eq!(groups.map(|group| right(&table, group)), [(98, 103), (106, 120), (9, 9), (4, 4), (11, 13)]);
}

#[test]
fn hybrid_orders_published_layouts_as_the_documents_say() {
    let table = table("published_hybrid");
    measured_with(&table, &Mad::hybrid(&Primitives::standard(), &Device::flex()));
    let judgement = Evidence::published().judge(|layout| table.scores(layout)).unwrap();
    let counts: Vec<_> = judgement.groups.iter().map(|group| (group.name.as_str(), group.right, group.pairs)).collect();
    let documented = [
        ("bae-350m", 98, 103),
        ("bae-1b", 105, 120),
        ("bae-windows-1b", 5, 7),
        ("bae-1b-equal-work", 34, 42),
        ("bae-350m-equal-work", 9, 9),
        ("composer-1b", 4, 4),
        ("mamba2-350m", 33, 49),
        ("mamba2-2.7b", 2, 2),
        ("samba-438m", 13, 13),
    ];
    assert_eq!(counts, documented);
    assert!(judgement.groups.iter().all(|group| group.unjudged == 0));
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
