//! A layer of your own in a search over three primitives, and the page of its result. `docs/plug_in.md` walks through
//! it.
//!
//! `cargo run --release --example plug_in_primitive`; the same command again goes on with `runs/plug_in_primitive`.

mod layer;
#[macro_use]
#[path = "../shared/mod.rs"]
mod shared;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use composer_nas::{evaluate::mad::Protocol, pipeline::RunFolder, prelude::*, report::Page};

/// Searches four layers of attention, SwiGLU and a layer of its own, and draws the result at full size.
#[derive(Debug, Parser)]
struct Args {
    /// Name of the run: its folder inside --runs.
    #[arg(long, value_name = "NAME", default_value = "plug_in_primitive", value_parser = shared::folder_name)]
    run: String,
    /// Folder that holds the runs.
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

    // The example `report` does not know the layer. A program that does needs no more than this, also later.
    found.write(&folder, &target)?;
    let run = RunFolder::read(&folder)?;
    Page::of(&run, &primitives).write(folder.join("report.html"))?;
    println!("{}", shared::shown(&folder.join("report.html")));
    Ok(())
}
