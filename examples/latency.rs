//! How fast a found model is on this device, beside Llama: `cargo run --release --example latency -- runs/NAME/target.json`.
//!
//! Every kind of layer is timed once, reading a prompt and decoding with a full cache; a model takes the sum of its layers.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use composer_nas::{
    cost::{LayerTimes, Timing},
    prelude::*,
    space::baseline,
};

/// Training allocates much and briefly, which this allocator takes well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Times a model against Llama's sequence of the same number of blocks.
#[derive(Debug, Parser)]
struct Args {
    /// What a search wrote.
    target: PathBuf,
    /// Where to measure: auto, flex, cuda:0, ...
    #[arg(long, default_value = "auto")]
    device: String,
    /// Sequences at once.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Tokens of the prompt, and of the cache while decoding.
    #[arg(long, default_value_t = 1024)]
    seq_len: usize,
    /// Measurements of each layer; the median counts.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Blocks of attention and MLP in Llama's sequence; 16 for Llama 1B.
    #[arg(long, default_value_t = 16)]
    baseline_blocks: usize,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let text =
        std::fs::read_to_string(&args.target).with_context(|| format!("cannot read {}", args.target.display()))?;
    let found: ModelSpec =
        serde_json::from_str(&text).with_context(|| format!("{} holds no model", args.target.display()))?;
    let device = device::named(&args.device)?;
    let llama = baseline::llama(args.baseline_blocks);
    let timing = Timing { batch: args.batch, seq_len: args.seq_len, repeats: args.repeats };
    println!("measuring on {device}");
    let models = [("llama", &llama), ("found", &found.architecture)];
    let architectures = models.map(|(_, architecture)| architecture);
    let times = LayerTimes::measure(architectures, &found, &Primitives::standard(), timing, &device.device)?;
    println!("{times}\n");
    println!("model        prefill ms   decode ms   against llama");
    let first = times.of(&llama);
    for (name, architecture) in models {
        if let (Some(time), Some(llama)) = (times.of(architecture), first) {
            let (prefill, decode) = (llama.prefill / time.prefill, llama.decode / time.decode);
            println!(
                "{name:<8} {:>14.1} {:>11.2}   {prefill:.2}x, {decode:.2}x as fast",
                1e3 * time.prefill,
                1e3 * time.decode
            );
        }
    }
    Ok(())
}
