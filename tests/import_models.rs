//! Folders that come back as they were, checkpoints of others, and damaged ones.
#![cfg(feature = "flex")]

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use composer_nas::{
    dims::RopeScaling,
    export::{self, Format, Options},
    import::{self, ImportError, Rope},
    model::{HybridLm, ModelSpec},
    prelude::*,
};
use proptest::prelude::*;
use safetensors::{Dtype, SafeTensors, serialize_to_file, tensor::TensorView};
use serde_json::{Value, json};

fn spec(architecture: &str) -> ModelSpec {
    let dims = Dims { kv_heads: 1, head_dim: 4, ..Dims::new(8, 256, 2).unwrap() };
    Target::custom("tiny", dims, 10, false, 1).unwrap().model(architecture.parse().unwrap())
}

fn lm(spec: &ModelSpec) -> HybridLm {
    HybridLm::new(spec, &Primitives::standard(), Seed(3), &Device::flex()).unwrap()
}

fn read(folder: &Path, rope: Rope) -> Result<import::Imported, ImportError> {
    import::hugging_face(folder, &Primitives::standard(), &Device::flex(), rope)
}

/// Every weight, in the order of the module.
fn weights(model: &HybridLm) -> Vec<f32> {
    struct Collect(Vec<f32>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f32>());
        }
    }
    let mut collect = Collect(Vec::new());
    model.visit(&mut collect);
    collect.0
}

type Stored = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// An exported model whose files can be tampered with.
struct Folder {
    root: tempfile::TempDir,
    model: HybridLm,
}

impl Folder {
    fn new(spec: &ModelSpec, format: Format) -> Self {
        let root = tempfile::tempdir().unwrap();
        let model = lm(spec);
        let options = Options { format, ..Options::default() };
        let folder = root.path().join("model");
        export::hugging_face(spec, Some(&model), &Primitives::standard(), folder, &options).unwrap();
        Self { root, model }
    }

    fn path(&self) -> PathBuf {
        self.root.path().join("model")
    }

    fn config(&self, change: impl FnOnce(&mut Value)) {
        let path = self.path().join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }

    fn tensors(&self, change: impl FnOnce(&mut Stored)) {
        let path = self.path().join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let entry = |(name, tensor): (&str, TensorView)| {
            (name.to_owned(), (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()))
        };
        let mut stored: Stored = tensors.iter().map(entry).collect();
        change(&mut stored);
        let views = stored
            .iter()
            .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
        serialize_to_file(views.collect::<HashMap<_, _>>(), None, &path).unwrap();
    }

    fn error(&self) -> ImportError {
        read(&self.path(), Rope::Halves).unwrap_err()
    }
}

#[test]
fn a_plain_llama_is_read_tied_or_not_in_any_precision() {
    for (tied, dtype) in [(false, Dtype::F32), (true, Dtype::F32), (false, Dtype::F16), (true, Dtype::BF16)] {
        let spec = ModelSpec { tied_embeddings: tied, ..spec("AMAM") };
        let folder = Folder::new(&spec, Format::Llama);
        // As others write it: nothing of ours, a head although it is tied, and a buffer of old.
        folder.config(|config| {
            let all = config.as_object_mut().unwrap();
            for key in ["composer_nas", "rope_parameters", "head_dim", "use_cache"] {
                all.remove(key);
            }
        });
        let round = |value: f32| match dtype {
            Dtype::F16 => half::f16::from_f32(value).to_f32(),
            Dtype::BF16 => half::bf16::from_f32(value).to_f32(),
            _ => value,
        };
        folder.tensors(|stored| {
            let embedding = stored["model.embed_tokens.weight"].clone();
            stored.entry("lm_head.weight".into()).or_insert(embedding);
            stored.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), (Dtype::F32, vec![2], vec![0; 8]));
            for (own, _, data) in stored.values_mut().filter(|(own, ..)| *own == Dtype::F32) {
                let numbers = data.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
                let converted: Vec<u8> = match dtype {
                    Dtype::F16 => numbers.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect(),
                    Dtype::BF16 => numbers.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect(),
                    _ => data.clone(),
                };
                (*own, *data) = (dtype, converted);
            }
        });
        let found = read(&folder.path(), Rope::Halves).unwrap();
        assert_eq!(found.spec, spec);
        let expected: Vec<f32> = weights(&folder.model).into_iter().map(round).collect();
        assert_eq!(weights(&found.model), expected);
    }
}

/// config.json of meta-llama/Llama-3.2-1B.
#[test]
fn the_specification_of_llama_3_2_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128_000,
        "eos_token_id": 128_001, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
        "intermediate_size": 8192, "max_position_embeddings": 131_072, "mlp_bias": false, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_theta": 500_000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128_256,
        "rope_scaling": {
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
            "rope_type": "llama3"
        },
    });
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let found = import::spec(folder.path(), &Primitives::standard()).unwrap();
    let target = Target::llama_1b();
    let rope_scaling = Some(RopeScaling {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    });
    let dims = Dims { rope_scaling, ..target.dims.clone() };
    assert_eq!(found, ModelSpec { dims, ..target.model("AM".repeat(16).parse().unwrap()) });
}

#[test]
fn rows_of_neighbouring_pairs_are_reordered() {
    let folder = Folder::new(&spec("AM"), Format::Llama);
    folder.tensors(|stored| {
        for name in ["q", "k"] {
            let (_, shape, data) = stored.get_mut(&format!("model.layers.0.self_attn.{name}_proj.weight")).unwrap();
            let row = 4 * shape[1];
            // Heads of four rows: halves 0 2 | 1 3 in the order of pairs.
            let heads = data.chunks(4 * row).flat_map(|head| [0, 2, 1, 3].map(|at| &head[at * row..][..row]).concat());
            *data = heads.collect();
        }
    });
    assert_eq!(weights(&read(&folder.path(), Rope::Pairs).unwrap().model), weights(&folder.model));
    assert_ne!(weights(&read(&folder.path(), Rope::Halves).unwrap().model), weights(&folder.model));
}

#[test]
fn damaged_files_are_named() {
    let folder = Folder::new(&spec("AM"), Format::Flat);
    let file = folder.path().join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    for length in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&file, &bytes[..length]).unwrap();
        let error = folder.error();
        assert!(matches!(error, ImportError::Weights { .. }), "{length}: {error}");
        assert!(error.to_string().contains("model.safetensors"), "{error}");
    }
    fs::remove_file(&file).unwrap();
    assert!(matches!(folder.error(), ImportError::NoWeights { .. }));
    let index = |text: &str| {
        fs::write(folder.path().join("model.safetensors.index.json"), text).unwrap();
        folder.error()
    };
    assert!(matches!(index("{"), ImportError::Damaged { .. }));
    assert!(matches!(index(r#"{"weight_map": {"a": "../secret"}}"#), ImportError::Damaged { .. }));
    assert!(matches!(index(r#"{"weight_map": {"a": "gone.safetensors"}}"#), ImportError::File { .. }));
    fs::write(folder.path().join("config.json"), "{}}").unwrap();
    assert!(matches!(folder.error(), ImportError::Damaged { .. }));
    fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(matches!(folder.error(), ImportError::File { .. }));
}

#[test]
fn tensors_must_be_those_of_the_configuration() {
    let changed = |change: fn(&mut Stored)| {
        let folder = Folder::new(&spec("MA"), Format::LlamaCpp);
        folder.tensors(change);
        folder.error()
    };
    let missing = changed(|stored| drop(stored.remove("model.norm.weight")));
    assert!(matches!(&missing, ImportError::Missing { count: 1, first } if first == "model.norm.weight"), "{missing}");
    let extra = changed(|stored| drop(stored.insert("extra".into(), (Dtype::F32, vec![1], vec![0; 4]))));
    assert!(matches!(extra, ImportError::Extra { count: 1, .. }), "{extra}");
    let shape = changed(|stored| stored.get_mut("model.norm.weight").unwrap().1 = vec![2, 4]);
    assert!(matches!(&shape, ImportError::Shape { found, .. } if *found == [2, 4]), "{shape}");
    let dtype = changed(|stored| stored.get_mut("model.norm.weight").unwrap().0 = Dtype::I32);
    assert!(matches!(dtype, ImportError::Dtype { .. }), "{dtype}");
    let padding = changed(|stored| stored.get_mut("model.layers.0.self_attn.q_proj.weight").unwrap().2[3] = 0x3f);
    assert!(matches!(padding, ImportError::Padding { .. }), "{padding}");
    // Far more layers than there are numbers: nothing is made for them.
    let folder = Folder::new(&spec("AM"), Format::Llama);
    folder.config(|config| {
        config["num_hidden_layers"] = json!(1 << 15);
        config["composer_nas"] = Value::Null;
    });
    let many = folder.error();
    assert!(matches!(many, ImportError::TooFew { .. }), "{many}");
}

#[test]
fn models_that_cannot_be_expressed_are_refused() {
    let changed = |format, key: &str, value: Value| {
        let folder = Folder::new(&spec("AM"), format);
        folder.config(|config| config[key] = value);
        folder.error()
    };
    let refused = |key: &str, value: Value| {
        let error = changed(Format::Llama, key, value);
        assert!(matches!(error, ImportError::Setting { .. }), "{key}: {error}");
    };
    refused("rope_scaling", json!({ "rope_type": "llama3", "factor": 8.0 }));
    refused("rope_scaling", json!({ "type": "linear", "factor": 8.0 }));
    refused("rope_parameters", json!({ "rope_type": "yarn", "rope_theta": 1e4 }));
    refused("hidden_act", json!("gelu"));
    refused("mlp_bias", json!(true));
    assert!(matches!(changed(Format::Llama, "model_type", json!("gpt2")), ImportError::ModelType { .. }));
    assert!(matches!(changed(Format::Llama, "num_key_value_heads", json!(3)), ImportError::Build(_)));
    assert!(matches!(changed(Format::Llama, "num_attention_heads", json!(0)), ImportError::Build(_)));
    assert!(matches!(changed(Format::Llama, "num_hidden_layers", Value::Null), ImportError::Incomplete(_)));
    assert!(matches!(changed(Format::Llama, "num_hidden_layers", json!(1_u64 << 40)), ImportError::Blocks(_)));
    assert!(matches!(changed(Format::Llama, "hidden_size", json!("wide")), ImportError::Damaged { .. }));
    assert!(matches!(changed(Format::DeciLm, "block_configs", Value::Null), ImportError::Incomplete(_)));
    assert!(matches!(
        changed(Format::Flat, "layers_block_type", json!(["full_attention", "rwkv"])),
        ImportError::Kind { .. }
    ));
    assert!(matches!(changed(Format::Flat, "layers_block_type", json!(["swiglu"])), ImportError::Blocks(_)));
    assert!(matches!(changed(Format::DeciLm, "composer_nas", json!({ "architecture": "3A" })), ImportError::Blocks(_)));
    let wide = |half: &str, key: &str, value: Value| {
        let folder = Folder::new(&spec("AM"), Format::DeciLm);
        folder.config(|config| {
            config["composer_nas"] = Value::Null;
            config["block_configs"][0][half][key] = value;
        });
        // Its weights are those of other layers; a group that does not divide the heads is no layer at all.
        let error = folder.error();
        let other =
            matches!(&error, ImportError::Shape { .. } | ImportError::Missing { .. } | ImportError::TooFew { .. });
        assert!(other || matches!(error, ImportError::Setting { .. }), "{key}: {error}");
    };
    wide("ffn", "ffn_mult", json!(100.0));
    wide("ffn", "replace_with_linear", json!(true));
    wide("attention", "n_heads_in_group", json!(1));
    wide("attention", "n_heads_in_group", json!(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Specification and weights come back exactly, whatever the format that fits.
    #[test]
    fn whatever_is_exported_is_imported(
        letters in "[AM]{1,7}|[AMF]{1,5}",
        format in prop::sample::select(vec![Format::Auto, Format::DeciLm, Format::LlamaCpp, Format::Llama, Format::Flat]),
        tied in any::<bool>(),
        attention_bias in any::<bool>(),
        shard_bytes in 1u64..100_000,
    ) {
        let mut spec = ModelSpec { tied_embeddings: tied, ..spec(&letters) };
        spec.dims.attention_bias = attention_bias;
        let root = tempfile::tempdir().unwrap();
        let model = lm(&spec);
        let folder = root.path().join("model");
        let options = Options { format, shard_bytes, ..Options::default() };
        match export::hugging_face(&spec, Some(&model), &Primitives::standard(), &folder, &options) {
            Err(export::ExportError::Format { .. }) => prop_assert!(letters.contains('F') && format != Format::Flat),
            Err(error) => prop_assert!(false, "{error}"),
            Ok(_) => {
                let found = read(&folder, Rope::Halves).unwrap();
                prop_assert_eq!(&found.spec, &spec);
                prop_assert_eq!(weights(&found.model), weights(&model));
            }
        }
    }
}
