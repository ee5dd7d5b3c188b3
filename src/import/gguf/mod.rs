//! Checkpoints in the format of llama.cpp.

mod blocks;
mod reader;
mod tokenizer;

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::TensorData;
use reader::Gguf;
use serde_json::{Value as Json, json};

use super::{ImportError, weights::halves};
use crate::{durable, export::LLAMA, weights};

/// What [`unpack_gguf`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The folder, for [`hugging_face`](super::hugging_face).
    pub folder: PathBuf,
    /// Its tokenizer.json; none where the file has no byte-level BPE, or one whose rule for cutting text into words is
    /// not known here (known are those of GPT-2, SmolLM and Llama 3).
    pub tokenizer: Option<PathBuf>,
}

/// Writes a GGUF file of the Llama architecture, as llama.cpp reads it, as a folder of transformers, which
/// [`hugging_face`](super::hugging_face) reads: config.json, model.safetensors in single precision, tokenizer.json.
///
/// Numbers may be plain or of the types Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0; a quantized number becomes the one it stands
/// for. All weights are in memory once in single precision and once as the file. The folder appears when it is
/// complete; what stood there is an error.
///
/// # Errors
/// [`ImportError`] when the file cannot be read, is damaged or is another architecture, names a setting that a
/// [`ModelSpec`](crate::model::ModelSpec) cannot express, or the folder cannot be written.
pub fn unpack_gguf(file: impl AsRef<Path>, folder: impl AsRef<Path>) -> Result<Unpacked, ImportError> {
    let folder = folder.as_ref();
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| ImportError::File { path, source }
    };
    let mut file = Gguf::open(file.as_ref())?;
    let config = config(&file)?;
    let beside = durable::beside(folder);
    durable::remove_folder(&beside).map_err(io(&beside))?;
    fs::create_dir_all(&beside).map_err(io(&beside))?;
    let json = |name: &str, value: &Json| {
        let path = beside.join(name);
        durable::write(&path, format!("{value:#}\n").as_bytes()).map_err(io(&path))
    };
    json("config.json", &config)?;
    let tokenizer = tokenizer::tokenizer(&file);
    tokenizer.iter().try_for_each(|tokenizer| json(TOKENIZER, tokenizer))?;
    let tensors = tensors(&mut file)?;
    weights::write(&beside.join("model.safetensors"), tensors)?;
    durable::replace(&beside, folder).map_err(io(folder))?;
    Ok(Unpacked { folder: folder.into(), tokenizer: tokenizer.map(|_| folder.join(TOKENIZER)) })
}

const TOKENIZER: &str = "tokenizer.json";

/// The config.json of a plain Llama.
fn config(file: &Gguf) -> Result<Json, ImportError> {
    let architecture = file.text("general.architecture").unwrap_or_default();
    if architecture != LLAMA {
        return Err(ImportError::ModelType { found: architecture.into() });
    }
    let need = |key: &'static str| {
        let damaged = || ImportError::Damaged { path: file.path().into(), reason: format!("it lacks {key}") };
        file.size(key).ok_or_else(damaged)
    };
    let width = need("llama.embedding_length")?;
    let heads = need("llama.attention.head_count")?;
    let head_dim = file.size("llama.attention.key_length").or(width.checked_div(heads)).unwrap_or_default();
    let refuse = |key, value: String, reason| Err(ImportError::Setting { key, value, reason });
    if let Some(turned) = file.size("llama.rope.dimension_count").filter(|&turned| turned != head_dim) {
        return refuse("llama.rope.dimension_count", turned.to_string(), "attention rotates whole heads");
    }
    if let Some(experts) = file.size("llama.expert_count").filter(|&experts| experts > 0) {
        return refuse("llama.expert_count", experts.to_string(), "the experts of Mixtral are no layer here");
    }
    let scaled = file.text("llama.rope.scaling.type").filter(|&kind| kind != "none");
    if scaled.is_some() || file.tensors().contains_key("rope_freqs.weight") {
        let value = scaled.unwrap_or("rope_freqs.weight").into();
        return refuse("llama.rope.scaling.type", value, "scaled positions are not read from GGUF: take safetensors");
    }
    let embedding = file.tensors().get("token_embd.weight").and_then(|stored| stored.shape.first().copied());
    let vocabulary = match embedding {
        Some(rows) => rows,
        None => return Err(ImportError::Missing { count: 1, first: "token_embd.weight".into() }),
    };
    let token = |key: &str| file.size(&format!("tokenizer.ggml.{key}_token_id"));
    Ok(json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": LLAMA,
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": need("llama.feed_forward_length")?,
        "num_hidden_layers": need("llama.block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": file.size("llama.attention.head_count_kv").unwrap_or(heads),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": rounded(file.float("llama.attention.layer_norm_rms_epsilon").unwrap_or(1e-5)),
        "rope_theta": file.float("llama.rope.freq_base").unwrap_or(10_000.0),
        "max_position_embeddings": need("llama.context_length")?,
        "attention_bias": file.tensors().contains_key("blk.0.attn_q.bias"),
        "mlp_bias": false,
        "tie_word_embeddings": !file.tensors().contains_key("output.weight"),
        "bos_token_id": token("bos"),
        "eos_token_id": token("eos"),
        "torch_dtype": "float32",
    }))
}

/// The number that a setting in single precision was written as: 1e-5, not 9.999999747378752e-6.
fn rounded(value: f64) -> f64 {
    let single = value as f32;
    if f64::from(single) == value { single.to_string().parse().unwrap_or(value) } else { value }
}

/// All tensors under the names of transformers, rotary pairs as halves of a head.
fn tensors(file: &mut Gguf) -> Result<Vec<(String, TensorData)>, ImportError> {
    let heads = file.size("llama.attention.head_count").unwrap_or_default();
    let width = file.size("llama.embedding_length").unwrap_or_default();
    let head_dim = file.size("llama.attention.key_length").or(width.checked_div(heads)).unwrap_or_default();
    let names: Vec<(String, Vec<usize>)> =
        file.tensors().iter().map(|(name, stored)| (name.clone(), stored.shape.clone())).collect();
    let mut tensors = Vec::with_capacity(names.len());
    for (name, shape) in names {
        let Some(theirs) = renamed(&name) else {
            return Err(ImportError::Extra { count: 1, first: name });
        };
        let mut numbers = file.numbers(&name)?;
        if [".attn_q.", ".attn_k."].iter().any(|part| name.contains(part)) {
            let row = if shape.len() > 1 { shape[1] } else { 1 };
            numbers = halves(&numbers, head_dim, row);
        }
        tensors.push((theirs, TensorData::new(numbers, shape)));
    }
    Ok(tensors)
}

/// The name that transformers gives a tensor.
fn renamed(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let whole = match stem {
        "token_embd" => "model.embed_tokens",
        "output_norm" => "model.norm",
        "output" => "lm_head",
        _ => "",
    };
    if !whole.is_empty() {
        return Some(format!("{whole}.{kind}"));
    }
    let (layer, part) = stem.strip_prefix("blk.")?.split_once('.')?;
    let part = match part {
        "attn_norm" => "input_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{part}.{kind}"))
}
