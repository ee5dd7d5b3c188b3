//! Time of every layer against the length of the sequence, as Markdown.
//!
//! `cargo bench --bench layers` trains each primitive of `Primitives::standard()` forward and backward on one sequence
//! at lengths from 128 to 8192, and decodes with it. `-- --batch 32 --width 32 --lengths 32,48` measures the size of a
//! proxy, `-- --layers A,B` selects. All measurements of a round follow each other, and the best round counts, so that
//! what else the machine does meets all layers alike. Times are CPU seconds of one thread where the system tells them.

use std::{fs, time::Instant};

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use clap::Parser;
use composer_nas::{
    device,
    dims::{Dims, InitScheme},
    layer::{Block, LayerCache, WeightInit},
    primitive::{Primitive, Primitives},
    seed::Seed,
};

/// The allocator of the examples.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time of every layer against the length of the sequence.
#[derive(Parser)]
struct Options {
    /// Symbols of the layers; all of the standard set by default.
    #[arg(long, value_delimiter = ',')]
    layers: Vec<String>,
    /// Model width; heads are 32 wide, or a quarter of the width where that is less.
    #[arg(long, default_value_t = 256)]
    width: usize,
    /// Sequences.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Lengths; times are stated relative to the first.
    #[arg(long, value_delimiter = ',', default_value = "128,256,512,1024,2048,4096,8192")]
    lengths: Vec<usize>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Tokens of a prefill before 32 tokens are decoded one by one; 0 leaves this table out.
    #[arg(long, default_value_t = 1024)]
    prefill: usize,
    /// Where to compute: auto, flex, cuda:0, ...
    #[arg(long, default_value = "flex")]
    device: String,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One layer, for training and for decoding.
struct Layer {
    name: String,
    training: Block,
    decoding: Block,
}

/// Seconds that `work` takes on a processor, in wall time on an accelerator, which is waited for. It is repeated for a
/// fifth of a second, because the system counts in steps of milliseconds.
fn seconds(device: &Device, mut work: impl FnMut()) -> f64 {
    let cpu = || fs::read_to_string("/proc/thread-self/schedstat").ok()?.split_whitespace().next()?.parse::<f64>().ok();
    device.sync().expect("a device that works");
    let wall = Instant::now();
    let start = cpu().filter(|_| !device::is_accelerator(device));
    let mut times = 0.0;
    while wall.elapsed().as_secs_f64() < 0.2 {
        work();
        device.sync().expect("a device that works");
        times += 1.0;
    }
    match start.zip(cpu()) {
        Some((start, end)) => (end - start) * 1e-9 / times,
        None => wall.elapsed().as_secs_f64() / times,
    }
}

fn input(batch: usize, seq: usize, width: usize, device: &Device) -> Tensor<3> {
    let values: Vec<f32> = (0..batch * seq * width).map(|i| (1.7 * i as f32 + (0.37 * i as f32).cos()).sin()).collect();
    Tensor::from_data(TensorData::new(values, [batch, seq, width]), device)
}

/// Forward and backward; seconds per token.
fn train(layer: &Layer, options: &Options, seq: usize, device: &Device) -> f64 {
    let x = input(options.batch, seq, options.width, &device.clone().autodiff()).require_grad();
    let spent = seconds(device, || {
        let gradients = (layer.training.forward(x.clone()) * 0.5).sum().backward();
        x.grad(&gradients).expect("a gradient");
    });
    spent / (options.batch * seq) as f64
}

/// Seconds per token of a prefill and of the 32 tokens behind it, one by one.
fn decode(layer: &Layer, options: &Options, device: &Device) -> [f64; 2] {
    const TOKENS: usize = 32;
    let [prompt, token] = [options.prefill, 1].map(|seq| input(options.batch, seq, options.width, device));
    let prefill = seconds(device, || drop(layer.decoding.step(prompt.clone(), &mut LayerCache::default())));
    let mut full = LayerCache::default();
    layer.decoding.step(prompt.clone(), &mut full);
    let steps = seconds(device, || {
        let mut memory = full.clone();
        (0..TOKENS).for_each(|_| drop(layer.decoding.step(token.clone(), &mut memory)));
    });
    [prefill / (options.batch * options.prefill) as f64, steps / (options.batch * TOKENS) as f64]
}

fn build(primitive: &dyn Primitive, dims: &Dims, device: &Device) -> anyhow::Result<Layer> {
    let mut init = WeightInit::new(InitScheme::FanIn, Seed(1).rng("bench", 0));
    let decoding = primitive.build(dims, &mut init, device)?;
    let mut init = WeightInit::new(InitScheme::FanIn, Seed(1).rng("bench", 0));
    let training = primitive.build(dims, &mut init, &device.clone().autodiff())?.train();
    Ok(Layer { name: format!("{} `{}`", primitive.symbol(), primitive.id()), training, decoding })
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let device = device::named(&options.device)?.device;
    let primitives = Primitives::standard();
    let head = (options.width / 4).clamp(1, 32);
    let dims = Dims::new(options.width, 3 * options.width, options.width / head)?;
    let wanted = |symbol: String| options.layers.is_empty() || options.layers.contains(&symbol);
    let chosen = primitives.iter().filter(|primitive| wanted(primitive.symbol().to_string()));
    let layers: Vec<Layer> = chosen.map(|primitive| build(primitive, &dims, &device)).collect::<Result<_, _>>()?;
    anyhow::ensure!(!options.lengths.is_empty(), "give at least one length");

    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let mut training = vec![vec![f64::INFINITY; options.lengths.len()]; layers.len()];
    let mut decoding = vec![[f64::INFINITY; 2]; layers.len()];
    for _ in 0..options.rounds.max(1) {
        for (at, &seq) in options.lengths.iter().enumerate() {
            for (layer, best) in layers.iter().zip(&mut training) {
                best[at] = best[at].min(pool.install(|| train(layer, &options, seq, &device)));
            }
        }
        for (layer, best) in layers.iter().zip(&mut decoding).filter(|_| options.prefill > 0) {
            let now = pool.install(|| decode(layer, &options, &device));
            *best = std::array::from_fn(|i| best[i].min(now[i]));
        }
    }

    let row = |cells: Vec<String>| println!("| {} |", cells.join(" | "));
    let header = options.lengths.iter().map(ToString::to_string);
    println!(
        "\nForward and backward, width {}, batch {}: microseconds per token at the first length, then",
        options.width, options.batch
    );
    println!("time per token relative to that.\n");
    row(["layer".into()].into_iter().chain(header).collect());
    row(vec!["---".into(); options.lengths.len() + 1]);
    for (layer, best) in layers.iter().zip(&training) {
        let relative = best[1..].iter().map(|seconds| format!("{:.2}", seconds / best[0]));
        row([layer.name.clone(), format!("{:.1} µs", best[0] * 1e6)].into_iter().chain(relative).collect());
    }
    if options.prefill > 0 {
        println!(
            "\nDecoding: microseconds per token of a prefill of {} tokens, and of a step behind it.\n",
            options.prefill
        );
        row(["layer", "prefill", "step"].map(String::from).to_vec());
        row(vec!["---".into(); 3]);
        for (layer, [prefill, step]) in layers.iter().zip(&decoding) {
            row(vec![layer.name.clone(), format!("{:.1}", prefill * 1e6), format!("{:.1}", step * 1e6)]);
        }
    }
    Ok(())
}
