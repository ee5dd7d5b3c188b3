//! The main job: from nothing to a hybrid architecture of Llama's size.
//!
//! `cargo run --release --example search` searches six layers of attention and SwiGLU on the MAD tasks, merges the best
//! trials, scales the result to Llama 1B and compares it with Llama 3.2 1B. Everything lands in `runs/<name>/`. The
//! same command again resumes the run; `--help` lists what can be changed.

#[macro_use]
mod shared;

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum, value_parser};
use composer_nas::{
    evaluate::{SizeMatched, mad::Protocol},
    execute::{self, Executor, Process, Resources, Slurm, SlurmOptions, Threads},
    extrapolate::Cycle,
    journal,
    pipeline::PipelineError,
    prelude::*,
    report::{LivePage, Page},
    text::{line, number},
};
use shared::shown;

/// Training allocates much and briefly, which this allocator takes well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Searches a hybrid architecture on small synthetic tasks and scales it to a language model of Llama's size.
///
/// The same command again resumes the run; a larger --trials continues it.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Args {
    /// Layers of the small architectures that are searched.
    #[arg(long, default_value_t = 6)]
    layers: usize,
    /// Trials in all, those of earlier runs included.
    #[arg(long, default_value_t = 24)]
    trials: usize,
    /// Primitives to choose from, by name or letter: attention (A), sliding_window (S), mamba2 (B), gated_delta_net
    /// (G), gated_conv (C), swiglu (M), mlp (F), relu2 (R), moe (E).
    #[arg(long, value_delimiter = ',', default_value = "attention,swiglu")]
    primitives: Vec<String>,
    /// Bounds on how many layers are a primitive: attention=3, or attention=1..=3. May be repeated. With two primitives
    /// and one of them fixed, the search is for the places alone: --layers 12 --count attention=3.
    #[arg(long, value_name = "PRIMITIVE=NUMBER")]
    count: Vec<Count>,
    /// Trials at once; on a CPU each trains on one core. For Slurm: jobs at once.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Where trials run: on threads of this process, in processes of this machine, or as Slurm jobs.
    #[arg(long, value_enum, default_value_t = ExecutorKind::Threads)]
    executor: ExecutorKind,
    /// An option of Slurm's sbatch for every job, such as --sbatch=--partition=gpu. May be repeated.
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    sbatch: Vec<String>,
    /// GPUs per Slurm job.
    #[arg(long, default_value_t = 0)]
    gpus: u32,
    /// Where processes train, such as cuda:0,cuda:1: each running trial has one of them for itself, and sees it as
    /// cuda:0.
    #[arg(long, value_name = "DEVICE,...", value_delimiter = ',', value_parser = cuda_number)]
    devices: Vec<String>,
    /// Minutes per trial, for processes and jobs; a trial that needs more goes on where it was.
    #[arg(long, value_parser = value_parser!(u64).range(1..=MOST_MINUTES))]
    trial_minutes: Option<u64>,
    /// The folder of a task: processes and jobs are started with it.
    #[arg(long, hide = true)]
    worker: Option<PathBuf>,
    /// Where to train: auto, flex, cuda:0, ... (other kinds than flex need their cargo feature).
    #[arg(long, default_value = "auto")]
    device: String,
    /// Root of everything random: the same seed and number of workers give the same search.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How candidates are trained and scored: quick, hybrid, reference, full, or a JSON file with a protocol. By
    /// default hybrid where other layers than attention and SwiGLU are searched, and quick otherwise.
    #[arg(long)]
    protocol: Option<String>,
    /// Grow every candidate to the size of so many blocks of attention and SwiGLU before it is trained; 0: train it as
    /// it stands. By default 5 where other layers than these two are searched, so that kinds are compared at equal
    /// parameters, and 0 otherwise.
    #[arg(long)]
    blocks: Option<usize>,
    /// Trainings per trial, each with draws of its own: the score is their mean.
    #[arg(long, value_name = "TIMES", default_value_t = 1)]
    repeat: usize,
    /// Stop trials whose running score, after a third of their steps, is below the median of those finished.
    #[arg(long)]
    stop_early: bool,
    /// Size of the result: llama_350m, llama_1b, llama_3b, llama_8b.
    #[arg(long, value_name = "SIZE", default_value = "llama_1b")]
    target: String,
    /// Who proposes the next architecture.
    #[arg(long, value_enum, default_value_t = SearcherKind::Gp)]
    searcher: SearcherKind,
    /// How the trials are merged into one architecture.
    #[arg(long, value_enum, default_value_t = AggregatorKind::N0)]
    aggregator: AggregatorKind,
    /// Start no new trial after this many minutes.
    #[arg(long)]
    minutes: Option<f64>,
    /// Name of the run; by default made of the settings that may not change within a run.
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Folder that holds the runs.
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    runs: PathBuf,
    /// Evaluate this architecture next, for example AMAMAM or 3A+3M. May be repeated.
    #[arg(long, value_name = "ARCHITECTURE")]
    add: Vec<Architecture>,
    /// Set this finished trial aside, with a --reason. May be repeated.
    #[arg(long, value_name = "TRIAL", requires = "reason")]
    invalidate: Vec<u64>,
    /// Why trials are set aside.
    #[arg(long, requires = "invalidate")]
    reason: Option<String>,
    /// Print the trials of the run and stop; works while another process searches.
    #[arg(long)]
    show: bool,
}

/// Blocks to whose size candidates are grown where kinds of layers are mixed.
const MIXED_BLOCKS: usize = 5;
/// A year.
const MOST_MINUTES: u64 = 365 * 24 * 60;

/// How often a primitive may occur.
#[derive(Clone, Debug)]
struct Count {
    primitive: String,
    least: usize,
    most: usize,
}

impl FromStr for Count {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = || {
            let (primitive, numbers) = text.split_once('=')?;
            let (least, most) = numbers.split_once("..=").unwrap_or((numbers, numbers));
            Some(Self { primitive: primitive.into(), least: least.parse().ok()?, most: most.parse().ok()? })
        };
        let count = parsed().filter(|count| count.least <= count.most);
        count.ok_or("write PRIMITIVE=NUMBER or PRIMITIVE=LEAST..=MOST, such as attention=3 or attention=1..=3")
    }
}

/// The number of a CUDA device, which `CUDA_VISIBLE_DEVICES` wants.
fn cuda_number(name: &str) -> Result<String, String> {
    let number = name.strip_prefix("cuda:").filter(|number| number.parse::<u16>().is_ok());
    number.map(Into::into).ok_or_else(|| "write CUDA devices with their numbers, such as cuda:0,cuda:1".into())
}

/// As a part of the run's name.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { primitive, least, most } = self;
        if least == most { write!(f, "-{primitive}{least}") } else { write!(f, "-{primitive}{least}to{most}") }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SearcherKind {
    Gp,
    Composer,
    Evolution,
    LocalSearch,
    Random,
    Exhaustive,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExecutorKind {
    Threads,
    Process,
    Slurm,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AggregatorKind {
    N0,
    N1,
    FullPrefix,
    Best,
}

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    let folder = args.runs.join(args.run_name()?);
    let path = folder.join("journal.jsonl");
    if args.show {
        return show(&path);
    }
    let primitives = Primitives::standard();
    let space = args.space(&primitives)?;
    let target = Target::named(&args.target)?;
    let device = device::named(&args.device)?;
    let mad = Mad::new(shared::protocol(args.protocol())?, &primitives, &device.device)?;
    mad.check(space.symbols())?;
    let steps = mad.protocol().steps();
    let size = args.size(mad.protocol())?;
    let work = args.work(mad.protocol(), size.as_ref(), &space, &primitives)?;
    let mut evaluator: Arc<dyn Evaluator> = Arc::new(mad);
    if let Some(size) = &size {
        evaluator = Arc::new(SizeMatched::new(evaluator, Cycle, size.clone(), &primitives)?);
    }
    if args.repeat != 1 {
        evaluator = Arc::new(Repeated::new(evaluator, args.repeat)?);
    }
    execute::worker(&[&evaluator]);
    shared::check_folder(&folder)?;
    args.check(&space, &path)?;
    shared::say_reading(&args.add, &primitives);
    let limit = args.time_limit()?;
    let executor = args.executor(&folder, &evaluator)?;
    println!("{} architectures; training on {device}; everything goes to {}", space.size(), shown(&folder));
    if let Some(size) = &size {
        let blocks = size.baseline.len() / 2;
        let parameters = size.body_parameters;
        println!(
            "protocol {}; candidates are grown to the {parameters} parameters of {blocks} blocks of attention and SwiGLU",
            args.protocol()
        );
    }
    println!("{work}");

    let reason = args.reason.clone().unwrap_or_default();
    let metrics = folder.join("metrics.jsonl");
    let metrics = MetricsFile::append(&metrics).with_context(|| format!("cannot open {}", metrics.display()))?;
    let live = LivePage::new(folder.join("report.html")).command(command());
    let live = live.title(format!("Search {}", args.run_name()?));
    let mut pipeline = Pipeline::new(&primitives, space, evaluator)
        .searcher(args.searcher())
        .aggregator(args.aggregator())
        .trials(args.trials)
        .seed(args.seed)
        .executor(executor)
        .journal(&path)
        .candidates(args.add.iter().cloned())
        .observer(ProgressBar::new())
        .observer(metrics)
        .observer(live);
    for &id in &args.invalidate {
        pipeline = pipeline.invalidate(TrialId(id), reason.as_str());
    }
    if args.stop_early {
        pipeline = pipeline.stop_early(MedianRule::after(8, args.repeat.saturating_mul(steps) / 3));
    }
    if let Some(limit) = limit {
        pipeline = pipeline.time_limit(limit);
    }
    let found = pipeline.run(&target)?;
    conclude(args, &folder, &found, &target, &primitives)
}

impl Args {
    fn run_name(&self) -> anyhow::Result<String> {
        let name = self.run.clone().unwrap_or_else(|| {
            let protocol = Path::new(self.protocol()).file_stem().unwrap_or_default().to_string_lossy();
            let repeat = if self.repeat == 1 { String::new() } else { format!("-repeat{}", self.repeat) };
            let stop = if self.stop_early { "-stop" } else { "" };
            let blocks = self.blocks.map(|blocks| format!("-blocks{blocks}")).unwrap_or_default();
            let counts: String = self.count.iter().map(Count::to_string).collect();
            format!(
                "{protocol}-{}x{}{counts}{blocks}{repeat}{stop}-seed{}",
                self.layers,
                self.primitives.join("-"),
                self.seed
            )
        });
        let inside = || format!("--run names a folder that is created inside {}", self.runs.display());
        shared::folder_name(&name).map_err(anyhow::Error::msg).with_context(inside)
    }

    fn space(&self, primitives: &Primitives) -> anyhow::Result<SearchSpace> {
        let symbols = primitives.symbols(self.primitives.iter().map(String::as_str))?;
        let mut space = SearchSpace::uniform(symbols, self.layers)?;
        for Count { primitive, least, most } in &self.count {
            for symbol in primitives.symbols([primitive.as_str()])? {
                let searched = space.symbols().contains(&symbol);
                ensure!(searched, "--count {primitive}: it is not among --primitives {}", self.primitives.join(","));
                space = space.count(symbol, *least..=*most)?;
            }
        }
        Ok(space)
    }

    /// Whether layers other than attention and SwiGLU are searched.
    fn mixed(&self) -> bool {
        self.primitives.iter().any(|primitive| !["attention", "A", "swiglu", "M"].contains(&primitive.as_str()))
    }

    fn protocol(&self) -> &str {
        self.protocol.as_deref().unwrap_or(if self.mixed() { "hybrid" } else { "quick" })
    }

    /// The size that candidates are grown to, if any.
    fn size(&self, protocol: &Protocol) -> anyhow::Result<Option<Target>> {
        let blocks = self.blocks.unwrap_or(if self.mixed() { MIXED_BLOCKS } else { 0 });
        if blocks == 0 {
            return Ok(None);
        }
        let target = Target::custom("candidates", protocol.dims.clone(), 1, false, blocks);
        Ok(Some(target.with_context(|| format!("--blocks {blocks}"))?))
    }

    /// Refuses what a search would refuse once its folder is there.
    fn check(&self, space: &SearchSpace, journal: &Path) -> anyhow::Result<()> {
        ensure!(self.trials > 0, PipelineError::NoTrials);
        self.check_executor()?;
        let outside = self.add.iter().find(|a| !space.contains(a));
        if let Some(architecture) = outside {
            return Err(StudyError::OutsideSpace(architecture.clone()).into());
        }
        let corrects = self.invalidate.is_empty() || journal.exists();
        ensure!(corrects, "--invalidate corrects a run, and there is none in {}", journal.display());
        Ok(())
    }

    /// Refuses flags that the executor would pass over.
    fn check_executor(&self) -> anyhow::Result<()> {
        let threads = matches!(self.executor, ExecutorKind::Threads);
        let processes = matches!(self.executor, ExecutorKind::Process);
        let slurm = matches!(self.executor, ExecutorKind::Slurm);
        ensure!(processes || self.devices.is_empty(), "--devices is for --executor process; name one --device");
        ensure!(slurm || self.sbatch.is_empty(), "--sbatch is for --executor slurm");
        ensure!(slurm || self.gpus == 0, "--gpus is for --executor slurm");
        ensure!(!threads || self.trial_minutes.is_none(), "--trial-minutes is for --executor process or slurm");
        Ok(())
    }

    /// What is ahead at most, in words.
    fn work(
        &self,
        protocol: &Protocol,
        size: Option<&Target>,
        space: &SearchSpace,
        primitives: &Primitives,
    ) -> anyhow::Result<String> {
        let mut middle = space.nth(space.size() / 2).context("the search space is empty")?;
        if let Some(size) = size {
            middle = Cycle.extrapolate(&middle, size, primitives)?.architecture;
        }
        let trials = space.size().min(self.trials as u128) as f64;
        let flops = trials * self.repeat as f64 * protocol.train_flops(&middle, primitives)?;
        Ok(format!("{trials:.0} trials from nothing: {}", shared::expected(flops)))
    }

    fn time_limit(&self) -> anyhow::Result<Option<Duration>> {
        let Some(minutes) = self.minutes else { return Ok(None) };
        let usable = minutes > 0.0 && minutes <= MOST_MINUTES as f64;
        ensure!(usable, "--minutes {minutes:e}: give a positive number, at most {MOST_MINUTES}, a year");
        Ok(Some(Duration::from_secs_f64(60.0 * minutes)))
    }

    fn searcher(&self) -> Box<dyn Searcher> {
        match self.searcher {
            SearcherKind::Gp => Box::new(GpBo::default()),
            SearcherKind::Composer => Box::new(GpBo::composer()),
            SearcherKind::LocalSearch => Box::new(LocalSearch::default()),
            SearcherKind::Evolution => Box::new(RegularizedEvolution::default()),
            SearcherKind::Random => Box::new(RandomSearch),
            SearcherKind::Exhaustive => Box::new(Exhaustive),
        }
    }

    /// What runs the trials.
    fn executor(&self, folder: &Path, evaluator: &Arc<dyn Evaluator>) -> anyhow::Result<Box<dyn Executor>> {
        let time = self.trial_minutes.map(|minutes| Duration::from_secs(60 * minutes));
        let resources = Resources { time, gpus: self.gpus, ..Resources::default() };
        Ok(match self.executor {
            ExecutorKind::Threads => Box::new(Threads::new(evaluator.clone(), self.workers)?),
            ExecutorKind::Process => {
                let process = Process::new(self.workers, folder)?.resources(resources);
                Box::new(if self.devices.is_empty() { process } else { process.devices(&self.devices) })
            }
            ExecutorKind::Slurm => {
                let jobs = self.workers;
                let extra = self.sbatch.clone();
                let options = SlurmOptions { jobs, extra, resources, ..SlurmOptions::default() };
                Box::new(Slurm::new(options, folder)?)
            }
        })
    }

    fn aggregator(&self) -> Box<dyn Aggregator> {
        match self.aggregator {
            AggregatorKind::N0 => Box::new(NcClustering::n0()),
            AggregatorKind::N1 => Box::new(NcClustering::n1()),
            AggregatorKind::FullPrefix => Box::new(NcClustering::full_prefix()),
            AggregatorKind::Best => Box::new(Best),
        }
    }
}

/// Prints the trials of a run, best first.
fn show(path: &Path) -> anyhow::Result<()> {
    let (setup, study) = journal::read(path)?;
    journal::notices(path)?.iter().for_each(|notice| eprintln!("{}", line(notice)));
    println!("searcher {}, seed {}", line(&setup.searcher), setup.seed.0);
    let mut observations: Vec<_> = study.observations().collect();
    observations.sort_by(|a, b| b.value.total_cmp(&a.value));
    for observation in observations {
        let trial = observation.trial;
        let seconds = observation.report.wall_seconds;
        let value = study.goal().orient(observation.value);
        let error =
            observation.report.standard_error.map(|error| format!(" ± {}", number(error, 4))).unwrap_or_default();
        let value = number(value, 4);
        let seconds = number(seconds, 1);
        println!("{:>4}  {:<28} {value}{error}  {seconds:>6} s", trial.id.0, trial.architecture);
    }
    for trial in study.trials() {
        match &trial.state {
            TrialState::Completed(_) => {}
            TrialState::Pending => println!("{:>4}  {:<28} pending", trial.id.0, trial.architecture),
            TrialState::Failed(Failure { reason, .. }) => {
                println!("{:>4}  {:<28} failed: {}", trial.id.0, trial.architecture, line(reason));
            }
            TrialState::Invalid { reason, .. } => {
                println!("{:>4}  {:<28} set aside: {}", trial.id.0, trial.architecture, line(reason));
            }
        }
    }
    Ok(())
}

/// Writes the results into the run's folder and prints them.
fn conclude(args: &Args, folder: &Path, found: &Found, target: &Target, primitives: &Primitives) -> anyhow::Result<()> {
    let (study, best) = (&found.study, found.study.best());
    found.write(folder, target)?;
    let page = Page::new(study).setup(&found.setup).merged(&found.aggregated).target(target, &found.target, primitives);
    let mut page = page.title(format!("Search {}", args.run_name()?)).command(command());
    let latency = shared::latency(folder);
    if let Some(latency) = &latency {
        page = page.latency(latency);
    }
    page.write_figures(folder)?;
    page.write(folder.join("report.html"))?;

    if let Some(best) = best {
        let score = study.goal().orient(best.value);
        println!("\nbest trial   {} with {} {score:.4}", best.trial.architecture, study.goal().score);
    }
    println!("merged       {}", found.aggregated);
    println!("at {:<9} {}\n", target.name, found.target.architecture);
    println!("{}", target.compare([("found", &found.target.architecture)], primitives, Workload::bf16(4096))?);
    println!("written to {}: architecture.json, target.json, journal.jsonl, every figure", shown(folder));
    println!("look at      {}", shown(&folder.join("report.html")));
    Ok(())
}

/// The command that runs this search again.
fn command() -> String {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    format!("cargo run --release --example search -- {}", arguments.join(" ")).trim_end_matches([' ', '-']).into()
}
