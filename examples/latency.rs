//! Measures the speed of a model on this device and compares it with Llama: `cargo run --release --example latency --
//! runs/NAME` for the result of a search, or `... -- --architecture 18A+36M --like llama_8b` for any sequence at the
//! widths of a named target.
//!
//! Every kind of layer is timed once, for reading a prompt and for decoding with a full cache. The time of a model is
//! the sum over its layers. The times are written to `latency.json` beside the model, or in the folder given by
//! `--latency`, and the page of the run shows them: `report -- runs/NAME`.

#[macro_use]
mod shared;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, builder::RangedU64ValueParser};
use composer_nas::{
    cost::{Comparison, LayerTimes, ModelCost, Timing, Workload},
    pipeline::read_model,
    prelude::*,
    report::Latency,
    space::Architecture,
    space::baseline,
    space::notation::Alphabet,
};
use shared::letters::Written;

/// Training makes many short-lived allocations, which this allocator handles well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the time of a model and of the Llama architecture with the same number of blocks.
#[derive(Debug, Parser)]
struct Args {
    /// Folder of a run, or the target.json in it.
    #[arg(required_unless_present = "architecture", conflicts_with = "architecture")]
    run: Option<PathBuf>,
    /// Measure these layers, at full size, instead of a file.
    #[arg(long)]
    architecture: Option<Written>,
    /// The alphabet of --architecture: ours, megatron, nemotron-h, or pairs such as M=B,*=A,-=M.
    #[arg(long, value_name = "ALPHABET")]
    letters: Option<Alphabet>,
    /// Target that gives the widths and the Llama architecture for these layers.
    #[arg(long, default_value = "llama_1b", requires = "architecture")]
    like: String,
    /// Where to measure: auto, flex, cuda:0, ...
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
    /// Number of sequences in a batch.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Length of the prompt, and of the cache when decoding, in tokens.
    #[arg(long, default_value_t = 1024)]
    seq_len: usize,
    /// Number of measurements of each layer. Their median is used.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Number of blocks of attention and MLP in the Llama architecture to compare a file with; 16 for Llama 1B.
    #[arg(long, default_value_t = 16, value_parser = RangedU64ValueParser::<usize>::new().range(1..=Architecture::MAX_LAYERS as u64 / 2))]
    baseline_blocks: usize,
    /// Folder in which to write latency.json; by default that of target.json.
    #[arg(long, value_name = "FOLDER")]
    latency: Option<PathBuf>,
}

impl Args {
    /// Returns the model and the Llama architecture to compare it with.
    fn models(&self, primitives: &Primitives) -> anyhow::Result<(ModelSpec, Architecture)> {
        if let Some(architecture) = &self.architecture {
            let target = Target::named(&self.like)?;
            return Ok((target.model(architecture.read(self.letters.as_ref())?), target.baseline));
        }
        let run = self.run.as_deref().context("name a run's folder or an --architecture")?;
        Ok((read_model(run, primitives)?, baseline::llama(self.baseline_blocks)))
    }

    /// Returns the folder for the times, if any.
    fn folder(&self) -> Option<&Path> {
        fn beside(run: &Path) -> &Path {
            if run.is_dir() { run } else { run.parent().unwrap_or(Path::new("")) }
        }
        self.latency.as_deref().or_else(|| self.run.as_deref().map(beside))
    }
}

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    let primitives = Primitives::standard();
    let (found, llama) = args.models(&primitives)?;
    let llama = ModelSpec { architecture: llama, ..found.clone() };
    let device = device::named(&args.device)?;
    args.folder().map_or(Ok(()), shared::check_folder)?;
    let timing = Timing { batch: args.batch, seq_len: args.seq_len, repeats: args.repeats };
    shared::say_reading(args.architecture.as_ref().map(|_| &found.architecture), &primitives);
    let models = [("llama", &llama), ("found", &found)];
    let architectures = models.map(|(_, model)| &model.architecture);
    let costs = Comparison::new(models, &primitives, Workload::bf16(args.seq_len as u64))?;
    LayerTimes::check(architectures, &found, &primitives, timing, &device.device)?;
    println!("measuring on {device}: at most {}", shared::expected(work(&models, &primitives, timing)?));
    let times = LayerTimes::measure(architectures, &found, &primitives, timing, &device.device)?;
    println!("{times}\n\n{}", costs.with_times(&times));
    let Some(folder) = args.folder() else { return Ok(()) };
    let latency = Latency { device: device.to_string(), dims: found.dims.clone(), times };
    let elsewhere = || format!("cannot write into {}: name another folder with --latency", shared::shown(folder));
    if args.latency.is_some() {
        fs::create_dir_all(folder).with_context(elsewhere)?;
    }
    latency.write(folder).with_context(elsewhere)?;
    println!("\nwritten to {}", shared::shown(&folder.join(Latency::FILE)));
    Ok(())
}

/// Returns an upper bound on the floating-point operations: those of reading the prompt with both models as often as it
/// is measured. Only one layer of each kind is measured.
fn work(models: &[(&str, &ModelSpec)], primitives: &Primitives, timing: Timing) -> anyhow::Result<f64> {
    let Timing { batch, seq_len, repeats } = timing;
    let mut per_token = 0.0;
    for (_, model) in models {
        per_token += ModelCost::new(model, primitives, Workload::bf16(seq_len as u64))?.forward_flops_per_token as f64;
    }
    Ok((1 + repeats) as f64 * batch as f64 * seq_len as f64 * per_token)
}
