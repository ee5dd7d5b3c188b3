//! The smallest search: six layers of attention and SwiGLU, trained on MAD, scaled to Llama 1B.
//!
//! `cargo run --release --example hello_search [TRIALS]`

#[macro_use]
mod shared;

use composer_nas::prelude::*;

fn main() -> anyhow::Result<()> {
    let trials = std::env::args().nth(1).map_or(Ok(8), |text| text.parse())?;
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
