//! Searches with a custom layer among three primitives, and writes the page of the result. `docs/plug_in.md` explains
//! it.
//!
//! `cargo run --release --example plug_in_primitive`; run it again to continue `runs/plug_in_primitive`.

mod layer;
#[macro_use]
#[path = "../shared/mod.rs"]
mod shared;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use composer_nas::{evaluate::mad::Protocol, pipeline::RunFolder, prelude::*, report::Page};

/// Searches four layers of attention, SwiGLU and a custom layer, and draws the result at full size.
#[derive(Debug, Parser)]
struct Args {
    /// Name of the run, which is its folder in --runs.
    #[arg(long, value_name = "NAME", default_value = "plug_in_primitive", value_parser = shared::folder_name)]
    run: String,
    /// Folder that contains the runs.
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    runs: PathBuf,
}

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    let folder = args.runs.join(&args.run);
    shared::check_folder(&folder)?;
    let primitives = Primitives::paper().with(layer::running_mean()?)?;
    let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu", "running_mean"])?, 4)?;
    let mut protocol = Protocol::quick();
    protocol.trainings.truncate(1);
    protocol.trainings[0].train.steps = 60;
    let mad = Mad::new(protocol, &primitives, &device::best()?.device)?;
    let target = Target::llama_1b();
    let found = Pipeline::new(&primitives, space, mad).trials(4).journal(folder.join("journal.jsonl")).run(&target)?;
    println!("{} -> {}", found.aggregated, found.target.architecture);

    // The example `report` does not know the custom layer. A program that does can read the run like this at any time.
    found.write(&folder, &target)?;
    let run = RunFolder::read(&folder)?;
    Page::of(&run, &primitives).write(folder.join("report.html"))?;
    println!("{}", shared::shown(&folder.join("report.html")));
    Ok(())
}
