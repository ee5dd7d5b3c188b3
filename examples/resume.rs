//! A search with a journal can be stopped at any time, resumed, and continued with more trials.
//!
//! `cargo run --release --example resume`

#[macro_use]
mod shared;

use composer_nas::{journal, prelude::*, study::TrialId};

fn main() -> anyhow::Result<()> {
    shared::no_arguments(
        "Searches with a journal, then continues with more trials, a candidate and an invalidated trial.",
    );
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("journal.jsonl");
    let search = |trials: usize| {
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 6)?;
        let evaluator = from_fn("share of MLP", |trial, _| {
            Ok(Report::score("accuracy", trial.architecture.count(Symbol::SWIGLU) as f64 / 6.0))
        });
        let pipeline = Pipeline::new(&Primitives::standard(), space, evaluator).trials(trials).journal(&path);
        anyhow::Ok(pipeline)
    };
    search(8)?.run(&Target::llama_1b())?;

    // Continue with a larger budget and a candidate of our own, and mark a trial as invalid that was measured
    // incorrectly.
    let more = search(12)?.enqueue(["AMAMAM".parse()?]).invalidate(TrialId(0), "measured on a broken node");
    more.run(&Target::llama_1b())?;

    // Other programs can read the journal, even while a search is writing it.
    let (_, study) = journal::read(&path)?;
    println!("{} trials, {} of them valid", study.trials().len(), study.valid_trials());
    Ok(())
}
