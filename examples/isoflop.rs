//! A scaling study at toy size: stacked, stretched, Llama-like and sandwich architectures, each at several sizes and
//! training budgets.
//!
//! `examples/fetch_corpus.sh && cargo run --release --example isoflop` trains the grid on a CPU, prints the fits and
//! draws `isoflop.svg`. Run it again to continue an interrupted study; `--plan` prints the grid without training.

#[macro_use]
mod shared;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use clap::{Parser, builder::RangedU64ValueParser};
use composer_nas::{
    cost::{ModelCost, Workload},
    data::{Corpus, Importer, TextReader},
    evaluate::corpus::{CorpusProtocol, TrainBudget},
    execute::Threads,
    extrapolate::{Stack, Stretch},
    isoflop::{Agreement, Cell, Family, Grid, Measurement, Scaling, measure},
    prelude::*,
    report,
    space::baseline,
    statistics::Estimate,
    text,
};
use indicatif::ProgressBar as Bar;

/// Training makes many short-lived allocations, which this allocator handles well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compares how architectures scale, at several sizes and training budgets.
#[derive(Debug, Parser)]
struct Args {
    /// Training budgets per model, in FLOPs.
    #[arg(long, value_delimiter = ',', default_value = "1.5e11,3e11,6e11", value_parser = shared::flops)]
    budgets: Vec<f64>,
    /// Model widths.
    #[arg(long, value_delimiter = ',', default_value = "8,12,16,24,32")]
    widths: Vec<usize>,
    /// Number of blocks of attention and MLP at every size.
    #[arg(long, default_value_t = 6, value_parser = RangedU64ValueParser::<usize>::new().range(1..=Architecture::MAX_LAYERS as u64 / 2))]
    blocks: usize,
    /// Number of trainings per architecture, size and budget, each with its own random numbers.
    #[arg(long, value_name = "TIMES", default_value_t = 1)]
    repeat: u64,
    /// Tokens per sequence.
    #[arg(long, default_value_t = 128)]
    seq_len: usize,
    /// Sequences per step.
    #[arg(long, default_value_t = 8)]
    batch_size: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 4e-3)]
    learning_rate: f64,
    /// Folder of the corpus. Created from --text if it does not exist.
    #[arg(long, default_value = "runs/corpus/tokens-512")]
    corpus: PathBuf,
    /// Folder of .txt files from which to create the corpus.
    #[arg(long, default_value = "runs/corpus/text")]
    text: PathBuf,
    /// Vocabulary size of the tokenizer that is trained on the text.
    #[arg(long, default_value_t = 512)]
    vocabulary: usize,
    /// Number of trainings in parallel; each uses one core on a CPU.
    #[arg(long, default_value_t = 2, value_parser = RangedU64ValueParser::<usize>::new().range(1..=Threads::MOST as u64))]
    workers: usize,
    /// Where to train: auto, flex, cuda:0, ...
    #[arg(long, default_value = "auto")]
    device: String,
    /// Name of the run, which is its folder in --runs.
    #[arg(long, value_name = "NAME", default_value = "isoflop", value_parser = shared::folder_name)]
    run: String,
    /// Folder that contains the runs.
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    runs: PathBuf,
    /// Print the grid and exit.
    #[arg(long)]
    plan: bool,
}

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    let primitives = Primitives::standard();
    let folder = args.folder();
    shared::check_folder(&folder)?;
    let corpus = args.corpus()?;
    let cells = args.grid(&primitives, corpus.vocab_size)?;
    if args.plan {
        return plan(&cells, &primitives, corpus.vocab_size);
    }
    let device = device::named(&args.device)?.device;
    let work = cells.iter().map(|cell| match cell.protocol.budget {
        TrainBudget::Flops(flops) => flops,
        TrainBudget::Tokens(_) => 0.0,
    });
    println!("{} trainings in total: {}", cells.len(), shared::expected(work.sum()));
    let path = folder.join("measurements.jsonl");
    let bar = Bar::new(cells.len() as u64);
    let tell = |done: usize, measured: &Measurement| {
        bar.set_position(done as u64);
        let line = format!(
            "{:<10} {:>9} parameters, {:e} FLOPs: loss {:.4}",
            measured.cell.family,
            measured.parameters,
            measured.budget(),
            measured.loss
        );
        if bar.is_hidden() { eprintln!("{done}/{} {line}", cells.len()) } else { bar.println(line) }
    };
    let measurements = measure(&cells, &corpus, &primitives, &device, &path, args.workers, &tell)?;
    bar.finish_and_clear();
    conclude(args, &measurements)
}

impl Args {
    /// Returns the folder of the study.
    fn folder(&self) -> PathBuf {
        self.runs.join(&self.run)
    }

    fn corpus(&self) -> anyhow::Result<Corpus> {
        if !self.corpus.join("corpus.json").exists() {
            let entries = fs::read_dir(&self.text).with_context(|| {
                format!(
                    "no corpus in {} and no text in {}: run examples/fetch_corpus.sh",
                    self.corpus.display(),
                    self.text.display()
                )
            })?;
            let mut files: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
            files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
            files.sort();
            ensure!(!files.is_empty(), "no .txt file in {}", self.text.display());
            let importer = Importer::train(TextReader::new(files.clone()), self.vocabulary)?;
            importer.import(TextReader::new(files), &self.corpus)?;
        }
        Ok(Corpus::open(&self.corpus)?)
    }

    fn grid(&self, primitives: &Primitives, vocab_size: usize) -> anyhow::Result<Vec<Cell>> {
        let size = |&width: &usize| {
            let dims = Dims::new(width, width.saturating_mul(3), (width / 16).max(1))?;
            Ok(Target::custom(format!("width {width}"), dims, vocab_size, true, self.blocks)?)
        };
        let sizes = self.widths.iter().map(size).collect::<anyhow::Result<Vec<_>>>()?;
        let grid = Grid {
            families: vec![
                Family::extrapolated("stacked", "2A+4M".parse()?, Stack, primitives),
                Family::extrapolated("stretched", "2A+5M+2A+3M+1A+3M".parse()?, Stretch, primitives),
                Family::of_blocks("llama", baseline::llama),
                // The coefficient of the best sandwich in the paper: 6 of 16 sublayers.
                Family::of_blocks("sandwich", |blocks| baseline::sandwich(blocks, 3 * blocks / 8)),
            ],
            sizes,
            budgets: self.budgets.clone(),
            protocol: CorpusProtocol {
                seq_len: self.seq_len,
                batch_size: self.batch_size,
                learning_rate: self.learning_rate,
                evaluations: 1,
                ..CorpusProtocol::stories(1)
            },
            seeds: self.repeat,
        };
        Ok(grid.plan(vocab_size, primitives, 50)?)
    }
}

fn plan(cells: &[Cell], primitives: &Primitives, vocab_size: usize) -> anyhow::Result<()> {
    for Cell { family, architecture, protocol, seed } in cells {
        let model = protocol.model(architecture.clone(), vocab_size);
        let body =
            ModelCost::new(&model, primitives, Workload::bf16(protocol.seq_len as u64))?.non_embedding_parameters;
        let steps = protocol.training(&model, primitives)?.steps;
        let TrainBudget::Flops(flops) = protocol.budget else { continue };
        println!("{family:<10} {body:>9} parameters, {flops:e} FLOPs, seed {seed}: {steps:>6} steps, {architecture}");
    }
    println!("{} trainings", cells.len());
    Ok(())
}

fn conclude(args: &Args, measurements: &[Measurement]) -> anyhow::Result<()> {
    let mut families: Vec<&str> = Vec::new();
    for measured in measurements {
        if !families.contains(&measured.cell.family.as_str()) {
            families.push(&measured.cell.family);
        }
    }
    let shown = |e: Estimate| {
        if e.low == e.high {
            format!("{:+.4}", e.value)
        } else {
            format!("{:+.4} [{:+.4}, {:+.4}]", e.value, e.low, e.high)
        }
    };
    println!("{:<10} {:>8} {:>12} {:>8}  best size within", "family", "FLOPs", "best size", "loss");
    let mut scalings = Vec::new();
    for family in &families {
        match Scaling::fit(family, measurements, 1000, Seed(0)) {
            Ok(scaling) => {
                for optimum in &scaling.optima {
                    println!(
                        "{family:<10} {:>8.1e} {:>12.0} {:>8.4}  {}",
                        optimum.budget, optimum.parameters, optimum.loss, optimum.within
                    );
                }
                scalings.push(scaling);
            }
            Err(error) => println!("{family:<10} {}", text::line(&text::causes(&error))),
        }
    }
    println!("\n{:<10} {:<30} slope of the loss", "family", "slope of the best size");
    for scaling in &scalings {
        println!("{:<10} {:<30} {}", scaling.family, shown(scaling.parameters.slope), shown(scaling.loss.slope));
    }
    // Rank all sequences and sizes that both budgets have by their losses.
    let (least, most) = args.budgets.iter().fold((f64::INFINITY, 0f64), |(low, high), &b| (low.min(b), high.max(b)));
    let pairs = measurements.iter().filter(|m| m.budget() == least).filter_map(|small| {
        let same = |m: &&Measurement| {
            m.budget() == most
                && m.parameters == small.parameters
                && m.cell.family == small.cell.family
                && m.cell.seed == small.cell.seed
        };
        Some((small.loss, measurements.iter().find(same)?.loss))
    });
    let (small, large): (Vec<_>, Vec<_>) = pairs.unzip();
    if let Some(Agreement { items, spearman, kendall }) = Agreement::new(&small, &large, 1000, Seed(0)) {
        println!(
            "\nranks of {items} models at {least:e} and {most:e} FLOPs: Spearman {}, Kendall {}",
            shown(spearman),
            shown(kendall)
        );
    }
    let folder = args.folder();
    report::isoflop(measurements, &scalings)?.write(&folder)?;
    fs::write(folder.join("scaling.json"), serde_json::to_vec_pretty(&scalings)?)?;
    println!("written to {}: measurements.jsonl, scaling.json, isoflop.svg", shared::shown(&folder));
    Ok(())
}
