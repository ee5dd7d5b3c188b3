//! Pre-trains the result of a search, and the Llama-like baseline with the same training FLOPs.
//!
//! `examples/fetch_corpus.sh && cargo run --release --example pretrain` tokenizes a corpus of 11 MB, trains the
//! searched sequence 2A+4M and the baseline in parallel on two CPU cores, with a few million parameters each, and
//! prints losses, speed and samples. `--model runs/<name>/target.json` trains the result of a search at full size, on
//! an accelerator. Run the same command again to continue an interrupted training.

#[macro_use]
mod shared;

use std::{ops::ControlFlow, path::PathBuf, process::ExitCode, thread};

use anyhow::{Context as _, bail, ensure};
use burn::tensor::Device;
use clap::Parser;
use composer_nas::{
    cost::{ModelCost, Workload},
    data::{Corpus, Importer, TextReader},
    dims::InitScheme,
    model::Sampling,
    pipeline::read_model,
    prelude::*,
    pretrain::{Measured, PretrainConfig, Pretrained, Pretrainer, Record, Validation},
    space::baseline,
    space::notation::Alphabet,
    text::line,
    train::{AdamWConfig, LrSchedule, Precision, TrainConfig},
};
use indicatif::{MultiProgress, ProgressBar as Bar, ProgressStyle};
use shared::letters::Written;

/// Training makes many short-lived allocations, which this allocator handles well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pre-trains a searched architecture and the Llama-like baseline on the same text with the same training FLOPs.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// The searched sequence, scaled to the small size.
    #[arg(long, default_value = "2A+4M", conflicts_with = "model")]
    architecture: Written,
    /// The alphabet of --architecture: ours, megatron, nemotron-h, or pairs such as M=B,*=A,-=M.
    #[arg(long, value_name = "ALPHABET")]
    letters: Option<Alphabet>,
    /// Train the model in this file at its own size instead; a target.json written by the example `search`.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Width at the small size.
    #[arg(long, default_value_t = 192)]
    width: usize,
    /// Number of blocks of attention and MLP at the small size.
    #[arg(long, default_value_t = 6)]
    blocks: usize,
    /// Folder of the corpus: token file, description, tokenizer. Created from --text if it does not exist.
    #[arg(long, default_value = "runs/corpus/tokens")]
    corpus: PathBuf,
    /// Text from which to create the corpus: a file, or a folder with .txt and .jsonl files.
    #[arg(long, default_value = "runs/corpus/text")]
    text: PathBuf,
    /// Vocabulary size of the tokenizer that is trained on the text.
    #[arg(long, default_value_t = 2048)]
    vocabulary: usize,
    /// Training budget per model, in FLOPs.
    #[arg(long, default_value = "2e13", value_parser = shared::flops)]
    flops: f64,
    /// Tokens per sequence.
    #[arg(long, default_value_t = 256)]
    seq_len: usize,
    /// Sequences per step.
    #[arg(long, default_value_t = 16)]
    batch_size: usize,
    /// Number of sequences on a device at a time.
    #[arg(long, default_value_t = 16)]
    micro_batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 3e-3)]
    learning_rate: f64,
    /// Devices to train on: auto, flex, cuda:0, ... If several are given, separated by commas, they share every step.
    #[arg(long, value_name = "DEVICE,...", value_delimiter = ',', default_value = "auto")]
    devices: Vec<String>,
    /// Compute in bfloat16 (accelerators only).
    #[arg(long)]
    bf16: bool,
    /// Recompute activations in the backward pass to save memory.
    #[arg(long)]
    recompute: bool,
    /// Seed of all random numbers.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Name of the run, which is its folder in --runs.
    #[arg(long, value_name = "NAME", default_value = "pretrain", value_parser = shared::folder_name)]
    run: String,
    /// Folder that contains the runs.
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    runs: PathBuf,
}

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    let primitives = Primitives::standard();
    shared::check_folder(&args.folder())?;
    if args.model.is_none() {
        shared::say_reading([&args.architecture.read(args.letters.as_ref())?], &primitives);
    }
    let corpus = args.corpus()?;
    let (found, llama) = args.models(&corpus, &primitives)?;
    println!(
        "{} tokens of {} ids; found {}, baseline {}",
        corpus.tokens.tokens(),
        corpus.vocab_size,
        found.architecture,
        llama.architecture
    );
    for spec in [&found, &llama] {
        args.config(spec, &primitives)?.validate()?;
    }
    println!("two trainings: {}", shared::expected(2.0 * args.flops));

    let bars = MultiProgress::new();
    let train = |name: &'static str, spec: &ModelSpec| args.train(name, spec, &corpus, &primitives, &bars);
    // On a CPU, train both models in parallel, one per core; on an accelerator, one after the other.
    let devices = args.devices()?;
    let results = if devices.iter().any(device::is_accelerator) {
        [train("found", &found), train("llama", &llama)]
    } else {
        thread::scope(|scope| {
            let baseline = scope.spawn(|| train("llama", &llama));
            [train("found", &found), baseline.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))]
        })
    };
    let [found_model, llama_model] = results;
    let rows = [("found", found, found_model?), ("llama", llama, llama_model?)];
    report(&rows, &primitives, args.seq_len as u64)?;
    let Some(tokenizer) = &corpus.tokenizer else { return Ok(()) };
    let tokenizer = Importer::load(tokenizer, None)?;
    for (name, _, trained) in &rows {
        let mut tokens = tokenizer.encode("The people of")?;
        let prompt: Vec<u32> = tokens.iter().filter_map(|&token| u32::try_from(token).ok()).collect();
        let sampling = Sampling { temperature: 0.8, top_k: Some(40), top_p: None };
        let drawn = trained.model.generate(&prompt, sampling, Seed(args.seed).rng("example/sample", 0))?;
        for token in drawn.take(120) {
            tokens.push(token? as i32);
        }
        let text = tokenizer.decode(&tokens)?;
        println!("\n{name}: {}", line(&text.replace('\n', " ")));
    }
    Ok(())
}

impl Args {
    /// Returns the folder of the run.
    fn folder(&self) -> PathBuf {
        self.runs.join(&self.run)
    }

    /// Opens the corpus, or creates it from the text.
    fn corpus(&self) -> anyhow::Result<Corpus> {
        if !self.corpus.join("corpus.json").exists() {
            let files = shared::texts(&self.text).with_context(|| {
                format!(
                    "no corpus in {} and no text in {}: run examples/fetch_corpus.sh, or name --text",
                    self.corpus.display(),
                    self.text.display()
                )
            })?;
            println!("tokenizing {} texts of {}", files.len(), shared::shown(&self.text));
            let importer = Importer::train(TextReader::new(files.clone()), self.vocabulary)?;
            let info = importer.import(TextReader::new(files), &self.corpus)?;
            println!("{} bytes in {} documents, {} token ids", info.text_bytes, info.documents, info.vocab_size);
        }
        Ok(Corpus::open(&self.corpus)?)
    }

    /// Returns the found model, and the baseline with the same widths and about the same number of parameters.
    fn models(&self, corpus: &Corpus, primitives: &Primitives) -> anyhow::Result<(ModelSpec, ModelSpec)> {
        let found: ModelSpec = match &self.model {
            Some(path) => read_model(path, primitives)?,
            None => {
                let heads = (self.width / 32).max(1);
                let dims = Dims::new(self.width, self.width.saturating_mul(3), heads)?;
                let target = Target::custom("small", dims, corpus.vocab_size, true, self.blocks)?;
                let small = self.architecture.read(self.letters.as_ref())?;
                // Narrow models learn very slowly at first with the standard deviation of 0.02 that large models start
                // with.
                ModelSpec { init: InitScheme::FanIn, ..Auto.extrapolate(&small, &target, primitives)? }
            }
        };
        let body = |architecture: Architecture| -> anyhow::Result<u64> {
            let spec = ModelSpec { architecture, ..found.clone() };
            Ok(ModelCost::new(&spec, primitives, Workload::bf16(1))?.non_embedding_parameters)
        };
        let block = body(baseline::llama(1))?;
        let blocks = (body(found.architecture.clone())? + block / 2) / block;
        let llama = ModelSpec { architecture: baseline::llama(blocks.max(1) as usize), ..found.clone() };
        Ok((found, llama))
    }

    fn devices(&self) -> anyhow::Result<Vec<Device>> {
        ensure!(!self.devices.is_empty(), "--devices is empty");
        self.devices.iter().map(|name| Ok(device::named(name)?.device)).collect()
    }

    fn config(&self, spec: &ModelSpec, primitives: &Primitives) -> anyhow::Result<PretrainConfig> {
        let cost = ModelCost::new(spec, primitives, Workload::bf16(self.seq_len as u64))?;
        let per_step = cost.train_flops_per_token as f64 * self.batch_size as f64 * self.seq_len as f64;
        let steps = (self.flops / per_step) as usize;
        if steps == 0 {
            bail!("--flops {} is less than one step of {per_step:.1e}", self.flops);
        }
        let schedule = LrSchedule {
            warmup_steps: steps / 20,
            ..LrSchedule::cosine(self.learning_rate, self.learning_rate / 10.0, steps)
        };
        Ok(PretrainConfig {
            seq_len: self.seq_len,
            train: TrainConfig {
                steps,
                batch_size: self.batch_size,
                schedule,
                optimizer: AdamWConfig { beta2: 0.95, weight_decay: 0.1, ..AdamWConfig::default() },
                clip_norm: Some(1.0),
                evaluate_every: steps.div_ceil(10),
                log_every: 10,
                stop_above: None,
                precision: if self.bf16 { Precision::BFloat16 } else { Precision::Single },
                recompute: self.recompute,
            },
            micro_batch: self.micro_batch,
            validation_share: 0.05,
            validation_windows: 64,
            checkpoint_every: 50,
            keep: 2,
            seed: Seed(self.seed),
        })
    }

    fn train(
        &self,
        name: &'static str,
        spec: &ModelSpec,
        corpus: &Corpus,
        primitives: &Primitives,
        bars: &MultiProgress,
    ) -> anyhow::Result<Pretrained> {
        let config = self.config(spec, primitives)?;
        let bar = bars.add(Bar::new(config.train.steps as u64));
        bar.set_style(ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} {eta}")?);
        bar.set_prefix(name);
        let run = Pretrainer::new(spec, primitives, corpus, &config, self.folder().join(name))?;
        let (first, others) = match &self.devices()?[..] {
            [first, others @ ..] => (first.clone(), others.to_vec()),
            [] => bail!("--devices is empty"),
        };
        let trained = run.run(&first, &others, &mut |record: &Record| {
            bar.set_position(record.step as u64);
            match &record.measured {
                Measured::Training { loss, tokens_per_second, .. } => {
                    bar.set_message(format!("loss {loss:.3}, {tokens_per_second:.0} tokens/s"));
                }
                // In a log, print a line per validation instead of the bar.
                Measured::Validation(seen) if bar.is_hidden() => {
                    eprintln!("{name} {}/{}: validation loss {:.3}", record.step, config.train.steps, seen.loss);
                }
                Measured::Validation(_) => {}
            }
            ControlFlow::Continue(())
        })?;
        bar.finish();
        Ok(trained)
    }
}

fn report(rows: &[(&str, ModelSpec, Pretrained)], primitives: &Primitives, seq_len: u64) -> anyhow::Result<()> {
    println!(
        "\n{:<8} {:>12} {:>12} {:>10} {:>8} {:>9} {:>10}  outcome",
        "", "parameters", "tokens", "loss", "accuracy", "bits/byte", "tokens/s"
    );
    for (name, spec, trained) in rows {
        let cost = ModelCost::new(spec, primitives, Workload::bf16(seq_len))?;
        let last = trained.records.iter().rev().find_map(|record| match record.measured {
            Measured::Validation(validation) => Some((record.tokens, validation)),
            Measured::Training { .. } => None,
        });
        let mut speeds: Vec<_> = trained
            .records
            .iter()
            .filter_map(|record| match record.measured {
                Measured::Training { tokens_per_second, .. } => Some(tokens_per_second),
                Measured::Validation(_) => None,
            })
            .collect();
        speeds.sort_by(f64::total_cmp);
        let speed = speeds.get(speeds.len() / 2).copied().unwrap_or(0.0);
        let Some((tokens, Validation { loss, accuracy, bits_per_byte })) = last else {
            println!("{name:<8} no validation; {:?}", trained.outcome);
            continue;
        };
        let bits = bits_per_byte.map_or("-".into(), |bits| format!("{bits:.3}"));
        println!(
            "{name:<8} {:>12} {tokens:>12} {loss:>10.4} {accuracy:>8.4} {bits:>9} {speed:>10.0}  {:?}",
            cost.total_parameters, trained.outcome
        );
    }
    println!("tokens/s is the median over the run, models side by side");
    Ok(())
}
