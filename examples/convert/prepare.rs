//! The parent, the text and the library.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use composer_nas::{
    convert::{
        Alternatives, BlockLibrary, Damages, Gates, LibraryRecipe, NoLayer, Parent, gated_delta_net_like, gates,
        mamba2_like,
    },
    cost::{Budget, CostMetric, ModelCost},
    data::{Corpus, Importer, TextReader, Windows},
    durable,
    import::{self, Description},
    prelude::*,
    primitive::{Attention, SlidingWindow},
    space::SearchSpace,
    train::TokenBatch,
};

use crate::{
    args::{Args, HELD_OUT, Recurrent},
    left, shared,
};

/// The inputs of all methods.
pub struct Prepared {
    pub parent_folder: PathBuf,
    pub parent: Parent,
    pub primitives: Primitives,
    pub corpus: Corpus,
    /// The text for training blocks and gates.
    pub training: Windows,
    pub parts: Parts,
    pub alternatives: Alternatives,
    /// The possible replacements of attention.
    pub others: Vec<Symbol>,
    pub library: Arc<BlockLibrary>,
}

impl Prepared {
    pub fn new(args: &Args) -> anyhow::Result<Self> {
        fs::create_dir_all(args.folder())
            .with_context(|| format!("cannot create {}", shared::shown(&args.folder())))?;
        let parent_folder = parent_folder(args)?;
        let described = import::describe(&parent_folder, &Primitives::paper())?;
        let (primitives, others) = primitives(args, described)?;
        let parent = Parent::open(&parent_folder, &primitives, &device::best()?.device)?;
        let corpus = corpus(args, &parent_folder)?;
        let tokens = corpus.tokens.clone();
        let [training, held_out] = Windows::split(tokens, corpus.vocab_size, args.seq_len, HELD_OUT)?;
        let parts = Parts::new(args, &held_out)?;
        let alternatives = Alternatives::of(&parent.spec().architecture, Symbol::ATTENTION, others.iter().copied());
        let settings = args.blocks();
        let recipe = LibraryRecipe {
            parent: &parent,
            primitives: &primitives,
            alternatives: &alternatives,
            text: &training,
            settings: &settings,
        };
        println!("block library in {}", shared::shown(&args.folder().join("library")));
        let library = BlockLibrary::build(&recipe, args.folder().join("library"), args.threads, &|record| {
            let layer = record.layer + 1;
            let id = &record.primitive;
            println!("  layer {layer:>3} {id}: error {:.4}, {:.4} at the start", record.error, record.start_error);
        })?;
        let library = Arc::new(library);
        Ok(Self { parent_folder, parent, primitives, corpus, training, parts, alternatives, others, library })
    }

    /// Returns the budget in bytes, and the space of architectures within it.
    pub fn space(&self, args: &Args, percent: u32) -> anyhow::Result<(u64, SearchSpace)> {
        let whole = ModelCost::new(self.parent.spec(), &self.primitives, args.workload())?.cache_bytes_per_sequence;
        let max = (u128::from(whole) * u128::from(percent) / 100) as u64;
        let dims = self.parent.spec().dims.clone();
        let budget = Budget { metric: CostMetric::CacheBytesPerSequence, max, dims, workload: args.workload() };
        let mut symbols = self.others.clone();
        symbols.extend(self.parent.spec().architecture.layers());
        symbols.sort_unstable();
        symbols.dedup();
        let constraint = budget.constraint(&symbols, &self.primitives)?;
        Ok((max, self.alternatives.space([constraint])?))
    }

    /// Trains gates for all layers, or reads them from `path`.
    pub fn gates(&self, other: Symbol, settings: &Gates, path: &Path) -> anyhow::Result<Damages> {
        let library = self.library.fingerprint();
        if let Some((used, whose, gates)) = left::<(Gates, String, Vec<(usize, f64)>)>(path)?
            && (&used, whose.as_str()) == (settings, library)
        {
            return Ok(gates.into_iter().map(|(layer, gate)| ((layer, other), gate)).collect());
        }
        let batches = self.training.sample(settings.steps as u64, 1)?;
        let found = gates(&self.library, &self.alternatives, other, &batches, settings)?;
        let plain: Vec<(usize, f64)> = found.iter().map(|(&(layer, _), &gate)| (layer, gate)).collect();
        let text = serde_json::to_vec(&(settings, library, plain))?;
        durable::write(path, &text).with_context(|| shared::shown(path))?;
        Ok(found)
    }
}

/// Held-out windows of text, each of which is one batch.
pub struct Parts {
    /// Windows for evaluating candidates.
    pub choosing: Vec<TokenBatch>,
    /// Windows for the best trials of a search.
    pub deciding: Vec<TokenBatch>,
    /// Windows for comparing the methods.
    pub testing: Vec<TokenBatch>,
}

impl Parts {
    /// Chooses windows that are spread evenly over the text: every second one for deciding, as many as needed; of the
    /// others, those for choosing are spread evenly among those for testing.
    fn new(args: &Args, text: &Windows) -> anyhow::Result<Self> {
        let wanted = args.choose_windows.saturating_add(args.test_windows).max(args.decide_windows);
        let both = wanted.saturating_mul(2);
        let windows = text.sample(both.min(text.count()), 1)?;
        ensure!(
            windows.len() as u64 == both,
            "the text has {} held-out windows of {} tokens, but {} are needed: use more text, or lower --choose-windows, \
             --decide-windows or --test-windows",
            windows.len(),
            args.seq_len,
            both
        );
        let every = |count: u64| wanted.div_ceil(count).max(1) as usize;
        let mut parts = Self { choosing: Vec::new(), deciding: Vec::new(), testing: Vec::new() };
        for (at, window) in windows.into_iter().enumerate() {
            let place = at / 2;
            let is_for = |part: &Vec<TokenBatch>, count| place % every(count) == 0 && (part.len() as u64) < count;
            if at % 2 == 1 {
                if (parts.deciding.len() as u64) < args.decide_windows {
                    parts.deciding.push(window);
                }
            } else if is_for(&parts.choosing, args.choose_windows) {
                parts.choosing.push(window);
            } else if (parts.testing.len() as u64) < args.test_windows {
                parts.testing.push(window);
            }
        }
        Ok(parts)
    }
}

/// Returns the folder of the parent, which is created if the parent is a GGUF file.
fn parent_folder(args: &Args) -> anyhow::Result<PathBuf> {
    if args.parent.is_dir() {
        return Ok(args.parent.clone());
    }
    ensure!(
        args.parent.is_file(),
        "{} does not exist: run examples/fetch_model.sh, or set --parent",
        shared::shown(&args.parent)
    );
    check_source(&args.folder().join("parent.json"), std::slice::from_ref(&args.parent))?;
    let folder = args.folder().join("parent");
    if !folder.exists() {
        println!("unpacking {}", shared::shown(&args.parent));
        import::unpack_gguf(&args.parent, &folder)?;
    }
    Ok(folder)
}

/// Returns the text in the tokens of the parent.
fn corpus(args: &Args, parent: &Path) -> anyhow::Result<Corpus> {
    let folder = args.folder().join("tokens");
    let tokenizer = parent.join("tokenizer.json");
    if !tokenizer.is_file() {
        bail!(
            "{} does not exist: the text must be tokenized with the parent's own tokenizer",
            shared::shown(&tokenizer)
        );
    }
    let files = shared::texts(&args.text).with_context(|| {
        format!("no text in {}: run examples/fetch_corpus.sh, or set --text", shared::shown(&args.text))
    })?;
    let sources: Vec<PathBuf> = files.iter().cloned().chain([tokenizer.clone()]).collect();
    check_source(&args.folder().join("text.json"), &sources)?;
    if !folder.join("corpus.json").exists() {
        println!("tokenizing {} texts of {}", files.len(), shared::shown(&args.text));
        Importer::load(&tokenizer, None)?.import(TextReader::new(files), &folder)?;
    }
    Ok(Corpus::open(&folder)?)
}

/// Records the names and sizes of the files that a part of the run was created from; returns an error if they have
/// changed.
fn check_source(path: &Path, files: &[PathBuf]) -> anyhow::Result<()> {
    let size = |file: &PathBuf| {
        let bytes = fs::metadata(file).with_context(|| shared::shown(file))?.len();
        Ok((file.file_name().unwrap_or_default().to_string_lossy().into_owned(), bytes))
    };
    let files: Vec<(String, u64)> = files.iter().map(size).collect::<anyhow::Result<_>>()?;
    match left::<Vec<(String, u64)>>(path)? {
        None => durable::write(path, &serde_json::to_vec(&files)?).with_context(|| shared::shown(path)),
        Some(known) if known == files => Ok(()),
        Some(_) => {
            bail!("according to {}, the run was created from other files: choose another --run", shared::shown(path))
        }
    }
}

/// Returns the primitives, and which of them can replace attention.
fn primitives(args: &Args, parent: Description) -> anyhow::Result<(Primitives, Vec<Symbol>)> {
    let Description { spec: ModelSpec { architecture, dims, .. }, primitives: mut all } = parent;
    let dims = &dims;
    let id = all.get(Symbol::ATTENTION)?.id();
    let has_attention = architecture.count(Symbol::ATTENTION) > 0 && id == Attention.id();
    ensure!(
        has_attention,
        "the parent has no plain attention to replace: its layers are {architecture}, and A is {id}"
    );
    let mut others = Vec::new();
    let fits = |layer: Option<_>| layer.context("the total width of the parent's heads differs from its model width");
    if args.window > 0 {
        all = all.with(SlidingWindow::new(args.window)?)?;
        others.push(Symbol::SLIDING_WINDOW);
    }
    if args.recurrent.contains(&Recurrent::Mamba2) {
        all = all.with(
            mamba2_like(dims).context("the width of the parent's queries is not a multiple of its model width")?,
        )?;
        others.push(Symbol::MAMBA2);
    }
    if args.recurrent.contains(&Recurrent::GatedDeltaNet) {
        all = all.with(fits(gated_delta_net_like(dims))?)?;
        others.push(Symbol::GATED_DELTA_NET);
    }
    if args.leave_out {
        all = all.with(NoLayer)?;
        others.push(NoLayer::SYMBOL);
    }
    Ok((all, others))
}
