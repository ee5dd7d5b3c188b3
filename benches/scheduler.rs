//! What the driver of a large search costs: 10,000 trials on 1,000 workers of a simulated cluster, with everything real
//! but the trainings and the clock. Journal, task folders, specs and results are written and synced; the workers run in
//! this process.
//!
//! `cargo bench --bench scheduler` prints Markdown; `-- TRIALS WORKERS` changes the size, `-- ask` measures only what
//! Bayesian optimisation takes to propose.

use std::{
    cell::Cell,
    collections::BTreeMap,
    env, fs,
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use composer_nas::{
    aggregate::Best,
    execute::{self, Engine, EngineError, Job, JobState, Remote},
    prelude::*,
    search::SearchError,
    study::{Event, Origin},
    testkit::landscape::Landscape,
};
use rand::RngExt;

/// Seconds of the simulated clock between two looks at the cluster.
const POLL: f64 = 10.0;
/// Seconds that a trial takes on it, at least and at most.
const TRIAL: (f64, f64) = (1800.0, 5400.0);

fn evaluator() -> impl Evaluator {
    from_fn("simulated", |trial, _| Ok(Report::score("accuracy", trial.seed.rng("score", 0).random())))
}

/// A cluster without a queue. Every look at it moves its clock.
struct Simulated {
    clock: f64,
    /// End and folder of every job that runs.
    running: BTreeMap<String, (f64, PathBuf)>,
    cost: Arc<Cost>,
}

/// Microseconds and calls spent outside the driver.
#[derive(Default)]
struct Cost {
    workers: AtomicU64,
    looks: AtomicU64,
}

impl Engine for Simulated {
    fn submit(&mut self, job: &Job) -> Result<(), EngineError> {
        let length: f64 = Seed(0).rng(&job.name, 0).random_range(TRIAL.0..TRIAL.1);
        self.running.insert(job.name.clone(), (self.clock + length, job.folder.clone()));
        Ok(())
    }

    fn live(&mut self, jobs: &[&Job]) -> Result<BTreeMap<String, JobState>, EngineError> {
        if self.running.is_empty() {
            // The clock stands while the driver is busy.
            thread::sleep(Duration::from_millis(1));
            return Ok(BTreeMap::new());
        }
        let start = Instant::now();
        self.clock += POLL;
        let clock = self.clock;
        self.running.retain(|_, (end, folder)| {
            let runs = *end > clock;
            if !runs {
                execute::work(folder, &[&evaluator()]);
            }
            runs
        });
        self.cost.workers.fetch_add(start.elapsed().as_micros() as u64, Ordering::Relaxed);
        self.cost.looks.fetch_add(1, Ordering::Relaxed);
        let live = jobs.iter().filter(|job| self.running.contains_key(&job.name));
        Ok(live.map(|job| (job.name.clone(), JobState::Running(format!("n{}", job.name.len())))).collect())
    }

    fn cancel(&mut self, jobs: &[&Job]) -> Result<(), EngineError> {
        for job in jobs {
            self.running.remove(&job.name);
        }
        Ok(())
    }

    fn exit_diagnostics(&mut self, _: &Job) -> Option<String> {
        None
    }
}

/// Measures what another searcher takes.
struct Timed<S> {
    inner: S,
    spent: Rc<Cell<Duration>>,
}

impl<S: Searcher> Searcher for Timed<S> {
    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }

    fn ask(&mut self, study: &Study, rng: &mut Rng) -> Result<Proposal, SearchError> {
        let start = Instant::now();
        let proposal = self.inner.ask(study, rng);
        self.spent.set(self.spent.get() + start.elapsed());
        proposal
    }
}

/// A field of this process's status, in MiB.
fn memory(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

/// Seconds of processor time that this process has taken.
fn processor() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15, in hundredths; the second may hold blanks and ends with a bracket.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// One search, as a row.
fn search(trials: usize, workers: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let cost = Arc::new(Cost::default());
    let spent = Rc::new(Cell::new(Duration::ZERO));
    let engine = Simulated { clock: 0.0, running: BTreeMap::new(), cost: cost.clone() };
    let executor = Remote::with_engine(engine, workers, folder)?.poll(Duration::ZERO).command(["simulated"]);
    let space = Landscape::named("L16Z2").map(|landscape| landscape.space().clone());
    let space = space.ok_or_else(|| anyhow::anyhow!("the landscape is gone"))?;
    let before = memory("VmRSS");
    let used = processor();
    let start = Instant::now();
    let found = Pipeline::new(&Primitives::standard(), space, evaluator())
        .searcher(Timed { inner: RandomSearch, spent: spent.clone() })
        .aggregator(Best)
        .trials(trials)
        .executor(executor)
        .journal(folder.join("journal.jsonl"))
        .run(&Target::llama_1b())?;
    let wall = start.elapsed().as_secs_f64();
    anyhow::ensure!(found.study.observations().count() == trials, "trials are missing");
    let simulated = cost.workers.load(Ordering::Relaxed) as f64 / 1e6;
    let looks = cost.looks.load(Ordering::Relaxed);
    let asked = spent.get().as_secs_f64();
    let per_trial = |seconds: f64| 1e3 * seconds / trials as f64;
    println!(
        "| {trials} | {workers} | {wall:.1} | {:.1} | {:.2} | {:.2} | {:.2} | {looks} | {:.0} |",
        processor() - used,
        per_trial(simulated),
        per_trial(asked),
        per_trial(wall - simulated - asked),
        memory("VmRSS") - before,
    );
    Ok(())
}

/// Seconds that Bayesian optimisation takes to propose after so many trials, with others pending.
fn ask() -> anyhow::Result<()> {
    println!("\n| observations | pending | seconds per proposal |\n|---|---|---|");
    let landscape = Landscape::named("L16Z2").ok_or_else(|| anyhow::anyhow!("the landscape is gone"))?;
    for (observations, pending) in [(64, 0), (256, 0), (512, 0), (1024, 0), (64, 63), (256, 63), (256, 255)] {
        let mut study = Study::new(landscape.space().clone(), Goal::default());
        for trial in 0..observations + pending {
            let architecture = landscape.space().sample(&mut Seed(1).rng("bench", trial));
            let report = Report::score("accuracy", landscape.noisy(1, trial, &architecture));
            let id = study.next_id();
            study.apply(Event::Proposed { id, architecture, seed: Seed(trial), origin: Origin::Searcher })?;
            if trial < observations {
                study.apply(Event::Completed { id, report })?;
            }
        }
        let start = Instant::now();
        GpBo::default().ask(&study, &mut Seed(1).rng("ask", 0))?;
        println!("| {observations} | {pending} | {:.3} |", start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.first().is_some_and(|word| word == "ask") {
        return ask();
    }
    println!(
        "| trials | workers | seconds | of a core | worker, ms | asking, ms | driver, ms per trial | looks | memory, MiB more |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    if let [trials, workers] = &words[..] {
        return search(trials.parse()?, workers.parse()?);
    }
    for trials in [1250, 2500, 5000, 10_000] {
        search(trials, 1000)?;
    }
    ask()
}
