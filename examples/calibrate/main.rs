//! Measures how reliable the ranking of a proxy is.
//!
//! `cargo run --release --example calibrate -- table.csv --seeds 0..8` evaluates all 64 six-layer architectures of
//! attention and SwiGLU with eight seeds and appends a row to the table for each. Run it again to continue. `--analyse`
//! reports the reliability of the ranking, and `--against other.csv` its agreement with another one. `--corpus`
//! measures on text instead of synthetic tasks; `--help` lists the options.
//!
//! `-- published.csv --published --seeds 0..3` measures the layouts of published comparisons instead, reports how well
//! the scores agree with the results of their pre-trainings, and draws a plot. `--evidence FILE` uses comparisons of
//! your own.

#[macro_use]
#[path = "../shared/mod.rs"]
mod shared;

mod published;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fs,
    ops::Range,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Parser, value_parser};
use composer_nas::{
    aggregate::Best,
    data::Corpus,
    evaluate::{
        Row, SizeMatched, Table, TableFile,
        corpus::{CorpusEvaluator, CorpusProtocol},
        mad::{Protocol, TrainingMetrics},
    },
    evidence::Evidence,
    execute::{Executor, Message, Threads},
    extrapolate::Cycle,
    limits::{LimitError, MAX_TRAININGS},
    prelude::*,
    space::baseline,
    space::notation::Alphabet,
    statistics::{Estimate, bootstrap_mean, mean},
    study::{Origin, TrialId},
    text::{line, markdown},
};
use indicatif::{ProgressBar as Bar, ProgressStyle};
use shared::{letters::Written, shown};

/// Training on a CPU makes many short-lived allocations; with this allocator it is a third faster than with glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The name of the column with CPU seconds.
const CPU: &str = "cpu_seconds";

/// Measures a table of scores by architecture and seed, and analyses the reliability of its ranking.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Args {
    /// The table to extend or to analyse.
    table: PathBuf,
    /// Number of layers; all architectures of this length are measured. Give several lengths for incremental
    /// strategies.
    #[arg(long, value_delimiter = ',', default_value = "6")]
    layers: Vec<usize>,
    /// Primitives to choose from, by name or symbol.
    #[arg(long, value_delimiter = ',', default_value = "attention,swiglu")]
    primitives: Vec<String>,
    /// Measure these architectures instead, such as AAMMMM,AMAMAM.
    #[arg(long, value_delimiter = ',')]
    architectures: Vec<Written>,
    /// The alphabet of --architectures: ours, megatron, nemotron-h, or pairs such as M=B,*=A,-=M.
    #[arg(long, value_name = "ALPHABET")]
    letters: Option<Alphabet>,
    /// Measure the layouts of published comparisons instead, and judge the scores by them.
    #[arg(long)]
    published: bool,
    /// The same, with the comparisons in this file.
    #[arg(long, conflicts_with = "published")]
    evidence: Option<PathBuf>,
    /// Range of seeds, without the last one.
    #[arg(long, value_name = "FROM..TO", default_value = "0..4", value_parser = seeds)]
    seeds: Range<u64>,
    /// Use the same random numbers for a seed in all architectures, for example the same training data. By default,
    /// every evaluation has its own, as in a search.
    #[arg(long)]
    common_seeds: bool,
    /// How candidates are trained and scored: quick, hybrid, reference, full, or a JSON file with a protocol.
    #[arg(long, default_value = "quick")]
    protocol: String,
    /// Train on the text of this corpus instead, a folder created by the example `pretrain`. The score is the geometric
    /// mean of the probabilities of the correct tokens.
    #[arg(long, conflicts_with = "protocol")]
    corpus: Option<PathBuf>,
    /// Number of tokens on which a candidate is trained.
    #[arg(long, requires = "corpus", default_value_t = 4_000_000)]
    tokens: u64,
    /// Width of candidates trained on text, with heads of width 16 and a three times larger inner width.
    #[arg(long, requires = "corpus", default_value_t = 64)]
    width: usize,
    /// Grow every candidate to the size of this number of blocks of attention and SwiGLU, to compare sequences with
    /// different kinds of layers at equal parameters.
    #[arg(long, conflicts_with = "corpus")]
    blocks: Option<usize>,
    /// Accuracy threshold for the metric `early`, which measures how soon a training reaches it.
    #[arg(long, default_value_t = 0.9, value_parser = accuracy)]
    threshold: f64,
    /// Number of trials in parallel; each uses one core on a CPU.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Where to train: auto, flex, cuda:0, ...
    #[arg(long, default_value = "auto")]
    device: String,
    /// Analyse the table instead of measuring.
    #[arg(long)]
    analyse: bool,
    /// Compare the ranking with that of another table.
    #[arg(long, requires = "analyse")]
    against: Option<PathBuf>,
    /// Number of random splits for each reliability.
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u64).range(1..=10_000))]
    splits: u64,
}

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    if !args.analyse {
        measure(args)?;
    }
    match args.evidence()? {
        Some(evidence) => published::judge(&evidence, &Table::read(&args.table)?, &args.table),
        None if args.analyse => analyse(args),
        None => Ok(()),
    }
}

fn accuracy(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().map_err(|error| error.to_string())?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("an accuracy must be between 0 and 1".into()) }
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.filter(|range| !range.is_empty()).ok_or_else(|| "write from..to, such as 0..8".into())
}

fn measure(args: &Args) -> anyhow::Result<()> {
    let primitives = Primitives::standard();
    let device = device::named(&args.device)?;
    let architectures = args.architectures(&primitives)?;
    let symbols = architectures.iter().flat_map(Architecture::layers).copied().collect();
    let judge = args.judge(&symbols, &primitives, &device.device)?;
    args.check_number(&architectures)?;
    let mut executor = Threads::new(Arc::new(Clocked(judge.evaluator.clone())), args.workers)?;
    let empty = Table::new(&judge.columns)?.measured_by(args.described(&judge));
    let mut file = TableFile::open(&args.table, empty)?;

    // Seed by seed, so that an unfinished table has all architectures.
    let all = args.seeds.clone().flat_map(|seed| architectures.iter().map(move |a| (a.clone(), seed)));
    let mut queue: VecDeque<_> = all.filter(|(a, seed)| !file.table().contains(a, *seed)).collect();
    let work = queue.iter().map(|(architecture, _)| judge.train_flops(architecture, &primitives));
    let work = shared::expected(work.sum::<anyhow::Result<f64>>()?);
    println!("{} evaluations to do on {device}: {work}", queue.len());
    let bar = Bar::new(queue.len() as u64);
    bar.set_style(ProgressStyle::with_template("{pos}/{len} [{bar:24}] {elapsed} spent, {eta} left {msg}")?);
    let mut running = HashMap::new();
    let mut submitted = 0;
    while !(queue.is_empty() && running.is_empty()) {
        while executor.idle() > 0
            && let Some((architecture, seed)) = queue.pop_front()
        {
            let id = TrialId(submitted);
            submitted += 1;
            executor.submit(Trial::new(id, architecture.clone(), args.seed(&architecture, seed), Origin::Manual))?;
            running.insert(id, (architecture, seed));
        }
        let Some(Message::Done(id, outcome)) = executor.recv(Duration::from_millis(200))? else { continue };
        let (architecture, seed) = running.remove(&id).context("an unknown trial came back")?;
        let report = outcome.with_context(|| format!("{architecture} with seed {seed}"))?;
        let row = Row { values: judge.values(&report, args.threshold)?, architecture, seed };
        let text = format!("{} {:.4}", row.architecture, row.values.last().copied().unwrap_or_default());
        file.append(row)?;
        bar.inc(1);
        if bar.is_hidden() {
            println!("{}/{} {text}", bar.position(), submitted + queue.len() as u64);
        }
        bar.set_message(text);
    }
    bar.finish();
    Ok(())
}

/// Adds the CPU seconds of the evaluating thread to a report. Unlike `seconds`, they are reliable on a busy machine.
/// They are 0 if the system does not provide them (only Linux does) and do not include work on an accelerator.
struct Clocked(Arc<dyn Evaluator>);

impl Evaluator for Clocked {
    fn fingerprint(&self) -> String {
        self.0.fingerprint()
    }

    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        let start = cpu_seconds();
        let mut report = self.0.evaluate(trial, context)?;
        report.scores.insert(CPU.into(), cpu_seconds() - start);
        Ok(report)
    }
}

/// Returns the CPU seconds of this thread.
fn cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or(0.0) * 1e-9
}

/// The data that architectures are trained on.
enum TrainsOn {
    Tasks(Protocol),
    Text(CorpusProtocol, usize),
}

/// The evaluator, with the parts of its reports that the table records.
struct Judge {
    evaluator: Arc<dyn Evaluator>,
    /// The size to which candidates are grown, if any.
    size: Option<Target>,
    trains_on: TrainsOn,
    columns: Vec<String>,
    /// The score for the ranking.
    score: &'static str,
}

impl Judge {
    fn mad(
        protocol: Protocol,
        symbols: &BTreeSet<Symbol>,
        primitives: &Primitives,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let mad = Mad::new(protocol.clone(), primitives, device)?;
        mad.check(symbols.iter().copied())?;
        let evaluator = Arc::new(mad);
        let labels = protocol.trainings.iter().map(|training| training.label());
        let metrics = labels.flat_map(|label| TrainingMetrics::NAMES.map(|name| format!("{label}/{name}")));
        let tasks = protocol.trainings.iter().map(|training| training.task.name().to_owned());
        let mut columns: Vec<String> =
            tasks.chain(metrics).chain(["diverged".into(), "seconds".into(), CPU.into()]).collect();
        let mut seen = BTreeSet::new();
        columns.retain(|column| seen.insert(column.clone()));
        Ok(Self { evaluator, size: None, trains_on: TrainsOn::Tasks(protocol), columns, score: "accuracy" })
    }

    /// Grows every candidate to the size of this number of blocks of attention and SwiGLU.
    fn of_equal_size(self, blocks: usize, primitives: &Primitives) -> anyhow::Result<Self> {
        let TrainsOn::Tasks(protocol) = &self.trains_on else { return Ok(self) };
        let target = Target::custom("candidates", protocol.dims.clone(), 1, false, blocks)?;
        let evaluator = Arc::new(SizeMatched::new(self.evaluator.clone(), Cycle, target.clone(), primitives)?);
        Ok(Self { evaluator, size: Some(target), ..self })
    }

    fn text(
        args: &Args,
        corpus: &Corpus,
        symbols: &BTreeSet<Symbol>,
        primitives: &Primitives,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let stories = CorpusProtocol::stories(args.tokens);
        let dims = Dims::new(args.width, args.width.saturating_mul(3), (args.width / 16).max(1))?;
        let protocol = CorpusProtocol { dims, seq_len: 128, batch_size: 16, evaluations: 5, ..stories };
        let evaluator = CorpusEvaluator::new(protocol.clone(), corpus, primitives, device)?;
        evaluator.check(symbols.iter().copied())?;
        let evaluator = Arc::new(evaluator);
        let columns = ["loss", "next token", "diverged", "seconds", CPU].map(String::from).to_vec();
        let trains_on = TrainsOn::Text(protocol, corpus.vocab_size);
        Ok(Self { evaluator, size: None, trains_on, columns, score: "likelihood" })
    }

    /// Returns the protocol if the tasks are synthetic.
    fn protocol(&self) -> Option<&Protocol> {
        match &self.trains_on {
            TrainsOn::Tasks(protocol) => Some(protocol),
            TrainsOn::Text(..) => None,
        }
    }

    /// Returns the floating-point operations of one evaluation.
    fn train_flops(&self, architecture: &Architecture, primitives: &Primitives) -> anyhow::Result<f64> {
        match &self.trains_on {
            TrainsOn::Tasks(protocol) => match &self.size {
                None => Ok(protocol.train_flops(architecture, primitives)?),
                Some(target) => {
                    let grown = Cycle.extrapolate(architecture, target, primitives)?;
                    Ok(protocol.train_flops(&grown.architecture, primitives)?)
                }
            },
            TrainsOn::Text(protocol, vocab_size) => {
                let model = protocol.model(architecture.clone(), *vocab_size);
                let steps = protocol.training(&model, primitives)?.steps;
                Ok(steps as f64 * protocol.flops_per_step(&model, primitives)?)
            }
        }
    }

    /// Returns the values of a row in the order of the columns, with the score last.
    fn values(&self, report: &Report, threshold: f64) -> anyhow::Result<Vec<f64>> {
        let mut known = report.scores.clone();
        for (label, metrics) in self.protocol().iter().flat_map(|protocol| protocol.training_metrics(report, threshold))
        {
            let named = TrainingMetrics::NAMES.into_iter().zip(metrics.values());
            known.extend(named.map(|(name, value)| (format!("{label}/{name}"), value)));
        }
        known.extend(report.scores.get("loss").map(|loss| ("likelihood".into(), (-loss).exp())));
        known.extend(report.scores.get("accuracy").map(|&accuracy| ("next token".into(), accuracy)));
        known.insert("diverged".into(), report.tasks.iter().filter(|task| task.diverged.is_some()).count() as f64);
        known.insert("seconds".into(), report.wall_seconds);
        let value = |name: &str| known.get(name).copied().with_context(|| format!("the report has no {name}"));
        self.columns.iter().map(String::as_str).chain([self.score]).map(value).collect()
    }
}

impl Args {
    /// Describes everything that the values of a table depend on. Rows can be added only if it is the same.
    fn described(&self, judge: &Judge) -> String {
        let seeds = if self.common_seeds { "common seeds" } else { "seeds of their own" };
        let early = judge.protocol().map_or(String::new(), |_| format!("; early at {}", self.threshold));
        format!("{}; {seeds}{early}", judge.evaluator.fingerprint())
    }

    fn judge(&self, symbols: &BTreeSet<Symbol>, primitives: &Primitives, device: &Device) -> anyhow::Result<Judge> {
        match &self.corpus {
            None => {
                let judge = Judge::mad(shared::protocol(&self.protocol)?, symbols, primitives, device)?;
                match self.blocks {
                    None => Ok(judge),
                    Some(blocks) => judge.of_equal_size(blocks, primitives),
                }
            }
            Some(folder) => {
                let corpus = Corpus::open(folder).with_context(|| {
                    format!("no corpus in {}: run examples/fetch_corpus.sh and the example pretrain", folder.display())
                })?;
                Judge::text(self, &corpus, symbols, primitives, device)
            }
        }
    }

    /// Returns the seed of one evaluation.
    fn seed(&self, architecture: &Architecture, seed: u64) -> Seed {
        if self.common_seeds { Seed(seed) } else { Seed(seed).derive(&architecture.letters(), 0) }
    }

    /// Rejects an unreasonable number of evaluations.
    fn check_number(&self, architectures: &[Architecture]) -> Result<(), LimitError> {
        let what = "architectures times --seeds";
        let limit = MAX_TRAININGS as u64;
        let value = (architectures.len() as u64).saturating_mul(self.seeds.end - self.seeds.start);
        if value <= limit { Ok(()) } else { Err(LimitError::TooLarge { what, value, limit }) }
    }

    /// Returns the comparisons to judge by, if any.
    fn evidence(&self) -> anyhow::Result<Option<Evidence>> {
        let Some(path) = &self.evidence else { return Ok(self.published.then(Evidence::published)) };
        let evidence = Evidence::read(path)?;
        let paired = evidence.groups().iter().any(|group| !group.pairs.is_empty());
        ensure!(paired, "{}: no group has a pair to judge: list pairs, or set a smaller gap", path.display());
        Ok(Some(evidence))
    }

    fn architectures(&self, primitives: &Primitives) -> anyhow::Result<Vec<Architecture>> {
        if let Some(evidence) = self.evidence()? {
            let layouts = published::layouts(&evidence, primitives);
            if self.evidence.is_some() {
                shared::say_reading(&layouts, primitives);
            }
            return Ok(layouts);
        }
        if !self.architectures.is_empty() {
            let all = shared::letters::read_all(&self.architectures, self.letters.as_ref())?;
            shared::say_reading(&all, primitives);
            return Ok(all);
        }
        let symbols = primitives.symbols(self.primitives.iter().map(String::as_str))?;
        let mut all = Vec::new();
        for &layers in &self.layers {
            let space = SearchSpace::uniform(symbols.clone(), layers)?;
            ensure!(space.size() <= 1 << 16, "{} architectures of {layers} layers: name --architectures", space.size());
            all.extend(space.iter());
        }
        Ok(all)
    }
}

/// Prints the analysis of a table.
fn analyse(args: &Args) -> anyhow::Result<()> {
    let table = Table::read(&args.table)?;
    let layers = args.layers.last().copied().unwrap_or(6);
    let table = table.of_length(layers);
    let Some(first) = table.architectures().next() else {
        bail!("{} has no row of {layers} layers", args.table.display())
    };
    println!(
        "{} architectures of {layers} layers ({first} ...), {} seeds of all",
        table.architectures().count(),
        table.seeds().len()
    );
    let symbols: BTreeSet<_> = table.architectures().flat_map(|a| a.layers().to_vec()).collect();
    let space = SearchSpace::uniform(symbols, layers)?;
    if let Err(error) = table.complete(&space) {
        println!("note: {}", line(&error.to_string()));
    }
    reliabilities(&table, args.splits)?;
    if let Some(path) = &args.against {
        let other = Table::read(path)?.of_length(layers);
        match table.spearman(&other) {
            Some(r) => println!("\nSpearman with {}: {r:.3}", shown(path)),
            None => println!("\nSpearman with {}: none, too little in common", shown(path)),
        }
    }
    ranks(&table, &space)?;
    for (name, column) in [("seconds", "seconds"), ("CPU seconds", CPU)] {
        if let Ok(seconds) = table.column(column) {
            println!("\n{name} per evaluation: {}", show(bootstrap_mean(&seconds, 1000, Seed(0)), 2));
        }
    }
    if let Ok(diverged) = table.column("diverged") {
        println!("trainings that diverged per evaluation: {:.4}", mean(&diverged));
    }
    Ok(())
}

/// Prints the split-half reliability of the score, of the mean over tasks of each reading, and of each column.
fn reliabilities(table: &Table, splits: u64) -> anyhow::Result<()> {
    let numbers: Vec<usize> = [1, 2, 4, 8, 16].into_iter().filter(|&n| n <= 2 * table.seeds().len()).collect();
    println!("\nsplit-half reliability (Spearman) by number of seeds, 95 % bootstrap interval over architectures\n");
    println!("| score | {} |", numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---|".repeat(numbers.len()));
    let row = |name: &str, scored: Table| {
        let cells: Vec<_> = numbers.iter().map(|&n| show(scored.reliability(n, splits, Seed(0)), 2)).collect();
        println!("| {} | {} |", markdown(name), cells.join(" | "));
    };
    row("score", table.clone());
    for metric in TrainingMetrics::NAMES {
        let ending = format!("/{metric}");
        if let Ok(scored) = table.rescored(|column| column.ends_with(&ending)) {
            row(&format!("mean of {metric}"), scored);
        }
    }
    for column in
        table.columns().iter().filter(|column| !["score", "seconds", CPU, "diverged"].contains(&column.as_str()))
    {
        row(column, table.rescored(|name| name == column)?);
    }
    Ok(())
}

/// Prints the ranks of known architectures, and the results of aggregators on the whole table.
fn ranks(table: &Table, space: &SearchSpace) -> anyhow::Result<()> {
    let half = space.layers() / 2;
    let study = table.study(space)?;
    let third = space.layers() / 3;
    let runs = |attention, mlp| Architecture::from_runs([(Symbol::ATTENTION, attention), (Symbol::SWIGLU, mlp)]);
    let mut named: Vec<(&str, Architecture)> = vec![
        ("a third attention, then MLP", runs(third, space.layers() - third)),
        ("Llama", baseline::llama(half)),
        ("sandwich, coefficient 1", baseline::sandwich(half, 1)),
        ("striped 1:2", baseline::striped(third, 2)),
        ("MLP only", runs(0, space.layers())),
    ];
    if let Some((best, _)) = table.best(space.layers()) {
        named.push(("highest mean", best.clone()));
    }
    let aggregators: [(&str, Box<dyn Aggregator>); 4] = [
        ("K-means + N_0", Box::new(NcClustering::n0())),
        ("K-means + N_1", Box::new(NcClustering::nc(1))),
        ("K-means + N_full", Box::new(NcClustering::full_prefix())),
        ("Best", Box::new(Best)),
    ];
    for (name, aggregator) in &aggregators {
        named.push((name, aggregator.aggregate(&study)?));
    }
    println!(
        "\n| what | architecture | mean | standard error | rank | rank under other seeds (95 %) |\n|---|---|---|---|---|---|"
    );
    let others: Vec<_> = (0..200).map(|index| table.resampled(&mut Seed(1).rng("calibrate", index))).collect();
    for (name, architecture) in &named {
        let Some((mean, rank)) = table.mean(architecture).zip(table.rank(architecture)) else {
            println!("| {name} | {architecture} | not in the table | | | |");
            continue;
        };
        let error = table.standard_error(architecture).map_or("-".into(), |error| format!("{error:.4}"));
        let ranks = others.iter().filter_map(|other| other.rank(architecture)).map(|rank| rank as f64).collect();
        let Estimate { low, high, .. } = Estimate::from_draws(rank as f64, ranks);
        println!("| {name} | {} | {mean:.4} | {error} | {rank} | {low:.0} to {high:.0} |", architecture.letters());
    }
    println!("\nunder other seeds, how often an aggregator gives the same:");
    for (name, aggregator) in &aggregators {
        let whole = aggregator.aggregate(&study)?;
        let mut same = 0;
        for other in &others {
            same += usize::from(aggregator.aggregate(&other.study(space)?)? == whole);
        }
        println!("- {name}: {} in {:.0} %", whole.letters(), 100.0 * same as f64 / others.len() as f64);
    }
    Ok(())
}

fn show(estimate: Option<Estimate>, digits: usize) -> String {
    estimate.map_or("-".into(), |Estimate { value, low, high }| {
        format!("{value:.digits$} ({low:.digits$} to {high:.digits$})")
    })
}
