//! The smallest search: six layers of attention and SwiGLU, trained on MAD, scaled to Llama 1B.
//!
//! `cargo run --release --example hello_search [TRIALS]`

#[macro_use]
mod shared;

use std::process::ExitCode;

use anyhow::Context as _;
use composer_nas::prelude::*;

fn main() -> ExitCode {
    shared::carry_out(run)
}

fn run() -> anyhow::Result<()> {
    let trials = match std::env::args_os().nth(1) {
        Some(word) => word.to_string_lossy().parse().with_context(|| format!("{word:?} is no number of trials"))?,
        None => 8,
    };
    let primitives = Primitives::standard();
    let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu"])?, 6)?;
    let found = Pipeline::new(&primitives, space, Mad::quick(&primitives, &device::best()?.device))
        .trials(trials)
        .workers(2)
        .observer(ProgressBar::new())
        .run(&Target::llama_1b())?;
    println!("{} -> {}", found.aggregated, found.target.architecture);
    Ok(())
}
