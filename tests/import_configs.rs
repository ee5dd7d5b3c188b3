//! config.json files of published models: read as a sequence of the right size, or refused by the entry that stands in
//! the way.
#![cfg(feature = "flex")]

use std::{fs, path::Path};

use composer_nas::{
    cost::{ModelCost, Workload},
    export::{self, Format, Options},
    import::{self, Description, ImportError},
    prelude::*,
};
use serde_json::{Value, json};

const FOLDER: &str = "tests/fixtures/fuzz/import_config";

/// What must come of a file.
enum Expected {
    /// The sequence, the parameters as transformers 5.23 counts them (DeciLM and a fractional expansion, which it does
    /// not load, by hand), and the bytes that a sequence of 8,192 tokens keeps in 16 bits.
    Read(String, u64, u64),
    /// Words of the message.
    Refused(&'static [&'static str]),
}

use Expected::{Read, Refused};

fn table() -> Vec<(&'static str, Expected)> {
    let lfm2 = "CMCMAMCMCMAMCMCMAMCMAMCMAMCMAMCM";
    let nemotron = "BRBRBRBARBRBRBRBRBARBRBRBRBRBARBRBRBRBRBARBRBRBRBRBR";
    let bamba = ["BM".repeat(9), "BM".repeat(8), "BM".repeat(8), "BM".repeat(4)].join("AM");
    vec![
        ("Bamba-9B", read(&bamba, 9_780_235_392, 162_950_656)),
        ("DeciLM-nemotron-nas-mini", read("AMDMIMMAIHAMAMDMIMMAIHAM", 416_860_160, 92_274_688)),
        ("Falcon-H1-0.5B", Refused(&["attention_in_multiplier", "in parallel", "multipliers"])),
        ("Falcon-H1-tiny-random_PARTIAL", Refused(&["attention_in_multiplier", "in parallel"])),
        ("Granite-4.0-h-tiny_PARTIAL", Refused(&["embedding_multiplier is 12", "multipliers are not supported"])),
        ("Jamba-form-without-attention_PARTIAL", Refused(&["attn_layer_offset is 100", "no model_type"])),
        ("Jamba-tiny-random", Refused(&["mamba_dt_rank is 8", "Mamba-1"])),
        ("Jamba-v0.1", Refused(&["mamba_dt_rank is 256", "Mamba-1"])),
        ("LFM2-350M_layer_types", read(lfm2, 354_483_968, 100_704_256)),
        ("LFM2-700M_full_attn_idxs", read(lfm2, 742_489_344, 100_724_736)),
        ("Llama-3.2-1B", read(&"AM".repeat(16), 1_235_814_400, 268_435_456)),
        ("Llama-3.2-3B-Instruct", read(&"AM".repeat(28), 3_212_749_824, 939_524_096)),
        ("Llama-3_1-Nemotron-51B_PARTIAL", Refused(&["lacks hidden_size"])),
        ("Mamba2-20M_transformers5", read("BBBBBBBBB", 20_298_820, 940_032)),
        ("Mamba2-Codestral_Infinity", read(&"B".repeat(64), 7_285_403_648, 138_149_888)),
        ("Nemotron-3-Nano-30B-A3B-like_PARTIAL", Refused(&["lacks vocab_size"])),
        ("Nemotron-H-8B-Base-8K_class_defaults", read(nemotron, 8_100_852_736, 186_023_936)),
        ("Qwen3-0.6B", read(&"AM".repeat(28), 596_049_920, 939_524_096)),
        ("Qwen3-Next-tiny-test", read("GEGEGEAEGEGEGEAEGEGE", 425_403_136, 21_168_128)),
        ("SmolLM-135M", read(&"AM".repeat(30), 134_515_008, 188_743_680)),
        ("SmolLM2-135M", read(&"AM".repeat(30), 134_515_008, 188_743_680)),
        ("Zamba-7B-v1", Refused(&["attn_layer_period", "share their weights"])),
        ("Zamba2-2.7B-Instruct-v2_PARTIAL", Refused(&["hybrid_layer_ids", "share their weights"])),
        ("fla-samba-hybrid", Refused(&["time_step_rank is 144", "Mamba-1"])),
    ]
}

fn read(letters: &str, parameters: u64, cache: u64) -> Expected {
    Read(letters.into(), parameters, cache)
}

fn described(config: &str) -> Result<Description, ImportError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config).unwrap();
    import::describe(folder.path(), &Primitives::standard())
}

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(FOLDER).join(format!("{name}.json"))).unwrap()
}

fn cost(found: &Description) -> ModelCost {
    ModelCost::new(&found.spec, &found.primitives, Workload::bf16(8192)).unwrap()
}

#[test]
fn every_published_configuration_is_read_or_refused_for_its_reason() {
    let table = table();
    let mut count = 0;
    for (name, expected) in &table {
        match (described(&file(name)), expected) {
            (Ok(found), Read(letters, parameters, cache)) => {
                let cost = cost(&found);
                let got = (found.spec.architecture.letters(), cost.total_parameters, cost.cache_bytes_per_sequence);
                assert_eq!(got, (letters.clone(), *parameters, *cache), "{name}");
                count += 1;
            }
            (Err(error), Refused(words)) => {
                let text = error.to_string();
                assert!(words.iter().all(|word| text.contains(word)), "{name}: {text}");
            }
            (Ok(found), Refused(_)) => panic!("{name} is read as {}", found.spec.architecture),
            (Err(error), Read(..)) => panic!("{name} is refused: {error}"),
        }
    }
    assert!(count >= 12, "{count} are read");
    // Every file of the folder has its row.
    for entry in fs::read_dir(FOLDER).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = table.iter().any(|(known, _)| name == format!("{known}.json"));
        assert!(known || name.starts_with("vocab_"), "{name}");
    }
}

#[test]
fn layers_have_the_options_of_the_models() {
    let ids = |name: &str| {
        let found = described(&file(name)).unwrap();
        let id = |symbol: &Symbol| found.primitives.get(*symbol).unwrap().id().to_string();
        let mut ids: Vec<String> = found.spec.architecture.layers().iter().map(id).collect();
        ids.sort();
        ids.dedup();
        ids
    };
    assert_eq!(ids("Llama-3.2-1B"), ["attention", "swiglu"]);
    assert_eq!(ids("Qwen3-0.6B"), ["attention_qk", "swiglu"]);
    assert_eq!(ids("LFM2-350M_layer_types"), ["attention_qk", "gated_conv", "swiglu"]);
    assert_eq!(ids("Bamba-9B"), ["attention_r50", "mamba2_l256_h128", "swiglu"]);
    assert_eq!(ids("Nemotron-H-8B-Base-8K_class_defaults"), ["attention_nope", "mamba2_g8_l128_h128_t1em3", "relu2"]);
    assert_eq!(
        ids("Qwen3-Next-tiny-test"),
        ["attention_r25_qk_gate", "gated_delta_net_h8", "moe_e4_k2_w256_v256_chosen_gate"]
    );
    assert_eq!(ids("Mamba2-20M_transformers5"), ["mamba2_n64_g2_l256_h12"]);
    assert_eq!(ids("DeciLM-nemotron-nas-mini"), ["attention", "attention_g2", "attention_g8", "linear", "swiglu"]);
}

/// What is read goes out again in the class it came from, which needs no code of ours.
#[test]
fn configurations_go_out_in_the_class_they_came_from() {
    let mut count = 0;
    for (name, expected) in table() {
        let Read(..) = expected else { continue };
        let found = described(&file(name)).unwrap();
        let class = serde_json::from_str::<Value>(&file(name).replace("Infinity", "0"))
            .map(|config| config["model_type"].as_str().unwrap().to_owned())
            .unwrap();
        let format = match class.as_str() {
            "llama" => Format::Llama,
            "qwen3" => Format::Qwen3,
            "lfm2" => Format::Lfm2,
            "bamba" => Format::Bamba,
            "mamba2" => Format::Mamba2,
            "nemotron_h" => Format::NemotronH,
            "qwen3_next" => Format::Qwen3Next,
            _ => continue,
        };
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("model");
        let options = Options { format, ..Options::default() };
        match export::hugging_face(&found.spec, None, &found.primitives, &folder, &options) {
            // transformers 5.23 takes whole expansions alone, and this model has one of 1.5.
            Err(error) => assert!(name == "Mamba2-20M_transformers5", "{name}: {error}"),
            Ok(exported) => {
                assert_eq!(exported.model_type, class, "{name}");
                assert!(exported.files.iter().all(|file| !file.ends_with(".py")), "{name}");
                assert_eq!(import::spec(&folder, &found.primitives).unwrap(), found.spec, "{name}");
                count += 1;
            }
        }
    }
    assert!(count >= 8, "{count}");
}

/// What is missing from the file that broke off, by the defaults of transformers.
#[test]
fn a_mixture_of_nemotron_3_has_the_published_size() {
    let mut config: Value = serde_json::from_str(&file("Nemotron-3-Nano-30B-A3B-like_PARTIAL")).unwrap();
    config["vocab_size"] = json!(131_072);
    config["routed_scaling_factor"] = json!(2.5);
    let found = described(&config.to_string()).unwrap();
    assert_eq!(cost(&found).total_parameters, 31_577_937_344);
    let moe = found.primitives.get('E'.try_into().unwrap()).unwrap().id();
    assert_eq!(moe.as_str(), "moe_e128_k6_w1856_v3712_sigmoid250_relu2");
}

/// A registry that has not the layers of a model does not make another model of it.
#[test]
fn a_specification_alone_needs_its_layers_in_the_registry() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), file("Qwen3-0.6B")).unwrap();
    let error = import::spec(folder.path(), &Primitives::standard()).unwrap_err();
    assert!(matches!(&error, ImportError::Options { .. }), "{error}");
    let found = import::describe(folder.path(), &Primitives::standard()).unwrap();
    assert_eq!(import::spec(folder.path(), &found.primitives).unwrap(), found.spec);
}

#[test]
fn contradictions_are_named() {
    let changed = |name: &str, changes: &[(&str, Value)]| {
        let mut config: Value = serde_json::from_str(&file(name)).unwrap();
        for (key, value) in changes {
            config[*key] = value.clone();
        }
        described(&config.to_string()).unwrap_err().to_string()
    };
    let nemotron = "Nemotron-H-8B-Base-8K_class_defaults";
    let pattern = |text: &str| changed(nemotron, &[("hybrid_override_pattern", json!(text))]);
    for (error, part) in [
        (pattern("M-Q*"), "'Q' at position 2"),
        (pattern("M-|M*"), "'|' at position 2"),
        (pattern("M-/M*"), "'/' at position 2"),
        (pattern("M-M*"), "has 4 layers, but num_hidden_layers is 52"),
        (changed(nemotron, &[("hybrid_override_pattern", Value::Null)]), "lacks hybrid_override_pattern"),
        (changed(nemotron, &[("layers_block_type", json!(vec!["mamba"; 52]))]), "name different layers"),
        (changed(nemotron, &[("layers_block_type", json!(["mamba"]))]), "names 1 layers"),
        (changed(nemotron, &[("n_groups", json!(4))]), "n_groups is 4, but mamba_n_groups is 8"),
        (changed(nemotron, &[("mlp_bias", json!(true))]), "mlp_bias is true"),
        (changed(nemotron, &[("mlp_hidden_act", json!("silu"))]), "mlp_hidden_act"),
        (changed(nemotron, &[("time_step_min", json!("x"))]), "time_step_min"),
        (changed(nemotron, &[("mamba_num_heads", json!(0))]), "heads is 0"),
        (changed(nemotron, &[("num_key_value_heads", json!(5))]), "5 KV heads"),
        (changed("LFM2-350M_layer_types", &[("layer_types", json!(["conv"]))]), "names 1 layers"),
        (
            changed("LFM2-350M_layer_types", &[("layer_types", json!(vec!["rwkv"; 16]))]),
            "does not have this kind of layer",
        ),
        (changed("LFM2-700M_full_attn_idxs", &[("full_attn_idxs", json!([16]))]), "has the index 16, but there are 16"),
        (changed("LFM2-700M_full_attn_idxs", &[("full_attn_idxs", json!([-1]))]), "whole numbers"),
        (changed("Bamba-9B", &[("mamba_n_heads", json!(100))]), "must equal mamba_expand times hidden_size"),
        (changed("Bamba-9B", &[("attn_layer_indices", json!([32]))]), "there are 32 layers"),
        (changed("Bamba-9B", &[("partial_rotary_factor", json!(1.0))]), "half of each head"),
        (changed("Qwen3-Next-tiny-test", &[("num_experts", json!(1))]), "experts is 1"),
        (changed("Qwen3-Next-tiny-test", &[("num_experts_per_tok", json!(0))]), "top_k is 0"),
        (changed("Qwen3-Next-tiny-test", &[("linear_num_value_heads", json!(9))]), "multiple of"),
        (changed("Qwen3-Next-tiny-test", &[("partial_rotary_factor", json!(0.0))]), "whole number of percent"),
        (changed("Qwen3-0.6B", &[("use_sliding_window", json!(true))]), "use_sliding_window"),
        (changed("Qwen3-0.6B", &[("num_hidden_layers", json!(1_u64 << 40))]), "blocks are too many"),
        (changed("Mamba2-20M_transformers5", &[("num_heads", json!(13))]), "832"),
        (
            changed("Mamba2-20M_transformers5", &[("time_step_limit", json!([0.5, 0.1]))]),
            "the bounds of its steps are invalid",
        ),
        (changed("Mamba2-20M_transformers5", &[("time_step_limit", json!([0.5]))]), "two numbers"),
        (changed("DeciLM-nemotron-nas-mini", &[("num_hidden_layers", json!(13))]), "has 14 blocks"),
        (changed("LFM2-350M_layer_types", &[("full_attn_idxs", json!([0]))]), "name different layers"),
        (changed("LFM2-350M_layer_types", &[("block_multiple_of", json!(0))]), "block_multiple_of is 0"),
        (changed("LFM2-350M_layer_types", &[("conv_L_cache", json!(1))]), "kernel size of 1"),
        (changed("Bamba-9B", &[("layers_block_type", json!(vec!["mamba"; 32]))]), "name different layers"),
        (changed("Bamba-9B", &[("layers_block_type", json!(["mamba"]))]), "names 1 layers"),
        (changed("Granite-4.0-h-tiny_PARTIAL", &[("hidden_act", json!("gelu"))]), "hidden_act"),
        (changed("Qwen3-Next-tiny-test", &[("full_attention_interval", json!(5))]), "name different layers"),
        (changed("Qwen3-Next-tiny-test", &[("full_attention_interval", json!(0))]), "a positive number"),
        (changed("Qwen3-Next-tiny-test", &[("decoder_sparse_step", json!(0))]), "a positive number"),
        (changed("Qwen3-0.6B", &[("layer_types", json!(["full_attention"]))]), "names 1 layers"),
        (changed("Qwen3-0.6B", &[("layer_types", json!(vec!["sliding_attention"; 28]))]), "sliding windows"),
        (changed("Qwen3-0.6B", &[("composer_nas", json!({ "init": "x" }))]), "no such InitScheme"),
        (
            changed("DeciLM-nemotron-nas-mini", &[("block_configs", json!([7])), ("num_hidden_layers", Value::Null)]),
            "an attention entry and an ffn entry",
        ),
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let whole = file("Bamba-9B");
    for end in [0, 1, whole.len() / 2, whole.len() - 2] {
        assert!(matches!(described(&whole[..end]), Err(ImportError::Damaged { .. })), "{end}");
    }
}

/// As many kinds of layers as there are blocks: refused at the first that has no letter.
#[test]
fn more_kinds_of_layers_than_letters_are_refused() {
    let mut config: Value = serde_json::from_str(&file("DeciLM-nemotron-nas-mini")).unwrap();
    let block = |at: usize| json!({ "attention": { "no_op": true }, "ffn": { "intermediate_size": 256 + at } });
    config["block_configs"] = (0..30_000).map(block).collect();
    config["num_hidden_layers"] = Value::Null;
    let error = described(&config.to_string()).unwrap_err().to_string();
    assert!(error.contains("more kinds of layers than letters"), "{error}");
}

/// Every place of a value, below lists by their first item.
fn places(value: &Value) -> Vec<String> {
    let within = |key: String, inner: &Value| {
        let below = places(inner).into_iter().map(|place| format!("/{key}{place}")).collect::<Vec<_>>();
        [vec![format!("/{key}")], below].concat()
    };
    match value {
        Value::Object(map) => map.iter().flat_map(|(key, inner)| within(key.clone(), inner)).collect(),
        Value::Array(items) => items.first().map(|inner| within("0".into(), inner)).unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Whatever stands in whichever place of a file, the answer is an error, or a model that can be counted and placed.
#[test]
fn nothing_that_a_file_may_say_makes_the_reader_panic() {
    let huge = [json!(u64::MAX), json!(1e30), json!(1_u64 << 24)];
    let odd = [json!(0), json!(7), json!(-1), json!(0.5), json!("Infinity")];
    let other = [Value::Null, json!(true), json!("x"), json!([]), json!([-1, "x"]), json!({ "a": 1 })];
    let hostile = [&huge[..], &odd, &other].concat();
    for name in [
        "Bamba-9B",
        "DeciLM-nemotron-nas-mini",
        "LFM2-350M_layer_types",
        "Llama-3.2-1B",
        "Mamba2-Codestral_Infinity",
        "Nemotron-H-8B-Base-8K_class_defaults",
        "Qwen3-0.6B",
        "Qwen3-Next-tiny-test",
    ] {
        let text = file(name).replace(": Infinity", ": 1e30").replace(" Infinity", " 1e30");
        let config: Value = serde_json::from_str(&text).unwrap();
        for place in places(&config) {
            for value in &hostile {
                let mut changed = config.clone();
                *changed.pointer_mut(&place).unwrap() = value.clone();
                let Ok(found) = described(&changed.to_string()) else { continue };
                found.spec.validate().unwrap();
                cost(&found);
                export::formats(&found.spec, &found.primitives);
            }
        }
    }
}

#[test]
fn heads_of_keys_that_are_not_stated_are_those_of_the_class() {
    let folder = tempfile::tempdir().unwrap();
    for (name, heads, class) in [("Bamba-9B", 32, 8), ("LFM2-350M_layer_types", 16, 8), ("Qwen3-0.6B", 64, 32)] {
        let text = file(name);
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["num_attention_heads"] = heads.into();
        for (stated, expected) in [(Some(json!(4)), 4), (Some(Value::Null), heads), (None, class)] {
            let fields = config.as_object_mut().unwrap();
            match stated {
                Some(stated) => fields.insert("num_key_value_heads".into(), stated),
                None => fields.remove("num_key_value_heads"),
            };
            fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
            let found = import::describe(folder.path(), &Primitives::standard()).unwrap();
            assert_eq!(found.spec.dims.kv_heads, expected, "{name}");
        }
    }
}
