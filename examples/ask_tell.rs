//! Write the loop yourself: ask for a trial, evaluate it anywhere, tell the result.
//!
//! `cargo run --release --example ask_tell`

#[macro_use]
mod shared;

use composer_nas::{extrapolate::Stack, pipeline::Ask, prelude::*, search::RegularizedEvolution};

/// Stands for your own training.
fn accuracy_of(architecture: &Architecture) -> f64 {
    let letters = architecture.letters();
    0.5 + 0.1 * letters.starts_with("AA") as u8 as f64 + 0.05 * letters.matches('M').count() as f64
}

fn main() -> anyhow::Result<()> {
    shared::no_arguments(
        "Asks a session for trials, evaluates them, tells the results, and scales the best architecture.",
    );
    let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 6)?;
    let searcher = RegularizedEvolution::new(8, 3)?;
    let mut session = Session::in_memory(space, Goal::default(), Seed(7), searcher);
    while session.study().trials().len() < 24 {
        let Ask::Trial(trial) = session.ask()? else { break };
        session.tell(trial.id, Ok(Report::score("accuracy", accuracy_of(&trial.architecture))))?;
    }
    let aggregated = NcClustering::n0().aggregate(session.study())?;
    let target = Stack.extrapolate(&aggregated, &Target::llama_1b(), &Primitives::standard())?;
    println!("{aggregated} -> {}", target.architecture);
    Ok(())
}
