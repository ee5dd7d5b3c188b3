//! The main job: from a search space to a hybrid architecture of Llama's size.
//!
//! `cargo run --release --example search` searches six layers of attention and SwiGLU on the MAD tasks, aggregates the
//! best trials, scales the result to Llama 1B and compares it with Llama 3.2 1B. Everything is written to
//! `runs/<name>/`. Run the same command again to resume the run. `--help` lists the options.

#[path = "search/evaluator.rs"]
mod evaluator;
#[path = "search/executor.rs"]
mod executor;
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
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use composer_nas::{
    aggregate::{Band, Best},
    cost::Workload,
    evaluate::mad::Protocol,
    execute,
    extrapolate::{Cycle, EqualSize},
    journal,
    pipeline::{MetricsFile, PipelineError},
    prelude::*,
    report::{LivePage, Page},
    space::notation::Alphabet,
    stopping::{MedianPruner, Racing},
    study::{Failure, StudyError, Trial, TrialId, TrialState},
    text::{line, number, quantity},
};
use shared::{letters::Written, shown};

use evaluator::{Chosen, EvaluatorArgs, LONG, Setting};
use executor::{ExecutorArgs, MOST_MINUTES};
use goal::GoalArgs;
use searcher::SearcherArgs;
use space::SpaceArgs;

/// Training makes many short-lived allocations, which this allocator handles well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The default number of trials: about four minutes on two cores for six layers.
const TRIALS: usize = 24;

/// The default number of trials for long sequences: at most half an hour for sixteen layers.
const LONG_TRIALS: usize = 60;

/// Searches for a hybrid architecture on small synthetic tasks and scales it to a language model of Llama's size.
///
/// Run the same command again to resume the run, or with a larger --trials to extend it.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
struct Args {
    /// Total number of trials, including those already in the run. The default is 24, or 60 from 16 layers.
    #[arg(long)]
    trials: Option<usize>,
    /// Seed of all random numbers: the same seed and number of workers give the same search.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Size of the final model: llama_350m, llama_1b, llama_3b, llama_8b, or a JSON file with your own target.
    #[arg(long, value_name = "SIZE", default_value = "llama_1b")]
    target: String,
    #[command(flatten)]
    searcher: SearcherArgs,
    /// How the trials are aggregated into one architecture.
    #[arg(long, value_enum, default_value_t = AggregatorKind::N0)]
    aggregator: AggregatorKind,
    /// How the aggregated architecture is scaled to the target's size.
    #[arg(long, value_enum, default_value_t = ExtrapolatorKind::Auto)]
    extrapolator: ExtrapolatorKind,
    /// Do not evaluate the aggregated architecture if no trial has evaluated it.
    #[arg(long, alias = "merged-unseen")]
    no_final_evaluation: bool,
    /// Start no new trials after this many minutes.
    #[arg(long)]
    minutes: Option<f64>,
    /// Name of the run; by default made from the settings that must not change within a run.
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Folder that holds the runs.
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    runs: PathBuf,
    /// Evaluate this architecture next, for example AMAMAM or 3A+3M. Can be repeated.
    #[arg(long, value_name = "ARCHITECTURE")]
    add: Vec<Written>,
    /// Alphabet in which --add is written: ours, megatron, nemotron-h, or pairs such as M=B,*=A,-=M.
    #[arg(long, value_name = "ALPHABET")]
    letters: Option<Alphabet>,
    /// Exclude this finished trial from the search; needs --reason. Can be repeated.
    #[arg(long, value_name = "TRIAL", requires = "reason")]
    invalidate: Vec<u64>,
    /// Why the trials are excluded.
    #[arg(long, requires = "invalidate")]
    reason: Option<String>,
    /// Print the trials of the run and exit; works while another process is searching.
    #[arg(long)]
    show: bool,
    /// Print this protocol as JSON and exit; edit it and pass it to --protocol.
    #[arg(long, value_name = "NAME")]
    print_protocol: Option<String>,
    /// Print this target as JSON and exit; edit it and pass it to --target or --candidates.
    #[arg(long, value_name = "NAME")]
    print_target: Option<String>,
    #[command(flatten, next_help_heading = "What is searched")]
    space: SpaceArgs,
    #[command(flatten, next_help_heading = "How candidates are evaluated")]
    evaluator: EvaluatorArgs,
    #[command(flatten, next_help_heading = "What is optimised")]
    goal: GoalArgs,
    #[command(flatten, next_help_heading = "Where trials run")]
    executor: ExecutorArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AggregatorKind {
    /// Each layer is the majority vote of the best cluster of trials.
    N0,
    /// The same, conditioned on the previous layer.
    N1,
    /// The same, conditioned on all previous layers.
    FullPrefix,
    /// The best trial.
    Best,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExtrapolatorKind {
    /// As in the paper; the size may differ by a layer per run.
    Auto,
    /// Repeats the sequence until the size is within half a layer of the target's.
    Cycle,
    /// Matches the size more closely, by changing d_ff as well.
    EqualSize,
}

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(description) = args.description()? {
        println!("{description}");
        return Ok(());
    }
    let folder = args.runs.join(args.run_name()?);
    let path = folder.join("journal.jsonl");
    if args.show {
        return show(&path);
    }
    let primitives = Primitives::standard();
    let target = shared::target(&args.target, "--target")?;
    let found = search(args, &folder, &path, &target, &primitives)?;
    conclude(args, &folder, &found, &target, &primitives)
}

/// Checks all flags, prints a description of the search, and runs it.
fn search(args: &Args, folder: &Path, path: &Path, target: &Target, primitives: &Primitives) -> anyhow::Result<Found> {
    let evaluators = args.evaluator.goal()?;
    let measure = |name: &str| args.goal.measures(name, &evaluators);
    let space = args.space.space_without(primitives, target, measure)?;
    let setting = Setting {
        space: &space,
        primitives,
        mixed: args.space.mixed(),
        device: &args.executor.device,
        folder,
        limit: args.executor.command_time(),
    };
    let chosen = args.evaluator.choose(&setting)?;
    let [at_most, at_least] = [&args.space.at_most, &args.space.at_least]
        .map(|counts| counts.iter().filter(|count| measure(&count.name)).collect::<Vec<_>>());
    let goal = args.goal.goal(&evaluators, &at_most, &at_least)?;
    args.evaluator.check(&goal, args.space.mixed())?;
    let races = args.evaluator.races(args.space.layers, goal.objectives().count() > 1)?;
    execute::worker(&[&chosen.evaluator]);
    shared::check_folder(folder)?;
    args.check(&space, path)?;
    let added = args.added()?;
    shared::say_reading(&added, primitives);
    args.say_known(&added, path);
    let limit = args.time_limit()?;
    let searcher = args.searcher.searcher(args.space.layers, Some(args.trials()))?;
    let executor = args.executor.executor(folder, &chosen.evaluator)?;
    args.announce(&space, &chosen, races, folder);
    let pipeline = Pipeline::new(primitives, space, chosen.evaluator)
        .searcher(searcher)
        .aggregator(args.aggregator())
        .extrapolator(args.extrapolator())
        .costs(args.goal.costs(args.extrapolator(), target, primitives)?)
        .goal(goal)
        .trials(args.trials())
        .seed(args.seed)
        .executor(executor)
        .journal(path)
        .enqueue(added);
    let pipeline = args.choices(pipeline, limit, chosen.stop_from, races);
    Ok(args.watched(pipeline, folder)?.run(target)?)
}

impl Args {
    /// Returns the protocol or target to print, if any.
    fn description(&self) -> anyhow::Result<Option<String>> {
        if let Some(name) = &self.print_protocol {
            let protocol: Protocol = shared::protocol(name)?;
            return Ok(Some(serde_json::to_string_pretty(&protocol)?));
        }
        let Some(name) = &self.print_target else { return Ok(None) };
        Ok(Some(serde_json::to_string_pretty(&shared::target(name, "--print-target")?)?))
    }

    /// Prints a description of the search.
    fn announce(&self, space: &SearchSpace, chosen: &Chosen, races: bool, folder: &Path) {
        println!("{}; {}; results go to {}", counted(space.size(), "architecture"), chosen.words, shown(folder));
        if let Some(size) = &chosen.size {
            println!("{size}");
        }
        if let Ok((_, study)) = journal::read(folder.join("journal.jsonl")) {
            println!("finished trials of this run: {}; the search continues from them", study.finished_trials());
        }
        if let Some(flops) = chosen.trial_flops {
            let trials = space.size().min(self.trials() as u128);
            let race = if races { ", less for those that lose a race" } else { "" };
            let work = shared::expected(trials as f64 * flops);
            println!("a whole search of {}: {work}{race}", counted(trials, "trial"));
        }
    }

    /// Applies optional flags to the pipeline.
    fn choices<E, S, A, X>(
        &self,
        mut pipeline: Pipeline<E, S, A, X>,
        limit: Option<Duration>,
        stop_from: usize,
        races: bool,
    ) -> Pipeline<E, S, A, X> {
        for &id in &self.invalidate {
            pipeline = pipeline.invalidate(TrialId(id), self.reason.as_deref().unwrap_or_default());
        }
        if self.evaluator.stop_early {
            pipeline = pipeline.stop_early(MedianPruner::after(8, stop_from));
        }
        if races {
            pipeline = pipeline.racing(Racing::default());
        }
        if let Some(limit) = limit {
            pipeline = pipeline.time_limit(limit);
        }
        if self.no_final_evaluation { pipeline } else { pipeline.evaluate_aggregated() }
    }

    /// Adds a progress bar, a file of metrics and a page.
    fn watched<E, S, A, X>(
        &self,
        pipeline: Pipeline<E, S, A, X>,
        folder: &Path,
    ) -> anyhow::Result<Pipeline<E, S, A, X>> {
        let metrics = folder.join("metrics.jsonl");
        let metrics = MetricsFile::append(&metrics).with_context(|| format!("cannot open {}", metrics.display()))?;
        let live = LivePage::new(folder.join("report.html")).command(command());
        let live = live.title(format!("Search {}", self.run_name()?));
        Ok(pipeline.observer(ProgressBar::new()).observer(metrics).observer(live))
    }

    fn run_name(&self) -> anyhow::Result<String> {
        let name = self.run.clone().unwrap_or_else(|| {
            let evaluator = self.evaluator.name(self.space.mixed());
            let goal = self.goal.name() + &self.costs_name();
            // An error here is reported when the search starts.
            let several = self.goal.objectives().count() > 1;
            let race = if self.evaluator.races(self.space.layers, several).unwrap_or(false) { "-race" } else { "" };
            format!("{evaluator}-{}{}{race}{goal}-seed{}", self.space.name(), self.evaluator.run_name(), self.seed)
        });
        let inside = || format!("--run names a folder that is created inside {}", self.runs.display());
        shared::folder_name(&name).map_err(anyhow::Error::msg).with_context(inside)
    }

    /// Returns the part of the run's name for the costs of the target; empty by default.
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
        extrapolator.to_owned() + &target + &self.goal.times_name()
    }

    /// Returns the total number of trials.
    fn trials(&self) -> usize {
        self.trials.unwrap_or(if self.space.layers >= LONG { LONG_TRIALS } else { TRIALS })
    }

    /// Returns the architectures of --add.
    fn added(&self) -> anyhow::Result<Vec<Architecture>> {
        shared::letters::read_all(&self.add, self.letters.as_ref())
    }

    /// Prints which architectures of --add the run already has. They are not evaluated again.
    fn say_known(&self, added: &[Architecture], journal: &Path) {
        if added.is_empty() || !journal.exists() {
            return;
        }
        // Errors in the journal are reported when it is resumed.
        let Ok((_, study)) = journal::read(journal) else { return };
        let kept = |trial: &Trial| !trial.is_invalid() && !self.invalidate.contains(&trial.id.0);
        let known = |a: &&Architecture| study.trials().iter().any(|trial| kept(trial) && trial.architecture == **a);
        for architecture in added.iter().filter(known) {
            eprintln!("--add {architecture}: the run has this architecture already, nothing is added");
        }
    }

    /// Refuses, before the folder is created, flags that the search would refuse.
    fn check(&self, space: &SearchSpace, journal: &Path) -> anyhow::Result<()> {
        ensure!(self.trials() > 0, PipelineError::NoTrials);
        self.executor.check(self.evaluator.is_program())?;
        let added = self.added()?;
        if let Some(architecture) = added.into_iter().find(|a| !space.contains(a)) {
            return Err(StudyError::OutsideSpace(architecture).into());
        }
        let corrects = self.invalidate.is_empty() || journal.exists();
        ensure!(corrects, "--invalidate needs a run, and there is none at {}", journal.display());
        Ok(())
    }

    fn time_limit(&self) -> anyhow::Result<Option<Duration>> {
        let Some(minutes) = self.minutes else { return Ok(None) };
        let usable = minutes > 0.0 && minutes <= MOST_MINUTES as f64;
        ensure!(usable, "--minutes {minutes:e}: must be a positive number of at most {MOST_MINUTES}, a year");
        Ok(Some(Duration::from_secs_f64(60.0 * minutes)))
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
            AggregatorKind::N1 => Box::new(NcClustering::nc(1)),
            AggregatorKind::FullPrefix => Box::new(NcClustering::full_prefix()),
            AggregatorKind::Best => Box::new(Best),
        }
    }
}

/// Prints the trials of a run, best first.
fn show(path: &Path) -> anyhow::Result<()> {
    ensure!(
        path.exists(),
        "there is no run at {}: give --show the flags with which the search was started, or --run NAME",
        shown(path)
    );
    let (setup, study) = journal::read(path)?;
    journal::notices(path)?.iter().for_each(|notice| eprintln!("{}", line(notice)));
    println!("searcher {}, seed {}", line(&setup.searcher), setup.seed.0);
    let mut observations: Vec<_> = study.observations().collect();
    observations.sort_by(|a, b| b.value.total_cmp(&a.value));
    println!("{:>5}  {:<28} {}, seconds of the evaluation", "trial", "architecture", line(&study.goal().score));
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
        println!("{:>5}  {:<28} {value}{error}  {seconds:>6} s{raced}", trial.id.0, trial.architecture);
    }
    for trial in study.trials() {
        match &trial.state {
            TrialState::Completed(_) => {}
            TrialState::Pending => println!("{:>5}  {:<28} pending", trial.id.0, trial.architecture),
            TrialState::Failed(Failure { reason, .. }) => {
                println!("{:>5}  {:<28} failed: {}", trial.id.0, trial.architecture, line(reason));
            }
            TrialState::Invalid { reason, .. } => {
                println!("{:>5}  {:<28} excluded: {}", trial.id.0, trial.architecture, line(reason));
            }
        }
    }
    Ok(())
}

/// Writes the results into the run's folder and prints them.
fn conclude(args: &Args, folder: &Path, found: &Found, target: &Target, primitives: &Primitives) -> anyhow::Result<()> {
    let study = &found.study;
    let best = found.study.best();
    found.write(folder, target)?;
    let page =
        Page::new(study).setup(&found.setup).aggregated(&found.aggregated).target(target, &found.target, primitives);
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
    println!("aggregated   {}", found.aggregated);
    if args.minutes.is_none() && study.valid_trials() < args.trials() {
        let trials = counted(study.valid_trials() as u128, "trial");
        println!(
            "             the search ended after {trials}: no other architecture is within the space and the goal"
        );
    }
    found.notices(target, primitives).iter().for_each(|notice| println!("             {}", line(notice)));
    if let Some(second) = study.goal().objectives().nth(1) {
        let second = second.of.name().to_owned();
        println!("\nfront        {}", study.goal());
        for seen in study.pooled().front() {
            let named = |name: &String| study.goal().objectives().any(|objective| objective.of.name() == name);
            let numbers = seen.report.scores.iter().filter(|(name, _)| named(name));
            let numbers = numbers.chain(&seen.report.costs).map(|(name, value)| format!("{name} {}", quantity(*value)));
            println!("             {:<28} {}", seen.trial.architecture, numbers.collect::<Vec<_>>().join(", "));
        }
        println!();
        for (band, along) in found.front.iter().enumerate() {
            let Band { low, high, architecture, .. } = &along.band;
            let mut ends = vec![quantity(*low), quantity(*high)];
            ends.dedup();
            let range = ends.join(" to ");
            println!("front{}.json  {:<28} for {second} {range}", band + 1, architecture.to_string());
        }
        println!();
    }
    println!("at {:<9} {}\n", target.name, found.target.architecture);
    println!("{}", target.compare([("found", &found.target.architecture)], primitives, Workload::bf16(4096))?);
    let front = if found.front.is_empty() { "" } else { "front.json and a model per band, " };
    println!("written to {}: architecture.json, target.json, {front}journal.jsonl, every figure", shown(folder));
    println!("look at      {}", shown(&folder.join("report.html")));
    Ok(())
}

/// Returns a number of things: `1 trial`, `24 trials`.
fn counted(count: u128, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// Returns the command that runs this search again.
fn command() -> String {
    let program = "cargo run --release --example search".to_owned();
    let words: Vec<_> = std::env::args_os().skip(1).map(|word| shared::shell_word(&word.to_string_lossy())).collect();
    if words.is_empty() { program } else { format!("{program} -- {}", words.join(" ")) }
}
