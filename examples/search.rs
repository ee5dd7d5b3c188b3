//! The main job: from nothing to a hybrid architecture of Llama's size.
//!
//! `cargo run --release --example search` searches six layers of attention and SwiGLU on the MAD tasks, merges the best
//! trials, scales the result to Llama 1B and compares it with Llama 3.2 1B. Everything lands in `runs/<name>/`. The
//! same command again resumes the run; `--help` lists what can be changed.

#[path = "search/evaluator.rs"]
mod evaluator;
#[path = "search/goal.rs"]
mod goal;
#[macro_use]
mod shared;
#[path = "search/searcher.rs"]
mod searcher;
#[path = "search/space.rs"]
mod space;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum, value_parser};
use composer_nas::{
    aggregate::Best,
    cost::Workload,
    evaluate::mad::Protocol,
    execute::{self, Executor, Process, Resources, Slurm, SlurmOptions, Threads},
    extrapolate::{Cycle, EqualSize},
    journal,
    pipeline::{MetricsFile, PipelineError},
    prelude::*,
    report::{LivePage, Page},
    space::notation::Alphabet,
    stopping::{MedianPruner, Racing},
    study::{Failure, StudyError, TrialId, TrialState},
    text::{line, number, quantity},
};
use shared::{letters::Written, shown};

use evaluator::{Chosen, EvaluatorArgs, LONG, Setting};
use goal::GoalArgs;
use searcher::SearcherKind;
use space::SpaceArgs;

/// Training allocates much and briefly, which this allocator takes well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Searches a hybrid architecture on small synthetic tasks and scales it to a language model of Llama's size.
///
/// The same command again resumes the run; a larger --trials continues it.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Args {
    #[command(flatten)]
    space: SpaceArgs,
    #[command(flatten)]
    evaluator: EvaluatorArgs,
    #[command(flatten)]
    goal: GoalArgs,
    /// Trials in all, those of earlier runs included; by default 24, and 60 from 16 layers on.
    #[arg(long)]
    trials: Option<usize>,
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
    /// Minutes per trial, for processes and jobs, and for the command of --evaluator; a trial that needs more goes on
    /// where it was.
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
    /// Size of the result: llama_350m, llama_1b, llama_3b, llama_8b, or a JSON file with a target of your own.
    #[arg(long, value_name = "SIZE", default_value = "llama_1b")]
    target: String,
    /// Who proposes the next architecture.
    #[arg(long, value_enum, default_value_t = SearcherKind::Gp)]
    searcher: SearcherKind,
    /// How the trials are merged into one architecture.
    #[arg(long, value_enum, default_value_t = AggregatorKind::N0)]
    aggregator: AggregatorKind,
    /// How a sequence becomes a model of the target's size: auto as the paper advises, within a layer per run; cycle
    /// and equal-size hold the size, the one with whole layers, the other by d_ff as well.
    #[arg(long, value_enum, default_value_t = ExtrapolatorKind::Auto)]
    extrapolator: ExtrapolatorKind,
    /// Do not evaluate what was merged, where no trial has done so.
    #[arg(long)]
    merged_unseen: bool,
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
    add: Vec<Written>,
    /// The alphabet of --add: ours, megatron, nemotron-h, or pairs such as M=B,*=A,-=M.
    #[arg(long, value_name = "ALPHABET")]
    letters: Option<Alphabet>,
    /// Set this finished trial aside, with a --reason. May be repeated.
    #[arg(long, value_name = "TRIAL", requires = "reason")]
    invalidate: Vec<u64>,
    /// Why trials are set aside.
    #[arg(long, requires = "invalidate")]
    reason: Option<String>,
    /// Print the trials of the run and stop; works while another process searches.
    #[arg(long)]
    show: bool,
    /// Print this protocol as JSON, to be edited and given to --protocol, and stop.
    #[arg(long, value_name = "NAME")]
    print_protocol: Option<String>,
    /// Print this target as JSON, to be edited and given to --target or --candidates, and stop.
    #[arg(long, value_name = "NAME")]
    print_target: Option<String>,
}

/// Trials where none are asked for: some four minutes on two cores for six layers.
const TRIALS: usize = 24;

/// The same for long sequences: at most half an hour for sixteen layers.
const LONG_TRIALS: usize = 60;

/// A year.
const MOST_MINUTES: u64 = 365 * 24 * 60;

/// The number of a CUDA device, which `CUDA_VISIBLE_DEVICES` wants.
fn cuda_number(name: &str) -> Result<String, String> {
    let number = name.strip_prefix("cuda:").filter(|number| number.parse::<u16>().is_ok());
    number.map(Into::into).ok_or_else(|| "write CUDA devices with their numbers, such as cuda:0,cuda:1".into())
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExtrapolatorKind {
    Auto,
    Cycle,
    EqualSize,
}

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(name) = &args.print_protocol {
        let protocol: Protocol = shared::protocol(name)?;
        println!("{}", serde_json::to_string_pretty(&protocol)?);
        return Ok(());
    }
    if let Some(name) = &args.print_target {
        println!("{}", serde_json::to_string_pretty(&shared::target(name, "--print-target")?)?);
        return Ok(());
    }
    let folder = args.runs.join(args.run_name()?);
    let path = folder.join("journal.jsonl");
    if args.show {
        return show(&path);
    }
    let primitives = Primitives::standard();
    let target = shared::target(&args.target, "--target")?;
    let evaluators = args.evaluator.goal()?;
    let measure = |name: &str| args.goal.measures(name, &evaluators);
    let space = args.space.space_without(&primitives, &target, measure)?;
    let setting = Setting {
        space: &space,
        primitives: &primitives,
        mixed: args.space.mixed(),
        device: &args.device,
        folder: &folder,
        limit: args.trial_time().filter(|_| matches!(args.executor, ExecutorKind::Threads)),
    };
    let Chosen { evaluator, stop_from, trial_flops, words, size } = args.evaluator.choose(&setting)?;
    let [at_most, at_least] = [&args.space.at_most, &args.space.at_least]
        .map(|counts| counts.iter().filter(|count| measure(&count.name)).collect::<Vec<_>>());
    let goal = args.goal.goal(&evaluators, &at_most, &at_least)?;
    let races = args.evaluator.races(args.space.layers, goal.has_several())?;
    execute::worker(&[&evaluator]);
    shared::check_folder(&folder)?;
    args.check(&space, &path)?;
    let added = args.added()?;
    shared::say_reading(&added, &primitives);
    let limit = args.time_limit()?;
    let executor = args.executor(&folder, &evaluator)?;
    println!("{} architectures; {words}; everything goes to {}", space.size(), shown(&folder));
    if let Some(size) = size {
        println!("{size}");
    }
    if let Some(flops) = trial_flops {
        let trials = space.size().min(args.trials() as u128) as f64;
        let race = if races { ", less for those that lose a race" } else { "" };
        println!("{trials:.0} trials from nothing: {}{race}", shared::expected(trials * flops));
    }

    let reason = args.reason.clone().unwrap_or_default();
    let metrics = folder.join("metrics.jsonl");
    let metrics = MetricsFile::append(&metrics).with_context(|| format!("cannot open {}", metrics.display()))?;
    let live = LivePage::new(folder.join("report.html")).command(command());
    let live = live.title(format!("Search {}", args.run_name()?));
    let mut pipeline = Pipeline::new(&primitives, space, evaluator)
        .searcher(args.searcher.searcher())
        .aggregator(args.aggregator())
        .extrapolator(args.extrapolator())
        .costs(args.goal.costs(args.extrapolator(), &target, &primitives)?)
        .goal(goal)
        .trials(args.trials())
        .seed(args.seed)
        .executor(executor)
        .journal(&path)
        .candidates(added)
        .observer(ProgressBar::new())
        .observer(metrics)
        .observer(live);
    for &id in &args.invalidate {
        pipeline = pipeline.invalidate(TrialId(id), reason.as_str());
    }
    if args.evaluator.stop_early {
        pipeline = pipeline.stop_early(MedianPruner::after(8, stop_from));
    }
    if races {
        pipeline = pipeline.racing(Racing::default());
    }
    if let Some(limit) = limit {
        pipeline = pipeline.time_limit(limit);
    }
    if !args.merged_unseen {
        pipeline = pipeline.evaluate_merged();
    }
    let found = pipeline.run(&target)?;
    conclude(args, &folder, &found, &target, &primitives)
}

impl Args {
    fn run_name(&self) -> anyhow::Result<String> {
        let name = self.run.clone().unwrap_or_else(|| {
            let evaluator = self.evaluator.name(self.space.mixed());
            let goal = self.goal.name() + &self.costs_name();
            // What is refused here is refused when the search begins.
            let several = self.goal.objectives().count() > 1;
            let race = if self.evaluator.races(self.space.layers, several).unwrap_or(false) { "-race" } else { "" };
            format!("{evaluator}-{}{}{race}{goal}-seed{}", self.space.name(), self.evaluator.run_name(), self.seed)
        });
        let inside = || format!("--run names a folder that is created inside {}", self.runs.display());
        shared::folder_name(&name).map_err(anyhow::Error::msg).with_context(inside)
    }

    /// What decides about costs of the target, as a part of the run's name; nothing by default.
    fn costs_name(&self) -> String {
        let bounds = self.space.at_most.iter().chain(&self.space.at_least);
        let mut names = self.goal.objectives().chain(bounds.map(|bound| bound.name.as_str()));
        if !names.any(|name| goal::COSTS.contains(&name)) {
            return String::new();
        }
        let extrapolator = match self.extrapolator {
            ExtrapolatorKind::Auto => "",
            ExtrapolatorKind::Cycle => "-cycle",
            ExtrapolatorKind::EqualSize => "-equal-size",
        };
        let target = Path::new(&self.target).file_stem().unwrap_or_default().to_string_lossy();
        let target = if target == "llama_1b" { String::new() } else { format!("-{target}") };
        extrapolator.to_owned() + &target
    }

    /// How many trials there are to be.
    fn trials(&self) -> usize {
        self.trials.unwrap_or(if self.space.layers >= LONG { LONG_TRIALS } else { TRIALS })
    }

    /// The architectures of --add.
    fn added(&self) -> anyhow::Result<Vec<Architecture>> {
        shared::letters::read_all(&self.add, self.letters.as_ref())
    }

    /// Refuses what a search would refuse once its folder is there.
    fn check(&self, space: &SearchSpace, journal: &Path) -> anyhow::Result<()> {
        ensure!(self.trials() > 0, PipelineError::NoTrials);
        self.check_executor()?;
        let added = self.added()?;
        if let Some(architecture) = added.into_iter().find(|a| !space.contains(a)) {
            return Err(StudyError::OutsideSpace(architecture).into());
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
        let timed = !threads || self.evaluator.is_program();
        ensure!(
            timed || self.trial_minutes.is_none(),
            "--trial-minutes is for --evaluator, --executor process or slurm"
        );
        Ok(())
    }

    /// The time that a trial has.
    fn trial_time(&self) -> Option<Duration> {
        self.trial_minutes.map(|minutes| Duration::from_secs(60 * minutes))
    }

    fn time_limit(&self) -> anyhow::Result<Option<Duration>> {
        let Some(minutes) = self.minutes else { return Ok(None) };
        let usable = minutes > 0.0 && minutes <= MOST_MINUTES as f64;
        ensure!(usable, "--minutes {minutes:e}: give a positive number, at most {MOST_MINUTES}, a year");
        Ok(Some(Duration::from_secs_f64(60.0 * minutes)))
    }

    /// What runs the trials.
    fn executor(&self, folder: &Path, evaluator: &Arc<dyn Evaluator>) -> anyhow::Result<Box<dyn Executor>> {
        let resources = Resources { time: self.trial_time(), gpus: self.gpus, ..Resources::default() };
        Ok(match self.executor {
            ExecutorKind::Threads => Box::new(Threads::new(evaluator.clone(), self.workers)?),
            ExecutorKind::Process => {
                let process = Process::new(self.workers, folder)?.resources(resources);
                Box::new(if self.devices.is_empty() { process } else { process.devices(self.visible_devices()?) })
            }
            ExecutorKind::Slurm => {
                let jobs = self.workers;
                let extra = self.sbatch.clone();
                let options = SlurmOptions { jobs, extra, resources, ..SlurmOptions::default() };
                Box::new(Slurm::new(options, folder)?)
            }
        })
    }

    /// The devices as `CUDA_VISIBLE_DEVICES` names them: `cuda:1` is the second of those that this process may use.
    fn visible_devices(&self) -> anyhow::Result<Vec<String>> {
        let Some(visible) = std::env::var("CUDA_VISIBLE_DEVICES").ok().filter(|visible| !visible.is_empty()) else {
            return Ok(self.devices.clone());
        };
        let visible: Vec<_> = visible.split(',').map(str::trim).collect();
        let nth = |number: &String| {
            let name = visible.get(number.parse::<usize>()?).copied();
            let few = || format!("--devices cuda:{number}: CUDA_VISIBLE_DEVICES has {} devices", visible.len());
            name.map(Into::into).with_context(few)
        };
        self.devices.iter().map(nth).collect()
    }

    fn extrapolator(&self) -> Box<dyn Extrapolator + Send + Sync> {
        match self.extrapolator {
            ExtrapolatorKind::Auto => Box::new(Auto),
            ExtrapolatorKind::Cycle => Box::new(Cycle),
            ExtrapolatorKind::EqualSize => Box::new(EqualSize),
        }
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
        let raced = observation.report.raced.map(|raced| format!("  {} of {} repetitions", raced.done, raced.planned));
        let raced = raced.unwrap_or_default();
        println!("{:>4}  {:<28} {value}{error}  {seconds:>6} s{raced}", trial.id.0, trial.architecture);
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
    found.notices(target, primitives).iter().for_each(|notice| println!("             {}", line(notice)));
    if study.goal().has_several() {
        println!("\nfront        {}", study.goal());
        for seen in study.pooled().front() {
            let named = |name: &String| study.goal().objectives().any(|objective| objective.of.name() == name);
            let numbers = seen.report.scores.iter().filter(|(name, _)| named(name));
            let numbers = numbers.chain(&seen.report.costs).map(|(name, value)| format!("{name} {}", quantity(*value)));
            println!("             {:<28} {}", seen.trial.architecture, numbers.collect::<Vec<_>>().join(", "));
        }
        println!();
    }
    println!("at {:<9} {}\n", target.name, found.target.architecture);
    println!("{}", target.compare([("found", &found.target.architecture)], primitives, Workload::bf16(4096))?);
    println!("written to {}: architecture.json, target.json, journal.jsonl, every figure", shown(folder));
    println!("look at      {}", shown(&folder.join("report.html")));
    Ok(())
}

/// The command that runs this search again.
fn command() -> String {
    let program = "cargo run --release --example search".to_owned();
    let words: Vec<_> = std::env::args_os().skip(1).map(|word| shared::shell_word(&word.to_string_lossy())).collect();
    if words.is_empty() { program } else { format!("{program} -- {}", words.join(" ")) }
}
