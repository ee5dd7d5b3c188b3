//! A layer of your own in a search over three primitives. `docs/plug_in.md` walks through it.
//!
//! `cargo run --release --example plug_in_primitive`

mod layer;
#[macro_use]
#[path = "../shared/mod.rs"]
mod shared;

use composer_nas::{evaluate::mad::Protocol, prelude::*};

fn main() -> anyhow::Result<()> {
    let primitives = Primitives::paper().with(layer::running_mean()?)?;
    let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu", "running_mean"])?, 4)?;
    let mut protocol = Protocol::quick();
    protocol.trainings.truncate(1);
    protocol.trainings[0].train.steps = 60;
    let mad = Mad::new(protocol, &primitives, &device::best()?.device)?;
    let found = Pipeline::new(&primitives, space, mad).trials(4).run(&Target::llama_1b())?;
    println!("{} -> {}", found.aggregated, found.target.architecture);
    Ok(())
}
