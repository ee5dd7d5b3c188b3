//! Speed of the trainer on one core, and of two trainings side by side.
//!
//! `cargo bench --bench train_step` measures everything; `-- decoder` selects a workload, `-- --evaluate` carries out
//! one evaluation of the protocol `quick` and reads the peak memory of the process, and `-- decoder --brief 20` prints
//! only the tokens per second of that many steps, by wall and by CPU time, for the scripts that compare with others.
//! `-- --at-once 1,8` compares numbers of trainings at once in one evaluation. `-- --row DATE` prints one line with
//! these numbers, for the table of devices in docs/gpu.md. On a device of the feature `wgpu`, `-- --launches` counts
//! what a step asks of it.
//!
//! CPU seconds are those of the training thread (`/proc/thread-self/schedstat`), so they hold on a busy machine as
//! well; elsewhere than on Linux, and on an accelerator (`--device cuda:0`), they are wall seconds.

use std::{fs, ops::ControlFlow, time::Instant};

use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use clap::Parser;
use composer_nas::{
    device,
    dims::{Dims, InitScheme},
    evaluate::{
        CancelToken, Context, Evaluator,
        mad::{Mad, Protocol},
    },
    model::{HybridLm, ModelSpec, Network},
    primitive::Primitives,
    seed::{Rng, Seed},
    space::Architecture,
    study::{Origin, Trial, TrialId},
    train::{
        AdamWConfig, Evaluation, LrSchedule, Precision, TokenBatch, TrainConfig, clip_global_norm, cross_entropy, train,
    },
};
use rand::RngExt;

#[cfg(feature = "wgpu")]
#[path = "../tests/devices/counts.rs"]
mod counts;

/// The allocator of the examples.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Speed of the trainer.
#[derive(Parser)]
struct Options {
    /// One of the workloads: decoder, recall, copying; all by default.
    workload: Option<String>,
    /// Where to train: auto, flex, cuda:0, ...
    #[arg(long, default_value = "flex")]
    device: String,
    /// Carry out one evaluation of `quick` instead.
    #[arg(long)]
    evaluate: bool,
    /// Carry out evaluations of `quick` with these numbers of trainings at once, in turns, and compare their times with
    /// the first: such as 1,2,4,8.
    #[arg(long, value_delimiter = ',')]
    at_once: Vec<usize>,
    /// What is evaluated.
    #[arg(long, default_value = "AAMMMM")]
    architecture: Architecture,
    /// How often each number of --at-once is measured.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Print only tokens per second of so many steps.
    #[arg(long)]
    brief: Option<usize>,
    /// Print only a line for the table of devices, with this date: such as 2026-11-29.
    #[arg(long)]
    row: Option<String>,
    /// Count kernel launches, read-backs, writes and submissions of a step instead.
    #[arg(long)]
    launches: bool,
    /// Print only the vocabularies, batches and lengths of the workloads.
    #[arg(long)]
    shapes: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is trained.
struct Workload {
    name: &'static str,
    spec: ModelSpec,
    batch: usize,
    seq: usize,
    device: Device,
}

impl Workload {
    fn all(device: &Device) -> Vec<Self> {
        let quick = Protocol::quick();
        let spec = |architecture: &str, dims: &Dims, vocab_size| ModelSpec {
            architecture: architecture.parse().expect("an architecture"),
            dims: dims.clone(),
            vocab_size,
            tied_embeddings: false,
            head_bias: true,
            init: InitScheme::FanIn,
        };
        let decoder = spec("AMAM", &Dims::new(128, 256, 8).expect("widths that fit"), 16);
        let proxies = ["recall", "copying"].into_iter().zip(&quick.trainings).map(|(name, training)| Self {
            name,
            spec: spec("AAMMMM", &quick.dims, training.task.vocab_size()),
            batch: training.train.batch_size,
            seq: training.task.input_len(),
            device: device.clone(),
        });
        let device = device.clone();
        [Self { name: "decoder", spec: decoder, batch: 32, seq: 128, device }].into_iter().chain(proxies).collect()
    }

    fn tokens(&self) -> f64 {
        (self.batch * self.seq) as f64
    }

    fn model(&self) -> HybridLm {
        HybridLm::new(&self.spec, &Primitives::standard(), Seed(1), &self.device).expect("a model")
    }

    /// Random tokens; every position is scored.
    fn data(&self, rng: &mut Rng) -> TokenBatch {
        let mut tokens =
            || (0..self.batch * self.seq).map(|_| rng.random_range(0..self.spec.vocab_size as i32)).collect();
        TokenBatch { batch: self.batch, seq: self.seq, inputs: tokens(), targets: tokens() }
    }

    fn config(&self, steps: usize) -> TrainConfig {
        TrainConfig {
            steps,
            batch_size: self.batch,
            schedule: LrSchedule::constant(1e-3),
            optimizer: AdamWConfig::default(),
            clip_norm: Some(1.0),
            evaluate_every: steps,
            log_every: 5,
            stop_above: None,
            precision: Precision::Single,
            recompute: false,
        }
    }

    /// Wall and CPU seconds per step of the trainer.
    fn run(&self, steps: usize) -> [f64; 2] {
        let model = self.model();
        let config = self.config(steps);
        let mut rng = Seed(2).rng("bench", 0);
        let clock = Clock::start(&self.device);
        let trained = train(
            model,
            &config,
            &mut |_| Ok(self.data(&mut rng)),
            &mut |_| Ok(Evaluation { loss: 0.0, accuracy: 0.0 }),
            &mut |_| ControlFlow::Continue(()),
        );
        trained.expect("a training");
        clock.seconds().map(|seconds| seconds / steps as f64)
    }

    /// Prints what a step asks of the device, in steps that do not log and in one that does.
    #[cfg(feature = "wgpu")]
    fn launches(&self) {
        let config = TrainConfig { log_every: 5, ..self.config(1000) };
        let mut trainer = Some(composer_nas::train::Trainer::new(self.model(), &config).expect("a trainer"));
        let mut rng = Seed(2).rng("bench", 0);
        let mut steps = |count| {
            for _ in 0..count {
                let (next, _) = trainer.take().expect("a trainer").step(&[self.data(&mut rng)]).expect("a step");
                trainer = Some(next);
            }
        };
        // Kernels are compiled and chosen first.
        steps(15);
        let ((), silent) = counts::counted(&self.device, || steps(4));
        let ((), logged) = counts::counted(&self.device, || steps(1));
        let each = |count: usize| count as f64 / 4.0;
        let counts::Counts { launches, reads, read_bytes, writes, submits } = silent;
        println!(
            "{}: {} launches, {} writes, {} submissions, {} read-backs ({} bytes) a step; logging adds {} read-backs \
             ({} bytes)",
            self.name,
            each(launches),
            each(writes),
            each(submits),
            each(reads),
            each(read_bytes),
            logged.reads,
            logged.read_bytes
        );
    }

    #[cfg(not(feature = "wgpu"))]
    fn launches(&self) {
        println!("{}: launches are counted with the feature wgpu", self.name);
    }

    /// CPU seconds per step of the parts of a step: forward, backward, clipping, update.
    fn parts(&self, steps: usize) -> [f64; 4] {
        let mut model = self.model().train();
        let device = self.device.clone().autodiff();
        let mut optimizer = AdamWConfig::default().init();
        let mut rng = Seed(2).rng("bench", 0);
        let mut parts = [0.0; 4];
        for _ in 0..steps {
            let batch = self.data(&mut rng);
            let mut clock = Clock::start(&self.device);
            let loss: Tensor<1> = cross_entropy(model.logits(batch.tokens(&device)), &batch);
            parts[0] += clock.lap();
            let mut gradients = GradientsParams::from_grads(loss.backward(), &model);
            parts[1] += clock.lap();
            clip_global_norm(&model, &mut gradients, Some(1.0));
            parts[2] += clock.lap();
            model = optimizer.step(1e-3, model, gradients);
            parts[3] += clock.lap();
        }
        parts.map(|seconds| seconds / steps as f64)
    }
}

/// Wall time and the time of this thread on a processor. An accelerator is waited for, and only wall time counts.
struct Clock<'a> {
    device: &'a Device,
    wall: Instant,
    cpu: Option<f64>,
}

impl<'a> Clock<'a> {
    fn start(device: &'a Device) -> Self {
        device.sync().expect("a device that works");
        Self { device, wall: Instant::now(), cpu: Self::cpu().filter(|_| !device::is_accelerator(device)) }
    }

    fn cpu() -> Option<f64> {
        let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(text.split_whitespace().next()?.parse::<f64>().ok()? * 1e-9)
    }

    fn seconds(&self) -> [f64; 2] {
        self.device.sync().expect("a device that works");
        let wall = self.wall.elapsed().as_secs_f64();
        [wall, self.cpu.zip(Self::cpu()).map_or(wall, |(start, now)| now - start)]
    }

    /// CPU seconds since the start or the last lap.
    fn lap(&mut self) -> f64 {
        let [_, cpu] = self.seconds();
        *self = Self::start(self.device);
        cpu
    }
}

/// Runs in a pool of one thread, as a worker of a search does.
fn alone<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread").install(run)
}

/// Component by component, the smallest of five.
fn best<const N: usize>(mut run: impl FnMut() -> [f64; N]) -> [f64; N] {
    (0..5).map(|_| run()).reduce(|a, b| std::array::from_fn(|i| a[i].min(b[i]))).expect("five runs")
}

/// One evaluation of `quick`: accuracy and CPU seconds.
fn evaluate(architecture: &Architecture, at_once: Option<usize>, device: &Device) -> (f64, f64) {
    let evaluator = Mad::quick(&Primitives::standard(), device);
    let evaluator = at_once.map_or(evaluator.clone(), |count| evaluator.trainings_at_once(count));
    let trial = Trial::new(TrialId(0), architecture.clone(), Seed(1), Origin::Searcher);
    alone(|| {
        let clock = Clock::start(device);
        let report = evaluator.evaluate(&trial, &Context::new(CancelToken::default(), |_| {})).expect("a report");
        (report.scores["accuracy"], clock.seconds()[1])
    })
}

/// Prints the time and the peak memory of one evaluation of `quick`.
fn print_evaluation(architecture: &Architecture, device: &Device) {
    let (score, cpu) = evaluate(architecture, None, device);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim();
    println!("one evaluation of quick: {cpu:.1} s of CPU, accuracy {score:.3}, peak memory {peak}");
}

/// Compares numbers of trainings at once: in each round every number in turn.
fn compare_at_once(options: &Options, device: &Device) {
    let mut seconds = vec![Vec::new(); options.at_once.len()];
    for _ in 0..options.rounds.max(1) {
        for (seconds, &count) in seconds.iter_mut().zip(&options.at_once) {
            let (score, cpu) = evaluate(&options.architecture, Some(count), device);
            println!("{count} at once: {cpu:.2} s, accuracy {score:.6}");
            seconds.push(cpu);
        }
    }
    for (count, own) in options.at_once.iter().zip(&seconds) {
        let mut ratios: Vec<f64> = seconds[0].iter().zip(own).map(|(first, own)| first / own).collect();
        ratios.sort_by(f64::total_cmp);
        let [least, middle, most] = [0, ratios.len() / 2, ratios.len() - 1].map(|at| ratios[at]);
        println!("{count} at once: {middle:.2} times as fast as {} ({least:.2} to {most:.2})", options.at_once[0]);
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let device = device::named(&options.device)?.device;
    if !options.at_once.is_empty() {
        compare_at_once(&options, &device);
        return Ok(());
    }
    if options.evaluate {
        print_evaluation(&options.architecture, &device);
        return Ok(());
    }
    let mut workloads = Workload::all(&device);
    workloads.retain(|workload| options.workload.as_ref().is_none_or(|name| workload.name == name));
    anyhow::ensure!(!workloads.is_empty(), "there are decoder, recall and copying");
    if options.shapes {
        workloads.iter().for_each(|w| println!("{} {} {} {}", w.name, w.spec.vocab_size, w.batch, w.seq));
        return Ok(());
    }
    if options.launches {
        workloads.iter().for_each(Workload::launches);
        return Ok(());
    }
    if let Some(date) = &options.row {
        let part = device::part(&device).unwrap_or("processor".into());
        let speeds = workloads.iter().map(|workload| {
            alone(|| workload.run(20));
            format!("{:.0}", workload.tokens() / alone(|| workload.run(40))[0])
        });
        println!("| {date} | `{}` | {part} | {} |", options.device, speeds.collect::<Vec<_>>().join(" | "));
        return Ok(());
    }
    if let Some(steps) = options.brief {
        for workload in &workloads {
            let [wall, cpu] = alone(|| workload.run(steps.max(1)));
            println!("{} {} {}", workload.name, workload.tokens() / wall, workload.tokens() / cpu);
        }
        return Ok(());
    }
    for workload in &workloads {
        let steps = (60_000.0 / workload.tokens()).ceil() as usize;
        alone(|| workload.run(2));
        let [wall, cpu] = best(|| alone(|| workload.run(steps)));
        let parts = best(|| alone(|| workload.parts(steps))).map(|seconds| format!("{:.2}", seconds * 1e3)).join(" + ");
        let [pair] = best(|| {
            let start = Instant::now();
            std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(|| alone(|| workload.run(steps))))));
            [start.elapsed().as_secs_f64() / (2 * steps) as f64]
        });
        let tokens = workload.tokens();
        println!("{}: {:.0} tokens/s, {:.2} ms of CPU per step", workload.name, tokens / wall, cpu * 1e3);
        println!("  forward + backward + clipping + update: {parts} ms of CPU");
        println!("  two trainings: {:.0} tokens/s, {:.2} times one", tokens / pair, wall / pair);
    }
    Ok(())
}
