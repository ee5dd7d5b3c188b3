//! Compares searchers on the landscapes of `testkit::landscape` and prints a Markdown table.
//!
//! ```text
//! cargo bench --bench regret -- --searchers random,evolution --landscapes L16Z2,L16Z3,L32Z3 --seeds 40
//! ```
//!
//! Every method evaluates the same ten first points, then what it proposes; evaluation `t` under seed `s` has the same noise
//! for all. An entry is the regret of the best point evaluated, without noise, in units of 0.01, as mean ± standard error
//! over the seeds, after each of the `--at` evaluations. With `--workers q` a proposal sees all but the last `q - 1`
//! outcomes, as when q workers evaluate in step.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use clap::Parser;
use composer_nas::{prelude::*, testkit::landscape::Landscape};

/// Makes a searcher.
type Make = fn() -> Box<dyn Searcher>;

/// The searchers by name: a new one is one line here.
const SEARCHERS: &[(&str, Make)] = &[
    ("random", || Box::new(RandomSearch)),
    ("evolution", || Box::new(RegularizedEvolution::default())),
    ("gp_bo", || Box::new(GpBo::default())),
    ("gp_bo_composer", || Box::new(GpBo::composer())),
    ("local_search", || Box::new(LocalSearch::default())),
];

/// Regret of searchers on landscapes.
#[derive(Parser)]
struct Options {
    /// Names of searchers, separated by commas; all by default.
    #[arg(long, value_delimiter = ',')]
    searchers: Vec<String>,
    /// Names of landscapes, separated by commas, `-shuffled` behind a name for its shuffled variant; all by default.
    #[arg(long, value_delimiter = ',')]
    landscapes: Vec<String>,
    /// Searches per entry.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// Evaluations after which the regret is read.
    #[arg(long, value_delimiter = ',', default_values_t = [30, 60, 100])]
    at: Vec<u64>,
    /// Evaluations that run beside each other.
    #[arg(long, default_value_t = 1)]
    workers: u64,
    /// Threads of this process.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one search found.
struct Search {
    /// The regret after each of the numbers of evaluations asked for.
    regrets: Vec<f64>,
    /// Seconds per proposal.
    ask: f64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let searchers = searchers(&options.searchers)?;
    let landscapes = landscapes(&options.landscapes)?;
    anyhow::ensure!(
        options.seeds > 0 && options.workers > 0 && options.threads > 0,
        "seeds, workers, threads: at least 1"
    );
    anyhow::ensure!(!options.at.is_empty(), "--at: name at least one number of evaluations");

    println!(
        "Regret in units of 0.01, mean ± standard error of {} seeds, after {:?} evaluations; workers: {}.\n",
        options.seeds, options.at, options.workers
    );
    println!("| searcher | {} | ms per ask |", landscapes.iter().map(Landscape::name).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---|".repeat(landscapes.len() + 1));
    for (name, make) in searchers {
        let jobs: Vec<_> = landscapes.iter().flat_map(|l| (0..options.seeds).map(move |seed| (l, seed))).collect();
        let found = in_parallel(&jobs, options.threads, |&(landscape, seed)| search(make, landscape, seed, &options))?;
        let cells: Vec<_> = found.chunks(options.seeds as usize).map(cell).collect();
        let ask = found.iter().map(|search| search.ask).sum::<f64>() / found.len() as f64;
        println!("| {name} | {} | {:.2} |", cells.join(" | "), 1e3 * ask);
    }
    Ok(())
}

fn searchers(names: &[String]) -> anyhow::Result<Vec<(&'static str, Make)>> {
    if names.is_empty() {
        return Ok(SEARCHERS.to_vec());
    }
    let known = || SEARCHERS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let found = SEARCHERS.iter().find(|(known, _)| known == name).copied();
        found.ok_or_else(|| anyhow::anyhow!("no searcher {name:?}: there are {}", known()))
    };
    names.iter().map(find).collect()
}

fn landscapes(names: &[String]) -> anyhow::Result<Vec<Landscape>> {
    let all = || Landscape::names().map(str::to_owned).collect::<Vec<_>>();
    let names = if names.is_empty() { all() } else { names.to_vec() };
    let find = |name: &String| {
        Landscape::named(name).ok_or_else(|| anyhow::anyhow!("no landscape {name:?}: there are {}", all().join(", ")))
    };
    names.iter().map(find).collect()
}

/// One search: the first points, then the searcher's.
fn search(make: Make, landscape: &Landscape, seed: u64, options: &Options) -> anyhow::Result<Search> {
    let budget = options.at.iter().copied().max().unwrap_or(0);
    let lag = Some(options.workers as usize);
    let mut session = Session::in_memory(landscape.space().clone(), Goal::default(), Seed(seed), make()).lag(lag);
    for index in 0..Landscape::FIRST_POINTS.min(budget) {
        session.add(landscape.first_point(seed, index))?;
    }
    let (mut regret, mut best, mut spent, mut asked) = (Vec::new(), f64::INFINITY, 0.0, 0);
    for _ in 0..budget {
        let (given, start) = (session.queued() > 0, Instant::now());
        if let Ask::Trial(trial) = session.ask()? {
            if !given {
                (spent, asked) = (spent + start.elapsed().as_secs_f64(), asked + 1);
            }
            best = best.min(landscape.regret(&trial.architecture));
            let value = landscape.noisy(seed, trial.id.0, &trial.architecture);
            session.tell(trial.id, Ok(Report::score("accuracy", value)))?;
        }
        regret.push(best);
    }
    let read = |&at: &u64| at.checked_sub(1).and_then(|at| regret.get(at as usize)).copied().unwrap_or(f64::NAN);
    Ok(Search { regrets: options.at.iter().map(read).collect(), ask: spent / f64::from(asked.max(1)) })
}

/// `f` of every job, in the order of the jobs, on some threads.
fn in_parallel<J: Sync, T: Send>(
    jobs: &[J],
    threads: usize,
    f: impl Fn(&J) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(job) = jobs.get(at)
        {
            done.push((at, f(job)));
        }
        done
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    anyhow::ensure!(done.len() == jobs.len(), "a search panicked");
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Mean ± standard error in units of 0.01, for every number of evaluations.
fn cell(searches: &[Search]) -> String {
    let n = searches.len() as f64;
    let numbers = searches.first().map_or(0, |search| search.regrets.len());
    let entry = |at: usize| {
        let regrets = || searches.iter().map(|search| 100.0 * search.regrets[at]);
        let mean = regrets().sum::<f64>() / n;
        let variance = regrets().map(|regret| (regret - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        format!("{mean:.2} ± {:.2}", (variance / n).sqrt())
    };
    (0..numbers).map(entry).collect::<Vec<_>>().join(" / ")
}
