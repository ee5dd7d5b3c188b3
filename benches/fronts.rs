//! Compares searchers on two objectives, a score and a known cost, and prints a Markdown table.
//!
//! ```text
//! cargo bench --bench fronts -- --seeds 20 --searchers gp_bo,evolution,random
//! cargo bench --bench fronts -- --export tables       # for the peers, see benches/peers/fronts.py
//! cargo bench --bench fronts -- --trials peers_trials # beside what the peers evaluated
//! ```
//!
//! The score is that of a landscape of `testkit::landscape`, with its noise; the cost is the number of layers of
//! attention, as the cache grows with it. Every method evaluates the same ten first points. An entry is how much of the
//! hypervolume of the true front is missing, in percent, mean ± standard error over the seeds: without noise, above the
//! mean score of the space and one layer more than there are.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;
use clap::Parser;
use composer_nas::{
    prelude::*,
    study::{FnCost, Measure, Objective, hypervolume},
    testkit::landscape::Landscape,
};
use rayon::prelude::*;

/// Searchers that take part by default.
const SEARCHERS: [&str; 5] = ["random", "evolution", "local_search", "gp_bo", "gp_bo_composer"];

/// Landscapes of 65,536 sequences, whose fronts can be enumerated.
const LANDSCAPES: [&str; 3] = ["L16Z2", "E16Z2", "M16Z2"];

/// Scores below this count nothing.
const LEAST: f64 = 0.60;

/// The hypervolume that searchers miss.
#[derive(Parser)]
struct Options {
    /// Names of searchers, separated by commas.
    #[arg(long, value_delimiter = ',')]
    searchers: Vec<String>,
    /// Names of landscapes, separated by commas.
    #[arg(long, value_delimiter = ',')]
    landscapes: Vec<String>,
    /// Searches per entry.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// Evaluations after which the hypervolume is read.
    #[arg(long, value_delimiter = ',', default_values_t = [30, 60, 100])]
    at: Vec<usize>,
    /// Writes scores, noise and first points of all landscapes into this folder, and stops.
    #[arg(long)]
    export: Option<PathBuf>,
    /// Also shows what others evaluated: files METHOD/LANDSCAPE-SEED.txt with a number of a sequence per line.
    #[arg(long)]
    trials: Option<PathBuf>,
    /// Threads of this process.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A landscape with its cost and the hypervolume of its true front.
struct Task {
    landscape: Landscape,
    best: f64,
}

impl Task {
    fn new(name: &str) -> anyhow::Result<Self> {
        let landscape = Landscape::named(name).with_context(|| format!("no landscape {name:?}"))?;
        // The best score at every cost is the front and what it dominates.
        let layers = landscape.space().layers();
        let mut best = vec![f64::NEG_INFINITY; layers + 1];
        for sequence in landscape.space().iter() {
            let cost = cost(&sequence) as usize;
            best[cost] = best[cost].max(landscape.value(&sequence));
        }
        let points: Vec<_> = best.iter().enumerate().map(|(cost, &value)| vec![value, -(cost as f64)]).collect();
        let best = hypervolume(&points, &reference(&landscape));
        Ok(Self { landscape, best })
    }

    /// The share of the hypervolume that these sequences miss, in percent.
    fn missing(&self, sequences: &[Architecture]) -> f64 {
        let point = |sequence: &Architecture| vec![self.landscape.value(sequence), -cost(sequence)];
        let points: Vec<_> = sequences.iter().map(point).collect();
        100.0 * (1.0 - hypervolume(&points, &reference(&self.landscape)) / self.best)
    }
}

fn reference(landscape: &Landscape) -> Vec<f64> {
    vec![LEAST, -(landscape.space().layers() as f64 + 1.0)]
}

fn cost(sequence: &Architecture) -> f64 {
    sequence.count(Symbol::ATTENTION) as f64
}

fn searcher(name: &str) -> anyhow::Result<Box<dyn Searcher>> {
    Ok(match name {
        "random" => Box::new(RandomSearch),
        "evolution" => Box::new(RegularizedEvolution::default()),
        "local_search" => Box::new(LocalSearch::default()),
        "gp_bo" => Box::new(GpBo::default()),
        "gp_bo_composer" => Box::new(GpBo::composer()),
        _ => anyhow::bail!("no searcher {name:?}, only {}", SEARCHERS.join(", ")),
    })
}

/// One search: what it evaluated, and the seconds of a proposal.
fn search(task: &Task, name: &str, seed: u64, trials: usize) -> anyhow::Result<(Vec<Architecture>, f64)> {
    let landscape = &task.landscape;
    let goal = Goal::maximize("accuracy").and(Objective::minimize(Measure::cost("cache")))?;
    let costs = Arc::new(FnCost::new("cache", "attention", cost));
    let mut study = Study::new(landscape.space().clone(), goal).with_costs(costs)?;
    let mut searcher = searcher(name)?;
    let mut seconds = 0.0;
    let mut asked = 0;
    while study.trials().len() < trials {
        let id = study.next_id();
        let architecture = if id.0 < Landscape::FIRST_POINTS {
            landscape.first_point(seed, id.0)
        } else {
            let clock = Instant::now();
            let proposal = searcher.ask(&study, &mut Seed(seed).rng("ask", id.0))?;
            seconds += clock.elapsed().as_secs_f64();
            asked += 1;
            let Proposal::Evaluate(architecture) = proposal else { break };
            architecture
        };
        let report = Report::score("accuracy", landscape.noisy(seed, id.0, &architecture));
        let report = study.priced(&architecture, report)?;
        study.apply(Event::Proposed { id, architecture, seed: Seed(seed), origin: Origin::Searcher })?;
        study.apply(Event::Completed { id, report })?;
    }
    let sequences = study.trials().iter().map(|trial| trial.architecture.clone()).collect();
    Ok((sequences, seconds / f64::from(asked.max(1))))
}

/// Mean ± standard error at each of the numbers of evaluations.
fn entry(task: &Task, searches: &[Vec<Architecture>], at: &[usize]) -> String {
    let shown = at.iter().map(|&at| {
        let missing: Vec<_> = searches.iter().map(|seen| task.missing(&seen[..at.min(seen.len())])).collect();
        let mean = composer_nas::statistics::mean(&missing);
        let error = composer_nas::statistics::standard_error(&missing).unwrap_or(0.0);
        format!("{mean:.2} ± {error:.2}")
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Tables for searchers in other languages: scores in the order of the space (little-endian binary64), noise as one
/// line per seed, numbers of the first points as one line per seed.
fn export(tasks: &[Task], folder: &Path, options: &Options) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let most = options.at.iter().copied().max().unwrap_or(0) as u64;
    for Task { landscape, .. } in tasks {
        let name = landscape.name();
        let space = landscape.space();
        let scores: Vec<u8> = space.iter().flat_map(|sequence| landscape.value(&sequence).to_le_bytes()).collect();
        fs::write(folder.join(format!("{name}.f64")), scores)?;
        let lines = (0..options.seeds).map(|seed| {
            let first = (0..Landscape::FIRST_POINTS).filter_map(|at| space.index_of(&landscape.first_point(seed, at)));
            first.map(|index| index.to_string()).collect::<Vec<_>>().join(" ")
        });
        fs::write(folder.join(format!("{name}.first")), lines.collect::<Vec<_>>().join("\n"))?;
    }
    let noise = (0..options.seeds)
        .map(|seed| (0..most).map(|at| Landscape::noise(seed, at).to_string()).collect::<Vec<_>>().join(" "));
    Ok(fs::write(folder.join("noise"), noise.collect::<Vec<_>>().join("\n"))?)
}

/// What another method evaluated, search by search.
fn trials(folder: &Path, task: &Task, seeds: u64) -> anyhow::Result<Vec<Vec<Architecture>>> {
    let space = task.landscape.space();
    let of_seed = |seed| {
        let path = folder.join(format!("{}-{seed}.txt", task.landscape.name()));
        let text = fs::read_to_string(&path).ok()?;
        let sequence = |line: &str| space.nth(line.trim().parse().ok()?);
        Some(text.lines().filter_map(sequence).collect())
    };
    Ok((0..seeds).filter_map(of_seed).collect())
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let named = |names: &[String], all: &[&str]| -> Vec<String> {
        if names.is_empty() { all.iter().map(|&name| name.into()).collect() } else { names.to_vec() }
    };
    let tasks: Vec<_> =
        named(&options.landscapes, &LANDSCAPES).iter().map(|name| Task::new(name)).collect::<Result<_, _>>()?;
    if let Some(folder) = &options.export {
        return export(&tasks, folder, &options);
    }
    let most = options.at.iter().copied().max().context("--at: name at least one number of evaluations")?;
    let names = tasks.iter().map(|task| task.landscape.name()).collect::<Vec<_>>().join(" | ");
    println!(
        "Missing hypervolume in percent, mean ± standard error of {} seeds, after {:?} evaluations.\n",
        options.seeds, options.at
    );
    println!("| searcher | {names} | ms per ask |");
    println!("|---|{}", "---|".repeat(tasks.len() + 1));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
    for name in named(&options.searchers, &SEARCHERS) {
        let mut entries = Vec::new();
        let mut seconds = Vec::new();
        for task in &tasks {
            let run = |seed| search(task, &name, seed, most);
            let found: Vec<_> =
                pool.install(|| (0..options.seeds).into_par_iter().map(run).collect::<Result<_, _>>())?;
            let (searches, asks): (Vec<_>, Vec<f64>) = found.into_iter().unzip();
            entries.push(entry(task, &searches, &options.at));
            seconds.extend(asks);
        }
        let ask = 1e3 * composer_nas::statistics::mean(&seconds);
        println!("| {name} | {} | {ask:.1} |", entries.join(" | "));
    }
    let others = options.trials.iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path());
    for folder in others.filter(|path| path.is_dir()) {
        let entries = tasks.iter().map(|task| Ok(entry(task, &trials(&folder, task, options.seeds)?, &options.at)));
        let entries: Vec<_> = entries.collect::<anyhow::Result<_>>()?;
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        println!("| {name} | {} | |", entries.join(" | "));
    }
    Ok(())
}
