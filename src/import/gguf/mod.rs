//! Checkpoints in the GGUF format of llama.cpp.

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

/// The files that [`unpack_gguf`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The folder. Pass it to [`hugging_face`](super::hugging_face).
    pub folder: PathBuf,
    /// The path of its tokenizer.json. `None` if the file has no byte-level BPE, or if its pre-tokenizer is not
    /// supported (supported are those of GPT-2, SmolLM and Llama 3).
    pub tokenizer: Option<PathBuf>,
}

/// Converts a GGUF file of the Llama architecture to a folder in the format of transformers, which
/// [`hugging_face`](super::hugging_face) can read. The folder contains config.json, model.safetensors in single
/// precision, and tokenizer.json.
///
/// Supported number types are plain floats, Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0; quantized numbers are dequantized. The
/// conversion holds all weights in memory twice: in single precision and as the file to write. The folder is written
/// atomically and must not exist yet.
///
/// # Errors
/// Returns an [`ImportError`] if the file cannot be read, is damaged, or has another architecture; if it has a setting
/// that a [`ModelSpec`](crate::model::ModelSpec) cannot express; or if the folder cannot be written.
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

/// Returns the config.json of a plain Llama.
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
    check_supported(file, head_dim)?;
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

/// Refuses what a config.json of a plain Llama cannot express.
fn check_supported(file: &Gguf, head_dim: usize) -> Result<(), ImportError> {
    let refuse = |key, value: String, reason| Err(ImportError::Setting { key, value, reason });
    if let Some(turned) = file.size("llama.rope.dimension_count").filter(|&turned| turned != head_dim) {
        return refuse(
            "llama.rope.dimension_count",
            turned.to_string(),
            "only rotary positions over the whole head are supported",
        );
    }
    if let Some(experts) = file.size("llama.expert_count").filter(|&experts| experts > 0) {
        return refuse(
            "llama.expert_count",
            experts.to_string(),
            "mixtures of experts as in Mixtral are not supported",
        );
    }
    let scaled = file.text("llama.rope.scaling.type").filter(|&kind| kind != "none");
    if scaled.is_some() || file.tensors().contains_key("rope_freqs.weight") {
        let value = scaled.unwrap_or("rope_freqs.weight").into();
        return refuse(
            "llama.rope.scaling.type",
            value,
            "scaled rotary positions cannot be read from GGUF: use the safetensors files of the model",
        );
    }
    Ok(())
}

/// Returns the shortest decimal that rounds to the stored single-precision number: 1e-5, not 9.999999747378752e-6.
fn rounded(value: f64) -> f64 {
    let single = value as f32;
    if f64::from(single) == value { single.to_string().parse().unwrap_or(value) } else { value }
}

/// Returns all tensors under their names in transformers. The rows of query and key projections are reordered from
/// rotary pairs to halves.
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

/// Returns the name of a tensor in transformers.
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
