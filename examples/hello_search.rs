//! The smallest search: six layers of attention and SwiGLU, trained on MAD, then scaled to Llama 1B.
//!
//! `cargo run --release --example hello_search [TRIALS]`

#[macro_use]
mod shared;

use std::process::ExitCode;

use clap::Parser;
use composer_nas::prelude::*;

/// Searches six layers of attention and SwiGLU, and scales the result to Llama 1B.
#[derive(Debug, Parser)]
struct Args {
    /// Total number of trials.
    #[arg(default_value_t = 8)]
    trials: usize,
}

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    let primitives = Primitives::standard();
    let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu"])?, 6)?;
    let found = Pipeline::new(&primitives, space, Mad::quick(&primitives, &device::best()?.device))
        .trials(args.trials)
        .workers(2)
        .observer(ProgressBar::new())
        .run(&Target::llama_1b())?;
    println!("{} -> {}", found.aggregated, found.target.architecture);
    Ok(())
}
