//! Exported folders: their files, what is refused, and that a failure leaves nothing.
#![cfg(feature = "flex")]

use std::{collections::BTreeMap, fs, path::Path};

use burn::{
    module::{Module, Param},
    tensor::Tensor,
};
use composer_nas::{
    cost::{ModelCost, Workload},
    dims::{InitScheme, Positions, QueryKeyNorm, RopeScaling, Routing, StepLimits},
    export::{self, ExportError, Exported, Format, HfMappingError, Options, StoredPrecision, Warning},
    import::{self, Rope},
    layer::{Block, Mixer, WeightInit},
    model::{HybridLm, ModelSpec},
    prelude::*,
    primitive::{
        BuildError, CacheKind, CustomAttention, Expert, HfMapping, LatentAttention, LayerCost, Mamba2, Moe,
        PrimitiveId, Role, TensorLayout,
    },
};
use safetensors::SafeTensors;
use serde_json::{Value, json};

fn tiny(architecture: &str) -> ModelSpec {
    let dims = Dims { kv_heads: 1, head_dim: 4, ..Dims::new(8, 256, 2).unwrap() };
    let target = Target::custom("tiny", dims, 10, true, 1).unwrap();
    target.model(architecture.parse().unwrap())
}

fn lm(spec: &ModelSpec, primitives: &Primitives) -> HybridLm {
    HybridLm::new(spec, primitives, Seed(3), &Device::flex()).unwrap()
}

fn written(spec: &ModelSpec, folder: &Path, options: &Options) -> Result<Exported, ExportError> {
    let primitives = Primitives::standard();
    export::hugging_face(spec, Some(&lm(spec, &primitives)), &primitives, folder, options)
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn options(format: Format) -> Options {
    Options { format, ..Options::default() }
}

#[test]
fn a_configuration_states_blocks_and_widths() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("found");
    let spec = Target::llama_1b().model("2A+4M".parse().unwrap());
    let exported = export::hugging_face(&spec, None, &Primitives::standard(), &folder, &Options::default()).unwrap();
    let expected =
        ["README.md", "config.json", "configuration_composer.py", "generation_config.json", "modeling_composer.py"];
    assert_eq!(exported.files, expected);
    assert_eq!((exported.model_type.as_str(), exported.warnings), ("nemotron-nas", vec![]));
    let config = json_of(&folder.join("config.json"));
    for (key, value) in [
        ("hidden_size", json!(2048)),
        ("num_hidden_layers", json!(5)),
        ("rope_theta", json!(500_000.0)),
        ("tie_word_embeddings", json!(true)),
        ("initializer_range", json!(0.02)),
        ("max_position_embeddings", json!(4096)),
        ("eos_token_id", Value::Null),
        ("dtype", json!("float32")),
        ("architectures", json!(["DeciLMForCausalLM"])),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    let half = |key: &str, value: Value| json!({ "no_op": value.is_null(), "replace_with_linear": false, key: value });
    let block = |heads: Value, mult: Value| json!({ "attention": half("n_heads_in_group", heads), "ffn": half("ffn_mult", mult) });
    let a = block(json!(4), Value::Null);
    let am = block(json!(4), json!(6.0));
    let m = block(Value::Null, json!(6.0));
    assert_eq!(config["block_configs"], json!([a, am, m, m, m]));
    assert_eq!(import::spec(&folder, &Primitives::standard()).unwrap(), spec);
    let error = import::hugging_face(&folder, &Primitives::standard(), &Device::flex(), Rope::Halves).unwrap_err();
    assert!(error.to_string().contains("has no weights"), "{error}");
}

fn llama_3_2() -> RopeScaling {
    let original_max_position_embeddings = 8192;
    RopeScaling { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position_embeddings }
}

#[test]
fn the_model_card_says_how_the_architecture_was_found() {
    let root = tempfile::tempdir().unwrap();
    let journal = root.path().join("journal.jsonl");
    let primitives = Primitives::standard();
    let space = SearchSpace::uniform(primitives.symbols(["A", "M"]).unwrap(), 2).unwrap();
    let evaluator = from_fn("letters", |trial, _| {
        Ok(Report::score("accuracy", 0.25 * trial.architecture.count(Symbol::ATTENTION) as f64))
    });
    let target = Target::llama_350m();
    let found = Pipeline::new(&primitives, space, evaluator).trials(4).seed(5).journal(&journal).run(&target).unwrap();
    let mut provenance = export::Provenance::read(&journal).unwrap();
    provenance.small = Some(found.aggregated.clone());
    let folder = root.path().join("model");
    let options = Options { provenance: Some(provenance), ..Options::default() };
    export::hugging_face(&found.target, None, &primitives, &folder, &options).unwrap();
    let card = fs::read_to_string(folder.join("README.md")).unwrap();
    for part in [
        "| search space | 2 layers of A (attention), M (swiglu): 4 |",
        "| trials | 4 |",
        "| goal | maximize accuracy |",
        "| seed | 5 |",
        "| best trial | `2A` with 0.5000 |",
        "| searched by | composer-nas",
        "letters",
        "trust_remote_code=True",
    ] {
        assert!(card.contains(part), "{part} is not in\n{card}");
    }
    let mut scaled = found.target;
    scaled.dims.rope_scaling = Some(llama_3_2());
    export::hugging_face(&scaled, None, &primitives, root.path().join("scaled"), &Options::default()).unwrap();
    let card = fs::read_to_string(root.path().join("scaled/README.md")).unwrap();
    assert!(
        card.contains("RoPE theta 500000 (frequencies scaled as in Llama 3, 32 times beyond 8192 positions)"),
        "{card}"
    );
}

#[test]
fn shards_are_small_complete_and_read_by_the_official_crate() {
    let root = tempfile::tempdir().unwrap();
    let spec = ModelSpec { tied_embeddings: false, ..tiny("2A+2M") };
    for (precision, width) in [(StoredPrecision::F32, 4), (StoredPrecision::F16, 2), (StoredPrecision::Bf16, 2)] {
        let folder = root.path().join(precision.name());
        let options = Options { precision, shard_bytes: 9000, ..Options::default() };
        let exported = written(&spec, &folder, &options).unwrap();
        let index = json_of(&folder.join("model.safetensors.index.json"));
        let map: BTreeMap<String, String> = serde_json::from_value(index["weight_map"].clone()).unwrap();
        let mut total = 0;
        let mut names = Vec::new();
        for file in exported.files.iter().filter(|file| file.ends_with(".safetensors")) {
            let bytes = fs::read(folder.join(file)).unwrap();
            let tensors = SafeTensors::deserialize(&bytes).unwrap();
            let size: usize = tensors.iter().map(|(_, tensor)| tensor.data().len()).sum();
            assert!(size <= 9000 || tensors.len() == 1, "{file} has {size} bytes");
            assert!(tensors.names().iter().all(|name| &map[*name] == file));
            names.extend(tensors.names().into_iter().map(str::to_owned));
            total += size;
            let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
            assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
        }
        names.sort();
        assert_eq!(names, map.into_keys().collect::<Vec<_>>());
        assert_eq!(index["metadata"]["total_size"], total);
        let cost = ModelCost::new(&spec, &Primitives::standard(), Workload::bf16(1)).unwrap();
        assert_eq!(total as u64, width * cost.total_parameters);
    }
}

#[test]
fn only_models_are_replaced_and_only_when_asked() {
    let root = tempfile::tempdir().unwrap();
    let model = root.path().join("model");
    let other = root.path().join("other");
    let replace = Options { overwrite: true, ..Options::default() };
    fs::create_dir(&model).unwrap();
    written(&tiny("AM"), &model, &Options::default()).unwrap();
    assert!(matches!(written(&tiny("AM"), &model, &Options::default()), Err(ExportError::Occupied { .. })));
    written(&tiny("MA"), &model, &replace).unwrap();
    assert_eq!(import::spec(&model, &Primitives::standard()).unwrap().architecture.to_string(), "1M+1A");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.tex"), "").unwrap();
    assert!(matches!(written(&tiny("AM"), &other, &replace), Err(ExportError::Occupied { .. })));
    assert!(matches!(written(&tiny("AM"), Path::new("/proc/x"), &replace), Err(ExportError::Folder { .. })));
}

#[test]
fn a_failure_half_way_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    let spec = ModelSpec { init: InitScheme::Normal(1e6), ..tiny("AM") };
    let half = Options { precision: StoredPrecision::F16, ..Options::default() };
    let error = written(&spec, &folder, &half).unwrap_err();
    assert!(matches!(&error, ExportError::Overflow { tensor, .. } if tensor.contains("layers.0")), "{error}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

/// What the killed process below does: replaces a model again and again.
#[test]
#[ignore = "started by other tests"]
fn child_export() {
    let folder = std::path::PathBuf::from(std::env::var_os("FOLDER").unwrap());
    let options = Options { overwrite: true, shard_bytes: 20_000, ..Options::default() };
    loop {
        written(&ModelSpec { vocab_size: 500, ..tiny("4A+4M") }, &folder, &options).unwrap();
    }
}

#[test]
fn a_killed_process_leaves_a_whole_model_or_none() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    for kill in 0..8 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_export", "--ignored"])
            .env("FOLDER", &folder)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The first model is there, or this process would wait in vain; then at some moment of one of the next.
        while !folder.join("config.json").exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        std::thread::sleep(std::time::Duration::from_millis(3 + 7 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        if folder.exists() {
            let found = import::hugging_face(&folder, &Primitives::standard(), &Device::flex(), Rope::Halves).unwrap();
            assert_eq!(found.spec.vocab_size, 500);
        }
        let hidden = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(hidden.filter(|name| name != "model").all(|name| name.starts_with(".model.")));
    }
}

#[test]
fn tokenizers_are_copied_and_checked() {
    let root = tempfile::tempdir().unwrap();
    let tokenizer = root.path().join("tokenizer");
    fs::create_dir(&tokenizer).unwrap();
    let with = |ids: usize| {
        let vocab: BTreeMap<_, _> = (0..ids).map(|id| (format!("token {id}"), id)).collect();
        fs::write(tokenizer.join("tokenizer.json"), json!({ "model": { "vocab": vocab } }).to_string()).unwrap();
        fs::write(tokenizer.join("tokenizer_config.json"), "{}").unwrap();
        Options { tokenizer: Some(tokenizer.clone()), ..Options::default() }
    };
    let spec = tiny("AM");
    let folder = |ids: usize| root.path().join(ids.to_string());
    let exported = written(&spec, &folder(10), &with(10)).unwrap();
    assert!(exported.files.contains(&"tokenizer_config.json".into()) && exported.warnings.is_empty());
    let fewer = written(&spec, &folder(9), &with(9)).unwrap();
    assert_eq!(fewer.warnings, [Warning::UnusedTokens { ids: 9, vocab_size: 10 }]);
    let strict = Options { strict: true, ..with(9) };
    assert!(matches!(written(&spec, &folder(8), &strict), Err(ExportError::Refused(_))));
    assert!(matches!(written(&spec, &folder(11), &with(11)), Err(ExportError::Vocabulary { ids: 11, .. })));
    fs::write(tokenizer.join("tokenizer.json"), "{").unwrap();
    let damaged = Options { tokenizer: Some(tokenizer.clone()), ..Options::default() };
    assert!(matches!(written(&spec, &folder(12), &damaged), Err(ExportError::Tokenizer { .. })));
    let absent = Options { tokenizer: Some(root.path().join("none")), ..Options::default() };
    assert!(matches!(written(&spec, &folder(12), &absent), Err(ExportError::Tokenizer { .. })));
    let tokens = export::SpecialTokens { eos: Some(10), ..Default::default() };
    let beyond = Options { tokens, ..Options::default() };
    assert!(matches!(written(&spec, &folder(12), &beyond), Err(ExportError::Token { name: "eos", .. })));
    assert!(!folder(8).exists() && !folder(11).exists() && !folder(12).exists());
}

#[test]
fn what_may_surprise_is_told_or_refused() {
    let root = tempfile::tempdir().unwrap();
    let first = written(&tiny("MA"), &root.path().join("m"), &options(Format::DeciLm)).unwrap();
    assert_eq!(first.warnings, [Warning::FirstBlockWithoutAttention]);
    assert!(fs::read_to_string(root.path().join("m/README.md")).unwrap().contains("block 0 has no attention"));
    let strict = Options { strict: true, ..options(Format::DeciLm) };
    assert!(matches!(written(&tiny("MA"), &root.path().join("s"), &strict), Err(ExportError::Refused(_))));
    for format in [Format::LlamaCpp, Format::Llama] {
        let filled = Options { strict: true, ..options(format) };
        assert!(written(&tiny("MA"), &root.path().join(format!("{format:?}")), &filled).is_ok());
    }
    let fan_in = ModelSpec { init: InitScheme::FanIn, ..tiny("AM") };
    let folder = root.path().join("f");
    let bare = export::hugging_face(&fan_in, None, &Primitives::standard(), &folder, &Options::default()).unwrap();
    assert_eq!(bare.warnings, [Warning::OtherInit]);
    assert_eq!(import::spec(&folder, &Primitives::standard()).unwrap(), fan_in);
}

#[test]
fn models_and_specifications_must_agree() {
    let root = tempfile::tempdir().unwrap();
    let primitives = Primitives::standard();
    let spec = tiny("AM");
    let model = lm(&spec, &primitives);
    let wrong = |spec: &ModelSpec| {
        let folder = root.path().join("model");
        let error = export::hugging_face(spec, Some(&model), &primitives, &folder, &Options::default()).unwrap_err();
        assert!(!folder.exists());
        match error {
            ExportError::Model { reason } => reason,
            other => panic!("{other}"),
        }
    };
    assert!(wrong(&tiny("MA")).contains("has no"));
    assert!(wrong(&tiny("A")).contains("no layer of the architecture"));
    assert!(wrong(&ModelSpec { tied_embeddings: false, ..spec.clone() }).contains("head.weight"));
    assert!(wrong(&ModelSpec { vocab_size: 11, ..spec.clone() }).contains("embedding"));
    let wide = Dims { d_ff: 512, ..spec.dims.clone() };
    assert!(wrong(&ModelSpec { dims: wide, ..spec }).contains("size of M"));
}

/// A layer of another crate: every channel passes on its last value, weighted.
#[derive(Clone, Copy, Debug)]
struct Previous {
    named: bool,
}

#[derive(Module, Debug)]
struct PreviousLayer {
    weight: Param<Tensor<1>>,
}

impl Mixer for PreviousLayer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, seq, width] = x.dims();
        let before = Tensor::cat(vec![Tensor::zeros([batch, 1, width], &x.device()), x], 1);
        before.narrow(1, 0, seq) * self.weight.val().unsqueeze()
    }
}

impl Primitive for Previous {
    fn id(&self) -> PrimitiveId {
        PrimitiveId::new("previous").unwrap()
    }
    fn symbol(&self) -> Symbol {
        "P".parse().unwrap()
    }
    fn role(&self) -> Role {
        Role::Sequence
    }
    fn cost(&self, dims: &Dims, _seq_len: u64) -> LayerCost {
        LayerCost { parameters: dims.d_model as u64, ..LayerCost::default() }
    }
    fn build(&self, dims: &Dims, init: &mut WeightInit, device: &Device) -> Result<Block, BuildError> {
        Ok(Block::new(PreviousLayer { weight: init.normal([dims.d_model], 0.5, device) }))
    }
    fn hf_mapping(&self, _dims: &Dims) -> Option<HfMapping> {
        let named = HfMapping::new("previous", CacheKind::Nothing).tensor("weight", "weight", TensorLayout::Same);
        self.named.then(|| named.python("class Layer: ...\n"))
    }
}

#[test]
fn a_plug_in_brings_its_own_export_or_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let spec = tiny("AP");
    let bare = Primitives::standard().with(Previous { named: false }).unwrap();
    let error = export::hugging_face(&spec, None, &bare, root.path().join("p"), &Options::default()).unwrap_err();
    assert!(matches!(&error, ExportError::HfMapping(HfMappingError::Missing { .. })));
    assert!(error.to_string().contains("attention (A)") && error.to_string().contains("mlp (F)"), "{error}");

    let named = Primitives::standard().with(Previous { named: true }).unwrap();
    let folder = root.path().join("model");
    let model = lm(&spec, &named);
    let exported = export::hugging_face(&spec, Some(&model), &named, &folder, &Options::default()).unwrap();
    assert!(exported.files.contains(&"layer_previous.py".into()));
    // It mixes along the sequence and keeps nothing: receivers must not cache.
    assert_eq!(json_of(&folder.join("config.json"))["use_cache"], false);
    let found = import::hugging_face(&folder, &named, &Device::flex(), Rope::Halves).unwrap();
    assert_eq!(found.spec, spec);
    let again = root.path().join("again");
    export::hugging_face(&spec, Some(&found.model), &named, &again, &Options::default()).unwrap();
    let weights = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    assert!(weights(&folder) == weights(&again));
    assert!(matches!(import::spec(&folder, &Primitives::standard()), Err(import::ImportError::Kind { .. })));
}

#[test]
fn receivers_allow_some_positions_and_no_absurd_number() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    for max_positions in [0, (1 << 32) + 1, usize::MAX] {
        let error = written(&tiny("AM"), &folder, &Options { max_positions, ..Options::default() }).unwrap_err();
        assert!(matches!(error, ExportError::Positions(found) if found == max_positions), "{error}");
        assert!(!folder.exists());
    }
    written(&tiny("AM"), &folder, &Options { max_positions: 1, ..Options::default() }).unwrap();
}

#[test]
fn launch_scripts_spell_the_model_out() {
    let primitives = Primitives::standard();
    for name in Target::names() {
        let target = Target::named(name).unwrap();
        let spec = target.model("2A+4M".parse().unwrap());
        let script = export::megatron(&spec, &primitives, &export::MegatronTraining::default()).unwrap();
        assert_eq!(script.pattern, "**----");
        let has = |argument: String| assert!(script.arguments().any(|own| own == argument), "{name}: {argument}");
        has(format!("--hidden-size {}", target.dims.d_model));
        has(format!("--ffn-hidden-size {}", target.dims.d_ff));
        has(format!("--num-query-groups {}", target.dims.kv_heads));
        has(format!("--kv-channels {}", target.dims.head_dim));
        has("--rotary-base 500000".into());
        has("--position-embedding-type rope".into());
        has("--swiglu".into());
        has("--train-samples 9155274".into());
        has("--global-batch-size 256".into());
        has("--lr 0.0003".into());
        let untied = script.arguments().any(|own| own == "--untie-embeddings-and-output-weights");
        assert_eq!(untied, !target.tied_embeddings);
        let text = script.to_string();
        assert!(text.contains("#   A (attention) is *") && text.contains("#   M (swiglu) is -"), "{text}");
    }
    let mixed = Target::llama_1b().model("1A+1S+1M+1B+1G+1S".parse().unwrap());
    let script = export::megatron(&mixed, &primitives, &export::MegatronTraining::default()).unwrap();
    assert_eq!(script.pattern, "**-MG*");
    for argument in [
        "--window-size 63,0",
        "--window-attn-skip-freq '[0,1,0,0,0,1]'",
        "--mamba-num-heads 64",
        "--mamba-head-dim 64",
        "--mamba-state-dim 128",
        "--mamba-num-groups 1",
        "--linear-key-head-dim 128",
    ] {
        assert!(script.arguments().any(|own| own == argument), "{argument}\n{script}");
    }
    let error = |spec: &ModelSpec, training: &export::MegatronTraining| {
        export::megatron(spec, &primitives, training).unwrap_err()
    };
    let training = export::MegatronTraining::default();
    let good = Target::llama_1b().model("AF".parse().unwrap());
    assert!(error(&good, &training).to_string().contains("no letter for mlp (F)"));
    let fan_in = ModelSpec { init: InitScheme::FanIn, architecture: "AM".parse().unwrap(), ..good.clone() };
    assert!(error(&fan_in, &training).to_string().contains("InitScheme::Normal"));
    let plain = ModelSpec { init: InitScheme::Normal(0.02), ..fan_in };
    let mut scaled = plain.clone();
    scaled.dims.rope_scaling = Some(llama_3_2());
    assert!(error(&scaled, &training).to_string().contains("rope_scaling: None"));
    let two = ModelSpec { architecture: "AMR".parse().unwrap(), ..plain.clone() };
    assert!(error(&two, &training).to_string().contains("the same activation"));
    assert!(error(&plain, &export::MegatronTraining { seq_len: 0, ..training }).to_string().contains("seq_len"));
}

/// The layers of this crate with attention as in Nemotron-H, and a Mamba-2 that fills its expansion.
fn hybrid() -> Primitives {
    let attention = CustomAttention { positions: Positions::None, ..CustomAttention::default() };
    let mamba = Mamba2 { heads: Some(4), head_dim: 4, state: 6, groups: 2, chunk: 8, ..Mamba2::default() };
    Primitives::standard().replacing(attention).replacing(mamba)
}

#[test]
fn formats_say_what_would_open_them() {
    let said = |letters: &str, primitives: &Primitives, wanted: Format| {
        let all = export::formats(&tiny(letters), primitives);
        assert_eq!(all.len(), 11);
        let found = all.into_iter().find(|(format, _)| *format == wanted).unwrap().1;
        found.map_or_else(|error| error.to_string(), |()| "holds".into())
    };
    let standard = Primitives::standard();
    for (letters, primitives, format, words) in [
        ("BAR", &hybrid(), Format::NemotronH, "holds"),
        ("BAR", &standard, Format::NemotronH, "attention without positions would fit"),
        ("BAM", &hybrid(), Format::NemotronH, "it has no layer swiglu"),
        ("BFR", &hybrid(), Format::NemotronH, "the same activation"),
        ("BER", &hybrid(), Format::NemotronH, "a mixture of experts"),
        ("AMCM", &standard, Format::Lfm2, "with query and key norms per head would fit"),
        ("CMC", &standard, Format::Lfm2, "alternate between a mixer and a feed-forward part"),
        ("CM", &standard, Format::Lfm2, "holds"),
        ("BM", &hybrid(), Format::Bamba, "holds"),
        ("AM", &standard, Format::Bamba, "over 50 percent"),
        ("AM", &standard, Format::GraniteMoeHybrid, "holds"),
        ("AM", &hybrid(), Format::GraniteMoeHybrid, "holds"),
        ("BB", &hybrid(), Format::Mamba2, "holds"),
        ("BA", &hybrid(), Format::Mamba2, "it has no attention"),
        ("GM", &standard, Format::Qwen3Next, "holds"),
        ("AM", &standard, Format::Qwen3Next, "with a gate would fit"),
        ("AM", &standard, Format::Llama, "holds"),
        ("AMCR", &standard, Format::Flat, "holds"),
    ] {
        let text = said(letters, primitives, format);
        assert!(text.contains(words), "{letters} {format:?}: {text}");
    }
}

#[test]
fn classes_of_transformers_come_back_whatever_their_prefix() {
    let root = tempfile::tempdir().unwrap();
    let primitives = hybrid();
    let spec = ModelSpec { tied_embeddings: false, ..tiny("BARB") };
    let model = lm(&spec, &primitives);
    let folder = root.path().join("model");
    let exported = export::hugging_face(&spec, Some(&model), &primitives, &folder, &options(Format::Auto)).unwrap();
    assert_eq!(exported.model_type, "nemotron_h");
    assert!(exported.files.iter().all(|file| !file.ends_with(".py")), "{:?}", exported.files);
    let config = json_of(&folder.join("config.json"));
    assert_eq!(config["hybrid_override_pattern"], "M*-M");
    let file = folder.join("model.safetensors");
    let renamed = |change: &dyn Fn(&str) -> String| {
        let bytes = fs::read(&file).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let all: BTreeMap<String, _> = tensors.iter().map(|(name, tensor)| (change(name), tensor)).collect();
        let bytes = safetensors::serialize(all, None).unwrap();
        fs::write(&file, bytes).unwrap();
    };
    let read = |primitives: &Primitives| import::hugging_face(&folder, primitives, &Device::flex(), Rope::Halves);
    let weights = |model: &HybridLm| {
        let path = root.path().join("weights.safetensors");
        composer_nas::weights::save(model, &path).unwrap();
        fs::read(path).unwrap()
    };
    assert_eq!(read(&primitives).unwrap().spec, spec);
    assert!(weights(&read(&primitives).unwrap().model) == weights(&model));
    // The registry need not know the layers: it comes along.
    let found = read(&Primitives::standard()).unwrap();
    assert_eq!(found.spec, spec);
    assert_eq!(found.primitives.get(Symbol::ATTENTION).unwrap().id().as_str(), "attention_nope");
    renamed(&|name| name.replace("backbone.", "model."));
    assert!(weights(&read(&primitives).unwrap().model) == weights(&model));
    renamed(&|name| name.replace("q_proj", "query_proj"));
    let error = read(&primitives).unwrap_err();
    assert!(
        matches!(&error, import::ImportError::Missing { count: 1, first } if first.ends_with("q_proj.weight")),
        "{error}"
    );
}

#[test]
fn a_class_without_tied_embeddings_says_so() {
    let root = tempfile::tempdir().unwrap();
    let primitives = hybrid();
    let spec = tiny("BAR");
    let model = lm(&spec, &primitives);
    let folder = root.path().join("model");
    let exported =
        export::hugging_face(&spec, Some(&model), &primitives, &folder, &options(Format::NemotronH)).unwrap();
    assert!(exported.warnings.contains(&Warning::Untied), "{:?}", exported.warnings);
    assert_eq!(json_of(&folder.join("config.json"))["tie_word_embeddings"], false);
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let numbers = |name: &str| tensors.tensor(name).unwrap().data().to_vec();
    assert!(numbers("lm_head.weight") == numbers("backbone.embeddings.weight"));
    let found = import::hugging_face(&folder, &primitives, &Device::flex(), Rope::Halves).unwrap();
    assert!(!found.spec.tied_embeddings && found.spec.architecture == spec.architecture);
}

#[test]
fn launch_scripts_have_the_options_of_layers() {
    let training = export::MegatronTraining::default();
    let normal = |letters: &str| {
        let spec = Target::llama_1b().model(letters.parse().unwrap());
        ModelSpec { init: InitScheme::Normal(0.02), ..spec }
    };
    let usual = CustomAttention::default();
    let nope = CustomAttention { positions: Positions::None, ..usual };
    let sigmoid = Moe { routing: Routing::Sigmoid(250), expert: Expert::Relu2, ..Moe::default() };
    let primitives = Primitives::standard().replacing(nope).replacing(sigmoid);
    let script = export::megatron(&normal("BEAR"), &primitives, &training).unwrap();
    assert_eq!(script.pattern, "ME*-");
    let has = |argument: &str| assert!(script.arguments().any(|own| own == argument), "{argument}\n{script}");
    has("--position-embedding-type none");
    has("--squared-relu");
    has("--num-experts 8");
    has("--moe-router-topk 3");
    has("--moe-router-score-function sigmoid");
    has("--moe-router-topk-scaling-factor 2.5");
    let gated = CustomAttention { positions: Positions::Partial(25), norm: QueryKeyNorm::PerHead, gate: true, ..usual };
    let script = export::megatron(&normal("GA"), &Primitives::standard().replacing(gated), &training).unwrap();
    for argument in ["--rotary-percent 0.25", "--qk-layernorm", "--attention-output-gate"] {
        assert!(script.arguments().any(|own| own == argument), "{argument}\n{script}");
    }
    let latent = Primitives::standard().with(LatentAttention::default()).unwrap();
    let script = export::megatron(&normal("LM"), &latent, &training).unwrap();
    assert_eq!(script.pattern, "+-");
    assert!(script.arguments().any(|own| own == "--multi-latent-attention"));
    assert!(script.arguments().any(|own| own == "--rope-type rope"));
    let refused = |letters: &str, primitives: &Primitives| {
        export::megatron(&normal(letters), primitives, &training).unwrap_err().to_string()
    };
    assert!(refused("LA", &latent).contains("cannot combine attention"));
    for mamba in [
        Mamba2 { steps: Some(StepLimits { least: 0.001, most: f64::INFINITY }), ..Mamba2::default() },
        Mamba2 { projection_bias: true, ..Mamba2::default() },
        Mamba2 { conv_bias: false, ..Mamba2::default() },
    ] {
        let primitives = Primitives::standard().replacing(mamba);
        assert!(refused("BM", &primitives).contains("no limits of dt"), "{mamba:?}");
    }
    assert!(refused("MER", &Primitives::standard()).contains("the same activation"));
    let sinks = Primitives::standard().replacing(CustomAttention { sinks: true, ..usual });
    assert!(refused("AM", &sinks).contains("does not support an option"));
}
