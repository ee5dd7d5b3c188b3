//! Judging a table by published comparisons.

use std::{fs, path::Path};

use anyhow::Context as _;
use composer_nas::{
    cost::{ModelCost, Workload},
    evaluate::{Table, mad::Protocol},
    evidence::{Evidence, Judgement, rules},
    prelude::*,
    report, text,
};

use crate::shared::shown;

/// The number of draws of the random judge. Its row is their mean.
const DRAWS: u64 = 200;

/// Returns the layouts of the comparisons that can be built from these primitives, and prints the others.
pub fn layouts(evidence: &Evidence, primitives: &Primitives) -> Vec<Architecture> {
    let known = |layout: &Architecture| layout.layers().iter().all(|&letter| primitives.get(letter).is_ok());
    let (known, unknown): (Vec<_>, Vec<_>) = evidence.architectures().into_iter().partition(known);
    if !unknown.is_empty() {
        println!("note: {} layouts have letters without a primitive and are not judged:", unknown.len());
        unknown.iter().for_each(|layout| println!("      {layout}"));
    }
    known
}

/// Prints how well the scores of the table agree with the comparisons, next to each of its columns and simple rules,
/// and plots the scores against the published numbers to a file beside the table.
pub fn judge(evidence: &Evidence, table: &Table, path: &Path) -> anyhow::Result<()> {
    let judgement = evidence.judge(|layout| table.scores(layout))?;
    println!("\n{judgement}\n");
    for group in &judgement.groups {
        let name = text::line(&group.name);
        if group.unjudged > 0 {
            println!("{name}: no score of {}", text::line(&group.unscored.join(", ")));
        }
        for [better, worse] in &group.wrong {
            println!("{name}: wrong on {better:?} before {worse:?}");
        }
    }
    compare(evidence, table, &judgement)?;
    let figure = report::evidence(evidence, |layout| table.scores(layout))?;
    let picture = path.with_extension("svg");
    fs::write(&picture, &figure.svg).with_context(|| format!("cannot write {}", picture.display()))?;
    println!("\nthe picture is {}", shown(&picture));
    Ok(())
}

/// Prints a line for the score, for every column and for every rule that needs no training.
fn compare(evidence: &Evidence, table: &Table, judgement: &Judgement) -> anyhow::Result<()> {
    println!("\nagreement with the pairs of each group, ties counting half (chance: 0.50)\n");
    let names: Vec<_> = judgement.groups.iter().map(|group| text::markdown(&group.name)).collect();
    println!("| judge | {} | mean of the papers |\n|---|{}--:|", names.join(" | "), "--:|".repeat(names.len()));
    line("score", judgement);
    for column in table.columns().iter().filter(|column| *column != "score") {
        let rescored = table.rescored(|name| name == column)?;
        line(column, &evidence.judge(|layout| rescored.scores(layout))?);
    }
    let measured = |layout: &Architecture| !table.scores(layout).is_empty();
    for (name, rule) in rules::ALL {
        let scores = |layout: &Architecture| measured(layout).then(|| rule(layout)).into_iter().collect();
        line(name, &evidence.judge(scores)?);
    }
    let primitives = Primitives::standard();
    let parameters = |layout: &Architecture| {
        let count = || parameters(layout, &primitives).ok().filter(|_| measured(layout));
        count().into_iter().collect()
    };
    line("parameters of the candidate", &evidence.judge(parameters)?);
    let random = |layout: &Architecture, draw: u64| {
        let number = Seed(0).derive(&layout.letters(), draw).0 as f64;
        measured(layout).then_some(number).into_iter().collect()
    };
    let draws = (0..DRAWS).map(|draw| Ok(shares(&evidence.judge(|layout| random(layout, draw))?)));
    let draws = draws.collect::<anyhow::Result<Vec<_>>>()?;
    let means = (0..draws[0].len()).map(|at| draws.iter().map(|draw| draw[at]).sum::<Option<f64>>());
    row("a random number", &means.map(|sum| Some(sum? / DRAWS as f64)).collect::<Vec<_>>());
    Ok(())
}

/// Returns the number of non-embedding parameters at the widths of `quick`.
fn parameters(layout: &Architecture, primitives: &Primitives) -> anyhow::Result<f64> {
    let spec = ModelSpec {
        architecture: layout.clone(),
        dims: Protocol::quick().dims,
        vocab_size: 1,
        tied_embeddings: true,
        head_bias: false,
        init: Protocol::quick().init,
    };
    Ok(ModelCost::new(&spec, primitives, Workload::bf16(16))?.non_embedding_parameters as f64)
}

fn line(name: &str, judgement: &Judgement) {
    row(name, &shares(judgement));
}

/// Returns the agreement with every group, followed by the mean of the papers.
fn shares(judgement: &Judgement) -> Vec<Option<f64>> {
    let groups = judgement.groups.iter().map(|group| &group.agreement);
    groups.chain([&judgement.macro_mean]).map(|estimate| Some(estimate.as_ref()?.value)).collect()
}

fn row(name: &str, shares: &[Option<f64>]) {
    let shares: Vec<_> = shares.iter().map(|share| share.map_or("-".into(), |share| format!("{share:.2}"))).collect();
    println!("| {} | {} |", text::markdown(name), shares.join(" | "));
}
