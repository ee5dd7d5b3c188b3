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
//!
//! `end:4:16:3` and `middle:4:16:3` grow sequences by stages: 4 layers and 16 trials each, of which 3 are quasi-random.
//! The cost of an evaluation is in proportion to its layers, and 24 evaluations are as many layers as 24 whole
//! sequences have. Such searchers need `--own-start`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use clap::Parser;
use composer_nas::{
    pipeline::Ask,
    prelude::*,
    search::{AcquisitionFunction, Incremental, LocalSearch, RegularizedEvolution, Side, Term},
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
        named("gp_bo_plain", || GpBo::default().with_winsorised(false)),
        named("gp_bo_composer", GpBo::composer),
        named("gp_bo_categorical", GpBo::categorical),
        named("gp_bo_log_ei", || GpBo::default().with_acquisition(AcquisitionFunction::LogEi)),
    ]
}

/// `end:4:16:3`: stages of 4 layers and 16 trials, the first 3 of them quasi-random.
fn incremental(name: &str) -> anyhow::Result<Option<Make>> {
    let parts: Vec<_> = name.split(':').collect();
    let [side, step, trials, initial] = parts[..] else { return Ok(None) };
    let side = match side {
        "end" => Side::End,
        "middle" => Side::Middle,
        _ => return Ok(None),
    };
    let inner = GpBo::default().with_initial(initial.parse()?)?;
    let searcher = Incremental::new(inner, side, step.parse()?, trials.parse()?)?;
    Ok(Some(Box::new(move || Box::new(searcher.clone()))))
}

/// `gp_bo-runs-ratios`: the default without these terms; `gp_bo+pairs`: with one that it has not.
fn variant(name: &str) -> anyhow::Result<Make> {
    if let Some(make) = incremental(name)? {
        return Ok(make);
    }
    let changes = name.strip_prefix("gp_bo").filter(|changes| changes.starts_with(['+', '-']));
    let changes = changes.ok_or_else(|| {
        let known = all_searchers().into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
        anyhow::anyhow!(
            "no searcher {name:?}: there are {known}, gp_bo with terms added or left out, \
             and end:4:16:3 and the like"
        )
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
    /// Noise of an evaluation, as a multiple of the landscape's.
    #[arg(long, default_value_t = 1.0)]
    noise: f64,
    /// Reports state the noise as their standard error.
    #[arg(long)]
    standard_errors: bool,
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
    let staged = options.searchers.iter().any(|name| name.contains(':'));
    anyhow::ensure!(options.own_start || !staged, "end:... and middle:... need --own-start");
    let searchers = searchers(&options.searchers)?;
    let landscapes = landscapes(&options.landscapes)?;
    anyhow::ensure!(
        options.seeds > 0 && options.workers > 0 && options.threads > 0,
        "seeds, workers, threads: at least 1"
    );
    anyhow::ensure!(!options.at.is_empty(), "--at: name at least one number of evaluations");

    let names = landscapes.iter().map(|ground| ground.whole.name()).collect::<Vec<_>>().join(" | ");
    println!(
        "Regret in units of 0.01, mean ± standard error of {} seeds, after {:?} evaluations; workers: {}.\n",
        options.seeds, options.at, options.workers
    );
    println!("| searcher | {names} | ms per ask |");
    println!("|---|{}", "---|".repeat(landscapes.len() + 1));
    let mut all = Vec::new();
    for (name, make) in searchers {
        let jobs: Vec<_> = landscapes.iter().flat_map(|l| (0..options.seeds).map(move |seed| (l, seed))).collect();
        let found = in_parallel(&jobs, options.threads, |&(ground, seed)| search(&make, ground, seed, &options))?;
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

fn landscapes(names: &[String]) -> anyhow::Result<Vec<Ground>> {
    let all = || Landscape::names().map(str::to_owned).collect::<Vec<_>>();
    let names = if names.is_empty() { all() } else { names.to_vec() };
    let find = |name: &String| {
        let found = Landscape::named(name).map(Ground::new);
        found.ok_or_else(|| anyhow::anyhow!("no landscape {name:?}: there are {}", all().join(", ")))
    };
    names.iter().map(find).collect()
}

/// A landscape, and those of the same rules for parts of its sequences.
struct Ground {
    whole: Arc<Landscape>,
    parts: Mutex<HashMap<usize, Arc<Landscape>>>,
}

impl Ground {
    fn new(whole: Landscape) -> Self {
        Self { whole: Arc::new(whole), parts: Mutex::default() }
    }

    fn layers(&self) -> usize {
        self.whole.space().layers()
    }

    /// The landscape for sequences of so many layers.
    fn of(&self, layers: usize) -> anyhow::Result<Arc<Landscape>> {
        if layers == self.layers() {
            return Ok(self.whole.clone());
        }
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.get(&layers) {
            return Ok(part.clone());
        }
        let part = self.whole.of_length(layers).map(Arc::new);
        let part = part.ok_or_else(|| anyhow::anyhow!("{}: not for {layers} layers", self.whole.name()))?;
        parts.insert(layers, part.clone());
        Ok(part)
    }
}

/// One search: the first points, then the searcher's.
fn search(make: &Make, ground: &Ground, seed: u64, options: &Options) -> anyhow::Result<Search> {
    let landscape = &ground.whole;
    let budget = options.at.iter().copied().max().unwrap_or(0);
    let lag = Some(options.workers as usize);
    let mut session = Session::in_memory(landscape.space().clone(), Goal::default(), Seed(seed), make()).lag(lag);
    let given = if options.own_start { 0 } else { Landscape::FIRST_POINTS.min(budget) };
    for index in 0..given {
        session.enqueue(landscape.first_point(seed, index))?;
    }
    // The best regret whenever it changed, and the layers that had been evaluated by then.
    let mut path = vec![(0, f64::INFINITY)];
    let mut layers = 0;
    let mut spent = 0.0;
    let mut asked = 0;
    while layers < budget as usize * ground.layers() {
        let given = session.queued() > 0;
        let start = Instant::now();
        let Ask::Trial(trial) = session.ask()? else { break };
        if !given {
            (spent, asked) = (spent + start.elapsed().as_secs_f64(), asked + 1);
        }
        let own = ground.of(trial.architecture.len())?;
        layers += trial.architecture.len();
        let whole = trial.architecture.len() == ground.layers();
        let regret = if whole { landscape.regret(&trial.architecture) } else { f64::INFINITY };
        path.extend((regret < path[path.len() - 1].1).then_some((layers, regret)));
        let value = own.value(&trial.architecture) + options.noise * Landscape::noise(seed, trial.id.0);
        let standard_error = options.standard_errors.then_some(options.noise * Landscape::NOISE);
        session.tell(trial.id, Ok(Report { standard_error, ..Report::score("accuracy", value) }))?;
    }
    let read = |&at: &u64| {
        let known = path.partition_point(|&(layers, _)| layers <= at as usize * ground.layers());
        path[known - 1].1
    };
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
