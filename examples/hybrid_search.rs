//! Searches six layers of attention, SwiGLU and Mamba-2, with at most two attention layers, at equal parameters, and
//! compares the result with published hybrids of the same size.
//!
//! `cargo run --release --example hybrid_search [TRIALS]`; run it again to resume `runs/hybrid_search`.

#[macro_use]
mod shared;

use std::{path::PathBuf, process::ExitCode};

use anyhow::ensure;
use clap::Parser;
use composer_nas::{cost::Workload, pipeline::PipelineError, prelude::*, space::baseline};

/// Searches six layers of attention (at most two), SwiGLU and Mamba-2 at equal parameters, and compares the result with
/// published hybrids.
///
/// Run the same command again to resume, or use a larger number of trials to continue.
#[derive(Debug, Parser)]
struct Args {
    /// Total number of trials, including those of earlier runs.
    #[arg(default_value_t = 24)]
    trials: usize,
    /// Seed of all random numbers. Another seed needs another --run.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Name of the run, which is its folder in --runs.
    #[arg(long, value_name = "NAME", default_value = "hybrid_search", value_parser = shared::folder_name)]
    run: String,
    /// Folder that contains the runs.
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    runs: PathBuf,
}

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(args.trials > 0, PipelineError::NoTrials);
    let folder = args.runs.join(&args.run);
    shared::check_folder(&folder)?;
    let primitives = Primitives::hybrid();
    let target = Target::llama_1b();
    let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu", "mamba2"])?, 6)?;
    // The short sequences of the proxy do not penalise attention for its cache, so limit it here.
    let space = space.count(Symbol::ATTENTION, 0..=2)?;
    let evaluator = Mad::hybrid(&primitives, &device::best()?.device).of_blocks(5)?;
    let found = Pipeline::new(&primitives, space, evaluator)
        .trials(args.trials)
        .seed(args.seed)
        .workers(2)
        .journal(folder.join("journal.jsonl"))
        .observer(ProgressBar::new())
        .run(&target)?;
    found.write(&folder, &target)?;
    println!("{} -> {}", found.aggregated, found.target.architecture);

    let primitives = Primitives::standard();
    let grow = |small| Auto.extrapolate(&small, &target, &primitives);
    let nemotron_h = grow(baseline::nemotron_h(6, 1))?;
    let samba = grow(baseline::samba(2))?;
    let models = [("nemotron_h", &nemotron_h), ("samba", &samba), ("found", &found.target)];
    let models = models.map(|(name, spec)| (name, &spec.architecture));
    println!("{}", target.compare(models, &primitives, Workload::bf16(4096))?);
    Ok(())
}
