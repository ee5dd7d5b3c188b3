//! Runs ten thousand trials of an instant evaluator with every searcher, and measures the time of an ask and the memory
//! in use as the study grows.
//!
//! `cargo run --release --example soak`; `-- --trials 2000` is shorter, and `--page FILE` writes the page of the random
//! search. It fails if memory grows with the trials: by more than a tenth between the last two sizes.

#[macro_use]
mod shared;

use std::{fs, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use composer_nas::{
    prelude::*,
    report::Page,
    search::{Exhaustive, Incremental, LocalSearch, RegularizedEvolution, Replicate, Side},
    study::{Event, Origin},
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs ten thousand trials of an instant evaluator with every searcher.
#[derive(Debug, Parser)]
struct Args {
    /// Number of trials of each search.
    #[arg(long, default_value_t = 10_000)]
    trials: usize,
    /// Number of timed asks of Bayesian optimisation at each size; random trials fill the study in between.
    #[arg(long, default_value_t = 3)]
    asks: usize,
    /// File for the page of the random search.
    #[arg(long)]
    page: Option<PathBuf>,
}

/// Growth in bytes that is ignored.
const SLACK: i64 = 1 << 16;

/// Measurements at this number of trials.
struct Seen {
    trials: usize,
    /// Mean time of an ask in milliseconds, since the last measurement but over at most 100 asks.
    ask: f64,
    /// Bytes in use, without those of the study and those before the search.
    beyond: i64,
}

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 14)?;
    let sizes: Vec<usize> = [100, 1000, 2000, 5000, 10_000].into_iter().filter(|&size| size <= args.trials).collect();
    println!(
        "{} sequences; milliseconds per ask / kilobytes beyond the study, by the trials that it has\n",
        space.size()
    );
    println!("| searcher | {} |", sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "--:|".repeat(sizes.len()));
    let cheap: [(&str, Box<dyn Searcher>); 6] = [
        ("random", Box::new(RandomSearch)),
        ("exhaustive", Box::new(Exhaustive)),
        ("local search", Box::new(LocalSearch::new(20)?)),
        ("evolution", Box::new(RegularizedEvolution::new(50, 10)?)),
        ("incremental random", Box::new(Incremental::new(RandomSearch, Side::End, 7, args.trials)?)),
        ("replicated random", Box::new(Replicate::new(RandomSearch, 4, 4)?)),
    ];
    for (name, searcher) in cheap {
        let (study, seen) = soak(searcher, &space, &sizes, usize::MAX)?;
        line(name, &sizes, &study, &seen)?;
        if name == "random"
            && let Some(path) = &args.page
        {
            let start = Instant::now();
            Page::new(&study).title("A soak").write(path)?;
            let bytes = fs::metadata(path).context("the page does not exist")?.len();
            println!(
                "page of {} trials: {bytes} bytes in {:.2} s",
                study.trials().len(),
                start.elapsed().as_secs_f64()
            );
        }
    }
    for (name, searcher) in [("GpBo::default", GpBo::default()), ("GpBo::composer", GpBo::composer())] {
        let (study, seen) = soak(Box::new(searcher), &space, &sizes, args.asks)?;
        line(name, &sizes, &study, &seen)?;
    }
    Ok(())
}

/// Prints the measurements of a searcher. Fails if memory grows.
fn line(name: &str, sizes: &[usize], study: &Study, seen: &[Seen]) -> anyhow::Result<()> {
    let cell = |size: &usize| {
        let there = seen.iter().find(|seen| seen.trials == *size);
        there.map_or("-".into(), |seen| format!("{:.3} / {}", seen.ask, seen.beyond / 1000))
    };
    let trials = study.trials().len();
    let done = if seen.len() < sizes.len() { format!(", done after {trials} trials") } else { String::new() };
    println!("| {name}{done} | {} |", sizes.iter().map(cell).collect::<Vec<_>>().join(" | "));
    if let [.., before, last] = seen {
        let flat = last.beyond <= before.beyond + before.beyond / 10 + SLACK;
        ensure!(flat, "{name} keeps {} bytes after {} trials", last.beyond, last.trials);
    }
    Ok(())
}

/// Runs a search up to the last size. The searcher makes the last `asks` proposals before each size, a random search
/// all others.
fn soak(
    mut searcher: Box<dyn Searcher>,
    space: &SearchSpace,
    sizes: &[usize],
    asks: usize,
) -> anyhow::Result<(Study, Vec<Seen>)> {
    let before = MEMORY.current_usage() as i64;
    let mut study = Study::new(space.clone(), Goal::default());
    let mut seen = Vec::new();
    let mut times = Vec::new();
    for trial in 0..sizes.last().copied().unwrap_or(0) {
        let mut rng = Seed(1).rng("soak", trial as u64);
        let timed = sizes.iter().any(|&size| trial < size && trial + asks.min(size) >= size);
        let start = Instant::now();
        let proposal = if timed { searcher.ask(&study, &mut rng)? } else { RandomSearch.ask(&study, &mut rng)? };
        if timed {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let Proposal::Evaluate(architecture) = proposal else { break };
        evaluate(&mut study, architecture)?;
        if sizes.contains(&study.trials().len()) {
            let ask = times.iter().rev().take(100).sum::<f64>() / times.len().clamp(1, 100) as f64;
            let beyond = MEMORY.current_usage() as i64 - before - bytes(&study)?;
            seen.push(Seen { trials: study.trials().len(), ask, beyond });
            times.clear();
        }
    }
    Ok((study, seen))
}

/// Records a result in the study: more runs are better, and the seed adds noise.
fn evaluate(study: &mut Study, architecture: Architecture) -> anyhow::Result<()> {
    let id = study.next_id();
    let seed = Seed(2).derive("soak", id.0);
    let noise = (seed.0 % 1000) as f64 / 5000.0;
    let report = Report::score("accuracy", architecture.runs().count() as f64 / 14.0 + noise);
    study.apply(Event::Proposed { id, architecture, seed, origin: Origin::Searcher })?;
    study.apply(Event::Completed { id, report })?;
    Ok(())
}

/// Returns the size of the study in bytes, measured by building another one with the same trials.
fn bytes(study: &Study) -> anyhow::Result<i64> {
    let before = MEMORY.current_usage() as i64;
    let mut copy = Study::new(study.space().clone(), study.goal().clone());
    for trial in study.trials() {
        evaluate(&mut copy, trial.architecture.clone())?;
    }
    Ok(MEMORY.current_usage() as i64 - before)
}
