//! Reports, journals, tables, caches and what is derived from them.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::ensure;
use composer_nas::{
    aggregate::{AggregateError, Best, Pooled},
    evaluate::{Cached, Row, Table, TableFile, corpus::CorpusProtocol},
    isoflop::{self, Cell, Measurement, Scaling},
    journal::{self, Setup},
    pipeline::Ask,
    prelude::*,
    report::{self, Page},
    search::{Exhaustive, Incremental, LocalSearch, RegularizedEvolution, Replicate, Side},
    stopping::{MedianPruner, Pruner},
    study::{Origin, TaskReport, TrialId},
    text::causes,
};

use super::{Seen, Target, json};
use crate::INPUT;

/// Returns a journal with every kind of event, written by searches of the crate.
fn journals(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let path = folder.join("seed.jsonl");
    let _ = fs::remove_file(&path);
    let mut session = Session::open(&path, setup()?, RandomSearch)?;
    for number in 0..14u64 {
        let Ask::Trial(trial) = session.ask()? else { break };
        let value = trial.architecture.runs().count() as f64 / 4.0;
        let report = Report { standard_error: Some(0.1), curve: vec![(1, value / 2.0), (2, value)], ..report(value) };
        let outcome = match number {
            3 => Err(EvalError::Infeasible("too large".into())),
            5 => Err(EvalError::Transient("node lost".into())),
            _ => Ok(report),
        };
        session.tell(trial.id, outcome)?;
    }
    session.enqueue("2A+2M".parse()?)?;
    session.invalidate(TrialId(1), "by hand")?;
    drop(session);
    Ok(fs::read(path)?)
}

fn setup() -> anyhow::Result<Setup> {
    let primitives = Primitives::standard();
    let known: BTreeMap<_, _> = primitives.iter().map(|primitive| (primitive.symbol(), primitive.id())).collect();
    let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 4)?;
    let primitives = known.into_iter().filter(|(symbol, _)| space.symbols().contains(symbol)).collect();
    let session = Session::in_memory(space, Goal::default(), Seed(4), RandomSearch);
    Ok(Setup { primitives, evaluator: "fuzz".into(), ..session.setup().clone() })
}

fn report(value: f64) -> Report {
    let task = TaskReport { name: "task".into(), score: Some(value), loss: Some(1.0), ..TaskReport::default() };
    Report {
        tasks: vec![task],
        parameters: 10,
        train_flops: Some(1e9),
        wall_seconds: 0.5,
        ..Report::score("accuracy", value)
    }
}

pub const REPORT: Target = Target {
    name: "report",
    what: "reports: what a journal makes of one must be the study in memory",
    seeds: |_| json([report(0.5), Report { curve: vec![(1, 0.1), (5, 0.2)], ..report(1.0) }, Report::default()]),
    run: |input, folder| {
        let mut report: Report = match serde_json::from_slice(input) {
            Ok(report) => report,
            Err(error) => return Seen::refused(error),
        };
        unbounded(&mut report);
        let path = folder.join("report.jsonl");
        let _ = fs::remove_file(&path);
        let mut session = Session::open(&path, setup()?, RandomSearch)?;
        let Ask::Trial(trial) = session.ask()? else { anyhow::bail!("a new search has no trial") };
        let told = session.tell(trial.id, Ok(report))?;
        let (_, study) = journal::read(&path)?;
        ensure!(study.trials() == session.study().trials(), "the journal is another study than the one in memory");
        Seen::read(format!("{told:?}"))
    },
};

/// JSON has no NaN and no infinities, but evaluators do: two numbers stand for them.
fn unbounded(report: &mut Report) {
    let change = |number: &mut f64| match *number {
        1e308 => *number = f64::NAN,
        -1e308 => *number = f64::INFINITY,
        _ => {}
    };
    report.scores.values_mut().for_each(change);
    report.standard_error.iter_mut().for_each(change);
    report.curve.iter_mut().for_each(|(_, value)| change(value));
    report.train_flops.iter_mut().for_each(change);
    change(&mut report.wall_seconds);
    for task in &mut report.tasks {
        task.score.iter_mut().chain(&mut task.accuracy).for_each(change);
        task.curve.iter_mut().for_each(|(_, accuracy)| change(accuracy));
        task.loss.iter_mut().for_each(change);
    }
}

pub const JOURNAL: Target = Target {
    name: "journal",
    what: "journals, read and opened",
    seeds: |folder| Ok(vec![journals(folder)?]),
    run: |_, folder| {
        let path = folder.join(INPUT);
        let (setup, study) = match journal::read(&path) {
            Ok(read) => read,
            Err(error) => return Seen::refused(error),
        };
        journal::written_by(&path)?;
        let copy = folder.join("copy.jsonl");
        fs::copy(&path, &copy)?;
        let session = Session::open(&copy, setup.clone(), RandomSearch)?;
        ensure!(
            session.study().trials() == study.trials(),
            "a journal that is opened is another than one that is read"
        );
        let (again, reread) = journal::read(&copy)?;
        ensure!(again == setup && reread.trials() == study.trials(), "opening changed a journal");
        drop(session);
        Seen::read(format!("{}", study.valid_trials() > 0))
    },
};

/// With more trials, every proposal is slow, which is not a finding.
const MOST_TRIALS: usize = 60;

pub const SEARCH: Target = Target {
    name: "search",
    what: "read a journal, then page, then ask, then aggregate",
    seeds: |folder| Ok(vec![journals(folder)?]),
    run: |_, folder| {
        let (setup, study) = match journal::read(folder.join(INPUT)) {
            Ok(read) => read,
            Err(error) => return Seen::refused(error),
        };
        if study.trials().len() > MOST_TRIALS || study.space().layers() > MOST_TRIALS {
            return Seen::read("large");
        }
        let mut words = page(&setup, &study)?;
        words += &ask(&study)?;
        words += &aggregate(&study)?;
        Seen::read(words)
    },
};

fn page(setup: &Setup, study: &Study) -> anyhow::Result<String> {
    const LARGEST: usize = 5 << 20;
    let html = match Page::new(study).setup(setup).html() {
        Ok(html) => html,
        Err(error) => return Ok(causes(&error)),
    };
    ensure!(html.len() < LARGEST, "a page of more than 5 MB");
    ensure!(!html.to_lowercase().contains("<script>alert"), "text of a journal is a script on the page");
    let groups = [("one".to_owned(), vec![study.clone(), study.before(TrialId(3))])];
    Ok(report::compare(&groups).err().map_or(String::new(), |error| causes(&error)))
}

fn ask(study: &Study) -> anyhow::Result<String> {
    let rng = |name: &str| Seed(5).rng(name, 0);
    let searchers: [Box<dyn Searcher>; 7] = [
        Box::new(GpBo::default()),
        Box::new(RandomSearch),
        Box::new(Exhaustive),
        Box::new(RegularizedEvolution::new(8, 4)?),
        Box::new(LocalSearch::new(3)?),
        Box::new(Incremental::new(RandomSearch, Side::End, 1, 3)?),
        Box::new(Replicate::new(RandomSearch, 2, 3)?),
    ];
    let mut words = String::new();
    for mut searcher in searchers {
        let [first, again] = [0; 2].map(|_| searcher.ask(study, &mut rng("fuzz/ask")));
        match (first, again) {
            (Ok(first), Ok(again)) => {
                ensure!(first == again, "the same question has two answers");
                if let Proposal::Evaluate(architecture) = &first {
                    let space = study.space();
                    ensure!(
                        space.contains(architecture) || space.is_part(architecture),
                        "a proposal outside the space"
                    );
                    let _ = MedianPruner::after(2, 1).threshold(study, architecture);
                }
            }
            (Err(error), _) => words += &causes(&error),
            (Ok(_), Err(_)) => anyhow::bail!("the same question has two answers"),
        }
    }
    Ok(words)
}

fn aggregate(study: &Study) -> anyhow::Result<String> {
    let mut words = String::new();
    let aggregators: [&dyn Aggregator; 4] =
        [&Best, &NcClustering::n0(), &NcClustering::full_prefix(), &Pooled(NcClustering::nc(2))];
    for aggregator in aggregators {
        match aggregator.aggregate(study) {
            Ok(architecture) => ensure!(study.space().contains(&architecture), "an aggregate outside the space"),
            Err(error) => {
                let error: AggregateError = error;
                words += &causes(&error);
            }
        }
    }
    Ok(words)
}

const TABLE_TEXT: &str = "# evaluator: fuzz\narchitecture,seed,recall,score\nAA,0,0.5,0.25\nAA,1,0.25,0.5\nAM,0,1,0.5\nMA,0,0.125,0.75\n\
    MM,0,0,1\nMM,1,1,1\n";

pub const TABLE: Target = Target {
    name: "table",
    what: "tables of measurements, and their statistics",
    seeds: |_| Ok(vec![TABLE_TEXT.into(), "architecture,seed,score\n2A+1M,7,-1e-3\n".into()]),
    run: |input, folder| {
        let table = match Table::read(folder.join(INPUT)) {
            Ok(table) => table,
            Err(error) => return Seen::refused(error),
        };
        ensure!(table.to_string().parse::<Table>()? == table, "a written table reads back as another");
        super::round_trip::<Table>(&serde_json::to_vec(&table)?, |_| Seen::read(""))?;
        let lengths: Vec<usize> = table.architectures().map(Architecture::len).collect();
        for architecture in table.architectures() {
            let known = (table.mean(architecture), table.sd(architecture), table.standard_error(architecture));
            let placed = (table.rank(architecture), table.regret(architecture));
            ensure!(known.0.is_some() && placed.0.is_some(), "a row without a mean or a place");
        }
        let Some(&length) = lengths.first() else { return Seen::read("empty") };
        let part = table.of_length(length);
        let _ = (part.reliability(2, 3, Seed(1)), part.spearman(&table), part.best(length));
        let _ = (part.resampled(&mut Seed(2).rng("fuzz/table", 0)), part.rescored(|column| column != "recall"));
        let space = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], length.min(6))?;
        let complete = part.complete(&space);
        let study = part.study(&space);
        let _ = input;
        Seen::read(format!("{} {}", complete.is_ok(), study.is_ok()))
    },
};

pub const TABLE_FILE: Target = Target {
    name: "table_file",
    what: "a table that a measurement goes on with",
    seeds: |_| Ok(vec![TABLE_TEXT.into(), "".into(), "# evaluator: fuzz\n".into()]),
    run: |input, folder| {
        let path = folder.join("table.csv");
        fs::write(&path, input)?;
        let mut file = match TableFile::open(&path, Table::new(["recall"])?.measured_by("fuzz")) {
            Ok(file) => file,
            Err(error) => return Seen::refused(error),
        };
        let row = Row { architecture: "AMA".parse()?, seed: u64::MAX, values: vec![0.5, 1e308] };
        let new = file.append(row).is_ok();
        let table = file.table().clone();
        drop(file);
        ensure!(Table::read(&path)? == table, "the file is another table than the one in memory");
        Seen::read(format!("{new}"))
    },
};

pub const CACHE: Target = Target {
    name: "cache",
    what: "files of remembered evaluations",
    seeds: |folder| {
        let path = folder.join("seed.cache");
        let _ = fs::remove_file(&path);
        let cached = Cached::on_disk(from_fn("fuzz", |_, _| Ok(report(0.5))), &path)?;
        for (number, text) in ["AM", "MA", "2A+1M"].into_iter().enumerate() {
            let trial = Trial::new(TrialId(0), text.parse()?, Seed(number as u64), Origin::Searcher);
            cached.evaluate(&trial, &Context::default())?;
        }
        drop(cached);
        Ok(vec![fs::read(path)?])
    },
    run: |input, folder| {
        let path = folder.join("cache.jsonl");
        fs::write(&path, input)?;
        let open = || Cached::on_disk(from_fn("fuzz", |_, _| Ok(report(f64::MAX))), &path);
        let cached = match open() {
            Ok(cached) => cached,
            Err(error) => return Seen::refused(error),
        };
        let trial = Trial::new(TrialId(0), "3A".parse()?, Seed(9), Origin::Searcher);
        let seen = cached.evaluate(&trial, &Context::default())?;
        let known = cached.len();
        drop(cached);
        let again = open()?;
        ensure!(again.len() == known, "the file remembers other evaluations than the memory");
        ensure!(again.evaluate(&trial, &Context::default())? == seen, "a report is remembered as another");
        Seen::read("cache")
    },
};

pub const ISOFLOP: Target = Target {
    name: "isoflop",
    what: "the file of a scaling study, its fit and its picture",
    seeds: |_| {
        let mut lines = Vec::new();
        for budget in [1e9_f64, 4e9, 16e9] {
            for (at, width) in [16, 32, 64, 128].into_iter().enumerate() {
                let dims = Dims::new(width, 2 * width, 2)?;
                let mut protocol = CorpusProtocol::large_scale(&dims, 1 << 20);
                protocol.budget = serde_json::from_value(serde_json::json!({ "flops": budget }))?;
                let architecture = Architecture::from_runs([(Symbol::ATTENTION, 2), (Symbol::SWIGLU, 2)]);
                let family = "hybrid".into();
                let seed = 0;
                let cell = Cell { family, architecture, protocol, seed };
                let parameters = (width * width * 20) as u64;
                let loss = 3.0 + 0.1 * (at as f64 - 1.4 - (budget / 4e9).ln() / 3.0).powi(2) - 0.05 * budget.ln();
                let corpus = "digest".into();
                let accuracy = 0.25;
                let diverged = None;
                let line = Measurement { cell, corpus, parameters, flops: 0.98 * budget, loss, accuracy, diverged };
                lines.push(serde_json::to_string(&line)? + "\n");
            }
        }
        Ok(vec![lines.concat().into_bytes()])
    },
    run: |_, folder| {
        let measurements = match isoflop::read(&folder.join(INPUT)) {
            Ok(measurements) => measurements,
            Err(error) => return Seen::refused(error),
        };
        let mut families: Vec<_> = measurements.iter().map(|measured| measured.cell.family.clone()).collect();
        families.sort();
        families.dedup();
        let mut scalings = Vec::new();
        let mut words = String::new();
        for family in &families {
            match Scaling::fit(family, &measurements, 20, Seed(1)) {
                Ok(scaling) => scalings.push(scaling),
                Err(error) => words += &causes(&error),
            }
        }
        match report::isoflop(&measurements, &scalings) {
            Ok(figure) => Seen::read(format!("{words} {}", figure.svg.len() > 5000)),
            Err(error) => Seen::read(words + &causes(&error)),
        }
    },
};
