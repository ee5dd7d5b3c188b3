//! Exports the result of a search to a folder that other tools can load.
//!
//! `cargo run --release --example export -- runs/NAME` reads `runs/NAME/target.json`, which the example `search` wrote,
//! and writes `runs/NAME/export`: a Hugging Face transformers folder with a model card but without weights and, if
//! Megatron-LM can express the model, a launch script for it. `runs/NAME/front2.json` instead of the run exports the
//! second model along the front of a search with several objectives, to `runs/NAME/export-front2`; `--front` exports
//! all of them. `--target llama_3b` scales the small architecture of the run to another size and exports that, to
//! `runs/NAME/export-llama_3b`. `--help` lists the options.

#[macro_use]
mod shared;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow, ensure};
use clap::{Parser, ValueEnum};
use composer_nas::{
    dims::{Positions, QueryKeyNorm},
    durable,
    export::{self, ExportError, Format, Options, Provenance, SpecialTokens, StoredPrecision, Warning},
    extrapolate::{Cycle, EqualSize, Extrapolator, Stack, Stretch},
    import,
    pipeline::{RunFolder, read_model},
    prelude::*,
    primitive::CustomAttention,
    text::{causes, line},
    weights,
};

/// Writes the result of a search as a folder that transformers, vLLM, llama.cpp and lm-evaluation-harness can load.
#[derive(Debug, Parser)]
struct Args {
    /// Folder of a search that has ended, or of a pre-training; or a file with a model, such as target.json.
    run: PathBuf,
    /// The folder to write; by default `export` in the folder of the run, or `export-NAME` for a file NAME.json.
    out: Option<PathBuf>,
    /// Export every model along the front of a search with several objectives.
    #[arg(long, conflicts_with_all = ["out", "weights"])]
    front: bool,
    /// Scale the small architecture of the run to this size instead, with the extrapolator of the search: the name or
    /// JSON file of a target, as for `search`. Written to `export-SIZE` in the folder of the run. Can be repeated.
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["out", "weights", "front"])]
    target: Vec<String>,
    /// The model class that the folder is for.
    #[arg(long, value_enum, default_value_t = FormatArg::Auto)]
    format: FormatArg,
    /// The attention variant of the symbol A, which makes other formats possible. Train the weights with the same
    /// variant.
    #[arg(long, value_enum, default_value_t = AttentionArg::Plain, conflicts_with = "weights")]
    attention: AttentionArg,
    /// Number format of the weights.
    #[arg(long, value_enum, default_value_t = PrecisionArg::Bf16)]
    precision: PrecisionArg,
    /// Also write weights, initialised at random with this seed.
    #[arg(long, value_name = "SEED", conflicts_with = "weights")]
    draw: Option<u64>,
    /// Take the weights from this folder: a checkpoint of a pre-training or an exported model.
    #[arg(long, value_name = "FOLDER")]
    weights: Option<PathBuf>,
    /// Maximum size of a weights file, in megabytes.
    #[arg(long, default_value_t = 5000)]
    shard: u64,
    /// Maximum sequence length to declare.
    #[arg(long, default_value_t = 4096)]
    positions: usize,
    /// Folder with a tokenizer.json.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Token id that starts a text.
    #[arg(long)]
    bos: Option<u32>,
    /// Token id that ends a text.
    #[arg(long)]
    eos: Option<u32>,
    /// Replace an existing model.
    #[arg(long)]
    overwrite: bool,
    /// Turn warnings into errors.
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    Auto,
    DeciLm,
    LlamaCpp,
    Llama,
    NemotronH,
    Mamba2,
    Lfm2,
    Qwen3,
    Bamba,
    Granite,
    Qwen3Next,
    Flat,
}

impl FormatArg {
    /// Returns the format of the library.
    fn format(self) -> Format {
        match self {
            Self::Auto => Format::Auto,
            Self::DeciLm => Format::DeciLm,
            Self::LlamaCpp => Format::LlamaCpp,
            Self::Llama => Format::Llama,
            Self::NemotronH => Format::NemotronH,
            Self::Mamba2 => Format::Mamba2,
            Self::Lfm2 => Format::Lfm2,
            Self::Qwen3 => Format::Qwen3,
            Self::Bamba => Format::Bamba,
            Self::Granite => Format::GraniteMoeHybrid,
            Self::Qwen3Next => Format::Qwen3Next,
            Self::Flat => Format::Flat,
        }
    }

    /// Returns the flag's value for a format.
    fn name_of(format: Format) -> String {
        let argument = Self::value_variants().iter().find(|argument| argument.format() == format);
        let value = argument.and_then(ValueEnum::to_possible_value);
        value.map_or_else(|| format!("{format:?}"), |value| value.get_name().to_owned())
    }
}

/// The attention variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AttentionArg {
    /// Rotary embedding on all channels, as in Llama.
    Plain,
    /// No position embedding, as in Nemotron-H.
    NoPositions,
    /// Query and key norms per head, as in Qwen3 and LFM2.
    Norms,
    /// Rotary embedding on half of each head, as in Bamba.
    Half,
    /// Rotary embedding on a quarter of each head, with norms and a gate, as in Qwen3-Next.
    Gated,
}

impl AttentionArg {
    /// Returns the standard layers with this attention.
    fn primitives(self) -> Primitives {
        let usual = CustomAttention::default();
        let norm = QueryKeyNorm::PerHead;
        let variant = match self {
            Self::Plain => return Primitives::standard(),
            Self::NoPositions => CustomAttention { positions: Positions::None, ..usual },
            Self::Norms => CustomAttention { norm, ..usual },
            Self::Half => CustomAttention { positions: Positions::Partial(50), ..usual },
            Self::Gated => CustomAttention { positions: Positions::Partial(25), norm, gate: true, ..usual },
        };
        Primitives::standard().replacing(variant)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PrecisionArg {
    F32,
    F16,
    Bf16,
}

fn main() -> ExitCode {
    shared::carry_out(|| run(&Args::parse()))
}

fn run(args: &Args) -> anyhow::Result<()> {
    if !args.target.is_empty() {
        return args.target.iter().try_for_each(|name| export(args, &scaled(&args.run, name)?));
    }
    if !args.front {
        return export(args, &args.run);
    }
    ensure!(args.run.is_dir(), "--front: name the folder of a run, not {}", args.run.display());
    let models = (1..).map(|band| args.run.join(format!("front{band}.json"))).take_while(|file| file.is_file());
    let models: Vec<_> = models.collect();
    let none = "--front: there is no front1.json in";
    ensure!(!models.is_empty(), "{none} {}: only a search with several objectives writes it", args.run.display());
    models.iter().try_for_each(|model| export(args, model))
}

/// Scales the small architecture of a run to a target, and writes the model beside that of the run.
fn scaled(run: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let target = shared::target(name, "--target")?;
    let primitives = Primitives::standard();
    let RunFolder { folder, setup, summary, .. } = RunFolder::read(run)?;
    let summary = summary.context("--target: the search has no result yet: run it to its end")?;
    let extrapolator = extrapolator(setup.extrapolator.as_deref())?;
    let model = extrapolator.extrapolate(&summary.architecture, &target, &primitives)?;
    // A file of a target has the name that a person gave it.
    let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy();
    let path = folder.join(format!("{stem}.json"));
    let ours = ["architecture", "target", "front"].contains(&&*stem);
    ensure!(!ours && path != Path::new(name), "--target {name}: {} is in use, rename the target", shared::shown(&path));
    durable::write(&path, &serde_json::to_vec_pretty(&model)?).with_context(|| shared::shown(&path))?;
    Ok(path)
}

/// Returns the extrapolator with this fingerprint; runs of earlier versions have none and used `Auto`.
fn extrapolator(fingerprint: Option<&str>) -> anyhow::Result<Box<dyn Extrapolator>> {
    let all: [Box<dyn Extrapolator>; 5] =
        [Box::new(Auto), Box::new(Cycle), Box::new(EqualSize), Box::new(Stack), Box::new(Stretch)];
    let wanted = fingerprint.map_or_else(|| Auto.fingerprint(), Into::into);
    let found = all.into_iter().find(|extrapolator| extrapolator.fingerprint() == wanted);
    found.with_context(|| format!("--target: the run was scaled by {}, which this program lacks", line(&wanted)))
}

/// Exports one model, that of a run's folder or of a file.
fn export(args: &Args, of: &Path) -> anyhow::Result<()> {
    // Read the run with the layers of the search, whatever is exported.
    let spec = read_model(of, &Primitives::standard())?;
    let primitives = args.attention.primitives();
    let run = if of.is_dir() { of } else { of.parent().unwrap_or(Path::new(".")) };
    let stem = of.file_stem().filter(|stem| of.is_file() && *stem != "target" && *stem != "run");
    let folder = stem.map_or("export".into(), |stem| format!("export-{}", stem.to_string_lossy()));
    let out = args.out.clone().unwrap_or_else(|| run.join(folder));
    let name = run.canonicalize().ok().and_then(|run| Some(run.file_name()?.to_string_lossy().into_owned()));
    let options = Options {
        name,
        format: args.format.format(),
        precision: match args.precision {
            PrecisionArg::F32 => StoredPrecision::F32,
            PrecisionArg::F16 => StoredPrecision::F16,
            PrecisionArg::Bf16 => StoredPrecision::Bf16,
        },
        shard_bytes: args.shard.saturating_mul(1_000_000),
        max_positions: args.positions,
        tokens: SpecialTokens { bos: args.bos, eos: args.eos, pad: None },
        tokenizer: args.tokenizer.clone(),
        provenance: provenance(run)?,
        overwrite: args.overwrite,
        strict: args.strict,
    };
    let device = Device::flex();
    let model = match (&args.weights, args.draw) {
        (Some(folder), _) if folder.join("config.json").is_file() => {
            Some(import::hugging_face(folder, &primitives, &device, import::Rope::Halves)?.model)
        }
        (Some(folder), _) => {
            let model = HybridLm::new(&spec, &primitives, Seed(0), &device)?;
            Some(weights::load(model, &folder.join("model.safetensors"))?)
        }
        (None, Some(seed)) => Some(HybridLm::new(&spec, &primitives, Seed(seed), &device)?),
        (None, None) => None,
    };
    let exported = export::hugging_face(&spec, model.as_ref(), &primitives, &out, &options);
    let exported = exported.map_err(by_flags)?;
    println!("{} as {}: {}", spec.architecture, exported.model_type, exported.files.join(", "));
    println!("{}", possible(&spec, &primitives));
    exported.warnings.iter().for_each(|warning| println!("warning: {}", line(&warned(warning))));
    match export::megatron(&spec, &primitives, &export::MegatronTraining::default()) {
        Ok(script) => {
            let path = out.with_extension("megatron.sh");
            fs::write(&path, script.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
            println!("{} for Megatron-LM: {}", script.pattern, shared::shown(&path));
        }
        Err(error) => println!("no launch script: {}", line(&causes(&error))),
    }
    println!("written to {}", shared::shown(&out));
    Ok(())
}

/// Says which formats can hold the model, and why not the others where it is `flat` alone.
fn possible(spec: &ModelSpec, primitives: &Primitives) -> String {
    let (fit, others): (Vec<_>, Vec<_>) =
        export::formats(spec, primitives).into_iter().partition(|(_, fits)| fits.is_ok());
    let names = |formats: &[(Format, _)]| {
        formats.iter().map(|&(format, _)| FormatArg::name_of(format)).collect::<Vec<_>>().join(", ")
    };
    let fitting = format!("possible values of --format: {}", names(&fit));
    if fit.iter().any(|&(format, _)| format != Format::Flat) {
        return match others.is_empty() {
            true => fitting,
            false => format!("{fitting}; not {} (ask for one to see why)", names(&others)),
        };
    }
    let why = others.iter().filter_map(|(format, fits)| match fits {
        Ok(()) => None,
        Err(ExportError::Format { reason, .. }) => {
            Some(format!("not {}: {}", FormatArg::name_of(*format), line(reason)))
        }
        Err(other) => Some(line(&causes(other))),
    });
    [fitting].into_iter().chain(why).collect::<Vec<_>>().join("\n")
}

/// Returns an error in the words of the flags.
fn by_flags(error: ExportError) -> anyhow::Error {
    match &error {
        ExportError::Format { format, reason } => {
            let format = FormatArg::name_of(*format);
            anyhow!("--format {format} cannot express the model: {reason}; --format flat can")
        }
        ExportError::Occupied { path } => anyhow!(
            "{} already exists: choose another name, empty it, or add --overwrite (which only replaces a folder that \
             has a config.json)",
            path.display()
        ),
        ExportError::Positions(_) => anyhow::Error::from(error).context("--positions"),
        ExportError::Overflow { tensor, precision } => {
            anyhow!("{tensor} has weights that are too large for {}: use --precision bf16 or f32", precision.name())
        }
        ExportError::Refused(warning) => anyhow!("refused because of --strict: {}", warned(warning)),
        _ => error.into(),
    }
}

/// Returns a warning in the words of the flags.
fn warned(warning: &Warning) -> String {
    match warning {
        Warning::FirstBlockWithoutAttention => {
            "block 0 has no attention, but vLLM needs one there: use --format llama-cpp, which adds one of zeros, if vLLM \
             is to serve the model"
                .into()
        }
        other => other.to_string(),
    }
}

/// Returns how the architecture was found, if the folder is that of a run.
fn provenance(run: &Path) -> anyhow::Result<Option<Provenance>> {
    let journal = run.join("journal.jsonl");
    Ok(if journal.is_file() { Some(Provenance::read(journal)?) } else { None })
}
