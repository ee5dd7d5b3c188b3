//! Every alternative of every layer, ready to be put together.

use std::{
    collections::BTreeMap,
    fs::TryLockError,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Alternatives, ConvertError, LocalDistillation, Parent,
    activations::{Activations, make},
    inherit::{Started, started},
    local,
};
use crate::{
    data::{Sampler, Windows},
    durable,
    layer::{Block, WeightInit},
    limits,
    model::{Backbone, HybridLm, ModelSpec, ResidualBlock},
    primitive::{PrimitiveId, Primitives, Symbol},
    space::Architecture,
    train::{TokenBatch, TrainError},
    weights::{self, parameters},
};

/// Blocks by layer and letter.
type Blocks = BTreeMap<(usize, Symbol), (BlockRecord, Block)>;

/// What is known of one block of a library.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockRecord {
    /// The layer, from 0.
    pub layer: usize,
    /// What stands in its place.
    pub primitive: PrimitiveId,
    /// Steps of training; 0 where all weights are the parent's, or there are none.
    pub steps: usize,
    /// Squared error on held-out windows before the training, over that of adding nothing.
    pub start_error: f64,
    /// The same after the training.
    pub error: f64,
}

/// The alternatives of every layer of a parent, from which candidates are put together without training.
///
/// In its folder a block has one file of weights and one that says what it is; files are whole or absent, so that a
/// library goes on where it was stopped. `library.json` says whose it is: parent, text and settings.
#[derive(Clone, Debug)]
pub struct BlockLibrary {
    parent: Parent,
    blocks: Blocks,
    fingerprint: String,
}

/// What a library is made of.
#[derive(Clone, Copy, Debug)]
pub struct LibraryRecipe<'a> {
    /// Whose layers are replaced.
    pub parent: &'a Parent,
    /// What the letters mean.
    pub primitives: &'a Primitives,
    /// Which blocks there shall be.
    pub alternatives: &'a Alternatives,
    /// The text on which blocks learn.
    pub text: &'a Windows,
    /// How they learn.
    pub settings: &'a LocalDistillation,
}

/// What the blocks depend on besides their primitive.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Setup {
    parent: String,
    text: String,
    settings: LocalDistillation,
}

impl BlockLibrary {
    /// Makes the blocks that `folder` has not yet, on `threads` threads, and reads the others. Each starts as
    /// [`inherit`](super::inherit()) would start it; one that has weights of its own learns to add what the parent's
    /// layer adds. `observer` hears every record, those that were there first.
    ///
    /// # Errors
    /// [`ConvertError`] when the folder is another library or in use, a file is damaged or cannot be written, a
    /// primitive refuses, or a training diverges. What is finished is kept.
    pub fn build(
        recipe: &LibraryRecipe,
        folder: impl AsRef<Path>,
        threads: usize,
        observer: &(dyn Fn(&BlockRecord) + Sync),
    ) -> Result<Self, ConvertError> {
        let &LibraryRecipe { parent, primitives, alternatives, text, settings } = recipe;
        settings.validate()?;
        check_text(parent, text, settings)?;
        let folder = folder.as_ref();
        let blocks_folder = folder.join("blocks");
        make(&blocks_folder)?;
        let _lock = lock(folder)?;
        let setup =
            Setup { parent: parent.fingerprint().into(), text: text.fingerprint()?, settings: settings.clone() };
        claim(&folder.join("library.json"), &setup)?;
        let activations = Activations::in_folder(folder.join("activations"));
        let work = Work { parent, primitives, settings, folder: blocks_folder, activations };
        let mut jobs = Vec::new();
        let mut blocks = Blocks::new();
        for (layer, symbols) in alternatives.replacements() {
            for &symbol in symbols {
                match work.read(layer, symbol)? {
                    Some(known) => {
                        observer(&known.0);
                        blocks.insert((layer, symbol), known);
                    }
                    None => jobs.push((layer, symbol)),
                }
            }
        }
        if !jobs.is_empty() {
            work.prepare(text, &jobs)?;
            blocks.extend(work.carry_out(&jobs, threads, observer)?);
        }
        // Those of a run that was killed after its last block as well.
        work.activations.remove()?;
        let fingerprint = fingerprint(&setup, &blocks);
        Ok(Self { parent: parent.clone(), blocks, fingerprint })
    }

    /// Whose blocks these are.
    pub fn parent(&self) -> &Parent {
        &self.parent
    }

    /// What is known of every block, by layer.
    pub fn records(&self) -> impl Iterator<Item = (Symbol, &BlockRecord)> {
        self.blocks.iter().map(|(&(_, symbol), (record, _))| (symbol, record))
    }

    /// What all its blocks depend on, as text: parent, text and settings, and what the letters stand for.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The specification of a candidate.
    pub fn spec(&self, architecture: &Architecture) -> ModelSpec {
        ModelSpec { architecture: architecture.clone(), ..self.parent.spec().clone() }
    }

    /// A candidate: the parent's layers and, where others are named, the library's. Nothing is copied.
    ///
    /// # Errors
    /// [`ConvertError`] when a block is missing or the number of layers differs.
    pub fn assemble(&self, architecture: &Architecture) -> Result<HybridLm, ConvertError> {
        let own = &self.parent.spec().architecture;
        if own.len() != architecture.len() {
            let [was, is] = [own, architecture].map(|architecture| architecture.len().to_string());
            return Err(ConvertError::OtherModel { field: "the number of layers", was, is });
        }
        let model = self.parent.model();
        let mut layers = Vec::with_capacity(own.len());
        for (index, layer) in model.trunk.layers.iter().enumerate() {
            let symbol = architecture.layers()[index];
            let mixer = match symbol == own.layers()[index] {
                true => &layer.mixer,
                false => match self.blocks.get(&(index, symbol)) {
                    Some((_, block)) => block,
                    None => return Err(ConvertError::NoBlock { layer: index, symbol }),
                },
            };
            layers.push(ResidualBlock { norm: layer.norm.clone(), mixer: mixer.clone() });
        }
        let trunk = Backbone { embedding: model.trunk.embedding.clone(), layers };
        Ok(HybridLm { trunk, norm: model.norm.clone(), head: model.head.clone() })
    }
}

/// Windows of 64 tokens are not those of 32, which have the same letter.
fn fingerprint(setup: &Setup, blocks: &Blocks) -> String {
    let letters: BTreeMap<Symbol, &PrimitiveId> =
        blocks.iter().map(|(&(_, symbol), (record, _))| (symbol, &record.primitive)).collect();
    serde_json::to_string(&(setup, letters)).unwrap_or_default()
}

/// Refuses text that the parent cannot read, or batches beyond any memory.
fn check_text(parent: &Parent, text: &Windows, settings: &LocalDistillation) -> Result<(), ConvertError> {
    let sizes = [settings.batch_size as u64, text.seq() as u64];
    limits::product_at_most("batch_size * seq_len", &sizes, limits::MAX_TOKENS).map_err(TrainError::from)?;
    let [text, parent] = [text.vocab_size(), parent.spec().vocab_size];
    if text > parent { Err(ConvertError::Vocabulary { text, parent }) } else { Ok(()) }
}

/// Keeps other processes out of the folder while it is held.
fn lock(folder: &Path) -> Result<std::fs::File, ConvertError> {
    let path = folder.join("lock");
    let file = durable::open(&path).map_err(ConvertError::io(&path))?;
    match durable::lock(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ConvertError::InUse { path: folder.into() }),
        Err(TryLockError::Error(source)) => Err(ConvertError::Io { path, source }),
    }
}

/// Writes down whose library this is, or checks it.
fn claim(path: &Path, setup: &Setup) -> Result<(), ConvertError> {
    if !path.exists() {
        return write_json(path, setup);
    }
    let then: Setup = read_json(path)?;
    let text = |value: &LocalDistillation| serde_json::to_value(value).unwrap_or(Value::Null).to_string();
    let parts = [
        ("parent", then.parent.clone(), setup.parent.clone()),
        ("text", then.text.clone(), setup.text.clone()),
        ("settings", text(&then.settings), text(&setup.settings)),
    ];
    match parts.into_iter().find(|(_, was, is)| was != is) {
        None => Ok(()),
        Some((part, was, is)) => Err(ConvertError::OtherLibrary { path: path.into(), part: part.into(), was, is }),
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ConvertError> {
    let text = serde_json::to_vec_pretty(value).map_err(std::io::Error::from);
    text.and_then(|text| durable::write(path, &text)).map_err(ConvertError::io(path))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ConvertError> {
    let text = limits::read(path, limits::MAX_DESCRIPTION).map_err(ConvertError::io(path))?;
    serde_json::from_slice(&text)
        .map_err(|error| ConvertError::Damaged { path: path.into(), reason: error.to_string() })
}

/// The making of blocks.
struct Work<'a> {
    parent: &'a Parent,
    primitives: &'a Primitives,
    settings: &'a LocalDistillation,
    folder: PathBuf,
    activations: Activations,
}

impl Work<'_> {
    /// The files of a block: what it is, and its weights.
    fn paths(&self, layer: usize, id: &PrimitiveId) -> [PathBuf; 2] {
        ["json", "safetensors"].map(|end| self.folder.join(format!("layer-{layer:03}-{id}.{end}")))
    }

    /// A block as training begins with it.
    fn start(&self, layer: usize, symbol: Symbol) -> Result<Started, ConvertError> {
        let spec = self.parent.spec();
        let mut init = WeightInit::new(spec.init, self.settings.seed.rng("convert/layer", layer as u64));
        let built = self.primitives.get(symbol)?.build(&spec.dims, &mut init, &self.parent.device())?;
        let layers = spec.architecture.len();
        let own = self.parent.model().trunk.layers.get(layer).ok_or(ConvertError::NoSuchLayer { layer, layers })?;
        started(&own.mixer, built, &spec.dims)
    }

    /// A block that is finished.
    fn read(&self, layer: usize, symbol: Symbol) -> Result<Option<(BlockRecord, Block)>, ConvertError> {
        let id = self.primitives.get(symbol)?.id();
        let [record_path, weights_path] = self.paths(layer, &id);
        if !record_path.exists() {
            return Ok(None);
        }
        let record: BlockRecord = read_json(&record_path)?;
        let damaged =
            |path: &Path, reason: &str| Err(ConvertError::Damaged { path: path.into(), reason: reason.into() });
        if (record.layer, &record.primitive) != (layer, &id) || !record.error.is_finite() {
            return damaged(&record_path, "it is not the record of this block");
        }
        let Started { mut block, whole } = self.start(layer, symbol)?;
        if !whole {
            // A record without weights: they were removed, so that they are made again.
            if !weights_path.exists() {
                return Ok(None);
            }
            block = weights::load(block, &weights_path)?;
            for parameter in parameters(&block) {
                let data = (parameter.read)().map_err(TrainError::from)?;
                if data.iter::<f32>().any(|number| !number.is_finite()) {
                    return damaged(&weights_path, &format!("{} has numbers that are not finite", parameter.name));
                }
            }
        }
        Ok(Some((record, block)))
    }

    /// How many batches are trained on; those behind them are held out.
    fn training_batches(&self) -> usize {
        (self.settings.windows as usize).div_ceil(self.settings.batch_size)
    }

    fn all_batches(&self) -> usize {
        self.training_batches() + (self.settings.held_out as usize).div_ceil(self.settings.batch_size)
    }

    /// Computes the activations that the jobs need.
    fn prepare(&self, text: &Windows, jobs: &[(usize, Symbol)]) -> Result<(), ConvertError> {
        let mut trained = Vec::new();
        let mut all = Vec::new();
        for &(layer, symbol) in jobs {
            let Started { whole, .. } = self.start(layer, symbol)?;
            all.push(layer);
            trained.extend((!whole).then_some(layer));
        }
        all.dedup();
        trained.dedup();
        let wanted = (self.all_batches() as u64).saturating_mul(self.settings.batch_size as u64);
        if !trained.is_empty() && wanted > text.count() {
            // They would begin again, with what is held out.
            let remedy = "the text has fewer of this length: give more text, or lower windows or seq_len";
            return Err(ConvertError::Setting { name: "windows + held_out", value: wanted.to_string(), remedy });
        }
        self.activations.make()?;
        let mut sampler = Sampler::new(text.clone(), self.settings.seed.derive("convert/text", 0));
        let size = self.settings.batch_size;
        for number in 0..self.all_batches() {
            let layers = if number < self.training_batches() { &trained } else { &all };
            let batch: TokenBatch = sampler.batch((number * size) as u64, size)?;
            self.activations.ensure(self.parent, number, &batch, layers)?;
        }
        Ok(())
    }

    /// Makes the blocks, the next one on whichever thread is free. The first error ends it.
    fn carry_out(
        &self,
        jobs: &[(usize, Symbol)],
        threads: usize,
        observer: &(dyn Fn(&BlockRecord) + Sync),
    ) -> Result<Blocks, ConvertError> {
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let made = Mutex::new(Vec::new());
        let worker = || {
            while let Some(&(layer, symbol)) = jobs.get(next.fetch_add(1, Ordering::Relaxed))
                && !failed.load(Ordering::Relaxed)
            {
                let result = self.make(layer, symbol);
                match &result {
                    Ok((record, _)) => observer(record),
                    Err(_) => failed.store(true, Ordering::Relaxed),
                }
                let result = result.map(|block| ((layer, symbol), block));
                made.lock().unwrap_or_else(PoisonError::into_inner).push(result);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads.clamp(1, jobs.len().max(1)) {
                scope.spawn(worker);
            }
        });
        made.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect()
    }

    /// Makes one block and writes it, its record last.
    fn make(&self, layer: usize, symbol: Symbol) -> Result<(BlockRecord, Block), ConvertError> {
        let id = self.primitives.get(symbol)?.id();
        let Started { mut block, whole } = self.start(layer, symbol)?;
        let held_out = self.activations.pairs(self.parent, layer, self.training_batches()..self.all_batches())?;
        let start_error = local::error(&block, &held_out)?;
        let [record_path, weights_path] = self.paths(layer, &id);
        if !start_error.is_finite() {
            return Err(ConvertError::BlockNotFinite { layer, id });
        }
        let mut record = BlockRecord { layer, primitive: id, steps: 0, start_error, error: start_error };
        if !whole {
            let batches = self.activations.pairs(self.parent, layer, 0..self.training_batches())?;
            let trained = local::imitate(block, &batches, self.settings, &self.parent.device())?;
            let diverged = |step| ConvertError::Diverged { layer, id: record.primitive.clone(), step };
            block = trained.map_err(diverged)?;
            record.steps = self.settings.steps;
            record.error = local::error(&block, &held_out)?;
            if !record.error.is_finite() {
                return Err(diverged(self.settings.steps));
            }
            weights::save(&block, &weights_path)?;
        }
        write_json(&record_path, &record)?;
        Ok((record, block))
    }
}
