//! Launch scripts for pre-training.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::{HfMappingError, plan};
use crate::{
    dims::InitScheme,
    model::ModelSpec,
    primitive::{BuildError, HfMapping, PrimitiveId, Primitives, RegistryError, Symbol},
};

/// A launch script for pre-training one model with Megatron-LM's `pretrain_hybrid.py`. Its `Display` output is a Bash
/// script.
///
/// The argument names are those of Megatron-LM in August 2026 (commit d98e8a6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Megatron {
    /// One letter per layer, for `--hybrid-layer-pattern`. In this pattern, `M` is Mamba-2.
    pub pattern: String,
    /// The mapping of the symbols: symbol, primitive, letter in the pattern.
    pub letters: Vec<(Symbol, PrimitiveId, char)>,
    /// The arguments that define the model.
    pub model: Vec<String>,
    /// The arguments that define the training.
    pub training: Vec<String>,
}

/// The settings of a pre-training. The peak learning rate and the batch size of published Llama models of the same size
/// are good starting points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MegatronTraining {
    /// The length of a sequence in tokens.
    pub seq_len: usize,
    /// The number of training tokens.
    pub tokens: u64,
    /// Sequences per step, over all GPUs.
    pub global_batch: usize,
    /// Sequences per GPU and forward pass.
    pub micro_batch: usize,
    /// The peak learning rate. The schedule is a warm-up over 1 % of the samples, then a cosine decay to a tenth of the
    /// peak.
    pub peak_rate: f64,
    /// The number of GPUs that share one layer (tensor parallelism).
    pub tensor_parallel: usize,
}

impl Default for MegatronTraining {
    /// Returns the setting of Composer's comparison at 1B: 37.5 billion tokens, in steps of 256 sequences of 4096
    /// tokens.
    fn default() -> Self {
        Self {
            seq_len: 4096,
            tokens: 37_500_000_000,
            global_batch: 256,
            micro_batch: 1,
            peak_rate: 3e-4,
            tensor_parallel: 1,
        }
    }
}

/// A model or training that Megatron-LM's hybrid stack cannot express.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MegatronError {
    /// The specification cannot be built.
    #[error(transparent)]
    Spec(#[from] BuildError),
    /// The registry does not contain a primitive of the architecture.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A layer has no letter in the pattern.
    #[error("Megatron's hybrid pattern has no letter for {id} ({symbol}); it has letters for {KNOWN}")]
    Layer {
        /// The primitive.
        id: PrimitiveId,
        /// Its symbol in this crate.
        symbol: Symbol,
    },
    /// Two layers of the same kind have different options.
    #[error(transparent)]
    HfMapping(#[from] HfMappingError),
    /// A setting that Megatron-LM does not support, or supports only for all layers alike.
    #[error("Megatron cannot express this model: {0}")]
    Model(&'static str),
    /// A setting of the training is not positive.
    #[error("{0} must be positive")]
    Training(&'static str),
}

/// The primitives that have a letter in the pattern.
const KNOWN: &str = "attention, sliding_window, swiglu, relu2, mamba2, gated_delta_net, moe, latent_attention";

/// Returns a launch script for pre-training a model with Megatron-LM.
///
/// # Errors
/// Returns a [`MegatronError`] if Megatron-LM does not support a layer or a setting, or if a setting differs between
/// layers.
pub fn megatron(
    spec: &ModelSpec,
    primitives: &Primitives,
    training: &MegatronTraining,
) -> Result<Megatron, MegatronError> {
    spec.validate()?;
    let mut letters: Vec<(Symbol, PrimitiveId, char)> = Vec::new();
    let mut mappings = BTreeMap::new();
    for &symbol in spec.architecture.layers() {
        if letters.iter().any(|(known, ..)| *known == symbol) {
            continue;
        }
        let primitive = primitives.get(symbol)?;
        let found = primitive.hf_mapping(&spec.dims).and_then(|found| Some((letter(&found)?, found)));
        let Some((letter, mapping)) = found else {
            return Err(MegatronError::Layer { id: primitive.id(), symbol });
        };
        letters.push((symbol, primitive.id(), letter));
        mappings.insert(symbol, mapping);
    }
    let letter = |symbol: &Symbol| letters.iter().find(|(known, ..)| known == symbol).map(|&(.., letter)| letter);
    let pattern = spec.architecture.layers().iter().filter_map(letter).collect::<String>();
    let attention = attention(&mappings)?;
    let mut model = model(spec, &pattern, &attention, training)?;
    model.extend(layers(spec, &mappings)?);
    model.extend(attention.arguments);
    Ok(Megatron { pattern, letters, model, training: arguments(training)? })
}

/// Returns the letter of a kind of layer.
fn letter(found: &HfMapping) -> Option<char> {
    match found.family.as_str() {
        "full_attention" | "sliding_attention" => Some('*'),
        "swiglu" if found.options.is_empty() => Some('-'),
        "relu2_mlp" => Some('-'),
        "mamba2" => Some('M'),
        "gated_delta_net" => Some('G'),
        "moe" => Some('E'),
        "latent_attention" => Some('+'),
        _ => None,
    }
}

/// The arguments that all attention layers share.
struct AttentionArguments {
    /// `rope` or `none`.
    positions: &'static str,
    /// The percentage of channels with rotary positions.
    percent: u32,
    arguments: Vec<String>,
}

/// Returns the arguments for the options of attention, which are the same for all layers in Megatron-LM.
fn attention(mappings: &BTreeMap<Symbol, HfMapping>) -> Result<AttentionArguments, MegatronError> {
    let is_attention = |found: &&HfMapping| ["full_attention", "sliding_attention"].contains(&found.family.as_str());
    let mut all = mappings.values().filter(is_attention).map(|found| &found.options);
    let mut made = AttentionArguments { positions: "rope", percent: 100, arguments: Vec::new() };
    let Some(first) = all.next() else { return Ok(made) };
    if all.any(|other| other != first) {
        return Err(MegatronError::Model("all its attention layers must have the same options"));
    }
    for (name, value) in first {
        match (name.as_str(), value.as_str()) {
            ("positions", "none") => made.positions = "none",
            ("positions", percent) => made.percent = percent.parse().unwrap_or(100),
            ("norm", "per head") => made.arguments.push("--qk-layernorm".into()),
            ("gate", _) => made.arguments.push("--attention-output-gate".into()),
            _ => return Err(MegatronError::Model("it does not support an option of the attention layers")),
        }
    }
    Ok(made)
}

/// Returns the arguments of mixtures of experts.
fn mixture(found: &HfMapping) -> Vec<String> {
    let option = |key: &str| found.options.get(key).cloned().unwrap_or_default();
    let mut all = words(&[
        ("--num-experts", option("experts")),
        ("--moe-router-topk", option("top_k")),
        ("--moe-ffn-hidden-size", option("width")),
        ("--moe-router-load-balancing-type", "aux_loss".into()),
        ("--moe-aux-loss-coeff", "0.01".into()),
    ]);
    if option("shared_width") != "0" {
        all.extend(words(&[("--moe-shared-expert-intermediate-size", option("shared_width"))]));
    }
    if option("shared_gate") == "yes" {
        all.push("--moe-shared-expert-gate".into());
    }
    let routing = option("routing");
    match routing.strip_prefix("sigmoid ").and_then(|hundredths| hundredths.parse::<f64>().ok()) {
        Some(hundredths) => all.extend(words(&[
            ("--moe-router-score-function", "sigmoid".into()),
            ("--moe-router-topk-scaling-factor", (hundredths / 100.0).to_string()),
        ])),
        None if routing == "softmax" => all.push("--moe-router-pre-softmax".into()),
        None => {}
    }
    all
}

/// Returns the arguments of multi-head latent attention.
fn latent(found: &HfMapping) -> Vec<String> {
    let option = |key: &str| found.options.get(key).cloned().unwrap_or_default();
    // Without this argument, Megatron-LM scales the rotary positions.
    let mut all = vec!["--multi-latent-attention".to_owned(), "--rope-type rope".into()];
    all.extend(words(&[
        ("--kv-lora-rank", option("rank")),
        ("--qk-head-dim", option("nope")),
        ("--qk-pos-emb-head-dim", option("rope")),
        ("--v-head-dim", option("value")),
    ]));
    if option("query_rank") != "0" {
        all.extend(words(&[("--q-lora-rank", option("query_rank"))]));
    }
    all
}

/// Returns the arguments of the other kinds of layers.
fn layers(spec: &ModelSpec, mappings: &BTreeMap<Symbol, HfMapping>) -> Result<Vec<String>, MegatronError> {
    let settings = plan::settings(mappings)?;
    let kind = |symbol: &Symbol| mappings.get(symbol).map_or("", |mapping| &mapping.kind);
    let has = |wanted: &str| mappings.keys().any(|symbol| kind(symbol) == wanted);
    let number = |key: &str| settings.get(key).and_then(Value::as_u64).unwrap_or_default();
    let named = |pairs: &[(&str, &str)]| -> Vec<String> {
        pairs.iter().map(|(name, key)| format!("{name} {}", number(key))).collect()
    };
    let mut all = Vec::new();
    let of = |family: &'static str| mappings.values().filter(move |found| found.family == family);
    if of("moe").count() > 1 || of("latent_attention").count() > 1 || of("mamba2").count() > 1 {
        return Err(MegatronError::Model("it supports only one variant each of experts, Mamba-2 and latent attention"));
    }
    let experts = |expert: &str| of("moe").any(|found| found.options.get("expert").is_some_and(|is| is == expert));
    match (has("swiglu") || experts("swiglu"), has("relu2_mlp") || experts("relu2")) {
        (true, true) => return Err(MegatronError::Model("all its MLP layers must have the same activation")),
        (true, false) => all.push("--swiglu".into()),
        (false, true) => all.push("--squared-relu".into()),
        (false, false) => {}
    }
    if has("sliding_attention") {
        // The window is stated as the number of keys to the left of the current one, which this crate includes. The
        // list states the layers that use the window.
        let applies = |symbol: &Symbol| if kind(symbol) == "sliding_attention" { "1" } else { "0" };
        let list = spec.architecture.layers().iter().map(applies).collect::<Vec<_>>().join(",");
        all.push(format!("--window-size {},0", number("sliding_window").saturating_sub(1)));
        all.push(format!("--window-attn-skip-freq '[{list}]'"));
    }
    if has("mamba2") {
        if number("conv_kernel") != 4 {
            return Err(MegatronError::Model("the convolutions of its Mamba-2 have kernel size 4"));
        }
        let least = settings.get("time_step_min").and_then(Value::as_f64).unwrap_or_default();
        if least > 0.0 || settings.contains_key("use_bias") || settings.contains_key("use_conv_bias") {
            let text = "its Mamba-2 has no limits of dt, no biases in the projections, and a bias in the convolution";
            return Err(MegatronError::Model(text));
        }
        all.extend(named(&[
            ("--mamba-num-heads", "mamba_num_heads"),
            ("--mamba-head-dim", "mamba_head_dim"),
            ("--mamba-state-dim", "ssm_state_size"),
            ("--mamba-num-groups", "n_groups"),
        ]));
    }
    all.extend(of("moe").flat_map(mixture));
    all.extend(of("latent_attention").flat_map(latent));
    if of("latent_attention").count() > 0 && of("full_attention").chain(of("sliding_attention")).count() > 0 {
        return Err(MegatronError::Model("it cannot combine attention and multi-head latent attention"));
    }
    if has("gated_delta_net") {
        all.extend(named(&[
            ("--linear-num-key-heads", "linear_num_key_heads"),
            ("--linear-num-value-heads", "linear_num_value_heads"),
            ("--linear-key-head-dim", "linear_key_head_dim"),
            ("--linear-value-head-dim", "linear_value_head_dim"),
            ("--linear-conv-kernel-dim", "linear_conv_kernel_dim"),
        ]));
    }
    Ok(all)
}

/// Returns the arguments that define the model.
fn model(
    spec: &ModelSpec,
    pattern: &str,
    attention: &AttentionArguments,
    training: &MegatronTraining,
) -> Result<Vec<String>, MegatronError> {
    let dims = &spec.dims;
    if dims.attention_bias || (spec.head_bias && !spec.tied_embeddings) {
        return Err(MegatronError::Model(
            "it has biases either in all layers or in none, and none in the head; use attention_bias: false",
        ));
    }
    if dims.rope_theta.fract() != 0.0 {
        return Err(MegatronError::Model("--rotary-base must be a whole number"));
    }
    if dims.rope_scaling.is_some() {
        return Err(MegatronError::Model(
            "its hybrid models do not support scaled rotary positions; use rope_scaling: None",
        ));
    }
    let InitScheme::Normal(std) = spec.init else {
        return Err(MegatronError::Model("initial weights must be normally distributed; use InitScheme::Normal(0.02)"));
    };
    let mut all = words(&[("--hybrid-layer-pattern", format!("'{pattern}'"))]);
    all.push("--spec megatron.core.models.hybrid.hybrid_layer_specs hybrid_stack_spec".into());
    all.extend(words(&[
        ("--hidden-size", dims.d_model.to_string()),
        ("--ffn-hidden-size", dims.d_ff.to_string()),
        ("--num-attention-heads", dims.heads.to_string()),
        ("--kv-channels", dims.head_dim.to_string()),
    ]));
    if dims.kv_heads != dims.heads {
        all.push("--group-query-attention".into());
        all.push(format!("--num-query-groups {}", dims.kv_heads));
    }
    all.extend(words(&[
        ("--position-embedding-type", attention.positions.into()),
        ("--rotary-base", format!("{}", dims.rope_theta)),
        ("--rotary-percent", format!("{:?}", f64::from(attention.percent) / 100.0)),
        ("--normalization", "RMSNorm".into()),
        ("--norm-epsilon", dims.norm_eps.to_string()),
        ("--init-method-std", std.to_string()),
        ("--attention-dropout", "0.0".into()),
        ("--hidden-dropout", "0.0".into()),
        ("--seq-length", training.seq_len.to_string()),
        ("--max-position-embeddings", training.seq_len.to_string()),
        ("--vocab-size", spec.vocab_size.to_string()),
        ("--make-vocab-size-divisible-by", "1".into()),
    ]));
    all.push("--disable-bias-linear".into());
    if !spec.tied_embeddings {
        all.push("--untie-embeddings-and-output-weights".into());
    }
    Ok(all)
}

/// Returns the arguments that define the training.
fn arguments(training: &MegatronTraining) -> Result<Vec<String>, MegatronError> {
    let MegatronTraining { seq_len, tokens, global_batch, micro_batch, peak_rate, tensor_parallel } = training;
    for (name, value) in [
        ("seq_len", *seq_len as u64),
        ("tokens", *tokens),
        ("global_batch", *global_batch as u64),
        ("micro_batch", *micro_batch as u64),
        ("tensor_parallel", *tensor_parallel as u64),
    ] {
        if value == 0 {
            return Err(MegatronError::Training(name));
        }
    }
    if !(peak_rate.is_finite() && *peak_rate > 0.0) {
        return Err(MegatronError::Training("peak_rate"));
    }
    let samples = tokens.div_ceil(*seq_len as u64);
    let mut all = vec!["--use-mcore-models".to_owned(), "--bf16".into()];
    all.extend(words(&[
        ("--transformer-impl", "transformer_engine".into()),
        ("--train-samples", samples.to_string()),
        ("--lr-decay-samples", samples.to_string()),
        ("--lr-warmup-samples", samples.div_ceil(100).to_string()),
        ("--lr-decay-style", "cosine".into()),
        ("--lr", peak_rate.to_string()),
        ("--min-lr", format!("{:.3e}", peak_rate / 10.0)),
        ("--weight-decay", "0.1".into()),
        ("--adam-beta1", "0.9".into()),
        ("--adam-beta2", "0.95".into()),
        ("--clip-grad", "1.0".into()),
        ("--global-batch-size", global_batch.to_string()),
        ("--micro-batch-size", micro_batch.to_string()),
        ("--tensor-model-parallel-size", tensor_parallel.to_string()),
        ("--pipeline-model-parallel-size", "1".into()),
    ]));
    all.extend(["--use-distributed-optimizer", "--overlap-grad-reduce", "--overlap-param-gather"].map(str::to_owned));
    all.extend(words(&[
        ("--data-path", "\"$DATA_PATH\"".into()),
        ("--split", "99,1,0".into()),
        ("--tokenizer-type", "HuggingFaceTokenizer".into()),
        ("--tokenizer-model", "\"$TOKENIZER\"".into()),
        ("--load", "\"$CHECKPOINTS\"".into()),
        ("--save", "\"$CHECKPOINTS\"".into()),
        ("--save-interval", "1000".into()),
        ("--eval-interval", "1000".into()),
        ("--eval-iters", "10".into()),
        ("--log-interval", "10".into()),
        ("--ckpt-format", "torch_dist".into()),
    ]));
    all.push("--log-throughput".into());
    Ok(all)
}

fn words(pairs: &[(&str, String)]) -> Vec<String> {
    pairs.iter().map(|(name, value)| format!("{name} {value}")).collect()
}

impl Megatron {
    /// Returns all arguments, those of the model first.
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.model.iter().chain(&self.training).map(String::as_str)
    }
}

impl fmt::Display for Megatron {
    /// Writes a Bash script, to be run in a checkout of Megatron-LM.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "#!/usr/bin/env bash")?;
        writeln!(f, "# Pre-training with Megatron-LM; start it in a checkout. Letters of the pattern:")?;
        for (symbol, id, letter) in &self.letters {
            writeln!(f, "#   {symbol} ({id}) is {letter}")?;
        }
        writeln!(f, "set -euo pipefail")?;
        for (name, what) in [
            ("DATA_PATH", "prefix of the .bin and .idx files"),
            ("TOKENIZER", "folder of a Hugging Face tokenizer"),
            ("CHECKPOINTS", "folder for checkpoints"),
        ] {
            writeln!(f, ": \"${{{name}:?{what}}}\"")?;
        }
        writeln!(f, ": \"${{GPUS:=8}}\"")?;
        writeln!(f, "export CUDA_DEVICE_MAX_CONNECTIONS=1\n\narguments=(")?;
        for argument in self.arguments() {
            writeln!(f, "    {argument}")?;
        }
        writeln!(f, ")\ntorchrun --standalone --nproc-per-node=\"$GPUS\" pretrain_hybrid.py \"${{arguments[@]}}\"")
    }
}
