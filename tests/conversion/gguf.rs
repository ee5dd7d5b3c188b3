//! Files of llama.cpp.

use std::fs;

use composer_nas::{
    data::Importer,
    export::{self, Format},
    import::{self, Rope, unpack_gguf},
    text::causes,
};
use safetensors::SafeTensors;
use serde_json::Value;

use super::*;

/// A key with its type and value, as the file has them.
fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [text(name), kind.to_le_bytes().to_vec(), value.to_vec()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [(text.len() as u64).to_le_bytes().to_vec(), text.as_bytes().to_vec()].concat()
}

fn texts(list: &[&str]) -> Vec<u8> {
    let head = [8_u32.to_le_bytes().to_vec(), (list.len() as u64).to_le_bytes().to_vec()].concat();
    list.iter().fold(head, |all, entry| [all, text(entry)].concat())
}

/// Our names of the parts of a block, and theirs.
const PARTS: [(&str, &str); 9] = [
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

fn theirs(name: &str) -> String {
    let name = name.replace("model.layers.", "blk.").replace("model.embed_tokens", "token_embd");
    let name = name.replace("model.norm", "output_norm").replace("lm_head", "output");
    PARTS.iter().fold(name, |name, (ours, theirs)| name.replace(ours, theirs))
}

/// Halves of a head as pairs of neighbours, as llama.cpp stores queries and keys.
fn pairs(numbers: &[f32], head_dim: usize, row: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = numbers.chunks(row).collect();
    let half = head_dim / 2;
    let order =
        |head: &[&[f32]]| (0..head_dim).flat_map(|at| head[at / 2 + at % 2 * half].to_vec()).collect::<Vec<_>>();
    rows.chunks(head_dim).flat_map(order).collect()
}

/// A folder of transformers as a GGUF file, in single precision, whose tokenizer cuts words like SmolLM's.
fn gguf(folder: &Path, extra: &[Vec<u8>]) -> Vec<u8> {
    with_words(folder, extra, "smollm")
}

/// The same with another rule for words.
fn with_words(folder: &Path, extra: &[Vec<u8>], rule: &str) -> Vec<u8> {
    let config: Value = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let size = |name: &str| config[name].as_u64().unwrap() as u32;
    let mut keys = vec![
        key("general.architecture", 8, &text("llama")),
        key("llama.embedding_length", 4, &size("hidden_size").to_le_bytes()),
        key("llama.block_count", 4, &size("num_hidden_layers").to_le_bytes()),
        key("llama.context_length", 4, &64_u32.to_le_bytes()),
        key("llama.feed_forward_length", 4, &size("intermediate_size").to_le_bytes()),
        key("llama.attention.head_count", 4, &size("num_attention_heads").to_le_bytes()),
        key("llama.attention.head_count_kv", 4, &size("num_key_value_heads").to_le_bytes()),
        key("llama.rope.freq_base", 6, &10_000_f32.to_le_bytes()),
        key("llama.attention.layer_norm_rms_epsilon", 6, &1e-5_f32.to_le_bytes()),
        key("tokenizer.ggml.model", 8, &text("gpt2")),
        key("tokenizer.ggml.pre", 8, &text(rule)),
        key("tokenizer.ggml.tokens", 9, &texts(&["<end>", "a", "b", "Ġ", "ab", "1", "aab"])),
        key("tokenizer.ggml.merges", 9, &texts(&["a b"])),
        key(
            "tokenizer.ggml.token_type",
            9,
            &[5_u32.to_le_bytes().to_vec(), 1_u64.to_le_bytes().to_vec(), 3_i32.to_le_bytes().to_vec()].concat(),
        ),
    ];
    keys.extend(extra.iter().cloned());
    let names = tensors.names();
    let mut header = [b"GGUF".to_vec(), 3_u32.to_le_bytes().to_vec()].concat();
    header.extend((names.len() as u64).to_le_bytes());
    header.extend((keys.len() as u64).to_le_bytes());
    header.extend(keys.concat());
    let mut data: Vec<u8> = Vec::new();
    for name in names {
        let tensor = tensors.tensor(name).unwrap();
        let mut numbers: Vec<f32> =
            tensor.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        if name.contains("q_proj") || name.contains("k_proj") {
            numbers = pairs(&numbers, 8, tensor.shape()[1]);
        }
        header.extend(text(&theirs(name)));
        header.extend((tensor.shape().len() as u32).to_le_bytes());
        tensor.shape().iter().rev().for_each(|&size| header.extend((size as u64).to_le_bytes()));
        header.extend(0_u32.to_le_bytes());
        header.extend((data.len() as u64).to_le_bytes());
        data.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        data.resize(data.len().next_multiple_of(32), 0);
    }
    header.resize(header.len().next_multiple_of(32), 0);
    [header, data].concat()
}

fn exported(folder: &Path) -> (HybridLm, std::path::PathBuf) {
    let own = parent("AMAM");
    let out = folder.join("exported");
    let options = export::Options { format: Format::Llama, ..Default::default() };
    export::hugging_face(own.spec(), Some(own.model()), &primitives(), &out, &options).unwrap();
    (own.model().clone(), out)
}

#[test]
fn a_file_of_llama_cpp_is_read_exactly_with_its_tokenizer() {
    let root = tempfile::tempdir().unwrap();
    let (model, folder) = exported(root.path());
    let file = root.path().join("tiny.gguf");
    fs::write(&file, gguf(&folder, &[])).unwrap();
    let unpacked = unpack_gguf(&file, root.path().join("unpacked")).unwrap();
    let read = import::hugging_face(&unpacked.folder, &primitives(), &Device::flex(), Rope::Halves).unwrap();
    assert_eq!(logits(&read.model, 9), logits(&model, 9));
    assert_eq!(read.spec.dims, Dims { norm_eps: 1e-5, ..dims() });
    let tokenizer = Importer::load(unpacked.tokenizer.unwrap(), Some("<end>")).unwrap();
    // Digits stand alone.
    assert_eq!(tokenizer.encode("ab a11<end>").unwrap(), [4, 3, 1, 5, 5, 0]);
    // Of Llama 3, a word that is a token needs no merges; rules that are not known give no tokenizer.
    for (name, rule, encoded) in [
        ("smollm", "smollm", Some([1, 4].as_slice())),
        ("llama", "llama-bpe", Some(&[6])),
        ("default", "default", None),
    ] {
        fs::write(&file, with_words(&folder, &[], rule)).unwrap();
        let unpacked = unpack_gguf(&file, root.path().join(name)).unwrap();
        let tokenizer = unpacked.tokenizer.map(|path| Importer::load(path, Some("<end>")).unwrap());
        assert_eq!(tokenizer.map(|tokenizer| tokenizer.encode("aab").unwrap()).as_deref(), encoded, "{rule}");
    }
    // What is there is not replaced.
    assert!(unpack_gguf(&file, root.path().join("unpacked")).is_err());
}

#[test]
fn files_that_cannot_be_read_are_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let (_, folder) = exported(root.path());
    let file = root.path().join("tiny.gguf");
    let refused = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let out = root.path().join("out");
        let error = causes(&unpack_gguf(&file, &out).unwrap_err());
        assert!(!out.exists());
        error
    };
    let whole = gguf(&folder, &[]);
    for length in [0, 3, 10, 24, 200, whole.len() / 3, whole.len() - 40] {
        let error = refused(&whole[..length]);
        assert!(error.contains("tiny.gguf") && error.contains("damaged"), "{length}: {error}");
    }
    let mut huge = whole.clone();
    huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refused(&huge).contains("entries"));
    // Less data than all tensors have together, wherever they begin.
    assert!(refused(&whole[..whole.len() * 2 / 3]).contains("its tensors need"));
    let scaled = key("llama.rope.scaling.type", 8, &text("yarn"));
    assert!(refused(&gguf(&folder, &[scaled])).contains("yarn"));
    let experts = key("llama.expert_count", 4, &8_u32.to_le_bytes());
    assert!(refused(&gguf(&folder, &[experts])).contains("llama.expert_count"));
    let other = key("general.architecture", 8, &text("gemma"));
    assert!(refused(&gguf(&folder, &[other])).contains("gemma"));
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs root, to mount"]
fn a_disk_that_is_full_leaves_no_folder() {
    let root = tempfile::tempdir().unwrap();
    let (_, folder) = exported(root.path());
    let file = root.path().join("tiny.gguf");
    fs::write(&file, gguf(&folder, &[])).unwrap();
    let disk = root.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = mount::Mount::full_at(&disk, "size=4k");
    let out = disk.join("unpacked");
    let mut stops = 0;
    for pages in 1..100 {
        mount.change(&format!("size={}k", 4 * pages));
        match unpack_gguf(&file, &out) {
            Ok(_) => break,
            Err(error) => assert!(causes(&error).contains("No space left on device") && !out.exists(), "{error}"),
        }
        stops += 1;
    }
    assert!(stops > 3, "{stops}");
    import::hugging_face(&out, &primitives(), &Device::flex(), Rope::Halves).unwrap();
}
