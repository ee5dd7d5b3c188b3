//! Serves a search to a program in any language: requests and answers are JSON lines on standard input and output.
//!
//! Start `cargo run --release --example session -- --journal runs/mine/journal.jsonl --score loss --minimize`. Then
//! `{"ask": {}}` returns a trial, and `{"tell": {"trial": 0, "result": {"scores": {"loss": 2.5}}}}` reports its result.
//! Run the same command again to continue the session; `--help` lists the options. `docs/protocol.md` describes all
//! requests, and `examples/python/composer_nas.py` is a client.

#[macro_use]
mod shared;
#[path = "search/searcher.rs"]
mod searcher;
#[path = "search/space.rs"]
mod space;

use std::{
    collections::BTreeMap,
    io::{self, BufRead},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{bail, ensure};
use clap::{Parser, builder::NonEmptyStringValueParser};
use composer_nas::{
    pipeline::{Ask, Told},
    prelude::*,
    study::TrialId,
    text,
};
use serde::Deserialize;
use serde_json::{Value, json};

use searcher::SearcherArgs;
use space::SpaceArgs;

/// Proposes architectures and records their results, through JSON lines on standard input and output.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    space: SpaceArgs,
    /// Journal of the session. If the file exists, the session continues.
    #[arg(long)]
    journal: PathBuf,
    /// Name of the score to optimise.
    #[arg(long, value_name = "NAME", default_value = "score", value_parser = NonEmptyStringValueParser::new())]
    score: String,
    /// Minimise the score, for example a loss.
    #[arg(long)]
    minimize: bool,
    /// What the scores depend on, such as the version of your data. A session can be continued only with the same text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    evaluator_version: String,
    /// Widths and vocabulary of the candidates: small (width 256), a target's name, or a JSON file with a target.
    #[arg(long, value_name = "SIZE", default_value = "small")]
    candidates: String,
    /// Size of the result: a target's name, or a JSON file with a target.
    #[arg(long, value_name = "SIZE", default_value = "llama_1b")]
    target: String,
    #[command(flatten)]
    searcher: SearcherArgs,
    /// Seed of all random numbers.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// A request of the other program.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Ask {},
    Tell(Outcome),
    Add { architecture: Architecture },
    Invalidate { trial: u64, reason: String },
    Best {},
    Aggregate {},
}

/// The result of a trial.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outcome {
    trial: u64,
    #[serde(default)]
    result: Option<Found>,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Found {
    /// `None` if a score is not finite.
    scores: BTreeMap<String, Option<f64>>,
    #[serde(default)]
    standard_error: Option<f64>,
    #[serde(default)]
    standard_errors: BTreeMap<String, Option<f64>>,
    #[serde(default)]
    parameters: u64,
    #[serde(default)]
    train_flops: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Refusal {
    Infeasible { reason: String },
    Transient { reason: String },
}

/// Represents the evaluations of the other program in the journal.
struct Elsewhere {
    version: String,
    candidates: Target,
}

impl Evaluator for Elsewhere {
    fn fingerprint(&self) -> String {
        let Target { dims, vocab_size, tied_embeddings, .. } = &self.candidates;
        let head = if *tied_embeddings { "tied" } else { "untied" };
        format!("session, version {:?}, candidates of {vocab_size} tokens ({head}) at {}", self.version, json!(dims))
    }

    fn evaluate(&self, _: &Trial, _: &Context) -> Result<Report, EvalError> {
        Err(EvalError::Fatal("trials are evaluated by the program that owns the session".into()))
    }
}

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    let primitives = Primitives::standard();
    let target = shared::target(&args.target, "--target")?;
    let candidates = shared::target(&args.candidates, "--candidates")?;
    let space = args.space.space(&primitives, &target)?;
    let goal = if args.minimize { Goal::minimize(&args.score) } else { Goal::maximize(&args.score) };
    let elsewhere = Elsewhere { version: args.evaluator_version.clone(), candidates: candidates.clone() };
    let searcher = args.searcher.searcher(args.space.layers, None)?;
    let pipeline = Pipeline::new(&primitives, space, elsewhere).searcher(searcher);
    let session = pipeline.goal(goal).seed(args.seed).journal(&args.journal).into_session()?;
    let mut owner = Owner { session, primitives, candidates, target };
    println!("{}", owner.setup());
    for line in io::stdin().lock().split(b'\n') {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let request = serde_json::from_slice(&line).map_err(anyhow::Error::from);
        let answer = request.and_then(|request| owner.answer(request));
        println!("{}", answer.unwrap_or_else(|error| json!({"error": format!("{error:#}")})));
    }
    Ok(())
}

/// The state behind the requests.
struct Owner {
    session: Session<Box<dyn Searcher>>,
    primitives: Primitives,
    candidates: Target,
    target: Target,
}

impl Owner {
    fn setup(&self) -> Value {
        let study = self.session.study();
        json!({"session": {
            "trials": study.trials().len(),
            "pending": study.pending().count(),
            // A number of up to 128 bits, as text.
            "architectures": study.space().size().to_string(),
            "score": study.goal().score,
            "direction": study.goal().direction,
        }})
    }

    fn answer(&mut self, request: Request) -> anyhow::Result<Value> {
        Ok(match request {
            Request::Ask {} => match self.session.ask()? {
                Ask::Trial(trial) => json!({"trial": self.trial(&trial)?}),
                Ask::Wait => json!({"wait": {}}),
                Ask::Finished => json!({"finished": {}}),
            },
            Request::Tell(outcome) => self.tell(outcome)?,
            Request::Add { architecture } => json!({"added": self.session.enqueue(architecture)?}),
            Request::Invalidate { trial, reason } => {
                self.session.invalidate(TrialId(trial), reason)?;
                json!({"invalidated": trial})
            }
            Request::Best {} => json!({"best": self.best()}),
            Request::Aggregate {} => {
                let aggregated = NcClustering::n0().aggregate(self.session.study())?;
                let target = Auto.extrapolate(&aggregated, &self.target, &self.primitives)?;
                let letters = aggregated.letters();
                json!({"aggregated": {"architecture": aggregated, "letters": letters, "target": target}})
            }
        })
    }

    fn trial(&self, trial: &Trial) -> anyhow::Result<Value> {
        /// Seeds are below this value, which every JSON parser reads exactly.
        const SEEDS: u64 = 1 << 53;
        let architecture = &trial.architecture;
        let id = |&symbol: &Symbol| Ok(self.primitives.get(symbol)?.id());
        Ok(json!({
            "trial": trial.id,
            "attempt": trial.failed_attempts + 1,
            "seed": trial.seed.0 % SEEDS,
            "architecture": architecture,
            "letters": architecture.letters(),
            "layers": architecture.layers().iter().map(id).collect::<anyhow::Result<Vec<_>>>()?,
            "model": self.candidates.model(architecture.clone()),
        }))
    }

    fn tell(&mut self, outcome: Outcome) -> anyhow::Result<Value> {
        let told = match (outcome.result, outcome.error) {
            (Some(Found { scores, standard_error, standard_errors, parameters, train_flops }), None) => {
                let score = &self.session.study().goal().score;
                let names = || text::shortened(&scores.keys().cloned().collect::<Vec<_>>().join(", "), 200);
                ensure!(scores.contains_key(score), "the result has no score {score:?}, only [{}]", names());
                let errors = standard_errors.values().copied().chain([standard_error, train_flops]);
                let negative = errors.flatten().any(|number| number < 0.0);
                ensure!(!negative, "a standard error or the FLOPs are negative");
                let number = |(name, value): (String, Option<f64>)| (name, value.unwrap_or(f64::NAN));
                let scores = scores.into_iter().map(number).collect();
                let known = |(name, error): (String, Option<f64>)| Some((name, error?));
                let standard_errors = standard_errors.into_iter().filter_map(known).collect();
                Ok(Report { scores, standard_error, standard_errors, parameters, train_flops, ..Report::default() })
            }
            (None, Some(Refusal::Infeasible { reason })) => Err(EvalError::Infeasible(reason)),
            (None, Some(Refusal::Transient { reason })) => Err(EvalError::Transient(reason)),
            _ => bail!("tell exactly one of a result and an error"),
        };
        let told = match self.session.tell(TrialId(outcome.trial), told)? {
            Told::Completed => "completed",
            Told::Failed => "failed",
            Told::Again => "again",
        };
        Ok(json!({ "told": told }))
    }

    fn best(&self) -> Option<Value> {
        let study = self.session.study();
        study.best().map(|best| {
            let architecture = &best.trial.architecture;
            let score = study.goal().orient(best.value);
            json!({"trial": best.trial.id, "architecture": architecture, "letters": architecture.letters(), "score": score})
        })
    }
}
