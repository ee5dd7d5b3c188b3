//! The ablations that a table of measured scores makes possible: searches that take seconds, and what they find is
//! judged by the means over all seeds. Prints Markdown.
//!
//! ```text
//! cargo bench --bench ablation -- table.csv --searches 40
//! cargo bench --bench ablation -- table.csv --wide wide.csv --searches 40
//! cargo bench --bench ablation -- table.csv --searchers gp_bo --searches 200 --standard-errors
//! ```
//!
//! Every entry is `regret in units of 0.01; rank` of the aggregated architecture, each as mean (95 % bootstrap
//! interval) over searches with seeds of their own. The table comes from `examples/calibrate/main.rs`; for the
//! incremental strategies it must hold the shorter sequences as well (`--layers 2,4,6`).

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Parser;
use composer_nas::{
    aggregate::{Best, Pooled},
    evaluate::{EvalError, Table, TabularEvaluator},
    pipeline::Ask,
    prelude::*,
    search::{Incremental, RegularizedEvolution, Replicate, Side},
    statistics::{Estimate, bootstrap_mean, mean},
    study::TrialId,
};
use rand::RngExt as _;
use rayon::prelude::*;

/// Makes a searcher for a budget.
type Make = fn(usize) -> anyhow::Result<Box<dyn Searcher>>;

/// The searchers by name: a new one is one line here.
const SEARCHERS: &[(&str, Make)] = &[
    ("random", |_| Ok(Box::new(RandomSearch))),
    ("evolution", |_| Ok(Box::new(RegularizedEvolution::new(8, 3)?))),
    ("gp_bo", |_| Ok(Box::new(GpBo::default()))),
    ("gp_bo_composer", |_| Ok(Box::new(GpBo::composer()))),
    ("gp_bo_replicate", |_| Ok(Box::new(Replicate::new(GpBo::default(), 4, 4)?))),
];

/// The strategies of the paper over its searcher: three stages of two layers share the budget.
const STRATEGIES: &[(&str, Make)] = &[
    ("one-shot", |_| Ok(Box::new(GpBo::default()))),
    ("end-layer incremental", |budget| grown(Side::End, budget)),
    ("middle-layer incremental", |budget| grown(Side::Middle, budget)),
];

fn grown(side: Side, budget: usize) -> anyhow::Result<Box<dyn Searcher>> {
    let inner = GpBo::default().with_initial(2)?;
    Ok(Box::new(Incremental::new(inner, side, 2, budget.div_ceil(3).max(1))?))
}

/// Ablations of search and aggregation on a table.
#[derive(Parser)]
struct Options {
    /// The table that is searched.
    table: PathBuf,
    /// Layers of the architectures.
    #[arg(long, default_value_t = 6)]
    layers: usize,
    /// Searches per entry.
    #[arg(long, default_value_t = 20)]
    searches: u64,
    /// Trials where the budget is not what is varied.
    #[arg(long, default_value_t = 24)]
    trials: usize,
    /// Budgets that are compared.
    #[arg(long, value_delimiter = ',', default_values_t = [8, 16, 24, 32, 48, 64])]
    budgets: Vec<usize>,
    /// Names of searchers, separated by commas; all by default.
    #[arg(long, value_delimiter = ',')]
    searchers: Vec<String>,
    /// A table of the same architectures at full width, for the ablation of width reduction: searched with the budget
    /// that costs as many seconds, and the judge of both.
    #[arg(long)]
    wide: Option<PathBuf>,
    /// Only compares searches that know the noise of their observations with searches that do not.
    #[arg(long)]
    standard_errors: bool,
    /// Threads of this process.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(options.searches > 0 && options.threads > 0 && options.trials > 0, "searches, threads, trials: at least 1");
    ensure!(options.budgets.iter().all(|&budget| budget > 0), "--budgets: at least 1 trial each");
    let bench = Bench::new(&options)?;
    println!(
        "{}: {} architectures of {} layers, {} seeds. Regret in units of 0.01; rank. Mean (95 % bootstrap interval) of {} \
         searches.",
        options.table.display(),
        bench.space.size(),
        options.layers,
        bench.table.seeds().len(),
        options.searches
    );
    if options.standard_errors {
        return standard_errors(&bench, &options);
    }
    let searchers = chosen(&options.searchers)?;
    let aggregators: [(&str, Box<dyn Aggregator>); 6] = [
        ("N_0", Box::new(NcClustering::n0())),
        ("N_1", Box::new(NcClustering::nc(1))),
        ("N_full", Box::new(NcClustering::full_prefix())),
        ("Best", Box::new(Best)),
        ("pooled N_0", Box::new(Pooled(NcClustering::n0()))),
        ("pooled Best", Box::new(Pooled(Best))),
    ];
    let most = options.budgets.iter().copied().max().unwrap_or(0).max(options.trials);
    // The beginning of a search is the search with a smaller budget: one per searcher and seed serves all tables.
    let mut studies = Vec::new();
    for &(name, make) in &searchers {
        studies.push((name, bench.searches(make, most, &bench.table)?));
    }

    println!("\n## Aggregators, {} trials\n", options.trials);
    let names: Vec<_> = aggregators.iter().map(|(name, _)| *name).collect();
    head("searcher", &names);
    for (name, studies) in &studies {
        line(name, aggregators.iter().map(|(_, aggregator)| bench.cell(studies, options.trials, aggregator)))?;
    }
    println!("\n## Clusters of N_0, {} trials\n", options.trials);
    head("searcher", &(2..=8).map(|k| k.to_string()).collect::<Vec<_>>());
    for (name, studies) in &studies {
        let clusters = (2..=8).map(|k| NcClustering { clusters: k, ..NcClustering::n0() });
        line(name, clusters.map(|aggregator| bench.cell(studies, options.trials, &aggregator)))?;
    }
    for (title, aggregator) in [&aggregators[0], &aggregators[3]] {
        println!("\n## Trials, {title}\n");
        head("searcher", &options.budgets);
        for (name, studies) in &studies {
            line(name, options.budgets.iter().map(|&budget| bench.cell(studies, budget, aggregator)))?;
        }
    }
    strategies(&bench, &options)?;
    widths(&bench, &options)
}

/// One-shot against incremental search, at equal numbers of trials.
fn strategies(bench: &Bench, options: &Options) -> anyhow::Result<()> {
    println!("\n## Strategies, N_0\n");
    let lengths: Vec<_> = (2..options.layers).step_by(2).collect();
    let measured = |layers: &usize| bench.table.of_length(*layers).architectures().count() > 0;
    if options.layers != 6 || !lengths.iter().all(measured) {
        println!("not in the table: measure 6 layers with --layers 2,4,6");
        return Ok(());
    }
    head("strategy", &options.budgets);
    for &(name, make) in STRATEGIES {
        let cell = |&budget: &usize| {
            let studies = bench.searches(make, budget, &bench.table)?;
            bench.cell(&studies, budget, &NcClustering::n0())
        };
        line(name, options.budgets.iter().map(cell))?;
    }
    Ok(())
}

/// Narrow candidates against wide ones, at equal cost.
fn widths(bench: &Bench, options: &Options) -> anyhow::Result<()> {
    println!("\n## Width reduction at equal cost, N_0, judged by the wide table\n");
    let Some(path) = &options.wide else {
        println!("pass --wide TABLE");
        return Ok(());
    };
    let wide = Table::read(path)?;
    wide.of_length(options.layers).complete(&bench.space)?;
    let seconds =
        |table: &Table| -> anyhow::Result<f64> { Ok(mean(&table.of_length(options.layers).column("seconds")?)) };
    let ratio = seconds(&wide)? / seconds(&bench.table)?;
    println!("a wide evaluation takes {ratio:.2} times as long\n");
    let judge = Bench { judge: wide.clone(), table: bench.table.clone(), space: bench.space.clone(), options };
    head("searched", &options.budgets);
    line(
        "narrow",
        options.budgets.iter().map(|&budget| {
            let studies = judge.searches(SEARCHERS[2].1, budget, &bench.table)?;
            judge.cell(&studies, budget, &NcClustering::n0())
        }),
    )?;
    line(
        "wide",
        options.budgets.iter().map(|&budget| {
            let budget = ((budget as f64 / ratio).round() as usize).max(1);
            let studies = judge.searches(SEARCHERS[2].1, budget, &wide)?;
            Ok(format!("{budget} trials: {}", judge.cell(&studies, budget, &NcClustering::n0())?))
        }),
    )
}

/// Regret with standard errors of the reports, as [`WithErrors`] states them, by that without; seeds are paired.
fn standard_errors(bench: &Bench, options: &Options) -> anyhow::Result<()> {
    println!("\n## Standard errors as known noise: regret with them by regret without\n");
    head("searcher, answer", &options.budgets);
    let most = options.budgets.iter().copied().max().unwrap_or(options.trials);
    for (name, make) in [("gp_bo", GpBo::default as fn() -> GpBo), ("gp_bo_composer", GpBo::composer)] {
        let evaluator = WithErrors(TabularEvaluator::new(bench.table.clone()));
        let searched = |gp: GpBo| bench.searched(|| Ok(Box::new(gp.clone())), most, &evaluator);
        let with = searched(make())?;
        let without = searched(make().with_standard_errors(false))?;
        let answer = |gp: GpBo| move |study: &Study| Ok(gp.recommend(study)?);
        let aggregated = |study: &Study| Ok(NcClustering::n0().aggregate(study)?);
        let best = |study: &Study| Ok(Best.aggregate(study)?);
        let knowing = answer(make());
        let unknowing = answer(make().with_standard_errors(false));
        let rows: [(&str, &Answer<'_>, &Answer<'_>); 3] =
            [("N_0", &aggregated, &aggregated), ("best trial", &best, &best), ("posterior mean", &knowing, &unknowing)];
        for (answer, ours, theirs) in rows {
            let cell = |&budget: &usize| {
                ratio(&bench.regrets(&with, budget, ours)?, &bench.regrets(&without, budget, theirs)?)
            };
            line(&format!("{name}, {answer}"), options.budgets.iter().map(cell))?;
        }
    }
    Ok(())
}

/// What a search answers.
type Answer<'a> = dyn Fn(&Study) -> anyhow::Result<Architecture> + 'a;

/// Means of both in units of 0.01, their ratio with a 95 % interval over resampled pairs.
fn ratio(ours: &[f64], theirs: &[f64]) -> anyhow::Result<String> {
    let mut rng = Seed(0).rng("pairs", 0);
    let mut drawn: Vec<f64> = (0..2000)
        .map(|_| {
            let pairs = (0..ours.len()).map(|_| rng.random_range(0..ours.len()));
            let (one, other) = pairs.fold((0.0, 0.0), |(one, other), at| (one + ours[at], other + theirs[at]));
            one / other
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    let means = (mean(ours), mean(theirs));
    Ok(format!("{:.2} by {:.2}: {:.2} ({:.2}-{:.2})", means.0, means.1, means.0 / means.1, drawn[50], drawn[1949]))
}

/// A table whose reports state the standard deviation between the seeds of their sequence as the standard error of the
/// one measurement that they are.
struct WithErrors(TabularEvaluator);

impl Evaluator for WithErrors {
    fn fingerprint(&self) -> String {
        format!("{} with standard errors", self.0.fingerprint())
    }

    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        let report = self.0.evaluate(trial, context)?;
        Ok(Report { standard_error: self.0.table().sd(&trial.architecture), ..report })
    }
}

/// What is searched, and what judges.
struct Bench<'a> {
    table: Table,
    judge: Table,
    space: SearchSpace,
    options: &'a Options,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options) -> anyhow::Result<Self> {
        let table = Table::read(&options.table)?;
        let of_length = table.of_length(options.layers);
        let symbols: std::collections::BTreeSet<_> =
            of_length.architectures().flat_map(|a| a.layers().to_vec()).collect();
        let space = SearchSpace::uniform(symbols, options.layers).context("the table has no row of so many layers")?;
        table.complete(&space)?;
        Ok(Self { judge: table.clone(), table, space, options })
    }

    /// One search per seed.
    fn searches(&self, make: Make, trials: usize, table: &Table) -> anyhow::Result<Vec<Study>> {
        self.searched(|| make(trials), trials, &TabularEvaluator::new(table.clone()))
    }

    /// The same with any evaluator.
    fn searched(
        &self,
        make: impl Fn() -> anyhow::Result<Box<dyn Searcher>> + Sync,
        trials: usize,
        evaluator: &(dyn Evaluator + Sync),
    ) -> anyhow::Result<Vec<Study>> {
        let search = |&seed: &u64| -> anyhow::Result<Study> {
            let mut session = Session::in_memory(self.space.clone(), Goal::default(), Seed(seed), make()?);
            while session.study().trials().len() < trials
                && let Ask::Trial(trial) = session.ask()?
            {
                session.tell(trial.id, evaluator.evaluate(&trial, &Context::default()))?;
            }
            Ok(session.study().clone())
        };
        in_parallel(&(0..self.options.searches).collect::<Vec<_>>(), self.options.threads, search)
    }

    /// Regret of what is answered after the first trials, in units of 0.01.
    fn regrets(&self, studies: &[Study], trials: usize, answer: &Answer<'_>) -> anyhow::Result<Vec<f64>> {
        let regret = |study: &Study| {
            let architecture = answer(&study.before(TrialId(trials as u64)))?;
            let regret = self.judge.regret(&architecture);
            Ok(100.0 * regret.with_context(|| format!("{architecture} is not in the table"))?)
        };
        studies.iter().map(regret).collect()
    }

    /// Regret and rank of what an aggregator makes of the first trials.
    fn cell(&self, studies: &[Study], trials: usize, aggregator: &impl Aggregator) -> anyhow::Result<String> {
        let mut regrets = Vec::new();
        let mut ranks = Vec::new();
        for study in studies {
            let architecture = aggregator.aggregate(&study.before(TrialId(trials as u64)))?;
            let judged = self.judge.regret(&architecture).zip(self.judge.rank(&architecture));
            let (regret, rank) = judged.with_context(|| format!("{architecture} is not in the table"))?;
            regrets.push(100.0 * regret);
            ranks.push(rank as f64);
        }
        let interval = |values: &[f64], digits: usize| {
            let estimate = bootstrap_mean(values, 2000, Seed(0)).context("no searches")?;
            let Estimate { value, low, high } = estimate;
            anyhow::Ok(format!("{value:.digits$} ({low:.digits$}-{high:.digits$})"))
        };
        Ok(format!("{}; {}", interval(&regrets, 2)?, interval(&ranks, 1)?))
    }
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<(&'static str, Make)>> {
    if names.is_empty() {
        return Ok(SEARCHERS.to_vec());
    }
    let known = || SEARCHERS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let found = SEARCHERS.iter().find(|(known, _)| known == name).copied();
        found.with_context(|| format!("no searcher {name:?}: there are {}", known()))
    };
    names.iter().map(find).collect()
}

fn head(what: &str, columns: &[impl ToString]) {
    println!("| {what} | {} |", columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---|".repeat(columns.len()));
}

fn line(name: &str, cells: impl Iterator<Item = anyhow::Result<String>>) -> anyhow::Result<()> {
    println!("| {name} | {} |", cells.collect::<anyhow::Result<Vec<_>>>()?.join(" | "));
    Ok(())
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
