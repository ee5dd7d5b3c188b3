//! Regret against seconds of searches that end hopeless trials early, replayed from stored repetitions. Prints
//! Markdown.
//!
//! ```text
//! cargo bench --bench racing -- --searches 100
//! cargo bench --bench racing -- --searches 100 --race 4:3:1 --race 8:4:2 --halving 2:8 --at 24,36
//! ```
//!
//! `docs/data/repetitions.csv` has the trainings of the protocol `quick` one by one, of all sequences of six layers. An
//! evaluation draws 17 and 13 of them with replacement, by the trial's seed: methods are paired. Seconds are those of
//! one core, and those of `--workers` that wait for each other as in a repeatable search. The regret is that of the
//! sequence by N_0 and of the best trial, by the means of all stored repetitions, in units of 0.01.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use composer_nas::{
    aggregate::Best,
    evaluate::{EvalError, Progress, Table},
    prelude::*,
    statistics::{mean, standard_error},
    stopping::{MedianPruner, Pruner, Racing},
    study::{Raced, Threshold, TrialId},
};
use rand::RngExt;
use rayon::prelude::*;

/// Searches that end hopeless trials early.
#[derive(Parser)]
struct Options {
    /// The stored repetitions.
    #[arg(long, default_value = "docs/data/repetitions.csv")]
    table: PathBuf,
    /// Searches per entry.
    #[arg(long, default_value_t = 20)]
    searches: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Numbers of trials after which the regret is read.
    #[arg(long, value_delimiter = ',', default_values_t = [16, 24, 32, 48])]
    at: Vec<u64>,
    /// Racing with other settings, as trials:repetitions:errors. May be repeated.
    #[arg(long, value_parser = race)]
    race: Vec<Racing>,
    /// Successive halving with these settings, as factor:first, the first rung in trainings of 30. May be repeated.
    #[arg(long, value_parser = halving)]
    halving: Vec<(usize, usize)>,
    /// Evaluations that run beside each other.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Searches that run beside each other.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How often `quick` repeats recall and copying.
const REPEATS: [usize; 2] = [17, 13];

/// What ends trials early.
#[derive(Clone, Copy)]
enum Rule {
    Nothing,
    Median,
    Race(Racing),
    /// Factor, and trainings of the first rung.
    Halving(usize, usize),
}

/// Successive halving without waiting (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning"), in the
/// form that stops trials: at each rung a trial goes on if it is among the best of a factor of those that were there.
/// A trial that does not keeps its score, as in a race.
struct Halving {
    factor: usize,
    rungs: Vec<usize>,
    /// Means after each training, by trial.
    means: Arc<Mutex<HashMap<TrialId, Vec<f64>>>>,
}

impl Pruner for Halving {
    fn fingerprint(&self) -> String {
        format!("halving(factor={}, rungs={:?})", self.factor, self.rungs)
    }

    fn threshold(&self, study: &Study, _: &Architecture) -> Threshold {
        let means = self.means.lock().unwrap_or_else(PoisonError::into_inner);
        let points = self.rungs.iter().filter_map(|&rung| {
            let told = study.trials().iter().filter(|trial| trial.report().is_some());
            let mut there: Vec<f64> = told.filter_map(|trial| means.get(&trial.id)?.get(rung - 1).copied()).collect();
            there.sort_by(|a, b| b.total_cmp(a));
            let bar = there.get((there.len() / self.factor).checked_sub(1)?)?;
            Some([(rung, *bar), (rung + 1, f64::NEG_INFINITY)])
        });
        Threshold::new(points.flatten())
    }
}

/// One training that was made.
#[derive(Clone, Copy)]
struct Training {
    score: f64,
    seconds: f64,
}

/// The stored trainings, by sequence and task.
struct Stored(HashMap<Architecture, [Vec<Training>; 2]>);

/// What a search has found and spent after some trials.
#[derive(Clone, Copy)]
struct Point {
    aggregated: f64,
    best: f64,
    core_seconds: f64,
    seconds: f64,
    cut: f64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(
        options.searches > 0 && options.workers > 0 && options.threads > 0,
        "searches, workers, threads: at least 1"
    );
    let table = Table::read(&options.table)?;
    let stored = Arc::new(Stored::new(&table)?);
    let mut rules: Vec<_> = [Rule::Nothing, Rule::Median].map(|rule| (rule.name(), rule)).into();
    let races = if options.race.is_empty() { vec![Racing::default()] } else { options.race.clone() };
    let halvings = options.halving.iter().map(|&(factor, first)| Rule::Halving(factor, first));
    rules.extend(halvings.map(|rule| (rule.name(), rule)));
    rules.extend(races.into_iter().map(|racing| (Rule::Race(racing).name(), Rule::Race(racing))));
    println!("{} searches, {} workers, {:?} trials\n", options.searches, options.workers, options.at);
    println!(
        "| ends early by | trials | seconds | core seconds | cut short | regret, N_0 | regret, best | N_0 - nothing | best - nothing |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut nothing = Vec::new();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build()?;
    for (name, rule) in rules {
        let search = |index| search(rule, options.from + index, &stored, &table, &options);
        let found: Vec<Vec<Point>> = pool.install(|| {
            (0..options.searches)
                .collect::<Vec<_>>()
                .into_par_iter()
                .with_max_len(1)
                .map(search)
                .collect::<anyhow::Result<_>>()
        })?;
        if nothing.is_empty() {
            nothing = found.clone();
        }
        for (at, trials) in options.at.iter().enumerate() {
            let of = |value: fn(&Point) -> f64| found.iter().map(|points| value(&points[at])).collect::<Vec<_>>();
            let more = |value: fn(&Point) -> f64| -> Vec<f64> {
                found.iter().zip(&nothing).map(|(one, other)| value(&one[at]) - value(&other[at])).collect()
            };
            println!(
                "| {name} | {trials} | {:.0} | {:.0} | {:.0} % | {} | {} | {} | {} |",
                mean(&of(|point| point.seconds)),
                mean(&of(|point| point.core_seconds)),
                100.0 * mean(&of(|point| point.cut)),
                cell(&of(|point| point.aggregated)),
                cell(&of(|point| point.best)),
                cell(&more(|point| point.aggregated)),
                cell(&more(|point| point.best)),
            );
        }
    }
    Ok(())
}

impl Rule {
    fn name(self) -> String {
        match self {
            Self::Nothing => "nothing".into(),
            Self::Median => "median".into(),
            Self::Race(racing) => racing.fingerprint(),
            Self::Halving(factor, first) => format!("halving(factor={factor}, first={first})"),
        }
    }

    /// Whether the trainings of the tasks take turns.
    fn takes_turns(self) -> bool {
        matches!(self, Self::Race(_) | Self::Halving(..))
    }
}

fn halving(text: &str) -> Result<(usize, usize), String> {
    let whole = |text: &str| text.parse::<usize>().ok().filter(|&number| number > 1);
    let parts = text.split_once(':').and_then(|(factor, first)| Some((whole(factor)?, whole(first)?)));
    parts.ok_or_else(|| "write factor:first, both at least 2".into())
}

fn race(text: &str) -> Result<Racing, String> {
    let parts: Vec<_> = text.split(':').collect();
    let [trials, repetitions, errors] = parts[..] else { return Err("write trials:repetitions:errors".into()) };
    let whole = |text: &str| text.parse::<usize>().map_err(|error| error.to_string());
    let errors: f64 = errors.parse().map_err(|error: std::num::ParseFloatError| error.to_string())?;
    let racing = Racing::default().after_trials(whole(trials)?).after_repetitions(whole(repetitions)?);
    Ok(racing.standard_errors(errors))
}

/// Mean ± standard error in units of 0.01.
fn cell(values: &[f64]) -> String {
    let values: Vec<f64> = values.iter().map(|value| 100.0 * value).collect();
    format!("{:.2} ± {:.2}", mean(&values), standard_error(&values).unwrap_or_default())
}

impl Stored {
    const COLUMNS: [[&str; 2]; 2] = [["in-context-recall", "recall seconds"], ["selective-copying", "copying seconds"]];

    fn new(table: &Table) -> anyhow::Result<Self> {
        let at = |name: &str| table.columns().iter().position(|column| column == name).context(name.to_owned());
        let mut stored: HashMap<Architecture, [Vec<Training>; 2]> = HashMap::new();
        for row in table.rows() {
            let tasks = stored.entry(row.architecture).or_default();
            for (trainings, [score, seconds]) in tasks.iter_mut().zip(Self::COLUMNS) {
                trainings.push(Training { score: row.values[at(score)?], seconds: row.values[at(seconds)?] });
            }
        }
        Ok(Self(stored))
    }

    /// Draws an evaluation of `quick` and carries it out as [`Mad`] does; the seconds that it took, and the means after
    /// each training besides.
    fn evaluate(&self, rule: Rule, trial: &Trial, context: &Context) -> (Result<Report, EvalError>, f64, Vec<f64>) {
        let (order, drawn) = self.draw(rule, trial);
        let steps = order.len();
        let mut scores = [Vec::new(), Vec::new()];
        let mut seconds = 0.0;
        let mut means = Vec::new();
        for (done, &(task, repeat)) in (1..).zip(&order) {
            let Training { score, seconds: more } = drawn[task][repeat];
            scores[task].push(score);
            seconds += more;
            let sum = |task: usize| scores[task].iter().sum::<f64>();
            // One after the other: what has been earned of the whole score.
            let earned = 0.5 * (0..2).map(|task| sum(task) / drawn[task].len() as f64).sum::<f64>();
            let known = report(&scores);
            means.push(known.scores["accuracy"]);
            let value = Some(if rule.takes_turns() { known.scores["accuracy"] } else { earned });
            context.progress(Progress { step: done, steps, value, ..Progress::default() });
            let rarest = scores.iter().map(Vec::len).min().unwrap_or_default();
            let race = trial.race.as_ref().filter(|_| done < steps && rarest > 1);
            let lost = race.is_some_and(|race| race.is_lost(known.scores["accuracy"], known.standard_error, rarest));
            let raced = Some(Raced { done, planned: steps });
            match context.cancelled() {
                true if rule.takes_turns() => return (Ok(Report { raced, ..known }), seconds, means),
                true => return (Err(EvalError::Cancelled), seconds, means),
                false if lost => return (Ok(Report { raced, ..known }), seconds, means),
                false => {}
            }
        }
        (Ok(report(&scores)), seconds, means)
    }

    /// The trainings of both tasks, and the order in which they are made, as (task, repetition).
    fn draw(&self, rule: Rule, trial: &Trial) -> (Vec<(usize, usize)>, [Vec<Training>; 2]) {
        let mut rng = trial.seed.rng("repetitions", 0);
        let stored = &self.0[&trial.architecture];
        let drawn = [0, 1].map(|task| {
            let mut one = || stored[task][rng.random_range(0..stored[task].len())];
            (0..REPEATS[task]).map(|_| one()).collect::<Vec<_>>()
        });
        let mut order: Vec<_> = (0..2).flat_map(|task| (0..REPEATS[task]).map(move |repeat| (task, repeat))).collect();
        if rule.takes_turns() {
            let middle = |repeat: usize, other: usize| (2 * repeat + 1) * REPEATS[other];
            order.sort_by(|&(one, a), &(other, b)| middle(a, other).cmp(&middle(b, one)));
        }
        (order, drawn)
    }
}

/// Mean over tasks of the means over repetitions, with its standard error.
fn report(scores: &[Vec<f64>; 2]) -> Report {
    let mean = |scores: &Vec<f64>| scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    let accuracy = 0.5 * scores.iter().map(mean).sum::<f64>();
    let error = scores.iter().map(|scores| standard_error(scores).unwrap_or_default()).fold(0.0, f64::hypot);
    Report { standard_error: Some(0.5 * error), ..Report::score("accuracy", accuracy) }
}

/// One search, read after each of the numbers of trials.
fn search(rule: Rule, seed: u64, stored: &Arc<Stored>, table: &Table, options: &Options) -> anyhow::Result<Vec<Point>> {
    let spent = Arc::new(Mutex::new(HashMap::new()));
    let means = Arc::new(Mutex::new(HashMap::new()));
    let evaluator = {
        let stored = stored.clone();
        let spent = spent.clone();
        let means = means.clone();
        from_fn("stored repetitions", move |trial, context| {
            let (outcome, seconds, after) = stored.evaluate(rule, trial, context);
            spent.lock().unwrap_or_else(PoisonError::into_inner).insert(trial.id, seconds);
            means.lock().unwrap_or_else(PoisonError::into_inner).insert(trial.id, after);
            outcome
        })
    };
    let layers = table.architectures().next().map_or(0, Architecture::len);
    let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], layers)?;
    let trials = options.at.iter().copied().max().unwrap_or(1) as usize;
    let mut pipeline =
        Pipeline::new(&Primitives::standard(), space, evaluator).trials(trials).seed(seed).workers(options.workers);
    pipeline = match rule {
        Rule::Nothing => pipeline,
        Rule::Median => pipeline.stop_early(MedianPruner::after(8, 10)),
        Rule::Race(racing) => pipeline.racing(racing),
        Rule::Halving(factor, first) => {
            let rungs = std::iter::successors(Some(first), |rung| Some(rung * factor));
            pipeline.stop_early(Halving { factor, rungs: rungs.take_while(|&rung| rung < 30).collect(), means })
        }
    };
    let study = pipeline.run(&Target::llama_1b())?.study;
    let spent = spent.lock().unwrap_or_else(PoisonError::into_inner);
    let ends = ends(&spent, study.trials().len(), options.workers);
    let regret = |architecture: &Architecture| {
        table.regret(architecture).with_context(|| format!("{architecture} is not in the table"))
    };
    let read = |&at: &u64| -> anyhow::Result<Point> {
        let known = study.before(TrialId(at));
        let first = study.trials().len().min(at as usize);
        let cut = study.trials()[..first].iter().filter(|trial| trial.report().is_none_or(|r| r.raced.is_some()));
        Ok(Point {
            aggregated: regret(&NcClustering::n0().aggregate(&known)?)?,
            best: regret(&Best.aggregate(&known)?)?,
            core_seconds: (0..first as u64).map(|id| spent.get(&TrialId(id)).copied().unwrap_or_default()).sum(),
            seconds: ends[..first].iter().copied().fold(0.0, f64::max),
            cut: cut.count() as f64 / first.max(1) as f64,
        })
    };
    options.at.iter().map(read).collect()
}

/// When each trial ends, were each started once a worker is free and all but the last `workers` before it have ended.
fn ends(spent: &HashMap<TrialId, f64>, trials: usize, workers: usize) -> Vec<f64> {
    let mut free = vec![0.0_f64; workers];
    let mut ends: Vec<f64> = Vec::new();
    for id in 0..trials {
        let known = ends[..(id + 1).saturating_sub(workers)].iter().copied().fold(0.0, f64::max);
        free.sort_by(f64::total_cmp);
        free[0] = free[0].max(known) + spent.get(&TrialId(id as u64)).copied().unwrap_or_default();
        ends.push(free[0]);
    }
    ends
}
