//! The trained alternatives of every layer.

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

/// Blocks by layer and symbol.
type Blocks = BTreeMap<(usize, Symbol), (BlockRecord, Block)>;

/// The record of a block in a library.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockRecord {
    /// The index of the layer, starting at 0.
    pub layer: usize,
    /// The primitive that replaces it.
    pub primitive: PrimitiveId,
    /// The number of training steps; 0 if all weights come from the parent or there are none.
    pub steps: usize,
    /// The squared error on held-out windows before training, relative to that of a layer that adds nothing.
    pub start_error: f64,
    /// The same error after training.
    pub error: f64,
}

/// The alternatives of every layer of a parent, from which candidates are assembled without training.
///
/// The folder has two files per block, one with its weights and one with its record. Files are written atomically, so
/// an interrupted build can continue. `library.json` records the parent, the text and the settings.
#[derive(Clone, Debug)]
pub struct BlockLibrary {
    parent: Parent,
    blocks: Blocks,
    fingerprint: String,
}

/// The inputs to [`BlockLibrary::build`].
#[derive(Clone, Copy, Debug)]
pub struct LibraryRecipe<'a> {
    /// The model whose layers are replaced.
    pub parent: &'a Parent,
    /// The primitives of the symbols.
    pub primitives: &'a Primitives,
    /// The blocks to build.
    pub alternatives: &'a Alternatives,
    /// The text to train the blocks on.
    pub text: &'a Windows,
    /// The settings of the training.
    pub settings: &'a LocalDistillation,
}

/// Everything that the blocks depend on, apart from their primitive.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Setup {
    parent: String,
    text: String,
    settings: LocalDistillation,
}

impl BlockLibrary {
    /// Builds the blocks that are missing in `folder`, on `threads` threads, and reads the others.
    ///
    /// Each block starts with the weights that [`inherit`](super::inherit()) would give it. If some of its weights do
    /// not come from the parent, it is trained to imitate the output of the parent's layer. `observer` is called with
    /// every record, starting with those of existing blocks.
    ///
    /// # Errors
    /// [`ConvertError`] if the folder belongs to another library or is in use, a file is damaged or cannot be written,
    /// a layer cannot be built, or a training diverges. Finished blocks are kept.
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
        // Remove them even if there was nothing to build: an earlier run may have been killed after its last block.
        work.activations.remove()?;
        let fingerprint = fingerprint(&setup, &blocks);
        Ok(Self { parent: parent.clone(), blocks, fingerprint })
    }

    /// Returns the parent.
    pub fn parent(&self) -> &Parent {
        &self.parent
    }

    /// Returns the symbol and the record of every block, by layer.
    pub fn records(&self) -> impl Iterator<Item = (Symbol, &BlockRecord)> {
        self.blocks.iter().map(|(&(_, symbol), (record, _))| (symbol, record))
    }

    /// Returns what all blocks depend on, as text: the parent, the text, the settings and the primitives.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Returns the specification of a candidate.
    pub fn spec(&self, architecture: &Architecture) -> ModelSpec {
        ModelSpec { architecture: architecture.clone(), ..self.parent.spec().clone() }
    }

    /// Assembles a candidate from the layers of the parent and, where its symbol differs, blocks of the library.
    /// Weights are shared, not copied.
    ///
    /// # Errors
    /// [`ConvertError`] if a block is missing or the number of layers differs.
    pub fn assemble(&self, architecture: &Architecture) -> Result<HybridLm, ConvertError> {
        let own = &self.parent.spec().architecture;
        if own.len() != architecture.len() {
            let [was, is] = [own, architecture].map(|architecture| architecture.len().to_string());
            return Err(ConvertError::OtherModel { field: "the number of layers", was, is });
        }
        let model = self.parent.model();
        let mut layers = Vec::with_capacity(own.len());
        for (index, layer) in model.backbone.layers.iter().enumerate() {
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
        let backbone = Backbone { embedding: model.backbone.embedding.clone(), layers };
        Ok(HybridLm { backbone, norm: model.norm.clone(), head: model.head.clone() })
    }
}

/// Includes the primitives of the symbols: for example, windows of 32 and of 64 tokens have the same symbol.
fn fingerprint(setup: &Setup, blocks: &Blocks) -> String {
    let letters: BTreeMap<Symbol, &PrimitiveId> =
        blocks.iter().map(|(&(_, symbol), (record, _))| (symbol, &record.primitive)).collect();
    serde_json::to_string(&(setup, letters)).unwrap_or_default()
}

/// Checks that the text fits the vocabulary of the parent and that batches are not too large.
fn check_text(parent: &Parent, text: &Windows, settings: &LocalDistillation) -> Result<(), ConvertError> {
    let sizes = [settings.batch_size as u64, text.seq() as u64];
    limits::product_at_most("batch_size * seq_len", &sizes, limits::MAX_TOKENS).map_err(TrainError::from)?;
    let [text, parent] = [text.vocab_size(), parent.spec().vocab_size];
    if text > parent { Err(ConvertError::Vocabulary { text, parent }) } else { Ok(()) }
}

/// Locks the folder against other processes until the returned file is dropped.
fn lock(folder: &Path) -> Result<std::fs::File, ConvertError> {
    let path = folder.join("lock");
    let file = durable::open(&path).map_err(ConvertError::io(&path))?;
    match durable::lock(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ConvertError::InUse { path: folder.into() }),
        Err(TryLockError::Error(source)) => Err(ConvertError::Io { path, source }),
    }
}

/// Writes the setup of the library, or checks it against the existing one.
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

/// A build in progress.
struct Work<'a> {
    parent: &'a Parent,
    primitives: &'a Primitives,
    settings: &'a LocalDistillation,
    folder: PathBuf,
    activations: Activations,
}

impl Work<'_> {
    /// Returns the paths of a block's record and weights.
    fn paths(&self, layer: usize, id: &PrimitiveId) -> [PathBuf; 2] {
        ["json", "safetensors"].map(|end| self.folder.join(format!("layer-{layer:03}-{id}.{end}")))
    }

    /// Returns the block before training.
    fn start(&self, layer: usize, symbol: Symbol) -> Result<Started, ConvertError> {
        let spec = self.parent.spec();
        let mut init = WeightInit::new(spec.init, self.settings.seed.rng("convert/layer", layer as u64));
        let built = self.primitives.get(symbol)?.build(&spec.dims, &mut init, &self.parent.device())?;
        let layers = spec.architecture.len();
        let own = self.parent.model().backbone.layers.get(layer).ok_or(ConvertError::NoSuchLayer { layer, layers })?;
        started(&own.mixer, built, &spec.dims)
    }

    /// Reads a finished block.
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
            // There is a record but no weights: they were removed, so the block is built again.
            if !weights_path.exists() {
                return Ok(None);
            }
            block = weights::load(block, &weights_path)?;
            for parameter in parameters(&block) {
                let data = (parameter.read)().map_err(TrainError::from)?;
                if data.iter::<f32>().any(|number| !number.is_finite()) {
                    return damaged(&weights_path, &format!("{} contains values that are not finite", parameter.name));
                }
            }
        }
        Ok(Some((record, block)))
    }

    /// Returns the number of batches for training; the following batches are held out.
    fn training_batches(&self) -> usize {
        (self.settings.windows as usize).div_ceil(self.settings.batch_size)
    }

    fn all_batches(&self) -> usize {
        self.training_batches() + (self.settings.held_out as usize).div_ceil(self.settings.batch_size)
    }

    /// Computes the activations that the blocks need.
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
            // The sampler would start over and reach the held-out windows.
            let remedy = "the text has fewer windows of this length: use more text, or lower windows or seq_len";
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

    /// Builds the blocks in parallel, one per free thread. Stops at the first error.
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

    /// Builds one block and writes it. The record is written last.
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
