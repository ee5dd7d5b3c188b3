//! Converts a trained model to a hybrid, with a search over which layers keep their attention.
//!
//! `examples/fetch_model.sh && examples/fetch_corpus.sh && cargo run --release --example convert` replaces attention in
//! SmolLM2-135M by sliding windows (with `--recurrent` also by Mamba-2 or gated DeltaNet) to keep a fraction of its
//! cache. It compares the search with uniform, first, last, KL-guided and greedy choices on held-out text. Run it again
//! to continue an interrupted run.

#[macro_use]
#[path = "../shared/mod.rs"]
mod shared;
mod args;
mod prepare;

use std::{ops::ControlFlow, path::Path, process::ExitCode, sync::Arc, time::Instant};

use anyhow::{Context as _, anyhow};
use args::Args;
use clap::Parser;
use composer_nas::{
    convert::{
        self, Choice, Damages, Distillation, Gates, Healing, KL, LOSS, OneSeed, evaluate_all, single_damages, starts,
    },
    cost::ModelCost,
    durable,
    evaluate::Cached,
    export, limits,
    model::HybridLm,
    prelude::*,
    pretrain::{Measured, Record},
    report,
    space::SearchSpace,
    train::TokenBatch,
};
use prepare::Prepared;

/// Training makes many short-lived allocations, which this allocator handles well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The evaluator of candidates, with a cache on disk.
type Judge = Arc<OneSeed<Cached<Distillation>>>;

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    args.check()?;
    shared::check_folder(&args.folder())?;
    let prepared = Prepared::new(args)?;
    let letters = prepared.others.iter().map(Symbol::to_string).collect::<Vec<_>>().join(", ");
    println!("parent {}; attention can become {letters}", prepared.parent.spec().architecture);
    let judge = judge(args, &prepared, "choosing", &prepared.parts.choosing)?;
    let decider = crate::judge(args, &prepared, "deciding", &prepared.parts.deciding)?;
    let began = Instant::now();
    let damages = single_damages(&judge, &prepared.alternatives, args.threads)?;
    println!("{} single replacements in {:.0} s", damages.len(), began.elapsed().as_secs_f64());
    let mut chosen = Vec::new();
    for &percent in &args.keep {
        let (budget, space) = prepared.space(args, percent)?;
        println!("{percent} % of the cache: {} architectures of at most {budget} bytes", space.size());
        for (method, architecture) in choose(args, &prepared, [&judge, &decider], &damages, &space, percent)? {
            let kl = evaluate_all(&judge, std::slice::from_ref(&architecture), 1)?;
            println!("  {method:<12} {:.4}  {}", kl[0].scores[KL], architecture.letters());
            chosen.push((percent, budget, method, architecture));
        }
    }
    drop((judge, decider));
    let choices = measure(args, &prepared, &chosen)?;
    write_results(args, &prepared, &damages, &choices)?;
    heal(args, &prepared, &choices)
}

/// Returns the evaluator on one part of the text, with its cache.
fn judge(args: &Args, prepared: &Prepared, part: &str, windows: &[TokenBatch]) -> anyhow::Result<Judge> {
    let evaluator = Distillation::new(prepared.library.clone(), &prepared.alternatives, windows.to_vec())?;
    let cached = Cached::on_disk(evaluator, args.folder().join(format!("{part}.jsonl")))?;
    Ok(Arc::new(OneSeed(cached)))
}

/// Returns the choice of every method. The best trials of a search, the KL-guided choice and the greedy one are
/// evaluated again by the second evaluator, and the best of them is the choice of the search.
fn choose(
    args: &Args,
    prepared: &Prepared,
    [judge, decider]: [&Judge; 2],
    damages: &Damages,
    space: &SearchSpace,
    percent: u32,
) -> anyhow::Result<Vec<(String, Architecture)>> {
    let alternatives = &prepared.alternatives;
    let mut all = Vec::new();
    let mut add = |method: String, choice: Option<Architecture>| all.extend(choice.map(|choice| (method, choice)));
    for &other in &prepared.others {
        let name = |method: &str| if prepared.others.len() > 1 { format!("{method} {other}") } else { method.into() };
        add(name("uniform"), convert::uniform(alternatives, other, space));
        add(name("first"), convert::first(alternatives, other, space));
        add(name("last"), convert::last(alternatives, other, space));
        if args.gate_steps > 0 {
            let settings = Gates { steps: args.gate_steps, ..Gates::default() };
            let path = args.folder().join(format!("gates-{other}.json"));
            let gates = prepared.gates(other, &settings, &path)?;
            add(name("gates"), convert::ranked(alternatives, &gates, space));
        }
    }
    let ranked = convert::ranked(alternatives, damages, space);
    add("kl-guided".into(), ranked.clone());
    let mut known: Vec<Architecture> = ranked.into_iter().collect();
    if !args.no_greedy {
        let greedy = convert::greedy(judge, alternatives, damages, space, args.threads)?;
        add("greedy".into(), greedy.clone());
        known.extend(greedy);
    }
    for seed in 0..args.searches {
        let pipeline = Pipeline::new(&prepared.primitives, space.clone(), Judge::clone(judge))
            .goal(Goal::minimize(KL))
            .searcher(GpBo::default().with_initial(1)?)
            .enqueue(starts(alternatives, damages, space, args.starts))
            .trials(args.trials)
            .workers(args.threads)
            .seed(seed)
            .journal(args.folder().join(format!("search-{percent}-{seed}.jsonl")));
        let found = convert::search(&prepared.library, pipeline)?;
        let mut finalists = convert::leaders(&found.study, args.finalists);
        finalists.extend(known.iter().filter(|known| !finalists.contains(known)).cloned().collect::<Vec<_>>());
        add(format!("search {seed}"), convert::best_of(decider, &finalists, args.threads)?);
    }
    Ok(all)
}

/// Evaluates all choices on held-out text.
fn measure(
    args: &Args,
    prepared: &Prepared,
    chosen: &[(u32, u64, String, Architecture)],
) -> anyhow::Result<Vec<Choice>> {
    let judge = judge(args, prepared, "testing", &prepared.parts.testing)?;
    let parent = prepared.parent.spec().architecture.clone();
    let mut architectures: Vec<Architecture> = vec![parent];
    architectures.extend(chosen.iter().map(|(_, _, _, architecture)| architecture.clone()));
    let reports = evaluate_all(&judge, &architectures, args.threads)?;
    println!("\non held-out text; the parent's loss is {:.4}", reports[0].scores[LOSS]);
    let mut choices = Vec::new();
    for ((percent, budget, method, architecture), report) in chosen.iter().zip(&reports[1..]) {
        let spec = prepared.library.spec(architecture);
        let cost = ModelCost::new(&spec, &prepared.primitives, args.workload())?.cache_bytes_per_sequence;
        let choice = Choice::new(method, *budget, architecture.clone(), cost, report);
        let error = choice.standard_error.map(|error| format!(" ± {error:.4}")).unwrap_or_default();
        println!("{percent:>3} %  {method:<12} KL {:.4}{error}  loss {:.4}", choice.kl, choice.loss);
        choices.push(choice);
    }
    Ok(choices)
}

/// Writes the numbers and the page.
fn write_results(args: &Args, prepared: &Prepared, damages: &Damages, choices: &[Choice]) -> anyhow::Result<()> {
    let path = args.folder().join("choices.json");
    durable::write(&path, &serde_json::to_vec_pretty(choices)?).with_context(|| shared::shown(&path))?;
    let page = args.folder().join("convert.html");
    let name = args.parent.file_stem().unwrap_or_default().to_string_lossy();
    let cost = format!("bytes of cache at {} tokens", args.length);
    report::write_conversion(&page, &name, damages, choices, &cost, &prepared.primitives)?;
    println!("page: {}", shared::shown(&page));
    Ok(())
}

/// Heals the best choice at the smallest budget and writes it as a Hugging Face transformers folder.
fn heal(args: &Args, prepared: &Prepared, choices: &[Choice]) -> anyhow::Result<()> {
    let least = choices.iter().map(|choice| choice.budget).min();
    let best = choices.iter().filter(|choice| Some(choice.budget) == least && choice.kl.is_finite());
    let best = best.min_by(|one, other| one.kl.total_cmp(&other.kl)).ok_or_else(|| anyhow!("nothing was chosen"))?;
    let spec = prepared.library.spec(&best.architecture);
    let mut model = prepared.library.assemble(&best.architecture)?;
    if args.heal_steps > 0 && best.architecture != prepared.parent.spec().architecture {
        let config = args.healing();
        let healing = Healing {
            parent: &prepared.parent,
            primitives: &prepared.primitives,
            corpus: &prepared.corpus,
            config: &config,
            everything: args.heal_everything,
        };
        let folder = args.folder().join(format!("healed-{}", best.architecture.letters()));
        let healed = convert::heal(&healing, &spec, model, folder, &mut |record: &Record| {
            match record.measured {
                Measured::Training { loss, .. } => {
                    println!("healing {}/{}: KL {loss:.4}", record.step, args.heal_steps)
                }
                Measured::Validation(seen) => println!("healing {}: validation loss {:.4}", record.step, seen.loss),
            }
            ControlFlow::Continue(())
        })?;
        model = healed.model;
        let testing = prepared.parts.testing.clone();
        let report = Distillation::new(prepared.library.clone(), &prepared.alternatives, testing)?.judge(&model)?;
        println!("healed: KL {:.4} (was {:.4}), loss {:.4}", report.scores[KL], best.kl, report.scores[LOSS]);
    }
    write_model(args, prepared, &spec, &model)
}

fn write_model(args: &Args, prepared: &Prepared, spec: &ModelSpec, model: &HybridLm) -> anyhow::Result<()> {
    let (spec, model) = convert::without_empty_layers(spec, model, &prepared.primitives)?;
    let out = args.folder().join("export");
    let options = export::Options {
        tokenizer: Some(prepared.parent_folder.clone()),
        overwrite: true,
        max_positions: args.length.min(1 << 20) as usize,
        ..Default::default()
    };
    let written = export::hugging_face(&spec, Some(&model), &prepared.primitives, &out, &options)?;
    println!("{} as {}: {}", spec.architecture, written.model_type, shared::shown(&out));
    Ok(())
}

/// Reads a JSON file of an earlier run.
fn left<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let read = || anyhow::Ok(serde_json::from_str(&limits::read_text(path, limits::MAX_DESCRIPTION)?)?);
    Ok(Some(read().with_context(|| format!("{} cannot be used: remove it", shared::shown(path)))?))
}
