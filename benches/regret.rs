//! Compares searchers on the landscapes of `testkit::landscape` and prints a Markdown table.
//!
//! ```text
//! cargo bench --bench regret -- --searchers random,evolution --landscapes L16Z2,L16Z3,L32Z3 --seeds 40
//! ```
//!
//! Every method evaluates the same ten first points, unless `--own-start` leaves them to the searcher, then what it
//! proposes; evaluation `t` under seed `s` has the same noise for all. An entry is the regret of the best point
//! evaluated, without noise, in units of 0.01, as mean ± standard error over the seeds, after each of the `--at`
//! evaluations. With `--workers q` a proposal sees all but the last `q - 1` outcomes, as when q workers evaluate in
//! step.

use std::time::Instant;

use clap::Parser;
use composer_nas::{
    pipeline::Ask,
    prelude::*,
    search::{AcquisitionFunction, LocalSearch, RegularizedEvolution, Term},
    testkit::landscape::Landscape,
};
use rayon::prelude::*;

/// Makes a searcher.
type Make = Box<dyn Fn() -> Box<dyn Searcher> + Sync>;

/// The searchers by name: a new one is one line here.
fn all_searchers() -> Vec<(String, Make)> {
    fn named<S: Searcher + 'static>(name: &str, make: impl Fn() -> S + Sync + 'static) -> (String, Make) {
        (name.to_owned(), Box::new(move || Box::new(make())))
    }
    vec![
        named("random", || RandomSearch),
        named("evolution", RegularizedEvolution::default),
        named("local_search", LocalSearch::default),
        named("gp_bo", GpBo::default),
        named("gp_bo_composer", GpBo::composer),
        named("gp_bo_categorical", GpBo::categorical),
        named("gp_bo_log_ei", || GpBo::default().with_acquisition(AcquisitionFunction::LogEi)),
    ]
}

/// `gp_bo-runs-ratios`: the default without these terms; `gp_bo+pairs`: with one that it has not.
fn variant(name: &str) -> anyhow::Result<Make> {
    let changes = name.strip_prefix("gp_bo").filter(|changes| changes.starts_with(['+', '-']));
    let changes = changes.ok_or_else(|| {
        let known = all_searchers().into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
        anyhow::anyhow!("no searcher {name:?}: there are {known}, and gp_bo with terms added or left out")
    })?;
    let mut terms = GpBo::default().terms().to_vec();
    for change in changes.split(['+', '-']).skip(1) {
        let term = Term::ALL.into_iter().find(|term| term.name() == change);
        let term = term.ok_or_else(|| anyhow::anyhow!("no term {change:?} in {name:?}"))?;
        match terms.iter().position(|&known| known == term) {
            Some(at) => drop(terms.remove(at)),
            None => terms.push(term),
        }
    }
    let searcher = GpBo::structured(terms)?;
    Ok(Box::new(move || Box::new(searcher.clone())))
}

/// Names of the searchers that take part unless others are named.
const PEERS: [&str; 5] = ["random", "evolution", "local_search", "gp_bo", "gp_bo_composer"];

/// Regret of searchers on landscapes.
#[derive(Parser)]
struct Options {
    /// Names of searchers, separated by commas; by default those that are no variants of another.
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
    /// Also prints how much more regret than this searcher's the others have: seeds are paired.
    #[arg(long)]
    against: Option<String>,
    /// Lets every searcher choose its first points itself.
    #[arg(long)]
    own_start: bool,
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

    let names = landscapes.iter().map(Landscape::name).collect::<Vec<_>>().join(" | ");
    println!(
        "Regret in units of 0.01, mean ± standard error of {} seeds, after {:?} evaluations; workers: {}.\n",
        options.seeds, options.at, options.workers
    );
    println!("| searcher | {names} | ms per ask |");
    println!("|---|{}", "---|".repeat(landscapes.len() + 1));
    let mut all = Vec::new();
    for (name, make) in searchers {
        let jobs: Vec<_> = landscapes.iter().flat_map(|l| (0..options.seeds).map(move |seed| (l, seed))).collect();
        let found = in_parallel(&jobs, options.threads, |&(landscape, seed)| search(&make, landscape, seed, &options))?;
        let ask = found.iter().map(|search| search.ask).sum::<f64>() / found.len() as f64;
        let regrets: Vec<_> = found.into_iter().map(|search| search.regrets).collect();
        println!("| {name} | {} | {:.2} |", cells(&regrets, options.seeds as usize), 1e3 * ask);
        all.push((name, regrets));
    }
    let Some(against) = options.against else { return Ok(()) };
    let base = all.iter().position(|(name, _)| *name == against);
    let (_, base) = all.remove(base.ok_or_else(|| anyhow::anyhow!("--against {against}: not among the searchers"))?);
    println!("\nMore regret than {against}, by seed.\n\n| searcher | {names} | all |");
    println!("|---|{}", "---|".repeat(landscapes.len() + 1));
    for (name, regrets) in &all {
        let more =
            |(one, other): (&Vec<f64>, &Vec<f64>)| one.iter().zip(other).map(|(one, other)| one - other).collect();
        let more: Vec<Vec<f64>> = regrets.iter().zip(&base).map(more).collect();
        println!("| {name} | {} | {} |", cells(&more, options.seeds as usize), cells(&more, more.len()));
    }
    Ok(())
}

fn searchers(names: &[String]) -> anyhow::Result<Vec<(String, Make)>> {
    let names = if names.is_empty() { PEERS.map(str::to_owned).to_vec() } else { names.to_vec() };
    let find = |name: &String| {
        let named = all_searchers().into_iter().find(|(known, _)| known == name);
        named.map_or_else(|| Ok((name.clone(), variant(name)?)), Ok)
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
fn search(make: &Make, landscape: &Landscape, seed: u64, options: &Options) -> anyhow::Result<Search> {
    let budget = options.at.iter().copied().max().unwrap_or(0);
    let lag = Some(options.workers as usize);
    let mut session = Session::in_memory(landscape.space().clone(), Goal::default(), Seed(seed), make()).lag(lag);
    let given = if options.own_start { 0 } else { Landscape::FIRST_POINTS.min(budget) };
    for index in 0..given {
        session.add(landscape.first_point(seed, index))?;
    }
    let mut regret = Vec::new();
    let mut best = f64::INFINITY;
    let mut spent = 0.0;
    let mut asked = 0;
    for _ in 0..budget {
        let given = session.queued() > 0;
        let start = Instant::now();
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
    f: impl Fn(&J) -> anyhow::Result<T> + Send + Sync,
) -> anyhow::Result<Vec<T>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.install(|| jobs.par_iter().with_max_len(1).map(f).collect())
}

/// Mean ± standard error in units of 0.01 of every `seeds` searches, for every number of evaluations.
fn cells(searches: &[Vec<f64>], seeds: usize) -> String {
    let cell = |searches: &[Vec<f64>]| {
        let n = searches.len() as f64;
        let entry = |at: usize| {
            let values = || searches.iter().map(|regrets| 100.0 * regrets[at]);
            let mean = values().sum::<f64>() / n;
            let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
            format!("{mean:.2} ± {:.2}", (variance / n).sqrt())
        };
        (0..searches.first().map_or(0, Vec::len)).map(entry).collect::<Vec<_>>().join(" / ")
    };
    searches.chunks(seeds).map(cell).collect::<Vec<_>>().join(" | ")
}
