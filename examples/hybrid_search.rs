//! A search over attention, SwiGLU and Mamba-2: six layers, compared at equal parameters, and the result beside published
//! hybrids of the same size.
//!
//! `cargo run --release --example hybrid_search [TRIALS]`; the same command again resumes `runs/hybrid_search`.

#[macro_use]
mod shared;

use composer_nas::{prelude::*, space::baseline};

fn main() -> anyhow::Result<()> {
    let trials = std::env::args().nth(1).map_or(Ok(24), |text| text.parse())?;
    let primitives = Primitives::hybrid();
    let target = Target::llama_1b();
    let space = SearchSpace::uniform(primitives.symbols(["attention", "swiglu", "mamba2"])?, 6)?;
    let evaluator = Mad::hybrid(&primitives, &device::best()?.device).of_blocks(5)?;
    let found = Pipeline::new(&primitives, space, evaluator)
        .trials(trials)
        .workers(2)
        .journal("runs/hybrid_search/journal.jsonl")
        .observer(ProgressBar::new())
        .run(&target)?;
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
