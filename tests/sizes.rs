//! Absurd sizes in every file that is read, and in every value that is built: a typed error, and nothing of that size
//! allocated.
#![cfg(all(feature = "flex", feature = "tokenizers"))]

use std::{fs, path::Path, sync::Mutex};

use composer_nas::{
    cost::{LayerTimes, MeasureError, Timing},
    data::{Corpus, Importer, TextError, TokenFormat, TokenWidth, TokenWriter},
    evaluate::{
        Repeated,
        corpus::{CorpusEvaluator, CorpusProtocol, TrainBudget},
        mad::Protocol,
    },
    execute::{ExecuteError, Process, Threads},
    export::{self, Options},
    extrapolate::TargetError,
    import::{self, ImportError, Rope},
    isoflop::{Family, Grid, GridError},
    limits::LimitError,
    prelude::*,
    primitive::BuildError,
    space::{SpaceConfig, SpaceError, baseline},
};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The largest vocabulary that a model may have.
const MAX_VOCABULARY: usize = 1 << 24;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// More than any refusal needs, and far less than any of the sizes.
const ENOUGH: usize = 64 << 20;

/// Sizes beyond memory, and those that overflow when they are multiplied.
const HUGE: [u64; 5] = [1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63, u64::MAX];

/// What `work` gives; it may allocate little. Counted for the whole process, so that one test counts at a time.
fn frugally<T>(work: impl FnOnce() -> T) -> T {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let done = work();
    let used = MEMORY.peak_usage().saturating_sub(before);
    assert!(used < ENOUGH, "{used} bytes");
    done
}

fn read(folder: &Path) -> Result<import::Imported, ImportError> {
    frugally(|| import::hugging_face(folder, &Primitives::standard(), &Device::flex(), Rope::Halves))
}

fn is_limit(error: &ImportError) -> bool {
    matches!(error, ImportError::Build(BuildError::Limit(_) | BuildError::Dims(_)))
}

#[test]
fn configurations_of_absurd_vocabularies_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for case in ["vocab_2147483647", "vocab_9223372036854775808"] {
        let text = fs::read_to_string(format!("tests/fixtures/cases/import/{case}.config.json")).unwrap();
        fs::write(folder.path().join("config.json"), &text).unwrap();
        let error = read(folder.path()).unwrap_err();
        assert!(is_limit(&error) && error.to_string().contains(&MAX_VOCABULARY.to_string()), "{case}: {error}");
        assert!(is_limit(&import::spec(folder.path(), &Primitives::standard()).unwrap_err()));
    }
}

/// A folder with the weights of a tiny model, whose config.json is changed.
fn changed(
    architecture: &str,
    keep_weights: bool,
    change: impl Fn(&mut Value),
) -> Result<import::Imported, ImportError> {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    let target = Target::custom("tiny", Dims::new(8, 256, 2).unwrap(), 10, true, 1).unwrap();
    let spec = target.model(architecture.parse().unwrap());
    let primitives = Primitives::standard();
    let model = HybridLm::new(&spec, &primitives, Seed(0), &Device::flex()).unwrap();
    let options = Options { format: export::Format::Flat, ..Options::default() };
    export::hugging_face(&spec, keep_weights.then_some(&model), &primitives, &folder, &options).unwrap();
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
    read(&folder)
}

#[test]
fn nothing_is_allocated_before_the_weights_are_there() {
    // 512 MB of embedding.
    let wide = |config: &mut Value| config["vocab_size"] = json!(16_777_216);
    assert!(matches!(changed("AM", false, wide).unwrap_err(), ImportError::NoWeights { .. }));
    let shape = changed("AM", true, wide).unwrap_err();
    assert!(matches!(&shape, ImportError::Shape { expected, .. } if *expected == [16_777_216, 8]), "{shape}");
    // 1.6 GB of SwiGLU, and as much of four projections.
    let inner = changed("AM", true, |config| config["intermediate_size"] = json!(1 << 24)).unwrap_err();
    assert!(matches!(inner, ImportError::TooFew { layer: 1, needed, .. } if needed == (3 * 8) << 24), "{inner}");
    let heads = changed("AM", true, |config| config["head_dim"] = json!(1 << 22)).unwrap_err();
    assert!(matches!(heads, ImportError::TooFew { layer: 0, .. }), "{heads}");
    assert!(changed("AM", true, |_| ()).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any size of config.json at any value: never more than a refusal.
    #[test]
    fn every_size_of_a_configuration_is_checked(
        letters in "[AMBGC]{1,3}",
        key in prop::sample::select(vec![
            "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim",
            "num_hidden_layers", "linear_conv_kernel_dim", "linear_num_value_heads", "ssm_state_size", "conv_L_cache",
        ]),
        value in prop::sample::select(HUGE.to_vec()),
        other in prop::sample::select(vec!["vocab_size", "intermediate_size", "head_dim"]),
        weights in any::<bool>(),
    ) {
        let read = changed(&letters, weights, |config| {
            for key in [key, other] {
                if config.get(key).is_some() {
                    config[key] = json!(value);
                }
            }
        });
        prop_assert!(read.is_err());
    }
}

#[test]
fn specifications_and_targets_are_bounded() {
    let primitives = Primitives::standard();
    let device = Device::flex();
    let target = Target::llama_1b();
    for size in HUGE.map(|size| size as usize) {
        let spec = ModelSpec { vocab_size: size, ..target.baseline_model() };
        let built = frugally(|| HybridLm::new(&spec, &primitives, Seed(0), &device).map(drop));
        assert!(matches!(built, Err(BuildError::Limit(LimitError::TooLarge { .. }))));
        let wide = Target { vocab_size: size, ..target.clone() };
        assert!(matches!(wide.validate(), Err(TargetError::Limit(_))));
        for change in [
            (|dims, size| dims.d_model = size) as fn(&mut Dims, usize),
            |dims, size| dims.d_ff = size,
            |dims, size| dims.head_dim = size,
        ] {
            let mut spec = target.baseline_model();
            change(&mut spec.dims, size);
            assert!(matches!(spec.validate(), Err(BuildError::Dims(_))));
        }
    }
    // Each size is within its bound, and their product beyond every machine.
    let dims = Dims::new(1 << 24, 1 << 24, 1 << 12).unwrap();
    let huge = Target::custom("huge", dims, MAX_VOCABULARY, true, 1).unwrap().baseline_model();
    let built = frugally(|| HybridLm::new(&huge, &primitives, Seed(0), &device).map(drop));
    let beyond = matches!(built, Err(BuildError::Limit(LimitError::Memory { .. })));
    assert!(beyond || !cfg!(target_os = "linux"), "{built:?}");
    let long =
        ModelSpec { architecture: Architecture::from_runs([(Symbol::SWIGLU, Architecture::MAX_LAYERS + 1)]), ..huge };
    assert!(matches!(long.validate(), Err(BuildError::Limit(LimitError::TooLarge { .. }))));
}

#[test]
fn search_spaces_have_a_longest_sequence() {
    for layers in HUGE.map(|layers| layers as usize) {
        let space = frugally(|| SearchSpace::uniform([Symbol::ATTENTION], layers).map(drop));
        assert_eq!(space, Err(SpaceError::TooManyLayers(layers)));
    }
    let config =
        SpaceConfig { layers: vec![vec![Symbol::ATTENTION]; Architecture::MAX_LAYERS + 1], constraints: Vec::new() };
    assert!(matches!(SearchSpace::new(config), Err(SpaceError::TooManyLayers(_))));
    assert!(SearchSpace::uniform([Symbol::ATTENTION], Architecture::MAX_LAYERS).is_ok());
}

#[test]
fn protocols_of_any_size_are_checked() {
    let sound: Value = serde_json::to_value(Protocol::quick()).unwrap();
    let paths = [
        "/dims/d_model",
        "/dims/d_ff",
        "/dims/heads",
        "/dims/head_dim",
        "/trainings/0/task/vocab_size",
        "/trainings/0/task/seq_len",
        "/trainings/0/test_examples",
        "/trainings/0/train/steps",
        "/trainings/0/train/batch_size",
        "/trainings/0/repeats",
    ];
    for path in paths {
        for size in HUGE {
            let mut value = sound.clone();
            *value.pointer_mut(path).unwrap() = json!(size);
            let protocol: Protocol = serde_json::from_value(value).unwrap();
            let made = frugally(|| Mad::new(protocol, &Primitives::standard(), &Device::flex()).map(drop));
            assert!(made.is_err(), "{path} {size}");
        }
    }
    let repeated = |times| Repeated::new(from_fn("none", |_, _| Ok(Report::default())), times).map(drop);
    assert!(repeated(1_000_000_000).unwrap_err().to_string().contains("65536"));
    assert!(repeated(8).is_ok());
}

/// A corpus of a few tokens.
fn corpus(folder: &Path) -> Corpus {
    let path = folder.join("tokens.bin");
    let mut writer = TokenWriter::create(&path, TokenFormat::Plain, TokenWidth::U16).unwrap();
    writer.document(&[1; 4000]).unwrap();
    writer.finish().unwrap();
    Corpus::new(composer_nas::data::TokenFile::open(path, TokenWidth::U16).unwrap(), 8)
}

#[test]
fn trainings_on_text_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus(folder.path());
    let small = CorpusProtocol { seq_len: 16, batch_size: 4, ..CorpusProtocol::stories(10_000) };
    let make = |protocol: CorpusProtocol| {
        frugally(|| CorpusEvaluator::new(protocol, &corpus, &Primitives::standard(), &Device::flex()).map(drop))
    };
    assert!(make(small.clone()).is_ok());
    for size in HUGE.map(|size| size as usize) {
        assert!(make(CorpusProtocol { batch_size: size, ..small.clone() }).is_err());
        assert!(make(CorpusProtocol { seq_len: size, ..small.clone() }).is_err());
    }
    for tokens in [0, 1_000_000_000_000, u64::MAX] {
        assert!(make(CorpusProtocol { budget: TrainBudget::Tokens(tokens), ..small.clone() }).is_err(), "{tokens}");
    }
    for flops in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e308] {
        assert!(make(CorpusProtocol { budget: TrainBudget::Flops(flops), ..small.clone() }).is_err(), "{flops}");
    }
    // Sizes of a description beside the tokens.
    let info =
        json!({ "vocab_size": 1u64 << 63, "end_of_text": null, "documents": 1, "text_bytes": 1, "token_bytes": null });
    fs::write(folder.path().join("corpus.json"), info.to_string()).unwrap();
    assert!(Corpus::open(folder.path()).unwrap_err().to_string().contains(&MAX_VOCABULARY.to_string()));
}

#[test]
fn absurd_protocols_are_made_without_overflow() {
    let huge =
        Dims { d_model: usize::MAX, d_ff: usize::MAX, heads: usize::MAX, kv_heads: 1, ..Dims::new(8, 8, 2).unwrap() };
    let protocol = CorpusProtocol::small_scale(&huge, 0, usize::MAX);
    assert!(protocol.validate().is_err());
}

#[test]
fn studies_of_absurd_budgets_are_not_planned() {
    let primitives = Primitives::standard();
    let plan = |budgets: &[f64], seeds| {
        let size = Target::custom("tiny", Dims::new(8, 24, 2).unwrap(), 10, true, 2).unwrap();
        let grid = Grid {
            families: vec![Family::of_blocks("llama", baseline::llama)],
            sizes: vec![size],
            budgets: budgets.to_vec(),
            protocol: CorpusProtocol::stories(1),
            seeds,
        };
        frugally(|| grid.plan(10, &primitives, 1).map(|cells| cells.len()))
    };
    for budget in [f64::INFINITY, f64::NAN, 1e308, 0.0] {
        assert!(matches!(plan(&[1e12, budget], 1), Err(GridError::Limit(_))), "{budget}");
    }
    assert!(matches!(plan(&[1e12], u64::MAX), Err(GridError::Limit(_))));
    assert_eq!(plan(&[1e12, 1e13], 2).unwrap(), 4);
}

#[test]
fn measurements_and_workers_are_bounded() {
    let like = Target::llama_350m().baseline_model();
    for size in HUGE.map(|size| size as usize) {
        for (batch, seq_len) in [(size, 1024), (1, size), (size, size)] {
            let timing = Timing { batch, seq_len, repeats: 1 };
            let architectures = [&"AM".parse().unwrap()];
            let measured = frugally(|| {
                LayerTimes::measure(architectures, &like, &Primitives::standard(), timing, &Device::flex()).map(drop)
            });
            assert!(matches!(measured, Err(MeasureError::Limit(_))), "{timing:?}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let evaluator = std::sync::Arc::new(from_fn("none", |_: &Trial, _: &Context| Ok(Report::default())));
    for workers in [1_000_000_000, usize::MAX] {
        let refused = |error: ExecuteError| matches!(error, ExecuteError::TooMany { .. });
        assert!(refused(Threads::new(evaluator.clone(), workers).unwrap_err()));
        assert!(refused(Process::new(workers, folder.path().join("run")).map(drop).unwrap_err()));
    }
}

#[test]
fn tokenizers_that_panic_or_allocate_are_refused() {
    for case in ["panics_in_decoder", "allocates_17_GB"] {
        let path = format!("tests/fixtures/cases/tokenizer/{case}.tokenizer.json");
        let error = frugally(|| Importer::load(&path, None)).unwrap_err();
        assert!(matches!(&error, TextError::Tokenizer { task: "loaded", .. }), "{error}");
        assert!(error.to_string().contains(case), "{error}");
    }
    let text = || ["a few words".to_owned()].map(Ok);
    for size in HUGE {
        let error = frugally(|| Importer::train(text(), size as usize)).unwrap_err();
        assert!(error.to_string().contains(&MAX_VOCABULARY.to_string()), "{error}");
    }
}

/// Files that are as large as they say and have nothing in them.
#[test]
fn sparse_files_are_not_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "corpus.json", "model.safetensors"] {
        fs::File::create(folder.path().join(name)).unwrap().set_len(1 << 36).unwrap();
    }
    let config = frugally(|| import::spec(folder.path(), &Primitives::standard()));
    assert!(matches!(config, Err(ImportError::File { .. })), "{config:?}");
    let model = tiny();
    let weights = frugally(|| composer_nas::weights::load(model, &folder.path().join("model.safetensors")).map(drop));
    assert!(weights.unwrap_err().to_string().contains("is not a valid safetensors file"));
}

/// A million brackets: no parser recurses as deep.
#[test]
fn deep_nesting_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let deep = "[".repeat(1_000_000);
    let tokenizer = |normalizer: &str| format!(r#"{{"model": {{"vocab": {{}}}}, "normalizer": {normalizer}"#);
    let closed = tokenizer(&format!("{deep}{}}}", "]".repeat(1_000_000)));
    let path = folder.path().join("tokenizer.json");
    for text in [deep.clone(), tokenizer(&deep), closed] {
        fs::write(&path, text).unwrap();
        assert!(matches!(Importer::load(&path, None), Err(TextError::Tokenizer { .. })));
    }
    for text in [deep.clone(), format!(r#"{{"model_type": "llama", "x": {deep}"#)] {
        fs::write(folder.path().join("config.json"), text).unwrap();
        assert!(matches!(read(folder.path()), Err(ImportError::Damaged { .. })));
    }
    fs::write(folder.path().join("corpus.json"), &deep).unwrap();
    assert!(Corpus::open(folder.path()).is_err());
    let header = [&(deep.len() as u64).to_le_bytes()[..], deep.as_bytes()].concat();
    fs::write(folder.path().join("model.safetensors"), header).unwrap();
    assert!(composer_nas::weights::load(tiny(), &folder.path().join("model.safetensors")).is_err());
    for error in [serde_json::from_str::<Protocol>(&deep).err(), serde_json::from_str::<ModelSpec>(&deep).err()] {
        assert!(error.is_some());
    }
}

fn tiny() -> HybridLm {
    let target = Target::custom("tiny", Dims::new(8, 8, 2).unwrap(), 9, true, 1).unwrap();
    HybridLm::new(&target.baseline_model(), &Primitives::standard(), Seed(0), &Device::flex()).unwrap()
}
